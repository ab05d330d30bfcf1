#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "crdt/changeset.h"
#include "storage/reader.h"
#include "storage/store.h"
#include "tests/support/temporary_folder.h"

// What the tests of storage/ share: a clock that stands still, one node's store with its file,
// changesets as text, and the merge rules written once more (model.py's join) as the oracle.

namespace patina::storage {

/// Time moves when a test says so, and by `step` each time somebody looks (for deadlines).
class FakeClock final : public Clock {
 public:
  explicit FakeClock(int64_t wall_ms = 1'800'000'000'000) : wall_ms_(wall_ms) {}
  Instant Now() const override {
    steady_ += step;
    return Instant(steady_);
  }
  int64_t WallMs() const override { return wall_ms_; }
  void AdvanceMs(int64_t ms) {
    wall_ms_ += ms;
    steady_ += std::chrono::milliseconds(ms);
  }
  void SetWallMs(int64_t ms) { wall_ms_ = ms; }
  Duration step{};

 private:
  int64_t wall_ms_;
  mutable Duration steady_{};
};

/// A file's bytes with one page (of 4,096 bytes) overwritten at random.
std::string WithDamagedPage(std::string bytes, size_t page, Rng& rng);
/// SQL as another SQLite client runs it on a file.
void RunForeign(const std::string& path, const std::string& sql);

Schema MustParse(std::string_view sql, std::string_view toml = {});
SharedBytes Share(std::string bytes);
Transaction Tx(std::initializer_list<std::string> sql);

/// What another SQLite connection to the file says: the last value of the answer, or the error.
std::string Ask(const std::string& path, const std::string& sql);

/// One node: a store, its file, its clock, and a reader of the same file.
class TestNode {
 public:
  explicit TestNode(Schema schema, int64_t wall_ms = 1'800'000'000'000);
  /// Another process on a given file.
  TestNode(Schema schema, const std::string& path, int64_t wall_ms);

  Status TryOpen();
  void Open();
  /// What was written behind is lost.
  void Crash();
  void Close();
  void CrashAndOpen();
  void CloseAndOpen();

  std::vector<Result<Committed>> Run(const std::vector<Transaction>& group);
  Result<Committed> Try(std::initializer_list<std::string> sql);
  Result<Committed> TryWith(const std::string& sql, std::vector<crdt::Value> values);
  /// Must succeed.
  Committed Do(std::initializer_list<std::string> sql);
  Committed Do(const std::string& sql) { return Do({sql}); }
  Result<Committed> TryLarge(std::initializer_list<std::string> sql);
  /// Must succeed.
  Committed DoLarge(std::initializer_list<std::string> sql);
  std::vector<MergeOutcome> Merge(const std::vector<SharedBytes>& changesets);
  MergeState Merge(const SharedBytes& changeset) { return Merge(std::vector{changeset})[0].state; }
  std::vector<ChangeId> Settle();
  /// Another schema for the running store; parked changes are settled, effects are wanted again.
  Result<SchemaOutcome> Apply(const Schema& schema, bool allow_destructive = false);

  /// Rows of a query, values as for people, joined by "|".
  std::vector<std::string> Rows(const std::string& sql);
  Status Query(const std::string& sql, std::vector<std::string>* rows,
               const QueryLimits& limits = {});
  /// All rows of all tables, ordered.
  std::vector<std::string> Dump();
  /// What the stores of two nodes that applied the same must have in common.
  std::vector<TableDigest> Digests() { return store->Digests(); }
  /// The changesets of the log, in order.
  std::vector<SharedBytes> Log();

  test::TemporaryFolder dir;
  FakeClock clock;
  StoreOptions options;
  std::unique_ptr<Store> store;
  std::unique_ptr<Reader> reader;
  CommitEffects effects;  // of the last call
};

/// Rows that are not as Patina wrote them: "t('k') changed". By the end of the pass that the scrub
/// is at, or of two: what the end of one drops is what it has not seen.
std::vector<std::string> ForeignRowsOf(Store& store, int passes = 2);

/// Takes a transfer from one node to the other, through the sender's reader.
std::vector<std::string> TransferChunks(TestNode& from, const crdt::VersionSet& receiver_applied,
                                        size_t chunk_bytes);
Status TakeTransfer(TestNode& to, const std::vector<std::string>& chunks, uint64_t number = 1);

/// A large transaction as its log has it.
struct LargeChange {
  SharedBytes manifest;
  std::vector<SharedBytes> chunks;
};
LargeChange ReadLarge(Reader& from, const ChangeId& id);
LargeChange ReadLarge(TestNode& from, const ChangeId& id);
/// Stages what is missing, and applies it.
Result<MergeOutcome> TakeLarge(TestNode& to, const LargeChange& change);

/// "t+('k') a=1 b=NULL; t-('k'); t~('k') b=2": inserted, deleted, updated.
std::string Describe(const SharedBytes& changeset);
std::string DescribeKey(std::string_view packed);
/// "before -> after; …" with rows as for people.
std::string DescribeEffects(const CommitEffects& effects, const Schema& schema);

/// Until one fails. PREFIX_FIRST and PREFIX_SEEDS in the environment choose others (SeedRange).
void ForEachSeed(const std::string& prefix, uint64_t seeds_otherwise,
                 const std::function<void(uint64_t seed)>& run);

// ---- The oracle: model.py's Stamp, Row and join -------------------------------------------------

struct OracleStamp {
  uint64_t time = 0;
  ActorId actor;
  uint64_t version = 0;
  auto operator<=>(const OracleStamp&) const = default;
};

struct OracleRow {
  OracleStamp exists;
  bool alive = false;
  std::map<std::string, std::pair<OracleStamp, crdt::Value>> cells;
};

/// "b", or "b#1" in its second life.
std::string NameOfLife(std::string_view name, uint32_t life);
/// (table, packed key) -> row. A column or table in a later life has a name of its own: "b#1".
using OracleState = std::map<std::pair<std::string, std::string>, OracleRow>;

OracleRow Join(const OracleRow& one, const OracleRow& other);
void JoinInto(OracleState& state, const OracleState& more);
/// What a changeset says.
OracleState Says(const SharedBytes& changeset);
OracleState Says(const LargeChange& change);
/// Table and packed key -> all columns packed in the order of their declaration.
using Rows = std::map<std::pair<std::string, std::string>, std::string>;
/// What a node of this schema shows of a state.
Rows VisibleRows(const OracleState& state, const Schema& schema);
/// As TestNode::Dump() of a node with this schema.
std::vector<std::string> Visible(const OracleState& state, const Schema& schema);
/// Stamps of all live rows, "table key column value time actor version", for comparing with
/// RowsInBucket.
std::vector<std::string> LiveCells(const OracleState& state, const Schema& schema);
std::vector<std::string> LiveCells(TestNode& node, const OracleState& keys_of);

}  // namespace patina::storage

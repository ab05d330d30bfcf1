#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/random.h"
#include "tests/storage/model_node.h"

// The world of the cluster model: true time, wires, faults, and an oracle that remembers every
// changeset ever written. model.py's World.
//
// After each event, on each node it touched:
//
//   the store told of each row that a commit changed, and of none else; a transaction says what it
//   changed;
//   state = join of the applied changesets, each whole, but for collected tombstones; no version is
//   used twice; nothing from the future is merged early; no clock runs ahead without a cause;
//   nothing is refused or set aside unless a file lost commits or a member was forgotten.
//
// In the end all heals, and all nodes must be equal, in memory and in their files, with nothing
// parked and all tombstones collected; each acknowledged write is applied, or listed as set aside,
// or lost with the only file that had it; no deleted row is back.

namespace patina::storage::model {

enum class Event {
  kWrite,
  kDeliver,
  kPull,
  kRound,
  kCheckpoint,
  kSleep,
  kStart,
  kMeasure,
  kTrim,
  kCrash,
  kPowerCut,
  kBackup,
  kRestore,
  kClockJump,
  kSchema,
  kPartition,
  kForget,
  kSnapshot,
};

/// Each event has a seed of its own, so that it keeps its meaning when others are left out.
using History = std::vector<std::pair<Event, uint64_t>>;

History HistoryOf(uint64_t seed);
std::string ToString(const History& history);

struct Outcome {
  std::string violation;                  // empty: none
  std::map<std::string, uint64_t> count;  // what happened how often
  std::string trace;
};

struct RunOptions {
  Broken broken;
  bool trace = false;
  Sql sql = Sql::kPlain;
  bool large = false;  // some transactions are large ones, in chunks of a row
};
Outcome RunHistory(const History& history, const RunOptions& options = {});
/// Leaves out parts, large ones first, as long as the rest still fails.
History Shrink(History history, const RunOptions& options = {});

class World {
 public:
  World(bool lossy, const RunOptions& options);
  ~World();

  void Step(Event event, uint64_t seed);
  /// All up and linked, right clocks, newest schema, enough rounds; then all must be well.
  void Heal();

  bool failed() const { return !violation.empty(); }
  /// The first violation counts. What takes long to say is a function that is only called then.
  template <class... What>
  void Require(bool condition, const What&... what) {
    if (condition || !violation.empty()) return;
    const auto said = [](const auto& part) -> decltype(auto) {
      if constexpr (std::is_invocable_v<decltype(part)>) {
        return part();
      } else {
        return (part);
      }
    };
    violation = StrCat(said(what)...);
  }
  void RequireOk(const Status& status, const std::string& what) {
    if (!status.ok()) Require(false, what, ": ", status.error().ToString());
  }
  template <class... What>
  void Say(const What&... what) {
    if (options.trace) trace += StrCat(now_ms - kStartMs, " ", what..., "\n");
  }

  // What nodes tell.
  void NoteWrite(Node& node, const Committed& committed);
  void NoteFailed(const Transaction& transaction, const Error& error);
  void CheckCaptured(const Node& node, const Committed& committed, const Rows& before);
  const LargeChange& Large(const ChangeId& id) const { return record_.at(id).large; }
  /// The node has applied more, now.
  void NoteApplied(Node& node);
  void NoteRefused(const Node& node, const MergeOutcome& outcome);
  void NoteSnapshot(const Node& node, const Node& peer, const std::vector<ChangeId>& set_aside);
  void NoteForgotten(const Node& node, size_t forgotten);

  void Send(Node& sender, Node& receiver, const SharedBytes& change);
  void Send(Node& sender, Node& receiver, Transfer transfer);
  bool Linked(const Node& one, const Node& other) const;
  /// Older changes are applied on every node.
  crdt::HlcTime AppliedEverywhere() const;
  uint64_t NextSerial() { return ++serial_; }
  const std::vector<std::unique_ptr<Node>>& nodes() const { return nodes_; }
  const Schema& SchemaOf(const Node& node) const {
    return Schemas(options.sql)[static_cast<size_t>(node.level)];
  }
  /// How many changes a node merges in one commit.
  size_t ReceivedTogether();

  static constexpr int64_t kStartMs = 1'800'000'000'000;
  int64_t now_ms = kStartMs + 10 * kHourMs;
  Rng rng{0};
  const RunOptions options;
  std::string violation, trace;
  std::map<std::string, uint64_t> count;

 private:
  struct Record {
    SharedBytes bytes;  // of a large one: its manifest
    LargeChange large;
    OracleState says;
    crdt::HlcTime time;
    size_t writer = 0;
  };
  struct Wire {
    Node* sender;
    Node* receiver;
    SharedBytes change;  // or
    std::shared_ptr<const Transfer> transfer;
    int64_t end_of_life_ms;
  };

  bool Happen(Event event, Node& node, Node& peer);
  bool HappenToProcess(Event event, Node& node);
  bool Arrives(const Wire& wire) const;
  void Deliver(const Wire& wire);
  void Round(double thorough);
  void WriteSomething(Node& node);
  void Partition(const Node& node);
  void RollBack(Node& node, const FileImage& image);
  std::vector<std::pair<Node*, Node*>> Pairs() const;
  void Check(Node& node);
  void CheckStamps(Node& node);
  void AdvanceMs(int64_t ms);
  void CheckRowsOfOneWriter(const Node& node);
  void CheckRecords(Node& node);
  static std::string DescribeRecord(const Record& record);
  /// What is not well yet; empty: nothing.
  std::string Unhealed();

  uint64_t serial_ = 0;
  bool lossy_;
  test::TemporaryFolder folder_;
  std::vector<Wire> wires_;
  std::map<ChangeId, Record> record_;
  std::vector<SharedBytes> written_;  // by the last event
  std::set<ChangeId> lost_, set_aside_;
  std::map<size_t, std::set<size_t>> forgotten_by_;
  bool lost_commits_ = false;
  bool excuse_ = false;     // commits were lost or a member forgotten
  std::vector<int> group_;  // who is in one group reaches each other
  std::vector<std::unique_ptr<Node>> nodes_;

 public:
  std::string FileOf(size_t node) const { return folder_.File(StrCat("node-", node, ".db")); }
};

}  // namespace patina::storage::model

#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "storage/db.h"
#include "storage/reader.h"
#include "storage/schema.h"
#include "subscribe/engine.h"
#include "tests/support/temporary_folder.h"

// What the tests of subscribe/ share.

namespace patina::subscribe {

class ManualClock final : public Clock {
 public:
  Instant Now() const override { return now; }
  int64_t WallMs() const override { return ToMs(now.time_since_epoch()); }
  Instant now{};
};

/// A plain SQLite file with a log that has numbers only. What a commit did is found by comparing
/// the whole tables before and after: nothing to get wrong, and nothing shared with storage::Store.
class ModelStore {
 public:
  explicit ModelStore(const std::string& schema_sql);

  /// One commit with as many log entries. Statements that fail are left out.
  storage::CommitEffects Commit(const std::vector<std::string>& statements, uint64_t entries = 1);

  const storage::Schema& schema() const { return schema_; }
  storage::Reader& reader() { return *reader_; }
  uint64_t last_seq() const { return last_seq_; }

  std::vector<bool> wanted;  // for Engine's want_tables

 private:
  using Rows = std::map<std::string, std::string>;  // packed key, packed row
  Rows Dump(const storage::Table& table);

  test::TemporaryFolder folder_;
  storage::Schema schema_;
  std::optional<storage::Db> db_;
  std::unique_ptr<storage::Reader> reader_;
  uint64_t last_seq_ = 0;
};

/// The answer, as a sorted list of packed rows.
std::vector<std::string> Answer(storage::Reader& reader, const storage::Statement& statement);

/// For messages: "(1, 'a')".
std::string Show(const std::vector<std::string>& rows);

/// Folds events, and expects that they make sense.
class Folder final : public Subscriber {
 public:
  void OnEvents(EventBatch batch) override;

  std::vector<std::string> Rows() const;
  size_t Count(EventKind kind) const;
  void ClearCounts() { counts_.clear(); }

  std::map<uint64_t, std::string> rows;  // by row id
  std::vector<std::string> columns;
  std::vector<Event> changes;  // inserts, updates, deletes, all
  std::string last_reset, last_error;
  uint64_t position = 0;  // newest change number heard of
  bool complete = false;  // between snapshots

 private:
  void OnEvent(const Event& event);
  std::map<EventKind, size_t> counts_;
};

storage::Statement Sql(std::string sql, std::vector<crdt::Value> positional = {});

}  // namespace patina::subscribe

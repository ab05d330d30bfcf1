#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "storage/effects.h"
#include "storage/reader.h"
#include "subscribe/engine.h"
#include "subscribe/history.h"
#include "subscribe/plan.h"
#include "subscribe/probe.h"
#include "subscribe/result_set.h"

namespace patina::subscribe {

/// One query that lives: its answer, its recent changes and who listens. Not thread-safe.
///
/// Invariant: result() is what the query answers on the tables after log entry as_of(), and, unless
/// dirty(), after every later one that the engine has dealt with.
class Query {
 public:
  Query(uint64_t id, storage::Statement statement, Plan plan, const EngineLimits& limits);

  /// Reads the whole answer at the newest snapshot, and writes what differs from the one held.
  /// Required: once before anything else. After an error the query must be dropped. Errors: the
  /// reader's; DEADLINE_EXCEEDED names the limit; UNAVAILABLE if *cancelled (may be null).
  Status Evaluate(storage::Reader& reader, const std::atomic<bool>* cancelled,
                  std::vector<Event>* events);

  /// Incremental only: brings the answer up to date for these rows, which the probe holds (their
  /// after images). After an error nothing has changed. Errors: the probe's, RESOURCE_EXHAUSTED.
  Status ApplyRows(const std::vector<const storage::RowEffect*>& rows, Probe& probe,
                   uint64_t change_number, std::vector<Event>* events);

  /// Columns, the rows, the end of the snapshot.
  std::vector<EventBatch> SnapshotBatches(uint64_t change_number, bool without_rows) const;

  EventBatch ColumnsBatch() const;

  /// To the history and to all subscribers.
  void Publish(uint64_t change_number, std::vector<Event> events);
  /// To all subscribers only.
  void Tell(const EventBatch& batch) const;

  /// The answer is no longer right after this log entry.
  void MarkDirty(uint64_t last_right);
  bool dirty() const { return dirty_; }
  uint64_t as_of() const { return as_of_; }

  /// The tables are others, the answer's columns the same. It must be evaluated next.
  void Replan(Plan plan);
  /// As the client gave it.
  const storage::Statement& asked() const { return asked_; }

  uint64_t id() const { return id_; }
  const Plan& plan() const { return plan_; }
  History& history() { return history_; }
  const History& history() const { return history_; }

  // The engine's notes.
  std::string cache_key;
  std::vector<std::pair<SubscriberId, Subscriber*>> subscribers;
  Instant idle_since{};  // if there are no subscribers
  Instant rerun_at{};    // if dirty
  Instant rerun_allowed_at{};
  bool waits_for_schema = false;  // its last run failed as if the tables had changed

 private:
  const uint64_t id_;
  const storage::Statement asked_;
  const storage::Statement statement_;  // to run: the plan's SQL, the client's parameters
  Plan plan_;
  const size_t rows_max_;
  const Duration deadline_;
  ResultSet result_;
  History history_;
  std::shared_ptr<Probe::Query> probe_query_;
  bool dirty_ = false;
  uint64_t as_of_ = 0;
};

}  // namespace patina::subscribe

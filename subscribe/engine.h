#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "storage/effects.h"
#include "storage/reader.h"
#include "storage/schema.h"

// Live queries: a subscription is SQL; its answer arrives once as a snapshot, then as changes.

namespace patina::subscribe {

struct EngineLimits {
  size_t subscriptions_max = 10'000;  // different queries
  size_t subscribers_max = 50'000;
  size_t result_rows_max = 2'000'000;   // of one query
  size_t history_bytes_max = 4u << 20;  // of one query's recent events, for resuming
  Duration history_kept_idle = std::chrono::seconds(60);  // after the last subscriber left
  /// Of one run. All live queries share the thread: a slow one holds up the others this long.
  Duration query_deadline = std::chrono::seconds(2);
  Duration rerun_interval_min = std::chrono::milliseconds(5);  // of one query that is run anew
  size_t subscriber_queue_bytes_max = 8u << 20;  // of one slow subscriber; then it is reset
};

enum class EventKind : uint8_t {
  kColumns,        // names; first, and again after a reset
  kRow,            // of the snapshot
  kEndOfSnapshot,  // change_number: what the snapshot covers
  kInsert,
  kUpdate,     // values: the new row
  kDelete,     // values: the old row
  kHeartbeat,  // change_number: nothing older is still to come
  kReset,      // reason; columns and a fresh snapshot follow, to be swapped in whole
  kError,      // reason; the last event
};

struct Event {
  EventKind kind = EventKind::kHeartbeat;
  std::vector<std::string> columns;
  /// The same row of the answer keeps its id. It follows from the row's key (or values) alone: a
  /// query that was forgotten, or asked again after a restart, gives the same ids.
  uint64_t row_id = 0;
  std::string values;          // packed, crdt::UnpackValues
  uint64_t change_number = 0;  // the log's seq: grows, and the same for all rows of one commit
  std::string reason;
  Error error;  // of kError
};

/// Where a subscriber's events go. Called on the engine's thread; must not block, nor call the
/// engine. Batches are shared between the subscribers of a query, never empty, and at most 500
/// events long.
using EventBatch = std::shared_ptr<const std::vector<Event>>;
class Subscriber {
 public:
  virtual ~Subscriber() = default;
  virtual void OnEvents(EventBatch events) = 0;
};

struct SubscribeRequest {
  storage::Statement statement;
  /// Resume after this change number: events newer than it, no snapshot, if the query is still
  /// known and its history reaches back; else kReset with the reason and a fresh snapshot.
  std::optional<uint64_t> from;
  /// Columns and the end of the snapshot only, no rows. A reset sends them all the same.
  bool skip_snapshot = false;
};

// What a subscriber gets: kColumns, kRow …, kEndOfSnapshot, then changes and heartbeats. After a
// resume that succeeded: kColumns, the changes missed, a heartbeat, then changes. After one that
// did not: kReset first. kError is the last, and the subscriber is gone by then.

using SubscriberId = uint64_t;

struct EngineStats {
  uint64_t queries = 0, subscribers = 0, events = 0, resets = 0, reruns = 0;
  uint64_t incremental_matches = 0;
  uint64_t queue_commits = 0;  // for the owner of the queue in front of the engine to fill
};

/// Evaluates all live queries of a node. Not thread-safe: its own thread owns it (or a test).
///
/// Invariant: folding a subscriber's events gives, after each change number, what the query would
/// answer on the tables after that log entry.
class Engine {
 public:
  /// The reader outlives the engine. want_tables is told which tables' rows are needed in effects
  /// whenever that grows; it must return only when commits from now on will carry them (see
  /// storage::Store::SetEffectTables). When *cancelled becomes true, the query that runs and all
  /// later ones end with UNAVAILABLE; null: never.
  Engine(const EngineLimits& limits, const storage::Schema& schema, storage::Reader& reader,
         const Clock& clock, std::function<void(std::vector<bool>)> want_tables,
         const std::atomic<bool>* cancelled = nullptr);
  ~Engine();

  /// Errors, after which nothing was sent and nothing changed: INVALID_ARGUMENT (not a SELECT,
  /// unknown names, parameters, an answer that changes by itself), RESOURCE_EXHAUSTED,
  /// DEADLINE_EXCEEDED. The first events come before this returns. The subscriber must live until
  /// Unsubscribe or kError.
  Result<SubscriberId> Subscribe(const SubscribeRequest& request, Subscriber* subscriber);
  /// No event comes after this.
  void Unsubscribe(SubscriberId id);

  /// Commits in order, none left out. After one that changes the schema, each query goes on, starts
  /// over with a reason (kReset: the columns of its answer are others), or ends (kError: something
  /// that it reads is gone).
  void OnCommit(const storage::CommitEffects& effects);

  /// Heartbeats (each second), delayed re-runs, forgetting idle queries.
  void Tick(Instant now);
  Instant NextDeadline() const;

  EngineStats Stats() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace patina::subscribe

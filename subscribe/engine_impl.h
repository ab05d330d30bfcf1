#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/thread_checker.h"
#include "subscribe/engine.h"
#include "subscribe/plan.h"
#include "subscribe/query.h"
#include "subscribe/table_feed.h"

namespace patina::subscribe {

inline constexpr Duration kHeartbeatInterval = std::chrono::seconds(1);
/// A query that is run anew gets at most a quarter of the time: one that took d is not begun again
/// before 4 d after it began.
inline constexpr int kIntervalPerWork = 4;

EventBatch ErrorBatch(const Error& error);
EventBatch SingleEvent(EventKind kind, uint64_t change_number, std::string reason = {});

/// The engine's insides: queries coming and going are in engine.cc, commits in engine_commit.cc.
class Engine::Impl {
 public:
  Impl(const EngineLimits& limits, const storage::Schema& schema, storage::Reader& reader,
       const Clock& clock, std::function<void(std::vector<bool>)> want_tables,
       const std::atomic<bool>* cancelled);

  Result<SubscriberId> Subscribe(const SubscribeRequest& request, Subscriber* subscriber);
  void Unsubscribe(SubscriberId id);
  void OnCommit(const storage::CommitEffects& effects);
  void Tick(Instant now);
  Instant NextDeadline() const;
  EngineStats Stats() const;

 private:
  using QueryId = uint64_t;

  // Queries coming and going.
  Result<Plan> PlanFor(const storage::Statement& statement);
  Result<Query*> StartQuery(std::string cache_key, const storage::Statement& statement);
  void WantTablesOf(const Plan& plan);
  void Drop(QueryId id);
  void Fail(Query& query, const Error& error);
  SubscriberId Attach(Query& query, const SubscribeRequest& request, bool is_new,
                      Subscriber* subscriber);
  std::string WhyNoResume(const Query& query, uint64_t from, bool is_new) const;
  /// A subscriber's first events.
  void Greet(const Query& query, const SubscribeRequest& request, bool is_new,
             Subscriber* subscriber);

  // Another schema (engine_schema.cc).
  void ChangeSchema(const storage::CommitEffects& effects);
  /// The same query on the new tables: goes on, starts over or ends.
  void Renew(Query& query, Result<Plan> plan, const storage::CommitEffects& effects);
  static bool HasSameAnswer(const Query& query, const Result<Plan>& plan);
  /// Than when the query was planned: a name is gone, or the answer has other columns.
  bool TablesAreOthers(const Query& query);
  void StartOver(Query& query, const std::string& reason);
  void MakeFeeds();

  // A commit (engine_commit.cc).
  using Rows = std::vector<const storage::RowEffect*>;
  void MarkDirty(QueryId id, const storage::CommitEffects& effects);
  void MarkReruns(const TableFeed& feed, const Rows& rows, const storage::CommitEffects& effects);
  void ApplyRows(TableFeed& feed, const Rows& rows, const storage::CommitEffects& effects);
  void ApplyToQuery(Query& query, const Rows& rows, Probe& probe,
                    const storage::CommitEffects& effects);
  void RunDue(Instant now);
  void Rerun(Query& query);

  void Publish(Query& query, uint64_t change_number, std::vector<Event> events);
  void Heartbeat();
  void ForgetIdle(Instant now);
  /// Everything up to this number is in the query's answer and with its subscribers.
  uint64_t PositionOf(const Query& query) const;

  const EngineLimits limits_;
  std::shared_ptr<const storage::Schema> schema_;
  storage::Reader& reader_;
  const Clock& clock_;
  const std::function<void(std::vector<bool>)> want_tables_;
  const std::atomic<bool>* const cancelled_;
  ThreadChecker thread_;

  std::map<QueryId, std::unique_ptr<Query>> queries_;
  std::unordered_map<std::string, Query*> queries_by_key_;
  std::unordered_map<SubscriberId, Query*> subscribers_;
  std::vector<TableFeed> feeds_;  // by position in schema_->tables
  std::vector<bool> wanted_;
  std::set<std::pair<Instant, QueryId>> reruns_due_;  // of dirty queries
  QueryId next_query_ = 1;
  SubscriberId next_subscriber_ = 1;
  uint64_t seen_seq_ = 0;  // last log entry of the commits seen
  Instant next_heartbeat_{};
  EngineStats stats_;
};

}  // namespace patina::subscribe

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "subscribe/engine_impl.h"

// What a commit means to the queries, and what time does: delayed runs, heartbeats, forgetting.

namespace patina::subscribe {
namespace {

constexpr Duration kSchemaWait = std::chrono::seconds(1);

}  // namespace

void Engine::Impl::OnCommit(const storage::CommitEffects& effects) {
  CHECK(thread_.IsCurrent());
  if (effects.schema) return ChangeSchema(effects);
  const bool logged = effects.first_seq <= effects.last_seq;
  if (!logged && !effects.rows_unknown) return;
  std::map<uint32_t, Rows> rows;
  for (const auto& row : effects.rows) {
    if (row.table < feeds_.size() && !feeds_[row.table].empty()) rows[row.table].push_back(&row);
  }
  const size_t tables = std::min(feeds_.size(), effects.tables_changed.size());
  for (uint32_t table = 0; table < tables; ++table) {
    TableFeed& feed = feeds_[table];
    if (!effects.tables_changed[table] || feed.empty()) continue;
    MarkReruns(feed, rows[table], effects);
    ApplyRows(feed, rows[table], effects);
  }
  if (logged) seen_seq_ = std::max(seen_seq_, effects.last_seq);
  RunDue(clock_.Now());
}

void Engine::Impl::MarkDirty(QueryId id, const storage::CommitEffects& effects) {
  Query& query = *queries_.at(id);
  const bool logged = effects.first_seq <= effects.last_seq;
  if (query.dirty() || (logged && effects.last_seq <= query.as_of())) return;
  query.MarkDirty(effects.first_seq - 1);
  query.rerun_at = std::max(clock_.Now(), query.rerun_allowed_at);
  reruns_due_.insert({query.rerun_at, id});
}

void Engine::Impl::MarkReruns(const TableFeed& feed, const Rows& rows,
                              const storage::CommitEffects& effects) {
  if (feed.reruns().empty()) return;
  const bool known = !effects.rows_unknown && !rows.empty();
  const ColumnMask changed = known ? feed.ChangedColumns(rows) : kAllColumns;
  for (const auto& [id, columns] : feed.reruns()) {
    if (changed == kAllColumns || (changed & columns) != 0) MarkDirty(id, effects);
  }
}

void Engine::Impl::ApplyRows(TableFeed& feed, const Rows& rows,
                             const storage::CommitEffects& effects) {
  std::vector<TableFeed::Concern> concerns;
  if (effects.rows_unknown || !feed.FindConcerns(rows, &concerns)) {
    for (const QueryId id : feed.Incremental()) MarkDirty(id, effects);
    return;
  }
  const std::vector<uint32_t>* filled = nullptr;
  Rows concerned;
  Probe* probe = nullptr;
  for (const auto& concern : concerns) {
    const auto query = queries_.find(concern.query);
    if (query == queries_.end() || query->second->dirty() ||
        effects.last_seq <= query->second->as_of()) {
      continue;
    }
    if (filled == nullptr || *filled != concern.rows) {
      concerned.clear();
      for (const uint32_t row : concern.rows) concerned.push_back(rows[row]);
      probe = feed.Fill(concerned);
      filled = &concern.rows;
    }
    if (probe == nullptr) {
      MarkDirty(concern.query, effects);
    } else {
      ApplyToQuery(*query->second, concerned, *probe, effects);
    }
  }
}

void Engine::Impl::ApplyToQuery(Query& query, const Rows& rows, Probe& probe,
                                const storage::CommitEffects& effects) {
  std::vector<Event> events;
  const Status status = query.ApplyRows(rows, probe, effects.last_seq, &events);
  if (!status.ok()) {
    if (status.error().code == Errc::kResourceExhausted) return Fail(query, status.error());
    // The whole query says whether it fails too.
    return MarkDirty(query.id(), effects);
  }
  if (events.empty()) return;
  ++stats_.incremental_matches;
  Publish(query, effects.last_seq, std::move(events));
}

void Engine::Impl::RunDue(Instant now) {
  std::vector<QueryId> due;
  for (const auto& [when, id] : reruns_due_) {
    if (when > now) break;
    due.push_back(id);
  }
  for (const QueryId id : due) Rerun(*queries_.at(id));
}

void Engine::Impl::Rerun(Query& query) {
  ++stats_.reruns;
  reruns_due_.erase({query.rerun_at, query.id()});
  std::vector<Event> events;
  const Instant start = clock_.Now();
  const Status status = query.Evaluate(reader_, cancelled_, &events);
  if (!status.ok() && !query.waits_for_schema && TablesAreOthers(query)) {
    // The commit that says so is on its way. No row was read: the answer is as it was.
    query.waits_for_schema = true;
    query.rerun_at = start + kSchemaWait;
    reruns_due_.insert({query.rerun_at, query.id()});
    return;
  }
  if (!status.ok()) return Fail(query, status.error());
  query.waits_for_schema = false;
  query.rerun_allowed_at =
      start + std::max(limits_.rerun_interval_min, kIntervalPerWork * (clock_.Now() - start));
  if (!events.empty()) Publish(query, query.as_of(), std::move(events));
}

void Engine::Impl::Tick(Instant now) {
  CHECK(thread_.IsCurrent());
  RunDue(now);
  if (now < next_heartbeat_) return;
  next_heartbeat_ = now + kHeartbeatInterval;
  Heartbeat();
  ForgetIdle(now);
}

Instant Engine::Impl::NextDeadline() const {
  if (reruns_due_.empty()) return next_heartbeat_;
  return std::min(next_heartbeat_, reruns_due_.begin()->first);
}

void Engine::Impl::Heartbeat() {
  std::map<uint64_t, EventBatch> batches;  // by number: most queries share it
  for (const auto& [id, query] : queries_) {
    if (query->subscribers.empty()) continue;
    const uint64_t position = PositionOf(*query);
    EventBatch& batch = batches[position];
    if (!batch) batch = SingleEvent(EventKind::kHeartbeat, position);
    stats_.events += query->subscribers.size();
    query->Tell(batch);
  }
}

void Engine::Impl::ForgetIdle(Instant now) {
  std::vector<QueryId> forgotten;
  for (const auto& [id, query] : queries_) {
    if (query->subscribers.empty() && now - query->idle_since >= limits_.history_kept_idle) {
      forgotten.push_back(id);
    }
  }
  for (const QueryId id : forgotten) Drop(id);
}

}  // namespace patina::subscribe

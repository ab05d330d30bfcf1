#include "subscribe/engine.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/bytes.h"
#include "base/check.h"
#include "base/log.h"
#include "subscribe/engine_impl.h"
#include "subscribe/sql_tokens.h"

namespace patina::subscribe {
namespace {

/// Equal for queries that always have equal answers.
std::string CacheKey(std::string_view sql, const storage::Statement& statement) {
  std::string key;
  ByteWriter out(&key);
  out.String(sql);
  out.String(crdt::PackValues(statement.positional));
  std::map<std::string, crdt::Value> named(statement.named.begin(), statement.named.end());
  for (const auto& [name, value] : named) {
    out.String(name);
    crdt::EncodeValue(value, out);
  }
  return key;
}

}  // namespace

EventBatch SingleEvent(EventKind kind, uint64_t change_number, std::string reason) {
  Event event;
  event.kind = kind;
  event.change_number = change_number;
  event.reason = std::move(reason);
  return std::make_shared<const std::vector<Event>>(1, std::move(event));
}

EventBatch ErrorBatch(const Error& error) {
  Event event;
  event.kind = EventKind::kError;
  event.reason = error.message;
  event.error = error;
  return std::make_shared<const std::vector<Event>>(1, std::move(event));
}

Engine::Impl::Impl(const EngineLimits& limits, const storage::Schema& schema,
                   storage::Reader& reader, const Clock& clock,
                   std::function<void(std::vector<bool>)> want_tables,
                   const std::atomic<bool>* cancelled)
    : limits_(limits),
      schema_(std::make_shared<const storage::Schema>(schema)),
      reader_(reader),
      clock_(clock),
      want_tables_(std::move(want_tables)),
      cancelled_(cancelled),
      next_heartbeat_(clock.Now() + kHeartbeatInterval) {
  MakeFeeds();
}

Result<SubscriberId> Engine::Impl::Subscribe(const SubscribeRequest& request,
                                             Subscriber* subscriber) {
  CHECK(thread_.IsCurrent());
  CHECK(subscriber != nullptr);
  if (subscribers_.size() >= limits_.subscribers_max) {
    return ResourceExhausted(
        StrCat("there are ", limits_.subscribers_max, " subscribers already (subscribers_max)"));
  }
  std::string key = CacheKey(TrimSql(request.statement.sql), request.statement);
  const auto known = queries_by_key_.find(key);
  if (known != queries_by_key_.end()) return Attach(*known->second, request, false, subscriber);
  ASSIGN_OR_RETURN(Query * query, StartQuery(std::move(key), request.statement));
  return Attach(*query, request, true, subscriber);
}

Result<Plan> Engine::Impl::PlanFor(const storage::Statement& statement) {
  ASSIGN_OR_RETURN(const storage::QueryReads reads, reader_.Analyze(statement));
  ASSIGN_OR_RETURN(Plan plan, MakePlan(statement, reads, *schema_));
  if (plan.key_columns == 0) return plan;
  // The key columns were put in by reading words: SQLite has to agree.
  storage::Statement with_keys = statement;
  with_keys.sql = plan.sql;
  const auto again = reader_.Analyze(with_keys);
  if (again.ok() && again->columns.size() == plan.columns.size() + plan.key_columns) return plan;
  plan.sql = TrimSql(statement.sql);
  plan.key_columns = 0;
  plan.incremental = false;
  plan.equality.reset();
  return plan;
}

void Engine::Impl::WantTablesOf(const Plan& plan) {
  bool grows = false;
  for (const auto& read : plan.tables) grows = grows || !wanted_[read.table];
  if (!grows) return;
  for (size_t i = 0; i < feeds_.size(); ++i) wanted_[i] = !feeds_[i].empty();
  for (const auto& read : plan.tables) wanted_[read.table] = true;
  want_tables_(wanted_);
}

Result<Query*> Engine::Impl::StartQuery(std::string cache_key,
                                        const storage::Statement& statement) {
  if (queries_.size() >= limits_.subscriptions_max) {
    return ResourceExhausted(StrCat("there are ", limits_.subscriptions_max,
                                    " different queries already (subscriptions_max)"));
  }
  ASSIGN_OR_RETURN(Plan plan, PlanFor(statement));
  WantTablesOf(plan);  // before the snapshot: each commit after it comes with its rows
  auto query = std::make_unique<Query>(next_query_++, statement, std::move(plan), limits_);
  std::vector<Event> not_needed;
  const Instant start = clock_.Now();
  RETURN_IF_ERROR(query->Evaluate(reader_, cancelled_, &not_needed));
  const Instant now = clock_.Now();
  query->rerun_allowed_at =
      start + std::max(limits_.rerun_interval_min, kIntervalPerWork * (now - start));
  query->idle_since = now;
  query->history().StartAt(query->as_of());
  query->cache_key = std::move(cache_key);
  for (const auto& read : query->plan().tables) {
    feeds_[read.table].Add(query->id(), query->plan(), read.columns);
  }
  Query* const raw = query.get();
  queries_by_key_[raw->cache_key] = raw;
  queries_[raw->id()] = std::move(query);
  return raw;
}

SubscriberId Engine::Impl::Attach(Query& query, const SubscribeRequest& request, bool is_new,
                                  Subscriber* subscriber) {
  const SubscriberId id = next_subscriber_++;
  Greet(query, request, is_new, subscriber);
  query.subscribers.emplace_back(id, subscriber);
  subscribers_[id] = &query;
  return id;
}

/// Why the query's history does not lead from there to here; empty if it does.
std::string Engine::Impl::WhyNoResume(const Query& query, uint64_t from, bool is_new) const {
  const uint64_t position = PositionOf(query);
  if (from > position) {
    return StrCat("change number ", from, " is from another history: this node is at ", position);
  }
  if (query.history().ReachesBackTo(from)) return {};
  if (is_new) return "nobody has asked this query lately: its changes were not kept";
  return StrCat("this query's changes are kept from ", query.history().floor(), " on, not from ",
                from);
}

void Engine::Impl::Greet(const Query& query, const SubscribeRequest& request, bool is_new,
                         Subscriber* subscriber) {
  const uint64_t position = PositionOf(query);
  const auto tell = [&](EventBatch batch) {
    stats_.events += batch->size();
    subscriber->OnEvents(std::move(batch));
  };
  bool without_rows = request.skip_snapshot;
  if (request.from) {
    std::string reason = WhyNoResume(query, *request.from, is_new);
    if (reason.empty()) {
      tell(query.ColumnsBatch());
      for (auto& batch : query.history().Since(*request.from)) tell(std::move(batch));
      tell(SingleEvent(EventKind::kHeartbeat, position));
      return;
    }
    ++stats_.resets;
    tell(SingleEvent(EventKind::kReset, 0, std::move(reason)));
    without_rows = false;
  }
  for (auto& batch : query.SnapshotBatches(position, without_rows)) tell(std::move(batch));
}

void Engine::Impl::Unsubscribe(SubscriberId id) {
  CHECK(thread_.IsCurrent());
  const auto found = subscribers_.find(id);
  if (found == subscribers_.end()) return;
  Query& query = *found->second;
  subscribers_.erase(found);
  std::erase_if(query.subscribers, [&](const auto& entry) { return entry.first == id; });
  if (query.subscribers.empty()) query.idle_since = clock_.Now();
}

void Engine::Impl::Drop(QueryId id) {
  const auto found = queries_.find(id);
  CHECK(found != queries_.end());
  Query& query = *found->second;
  for (const auto& read : query.plan().tables) {
    // After another schema the plan may be of tables that are gone.
    if (read.table < feeds_.size()) feeds_[read.table].Remove(id, query.plan());
  }
  for (const auto& [subscriber_id, subscriber] : query.subscribers) {
    subscribers_.erase(subscriber_id);
  }
  reruns_due_.erase({query.rerun_at, id});
  queries_by_key_.erase(query.cache_key);
  queries_.erase(found);
}

void Engine::Impl::Fail(Query& query, const Error& error) {
  LogWarning("subscribe", "query ended: ", error.ToString());
  query.Tell(ErrorBatch(error));
  Drop(query.id());
}

void Engine::Impl::Publish(Query& query, uint64_t change_number, std::vector<Event> events) {
  stats_.events += events.size() * query.subscribers.size();
  query.Publish(change_number, std::move(events));
}

uint64_t Engine::Impl::PositionOf(const Query& query) const {
  return query.dirty() ? query.as_of() : std::max(query.as_of(), seen_seq_);
}

EngineStats Engine::Impl::Stats() const {
  EngineStats stats = stats_;
  stats.queries = queries_.size();
  stats.subscribers = subscribers_.size();
  return stats;
}

Engine::Engine(const EngineLimits& limits, const storage::Schema& schema, storage::Reader& reader,
               const Clock& clock, std::function<void(std::vector<bool>)> want_tables,
               const std::atomic<bool>* cancelled)
    : impl_(std::make_unique<Impl>(limits, schema, reader, clock, std::move(want_tables),
                                   cancelled)) {}
Engine::~Engine() = default;

Result<SubscriberId> Engine::Subscribe(const SubscribeRequest& request, Subscriber* subscriber) {
  return impl_->Subscribe(request, subscriber);
}
void Engine::Unsubscribe(SubscriberId id) { impl_->Unsubscribe(id); }
void Engine::OnCommit(const storage::CommitEffects& effects) { impl_->OnCommit(effects); }
void Engine::Tick(Instant now) { impl_->Tick(now); }
Instant Engine::NextDeadline() const { return impl_->NextDeadline(); }
EngineStats Engine::Stats() const { return impl_->Stats(); }

}  // namespace patina::subscribe

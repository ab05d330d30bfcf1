#include <algorithm>
#include <utility>

#include "base/log.h"
#include "subscribe/engine_impl.h"

// Another schema while queries live.

namespace patina::subscribe {

void Engine::Impl::MakeFeeds() {
  feeds_.clear();
  feeds_.reserve(schema_->tables.size());
  for (const auto& table : schema_->tables) feeds_.emplace_back(table);
  wanted_.assign(schema_->tables.size(), false);
}

void Engine::Impl::ChangeSchema(const storage::CommitEffects& effects) {
  // The feeds look at the tables that were: they go before them.
  feeds_.clear();
  schema_ = effects.schema;
  MakeFeeds();
  seen_seq_ = std::max(seen_seq_, effects.last_seq);
  std::vector<std::pair<QueryId, Result<Plan>>> plans;
  for (const auto& [id, query] : queries_) {
    plans.emplace_back(id, PlanFor(query->asked()));
    if (!plans.back().second.ok()) continue;
    for (const auto& read : plans.back().second->tables) wanted_[read.table] = true;
  }
  want_tables_(wanted_);  // of the new tables none was; before any answer is read
  for (auto& [id, plan] : plans) Renew(*queries_.at(id), std::move(plan), effects);
  RunDue(clock_.Now());
}

bool Engine::Impl::HasSameAnswer(const Query& query, const Result<Plan>& plan) {
  const Plan& old = query.plan();
  return plan.ok() && plan->sql == old.sql && plan->columns == old.columns &&
         plan->key_columns == old.key_columns;
}

bool Engine::Impl::TablesAreOthers(const Query& query) {
  return !HasSameAnswer(query, PlanFor(query.asked()));
}

void Engine::Impl::Renew(Query& query, Result<Plan> plan, const storage::CommitEffects& effects) {
  if (!plan.ok()) {
    Error error = plan.error();
    error.message = "the schema was changed: " + error.message;
    return Fail(query, error);
  }
  if (!HasSameAnswer(query, plan))
    return StartOver(query, "the schema was changed: the answer has other columns");
  query.Replan(*std::move(plan));
  query.waits_for_schema = false;
  for (const auto& read : query.plan().tables) {
    feeds_[read.table].Add(query.id(), query.plan(), read.columns);
  }
  MarkDirty(query.id(), effects);
}

void Engine::Impl::StartOver(Query& query, const std::string& reason) {
  Query* const old = &query;
  auto subscribers = old->subscribers;
  const storage::Statement asked = old->asked();
  std::string key = old->cache_key;
  reruns_due_.erase({old->rerun_at, old->id()});
  queries_by_key_.erase(key);
  queries_.erase(old->id());
  Result<Query*> fresh = StartQuery(std::move(key), asked);
  for (const auto& [id, subscriber] : subscribers) {
    if (!fresh.ok()) {
      subscribers_.erase(id);
      subscriber->OnEvents(ErrorBatch(fresh.error()));
      continue;
    }
    subscribers_[id] = *fresh;
    (*fresh)->subscribers.emplace_back(id, subscriber);
    ++stats_.resets;
    subscriber->OnEvents(SingleEvent(EventKind::kReset, 0, reason));
    for (auto& batch : (*fresh)->SnapshotBatches(PositionOf(**fresh), false)) {
      stats_.events += batch->size();
      subscriber->OnEvents(std::move(batch));
    }
  }
}

}  // namespace patina::subscribe

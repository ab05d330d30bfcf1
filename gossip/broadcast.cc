#include "gossip/broadcast.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "gossip/ranges.h"

namespace patina::gossip {
namespace {

constexpr size_t kMissingMax = 20'000;
constexpr size_t kNotedMax = 10'000;  // ids of one "I have"
constexpr size_t kPulledMax = 2'000;  // ids of one Pull
constexpr uint64_t kGapMax = 64;      // more is for anti-entropy
constexpr int kPullPatience = 10;     // times pull_after, until a pull is given up

}  // namespace

void Broadcast::OnLocalCommit(std::vector<Change> changes, Outputs& out) {
  for (const Change& change : changes) {
    shared_.received.Add(change.id);
    if (change.bytes != nullptr) recent_.Add(change, shared_.self.name);
  }
  shared_.counters.changes_left_to_repair += static_cast<uint64_t>(
      std::erase_if(changes, [](const Change& change) { return change.bytes == nullptr; }));
  if (!changes.empty()) Send(shared_.self.name, 0, std::move(changes), {}, out);
}

void Broadcast::OnFresh(const std::string& from, FreshChanges fresh, Instant now, Outputs& out) {
  std::vector<Change> news;
  for (Change& change : fresh.changes) {
    if (!shared_.TakeIn(change, out)) continue;
    ++shared_.counters.changes_fresh;
    Forget(change.id);
    recent_.Add(change, fresh.origin);
    NoteGap(change.id, from, now);
    news.push_back(std::move(change));
  }
  if (!news.empty()) Send(fresh.origin, fresh.hops + 1, std::move(news), from, out);
}

void Broadcast::Send(const std::string& origin, uint32_t hops, std::vector<Change> changes,
                     const std::string& except, Outputs& out) {
  const TreePlan& plan = tree_.PlanFor(origin);
  if (plan.bytes.empty() && plan.notes.empty()) return;
  std::vector<Change> batch;
  size_t bytes = 0;
  for (Change& change : changes) {
    if (!batch.empty() && bytes + change.bytes->size() > shared_.config.batch_bytes_max) {
      SendBatch(origin, hops, std::exchange(batch, {}), plan, except, out);
      bytes = 0;
    }
    bytes += change.bytes->size();
    batch.push_back(std::move(change));
  }
  SendBatch(origin, hops, std::move(batch), plan, except, out);
}

void Broadcast::SendBatch(const std::string& origin, uint32_t hops, std::vector<Change> changes,
                          const TreePlan& plan, const std::string& except, Outputs& out) {
  std::shared_ptr<const Frame> note;
  if (!plan.notes.empty()) {
    std::vector<ChangeId> ids;
    ids.reserve(changes.size());
    for (const Change& change : changes) ids.push_back(change.id);
    note = std::make_shared<const Frame>(IHave{ToRanges(std::move(ids))});
  }
  const size_t count = changes.size();
  const auto frame = std::make_shared<const Frame>(FreshChanges{origin, hops, std::move(changes)});
  for (const Member* member : plan.bytes) {
    if (member->info.name == except || member->info.name == origin) continue;
    shared_.counters.changes_forwarded += count;
    shared_.SendFrame(*member, Lane::kFresh, frame, out);
  }
  for (const Member* member : plan.notes) {
    if (member->info.name == except || member->info.name == origin) continue;
    shared_.SendFrame(*member, Lane::kFresh, note, out);
  }
}

/// Versions just below one that came: their bytes were lost or take another way.
void Broadcast::NoteGap(const ChangeId& id, const std::string& provider, Instant now) {
  const uint64_t lowest = id.version > kGapMax ? id.version - kGapMax : 1;
  for (uint64_t version = id.version - 1; version >= lowest; --version) {
    const ChangeId below{id.actor, version};
    if (shared_.Has(below)) break;
    NoteMissing(below, provider, now);
  }
}

void Broadcast::OnIHave(const std::string& from, const IHave& have, Instant now) {
  for (const ChangeId& id : ToIds(have.ranges, kNotedMax)) {
    if (!shared_.Has(id)) NoteMissing(id, from, now);
  }
}

void Broadcast::NoteMissing(const ChangeId& id, const std::string& provider, Instant now) {
  if (missing_.size() >= kMissingMax) return;
  const Instant due = now + shared_.config.pull_after;
  if (missing_.emplace(id, Missing{provider, due, false}).second) due_.insert({due, id});
}

void Broadcast::Forget(const ChangeId& id) {
  const auto found = missing_.find(id);
  if (found == missing_.end()) return;
  if (found->second.pulled) ++shared_.counters.pulled_changes;
  due_.erase({found->second.due, id});
  missing_.erase(found);
}

void Broadcast::OnPull(const Member& from, const Pull& pull, Outputs& out) {
  std::map<std::string, std::vector<Change>> by_origin;
  size_t bytes = 0;
  for (const ChangeId& id : ToIds(pull.ranges, kPulledMax)) {
    const RecentChanges::Entry* entry = recent_.Find(id);
    if (entry == nullptr) continue;
    bytes += entry->bytes->size();
    if (bytes > shared_.config.batch_bytes_max && !by_origin.empty()) break;
    by_origin[entry->origin].push_back({id, entry->bytes});
  }
  for (auto& [origin, changes] : by_origin) {
    shared_.SendFrame(from, Lane::kFresh, Frame(FreshChanges{origin, 0, std::move(changes)}), out);
  }
}

void Broadcast::Tick(Instant now, Outputs& out) {
  std::map<std::string, std::vector<ChangeId>> by_provider;
  while (!due_.empty() && due_.begin()->first <= now) {
    const ChangeId id = due_.begin()->second;
    due_.erase(due_.begin());
    const auto found = missing_.find(id);
    Missing& missing = found->second;
    if (missing.pulled || shared_.Has(id) || by_provider[missing.provider].size() >= kPulledMax) {
      missing_.erase(found);  // anti-entropy, then
      continue;
    }
    missing.pulled = true;
    missing.due = now + shared_.config.pull_after * kPullPatience;
    due_.insert({missing.due, id});
    by_provider[missing.provider].push_back(id);
  }
  for (auto& [name, ids] : by_provider) {
    const Member* provider = shared_.members.Find(name);
    if (provider == nullptr || ids.empty()) continue;
    ++shared_.counters.pulls;
    shared_.SendFrame(*provider, Lane::kFresh, Frame(Pull{ToRanges(std::move(ids))}), out);
  }
}

Instant Broadcast::NextDeadline() const {
  return due_.empty() ? Instant::max() : due_.begin()->first;
}

}  // namespace patina::gossip

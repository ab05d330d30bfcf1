#include "agent/collection.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/log.h"

namespace patina::agent {
namespace {

constexpr int64_t kSaveIntervalMs = 10 * 60 * 1000;  // of when members were heard

/// What it has applied of all actors that ever wrote under this node's name.
std::shared_ptr<const crdt::VersionSet> OwnVersions(const storage::Store& store,
                                                    const std::string& name) {
  auto own = std::make_shared<crdt::VersionSet>();
  for (const auto& [actor, node] : store.Actors()) {
    if (node != name) continue;
    for (const crdt::VersionRange& range : store.applied().Ranges(actor)) {
      own->AddRange(actor, range);
    }
  }
  (void)own->digest();  // from now on several threads may look at it
  return own;
}

}  // namespace

std::string EncodeMembers(const gossip::Frontier& frontier) {
  std::string bytes;
  ByteWriter out(&bytes);
  out.Varint(frontier.members().size());
  for (const auto& [name, member] : frontier.members()) {
    out.String(name);
    out.Varint(static_cast<uint64_t>(std::max<int64_t>(0, member.last_heard_ms)));
  }
  return bytes;
}

std::vector<std::pair<std::string, int64_t>> DecodeMembers(std::string_view bytes) {
  ByteReader in(bytes);
  std::vector<std::pair<std::string, int64_t>> members;
  const uint64_t count = in.Varint();
  for (uint64_t i = 0; i < count && in.ok(); ++i) {
    const std::string_view name = in.String();
    const uint64_t heard_ms = in.Varint();
    if (in.ok()) members.emplace_back(name, static_cast<int64_t>(heard_ms));
  }
  return members;
}

void Collection::Publish(storage::Store& store,
                         const std::shared_ptr<const gossip::Frontier>& frontier,
                         const Published& published) {
  if (store.broken()) return;
  frontier_ = frontier;
  const Result<crdt::HlcTime> clock = store.PublishClock();
  if (!clock.ok()) {
    LogWarning("collect", "publishing: ", clock.error().ToString());
    return;
  }
  gossip::Publication publication;
  publication.clock = *clock;
  publication.own = OwnVersions(store, config_.node.name);
  complete_ = frontier->Complete(store.applied(), *clock, store.OldestParked());
  publication.complete = complete_;
  reached_ = frontier->Get(complete_);
  SaveMembers(store, *frontier, clock->ms());
  const int64_t line_ms = clock->ms() - ToMs(config_.collect_after);
  line_ = std::min(reached_, crdt::HlcTime::FromMs(std::max<int64_t>(0, line_ms)));
  if (!collecting_) Collect(store);
  published(std::move(publication), store.horizon());
}

void Collection::SaveMembers(storage::Store& store, const gossip::Frontier& frontier,
                             int64_t now_ms) {
  if (frontier.epoch() == saved_epoch_ && now_ms < save_again_ms_) return;
  const Status saved = store.SaveMembers(EncodeMembers(frontier));
  if (!saved.ok()) {
    LogWarning("collect", "saving the members: ", saved.error().ToString());
    return;
  }
  saved_epoch_ = frontier.epoch();
  save_again_ms_ = now_ms + kSaveIntervalMs;
}

void Collection::Collect(storage::Store& store) {
  collecting_ = false;
  if (store.broken()) return;
  const Result<bool> more = [&]() -> Result<bool> {
    ASSIGN_OR_RETURN(const bool any, store.AnyToCollect(line_));
    return store.Collect(any ? line_ : store.horizon());
  }();
  if (!more.ok()) {
    LogWarning("collect", "forgetting what is behind the frontier: ", more.error().ToString());
    return;
  }
  if (!*more) return;
  collecting_ = true;
  writer_->Run([this](storage::Store& again) { Collect(again); });
}

Collection::Report Collection::Describe(const storage::Store& store) const {
  Report report;
  report.horizon = store.horizon();
  report.complete = complete_;
  report.frontier = reached_;
  if (frontier_ == nullptr) return report;
  report.held_back_by = frontier_->HeldBackBy(store.applied(), complete_);
  report.members = frontier_->members().size() + 1;
  report.forgotten = frontier_->forgotten();
  report.refused = frontier_->refused();
  return report;
}

}  // namespace patina::agent

#include "gossip/settlement.h"

#include <tuple>

namespace patina::gossip {
namespace {

constexpr Duration kInterval = std::chrono::seconds(2);
constexpr uint64_t kNewLacks = 4;           // at least one in so many of a peer's versions
constexpr uint64_t kTooOldMax = 1'000'000;  // versions; what is beyond is asked for again and again

}  // namespace

void Settlement::OnTooOld(const std::vector<ChangeId>& ids) {
  for (const ChangeId& id : ids) {
    if (too_old_.Size() >= kTooOldMax) return;
    too_old_.Add(id);
  }
}

void Settlement::OnPeerHas(const Member& peer, const crdt::VersionSet& theirs, Instant now,
                           Outputs& out) {
  if (too_old_.Empty()) return;
  for (const ActorId& actor : too_old_.Actors()) {
    for (const crdt::VersionRange& range : too_old_.Ranges(actor)) {
      for (uint64_t version = range.first; version <= range.last; ++version) {
        const ChangeId id{actor, version};
        if (theirs.Contains(id) && !shared_.received.Contains(id)) return Begin(peer, now, out);
      }
    }
  }
}

bool Settlement::OnLacking(const Member& peer, uint64_t versions, uint64_t lacking, Instant now,
                           Outputs& out) {
  if (lacking < versions / kNewLacks) return false;
  if (!began_empty_ || new_asked_ || !shared_.config.snapshots_taken) return false;
  if (peer.info.schema != shared_.self.schema || transfer_.Running()) return false;
  new_asked_ = transfer_.WantSnapshot(peer, shared_.config.snapshot_rows_min, now, out);
  return new_asked_;
}

void Settlement::Begin(const Member& peer, Instant now, Outputs& out) {
  const auto [begun, first] = begun_.try_emplace(peer.info.name, now);
  if (!first && now - begun->second < kInterval) return;
  begun->second = now;
  ++shared_.counters.settlements;
  shared_.SendFrame(peer, Lane::kRepair, Frame(Settle{shared_.horizon, shared_.self.schema, false}),
                    out);
  if (begun_.size() > shared_.members.size() + 1) {
    std::erase_if(begun_,
                  [&](const auto& entry) { return shared_.members.Find(entry.first) == nullptr; });
  }
}

void Settlement::OnSettle(const Member& from, const Settle& settle, Instant now, Outputs& out) {
  if (settle.schema != shared_.self.schema) return;  // until they are equal
  if (std::tie(shared_.horizon, shared_.self.name) < std::tie(settle.horizon, from.info.name)) {
    transfer_.WantSnapshot(from, 0, now, out);
  } else if (!settle.answer) {
    shared_.SendFrame(from, Lane::kRepair,
                      Frame(Settle{shared_.horizon, shared_.self.schema, true}), out);
  }
}

}  // namespace patina::gossip

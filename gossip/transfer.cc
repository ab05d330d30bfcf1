#include "gossip/transfer.h"

#include <algorithm>
#include <utility>

#include "gossip/ranges.h"

namespace patina::gossip {
namespace {

constexpr Duration kBackoff = std::chrono::milliseconds(500);
constexpr int kBackoffDoublings = 4;
constexpr int kMergePatience = 10;  // times transfer_timeout

}  // namespace

crdt::VersionSet Transfer::Applied() const {
  if (parked_.empty()) return shared_.received;
  crdt::VersionSet parked;
  for (const ChangeId& id : parked_) parked.Add(id);
  crdt::VersionSet applied;
  for (const crdt::ActorRanges& actor : parked.Lacking(shared_.received)) {
    for (const crdt::VersionRange& range : actor.ranges) applied.AddRange(actor.actor, range);
  }
  return applied;
}

void Transfer::Want(const Member& from, Instant now, Outputs& out) {
  if (asked_ || now < not_before_) return;
  Asked asked;
  asked.transfer = next_transfer_++;
  asked.peer = from.info.name;
  asked.deadline = now + shared_.config.transfer_timeout;
  ++shared_.counters.transfers_asked;
  shared_.SendFrame(from, Lane::kBulk,
                    Frame(TransferRequest{asked.transfer, shared_.self.schema, Applied()}), out);
  asked_ = std::move(asked);
}

/// Ends the transfer that we asked for; the next one has to wait.
void Transfer::Fail(Instant now, bool abandon, Outputs* out) {
  ++shared_.counters.transfers_failed;
  if (abandon) out->abandon_staged.push_back(asked_->transfer);
  asked_.reset();
  failures_ = std::min(failures_ + 1, kBackoffDoublings);
  const Duration most = kBackoff * (int64_t{1} << failures_);
  not_before_ =
      now + most / 2 +
      Duration(static_cast<int64_t>(shared_.rng.Below(static_cast<uint64_t>(most.count() / 2))));
}

void Transfer::OnChunk(const std::string& from, const TransferChunk& chunk, Instant now,
                       Outputs& out) {
  if (!asked_ || asked_->transfer != chunk.transfer || asked_->peer != from) return;
  if (asked_->staging || asked_->merging || chunk.number != asked_->next_number ||
      chunk.bytes == nullptr) {
    return;
  }
  asked_->staging = !chunk.last;
  asked_->merging = chunk.last;
  asked_->deadline = now + shared_.config.transfer_timeout * (chunk.last ? kMergePatience : 1);
  out.stage.push_back({chunk.transfer, chunk.number, chunk.bytes, chunk.last});
}

void Transfer::OnRefused(const std::string& from, const TransferRefused& refused, Instant now,
                         Outputs& out) {
  if (!asked_ || asked_->transfer != refused.transfer || asked_->peer != from) return;
  if (asked_->merging) return;
  Fail(now, asked_->next_number > 0 || asked_->staging, &out);
}

void Transfer::OnStaged(uint64_t transfer, uint64_t number, Instant now, Outputs& out) {
  if (!asked_ || asked_->transfer != transfer || asked_->next_number != number) return;
  if (!asked_->staging) return;
  asked_->staging = false;
  asked_->next_number = number + 1;
  asked_->deadline = now + shared_.config.transfer_timeout;
  const Member* peer = shared_.members.Find(asked_->peer);
  if (peer == nullptr) return Fail(now, true, &out);
  shared_.SendFrame(*peer, Lane::kBulk, Frame(TransferNext{transfer, number + 1}), out);
}

void Transfer::OnMerged(uint64_t transfer, const crdt::VersionSet& received, Instant) {
  shared_.received.Union(received);
  if (!asked_ || asked_->transfer != transfer) return;
  ++shared_.counters.transfers_merged;
  failures_ = 0;
  asked_.reset();
}

void Transfer::OnFailed(uint64_t transfer, Instant now, Outputs& out) {
  if (asked_ && asked_->transfer == transfer) Fail(now, true, &out);
}

std::map<uint64_t, Transfer::Serving>::iterator Transfer::FindServing(const std::string& peer,
                                                                      uint64_t transfer) {
  return std::find_if(serving_.begin(), serving_.end(), [&](const auto& entry) {
    return entry.second.peer == peer && entry.second.transfer == transfer;
  });
}

void Transfer::OnRequest(const Member& from, const TransferRequest& request, Instant now,
                         Outputs& out) {
  for (auto entry = serving_.begin(); entry != serving_.end();) {  // one per peer: the newest
    if (entry->second.peer != from.info.name) {
      ++entry;
      continue;
    }
    out.close_transfers.push_back(entry->first);
    entry = serving_.erase(entry);
  }
  std::string refusal;
  if (request.schema != shared_.self.schema) refusal = "schemas differ";
  if (serving_.size() >= static_cast<size_t>(shared_.config.transfers_served_max)) {
    refusal = "too many transfers are being served";
  }
  if (!refusal.empty()) {
    shared_.SendFrame(from, Lane::kBulk, Frame(TransferRefused{request.transfer, refusal}), out);
    return;
  }
  const uint64_t serving = next_serving_++;
  serving_[serving] = {from.info.name, request.transfer, 0, true,
                       now + shared_.config.transfer_timeout};
  out.open_transfers.push_back({serving, request.schema, request.applied});
}

void Transfer::OnNext(const std::string& from, const TransferNext& next, Instant now,
                      Outputs& out) {
  const auto found = FindServing(from, next.transfer);
  if (found == serving_.end() || found->second.reading ||
      found->second.next_number != next.number) {
    return;
  }
  found->second.reading = true;
  found->second.deadline = now + shared_.config.transfer_timeout;
  out.read_chunks.push_back({found->first, next.number});
}

void Transfer::OnChunkRead(uint64_t serving, uint64_t number, SharedBytes bytes, bool last,
                           Instant now, Outputs& out) {
  const auto found = serving_.find(serving);
  if (found == serving_.end() || found->second.next_number != number) return;
  const Member* peer = shared_.members.Find(found->second.peer);
  if (peer != nullptr) {
    shared_.SendFrame(*peer, Lane::kBulk,
                      Frame(TransferChunk{found->second.transfer, number, std::move(bytes), last}),
                      out);
  }
  if (last || peer == nullptr) {
    if (last) ++shared_.counters.transfers_served;
    out.close_transfers.push_back(serving);
    serving_.erase(found);
    return;
  }
  found->second.reading = false;
  found->second.next_number = number + 1;
  found->second.deadline = now + shared_.config.transfer_timeout;
}

void Transfer::OnReadFailed(uint64_t serving, const std::string& reason, Outputs& out) {
  const auto found = serving_.find(serving);
  if (found == serving_.end()) return;
  if (const Member* peer = shared_.members.Find(found->second.peer)) {
    shared_.SendFrame(*peer, Lane::kBulk, Frame(TransferRefused{found->second.transfer, reason}),
                      out);
  }
  out.close_transfers.push_back(serving);
  serving_.erase(found);
}

void Transfer::OnPeerLost(const std::string& name, Instant now, Outputs& out) {
  if (asked_ && asked_->peer == name && !asked_->merging) Fail(now, true, &out);
  for (auto entry = serving_.begin(); entry != serving_.end();) {
    if (entry->second.peer != name) {
      ++entry;
      continue;
    }
    out.close_transfers.push_back(entry->first);
    entry = serving_.erase(entry);
  }
}

void Transfer::Tick(Instant now, Outputs& out) {
  if (asked_ && asked_->deadline <= now) Fail(now, true, &out);
  for (auto entry = serving_.begin(); entry != serving_.end();) {
    if (entry->second.deadline > now) {
      ++entry;
      continue;
    }
    out.close_transfers.push_back(entry->first);
    entry = serving_.erase(entry);
  }
}

Instant Transfer::NextDeadline() const {
  Instant next = Instant::max();
  if (asked_) next = asked_->deadline;
  for (const auto& [serving, entry] : serving_) next = std::min(next, entry.deadline);
  return next;
}

}  // namespace patina::gossip

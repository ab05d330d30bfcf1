#include "gossip/transfer.h"

#include <algorithm>
#include <utility>

#include "crdt/manifest.h"
#include "gossip/ranges.h"

namespace patina::gossip {
namespace {

constexpr Duration kBackoff = std::chrono::milliseconds(500);
constexpr int kBackoffDoublings = 4;
constexpr int kMergePatience = 10;  // times transfer_timeout
// The same, until a copy of the sender's file is made. One that takes longer is found made by the
// next request; who waits for a sender that has crashed waits no longer than this.
constexpr int kCopyPatience = 3;

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

bool Transfer::WantSnapshot(const Member& from, uint64_t rows_min, Instant now, Outputs& out) {
  if (!shared_.config.snapshots_taken) {
    ++shared_.counters.snapshots_impossible;
    return false;
  }
  if (now < snapshot_not_before_ || TakingSnapshot() || (asked_ && asked_->merging)) return false;
  if (asked_) Fail(now, true, &out);
  Asked asked;
  asked.transfer = next_transfer_++;
  asked.peer = from.info.name;
  asked.snapshot = true;
  asked.deadline = now + shared_.config.transfer_timeout * kCopyPatience;
  asked.ends_at = now + shared_.config.snapshot_deadline;
  ++shared_.counters.snapshots_asked;
  shared_.SendFrame(
      from, Lane::kBulk,
      Frame(SnapshotRequest{asked.transfer, shared_.self.schema, shared_.horizon, rows_min}), out);
  asked_ = std::move(asked);
  return true;
}

bool Transfer::WantLarge(const Member& from, const Change& manifest, Instant now, Outputs& out) {
  const bool room = waiting_.size() < shared_.config.large_waiting_max;
  if (!room || !crdt::DecodeManifest(*manifest.bytes).ok()) return false;
  shared_.in_flight.Add(manifest.id, manifest.bytes->size());
  waiting_.push_back({from.info.name, manifest});
  BeginLarge(now, out);
  return true;
}

/// The next of those that wait, if nothing runs.
void Transfer::BeginLarge(Instant now, Outputs& out) {
  while (!asked_ && now >= not_before_ && !waiting_.empty()) {
    const Waiting next = std::move(waiting_.front());
    waiting_.pop_front();
    const Member* const from = shared_.members.Find(next.peer);
    const auto manifest = crdt::DecodeManifest(*next.manifest.bytes);
    if (shared_.received.Contains(next.manifest.id) || from == nullptr || !from->Reachable() ||
        !manifest.ok()) {
      shared_.in_flight.Remove(next.manifest.id);  // anti-entropy finds it again if it lacks
      continue;
    }
    Asked asked;
    asked.transfer = next_transfer_++;
    asked.peer = next.peer;
    asked.staging = true;
    asked.large = next.manifest.id;
    asked.chunks = manifest->chunks;
    // The writer may be busy.
    asked.deadline = now + shared_.config.transfer_timeout * kMergePatience;
    asked.ends_at = now + shared_.config.large_fetch_deadline;
    ++shared_.counters.large_asked;
    out.stage_large.push_back({asked.transfer, next.manifest.bytes});
    asked_ = std::move(asked);
  }
  shared_.counters.large_waiting = waiting_.size();
}

void Transfer::OnLargeStaged(uint64_t transfer, uint64_t next, Instant now, Outputs& out) {
  if (!asked_ || asked_->transfer != transfer || !asked_->large || !asked_->staging) return;
  asked_->staging = false;
  asked_->next_number = next;
  CountLarge();
  asked_->deadline = now + shared_.config.transfer_timeout;
  if (next >= asked_->chunks) return Merge(now, std::make_shared<const std::string>(), out);
  const Member* peer = shared_.members.Find(asked_->peer);
  if (peer == nullptr) return Fail(now, false, &out);
  shared_.SendFrame(*peer, Lane::kBulk,
                    Frame(TransferRequest{transfer, shared_.self.schema, {}, asked_->large, next}),
                    out);
}

/// The last chunk is here: what is staged can be merged.
void Transfer::Merge(Instant now, SharedBytes last_chunk, Outputs& out) {
  asked_->merging = true;
  asked_->deadline = now + shared_.config.transfer_timeout * kMergePatience;
  out.stage.push_back({asked_->transfer, asked_->next_number, std::move(last_chunk), true,
                       asked_->snapshot, asked_->large});
}

std::optional<std::string> Transfer::PeerOf(uint64_t transfer) const {
  if (!asked_ || asked_->transfer != transfer) return std::nullopt;
  return asked_->peer;
}

std::optional<ChangeId> Transfer::LargeOf(uint64_t transfer) const {
  if (!asked_ || asked_->transfer != transfer) return std::nullopt;
  return asked_->large;
}

/// For people: how far the fetch has come.
void Transfer::CountLarge() {
  const bool runs = asked_ && asked_->large;
  shared_.counters.large_chunks_here = runs ? asked_->next_number : 0;
  shared_.counters.large_chunks_of = runs ? asked_->chunks : 0;
}

/// Ends the transfer that we asked for; the next one has to wait.
void Transfer::Fail(Instant now, bool abandon, Outputs* out) {
  ++(asked_->snapshot ? shared_.counters.snapshots_failed : shared_.counters.transfers_failed);
  if (asked_->large) {  // what is staged stays: it goes on from there, perhaps with another peer
    shared_.in_flight.Remove(*asked_->large);
  } else if (abandon) {
    out->abandon_staged.push_back(asked_->transfer);
  }
  // A transfer that failed because a snapshot is needed must not hold up the snapshot.
  Instant& not_before = asked_->snapshot ? snapshot_not_before_ : not_before_;
  asked_.reset();
  CountLarge();
  failures_ = std::min(failures_ + 1, kBackoffDoublings);
  const Duration most = kBackoff * (int64_t{1} << failures_);
  not_before =
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
  if (asked_->large && chunk.last != (chunk.number + 1 == asked_->chunks)) {
    return Fail(now, false, &out);
  }
  if (chunk.last) return Merge(now, chunk.bytes, out);
  asked_->staging = true;
  asked_->deadline = now + shared_.config.transfer_timeout;
  out.stage.push_back(
      {chunk.transfer, chunk.number, chunk.bytes, false, asked_->snapshot, asked_->large});
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
  CountLarge();
  asked_->deadline = now + shared_.config.transfer_timeout;
  const Member* peer = shared_.members.Find(asked_->peer);
  if (peer == nullptr) return Fail(now, true, &out);
  shared_.SendFrame(*peer, Lane::kBulk, Frame(TransferNext{transfer, number + 1}), out);
}

void Transfer::OnMerged(uint64_t transfer, const crdt::VersionSet& received, Instant now,
                        Outputs& out) {
  shared_.received.Union(received);
  if (!asked_ || asked_->transfer != transfer) return;
  if (asked_->large) shared_.in_flight.Remove(*asked_->large);
  ++(asked_->large ? shared_.counters.large_merged : shared_.counters.transfers_merged);
  failures_ = 0;
  asked_.reset();
  CountLarge();
  BeginLarge(now, out);
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
  CloseServings(from.info.name, out);  // one per peer: the newest
  const auto running = std::count_if(serving_.begin(), serving_.end(),
                                     [](const auto& entry) { return !entry.second.snapshot; });
  std::string refusal;
  if (request.large) {
    if (!shared_.received.Contains(*request.large)) refusal = "not received here";
  } else if (request.schema != shared_.self.schema) {
    refusal = "schemas differ";
  }
  if (running >= shared_.config.transfers_served_max) {
    refusal = "too many transfers are being served";
  }
  Serving serving;
  serving.next_number = request.first;
  serving.transfer = request.transfer;
  serving.deadline = now + shared_.config.transfer_timeout;
  Serve(from, std::move(serving),
        {0, request.schema, request.applied, false, 0, request.large, request.first},
        std::move(refusal), out);
}

void Transfer::OnSnapshotRequest(const Member& from, const SnapshotRequest& request, Instant now,
                                 Outputs& out) {
  CloseServings(from.info.name, out);
  const auto running = std::count_if(serving_.begin(), serving_.end(),
                                     [](const auto& entry) { return entry.second.snapshot; });
  std::string refusal;
  if (request.schema != shared_.self.schema) refusal = "schemas differ";
  if (request.horizon > shared_.horizon) refusal = "its own horizon is below the asker's";
  if (running >= shared_.config.snapshots_served_max) {
    refusal = "too many snapshots are being served";
  }
  Serving serving;
  serving.transfer = request.transfer;
  serving.snapshot = true;
  serving.deadline = now + shared_.config.transfer_timeout * kCopyPatience;
  serving.ends_at = now + shared_.config.snapshot_deadline;
  Serve(from, std::move(serving), {0, request.schema, {}, true, request.rows_min},
        std::move(refusal), out);
}

void Transfer::Serve(const Member& from, Serving serving, Outputs::OpenTransfer open,
                     std::string refusal, Outputs& out) {
  if (!refusal.empty()) {
    if (serving.snapshot) ++shared_.counters.snapshots_refused;
    shared_.SendFrame(from, Lane::kBulk,
                      Frame(TransferRefused{serving.transfer, std::move(refusal)}), out);
    return;
  }
  open.serving = next_serving_++;
  serving.peer = from.info.name;
  serving_[open.serving] = std::move(serving);
  out.open_transfers.push_back(std::move(open));
}

void Transfer::OnNext(const std::string& from, const TransferNext& next, Instant now,
                      Outputs& out) {
  const auto found = FindServing(from, next.transfer);
  if (found == serving_.end() || found->second.reading ||
      found->second.next_number != next.number) {
    return;
  }
  found->second.deadline = now + shared_.config.transfer_timeout;
  if (now < found->second.next_at) {
    found->second.waiting = true;
    return;
  }
  ReadNext(found->first, found->second, now, out);
}

void Transfer::ReadNext(uint64_t serving, Serving& entry, Instant now, Outputs& out) {
  entry.waiting = false;
  entry.reading = true;
  entry.deadline = now + shared_.config.transfer_timeout;
  out.read_chunks.push_back({serving, entry.next_number});
}

void Transfer::OnChunkRead(uint64_t serving, uint64_t number, SharedBytes bytes, bool last,
                           Instant now, Outputs& out) {
  const auto found = serving_.find(serving);
  if (found == serving_.end() || found->second.next_number != number) return;
  const Member* peer = shared_.members.Find(found->second.peer);
  if (found->second.snapshot && bytes != nullptr) {
    const double seconds = static_cast<double>(bytes->size()) /
                           static_cast<double>(shared_.config.snapshot_bytes_per_s);
    found->second.next_at =
        std::max(now, found->second.next_at) + Duration(static_cast<int64_t>(seconds * 1e9));
  }
  if (peer != nullptr) {
    shared_.SendFrame(*peer, Lane::kBulk,
                      Frame(TransferChunk{found->second.transfer, number, std::move(bytes), last}),
                      out);
  }
  if (last || peer == nullptr) {
    if (last) {
      ++(found->second.snapshot ? shared_.counters.snapshots_served
                                : shared_.counters.transfers_served);
    }
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
  CloseServings(name, out);
}

void Transfer::CloseServings(const std::string& peer, Outputs& out) {
  for (auto entry = serving_.begin(); entry != serving_.end();) {
    if (entry->second.peer != peer) {
      ++entry;
      continue;
    }
    out.close_transfers.push_back(entry->first);
    entry = serving_.erase(entry);
  }
}

void Transfer::Tick(Instant now, Outputs& out) {
  if (asked_ && std::min(asked_->deadline, asked_->ends_at) <= now) Fail(now, true, &out);
  BeginLarge(now, out);
  for (auto entry = serving_.begin(); entry != serving_.end();) {
    Serving& serving = entry->second;
    if (serving.deadline > now && serving.ends_at > now) {
      if (serving.waiting && serving.next_at <= now) ReadNext(entry->first, serving, now, out);
      ++entry;
      continue;
    }
    out.close_transfers.push_back(entry->first);
    entry = serving_.erase(entry);
  }
}

Instant Transfer::NextDeadline() const {
  Instant next = Instant::max();
  if (asked_) next = std::min(asked_->deadline, asked_->ends_at);
  if (!asked_ && !waiting_.empty()) next = not_before_;
  for (const auto& [serving, entry] : serving_) {
    next = std::min({next, entry.deadline, entry.ends_at});
    if (entry.waiting) next = std::min(next, entry.next_at);
  }
  return next;
}

}  // namespace patina::gossip

#include "gossip/sync.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "crdt/manifest.h"
#include "gossip/ranges.h"

namespace patina::gossip {
namespace {

constexpr uint64_t kFarBehind = 200;  // versions missing that no broadcast will bring any more
constexpr uint64_t kShareMin = 64;    // versions worth a request of their own
constexpr Duration kBusyInterval = std::chrono::milliseconds(700);
constexpr uint64_t kLackingFactor = 4;  // requests' worth of missing versions remembered per peer

}  // namespace

void Sync::OnDigest(Member& from, const Digest128& digest, Instant now, Outputs& out) {
  if (digest == shared_.received.digest()) {
    from.versions_behind = 0;
    shared_.catch_up.OnEqual(from.info.name);
    const auto found = peers_.find(from.info.name);
    if (found == peers_.end()) return;
    Clear(found->first, found->second);
    found->second.interval = shared_.config.sync_interval_min;
    return;
  }
  Peer& peer = Obtain(from.info.name);
  if (now < peer.next_exchange || peer.due != Instant::max() || blocked_) return;
  if (!from.Reachable() || Asking(from.info.name)) return;
  // While changes keep coming digests differ anyway: a look now and then will do.
  if (now - shared_.received_at < shared_.config.repair_min_age && now < next_while_busy_) return;
  Exchange(from, peer, now, out);
}

void Sync::Exchange(Member& member, Peer& peer, Instant now, Outputs& out) {
  ++shared_.counters.syncs;
  next_while_busy_ = now + kBusyInterval;
  BackOff(peer, now);
  SendState(member, false, out);
}

void Sync::SendState(Member& to, bool answer, Outputs& out) {
  SyncState state = known_.Compose(to.info.name, shared_.received, answer);
  if (state.base == Digest128()) ++shared_.counters.sync_states_full;
  shared_.counters.sync_peers_forgotten = known_.forgotten();
  shared_.SendFrame(to, Lane::kRepair, Frame(std::move(state)), out);
}

/// The interval doubles until something comes of it; with jitter, so that peers do not fall into
/// step.
void Sync::BackOff(Peer& peer, Instant now) {
  const auto jitter = shared_.rng.Below(static_cast<uint64_t>(peer.interval.count() / 4 + 1));
  peer.next_exchange = now + peer.interval + Duration(static_cast<int64_t>(jitter));
  peer.interval = std::min(peer.interval * 2, shared_.config.sync_interval_max);
}

Sync::Peer& Sync::Obtain(const std::string& name) {
  const auto [at, is_new] = peers_.try_emplace(name);
  if (is_new) at->second.interval = shared_.config.sync_interval_min;
  return at->second;
}

void Sync::SetDue(const std::string& name, Peer& peer, Instant due) {
  if (peer.due != Instant::max()) due_.erase({peer.due, name});
  peer.due = due;
  if (due != Instant::max()) due_.insert({due, name});
}

void Sync::Clear(const std::string& name, Peer& peer) {
  peer.lacking = {};
  peer.unavailable = {};
  peer.truncated = false;
  SetDue(name, peer, Instant::max());
  peer.useful = false;
}

void Sync::OnState(Member& from, const SyncState& state, Instant now, Outputs& out) {
  Peer& peer = Obtain(from.info.name);
  const crdt::VersionSet* theirs = nullptr;
  if (state.refused) {
    ++shared_.counters.sync_states_refused;
    known_.OnRefused(from.info.name);
  } else if (theirs = known_.Take(from.info.name, state); theirs == nullptr) {
    shared_.SendFrame(from, Lane::kRepair, Frame(KnownSets::Refuse()), out);
  }
  if ((state.refused || !state.answer) && now >= peer.next_answer) {
    peer.next_answer = now + shared_.config.sync_interval_min / 2;
    SendState(from, true, out);
  }
  if (theirs == nullptr) return;
  shared_.catch_up.OnTold(from.info.name, *theirs, shared_.received);
  from.versions_behind = CountVersions(theirs->Lacking(shared_.received));
  std::vector<crdt::ActorRanges> lacking = shared_.received.Lacking(*theirs);
  const uint64_t count = CountVersions(lacking);
  const Instant due = peer.due;
  const bool was_useful = peer.useful;
  Clear(from.info.name, peer);
  if (count == 0) return;
  settlement_.OnPeerHas(from, *theirs, now, out);
  if (settlement_.OnLacking(from, theirs->Size(), count, now, out)) return;
  const uint64_t most = shared_.config.sync_versions_max * kLackingFactor;
  peer.truncated = count > most;
  peer.lacking = ToSet(TakeNewest(std::move(lacking), most));
  peer.useful = was_useful;
  if (count < kFarBehind && !shared_.received.Empty()) {
    SetDue(from.info.name, peer, std::min(due, now + shared_.config.repair_min_age));
    return;
  }
  SetDue(from.info.name, peer, now);
  if (requests_.empty()) ExchangeWithOthers(from.info.name, now, out);
  Advance(now, out);
}

/// Far behind: so that not one peer alone has to send it all.
void Sync::ExchangeWithOthers(const std::string& except, Instant now, Outputs& out) {
  const auto count = static_cast<size_t>(std::max(0, shared_.config.sync_peers_max - 1));
  for (Member* member : shared_.members.PickReachable(shared_.rng, count, except)) {
    Peer& peer = Obtain(member->info.name);
    if (now >= peer.next_exchange && peer.due == Instant::max()) Exchange(*member, peer, now, out);
  }
}

bool Sync::Asking(const std::string& name) const {
  return std::any_of(requests_.begin(), requests_.end(),
                     [&](const auto& request) { return request.second.peer == name; });
}

/// What need not be asked for: received, on its way into the file, or refused by storage a moment
/// ago.
crdt::VersionSet Sync::Here() const {
  crdt::VersionSet here = shared_.received;
  shared_.in_flight.AddTo(&here);
  here.Union(refused_);
  here.Union(settlement_.too_old());
  return here;
}

void Sync::OnRefused(const std::vector<ChangeId>& ids, Instant now) {
  for (const ChangeId& id : ids) refused_.Add(id);
  // From the first on: a peer that is refused again and again must not hold up what is fine by now.
  if (refused_until_ <= now) refused_until_ = now + shared_.config.sync_interval_max;
}

/// Peers that have something for us, near ones first.
std::vector<std::string> Sync::DuePeers(Instant now) {
  std::vector<std::tuple<bool, Duration, std::string>> due;
  std::vector<std::string> gone;
  for (const auto& [at, name] : due_) {
    if (at > now) break;
    if (Asking(name)) continue;
    const Member* member = shared_.members.Find(name);
    if (member == nullptr || !member->Reachable()) {
      gone.push_back(name);
      continue;
    }
    due.emplace_back(member->info.region != shared_.self.region,
                     member->round_trips.Median().value_or(Duration::max()), name);
  }
  for (const std::string& name : gone) Clear(name, peers_.at(name));
  std::sort(due.begin(), due.end());
  std::vector<std::string> names;
  names.reserve(due.size());
  for (auto& [far, round_trip, name] : due) names.push_back(std::move(name));
  return names;
}

void Sync::Advance(Instant now, Outputs& out) {
  const auto requests_max = static_cast<size_t>(shared_.config.sync_peers_max);
  blocked_ = shared_.in_flight.bytes() > 0 &&
             shared_.in_flight.bytes() + shared_.config.sync_bytes_max * (requests_.size() + 1) >
                 shared_.config.in_flight_bytes_max;
  if (blocked_ || requests_.size() >= requests_max) return;
  if (transfer_.TakingSnapshot()) return;  // all that is missing comes with it
  const std::vector<std::string> due = DuePeers(now);
  if (due.empty()) return;
  if (now >= refused_until_) refused_ = {};
  crdt::VersionSet busy = Here();
  for (const auto& [id, request] : requests_) busy.Union(request.wanted);
  size_t left = due.size();
  for (const std::string& name : due) {
    if (requests_.size() >= requests_max) return;
    AskFor(name, busy, std::min(left, requests_max - requests_.size()), now, out);
    --left;
  }
}

/// slots: over how many peers, this one included, what is missing should be spread.
uint64_t Sync::AskFor(const std::string& name, crdt::VersionSet& busy, size_t slots, Instant now,
                      Outputs& out) {
  Peer& peer = peers_.at(name);
  std::vector<crdt::ActorRanges> missing = busy.Lacking(peer.lacking);
  if (!peer.unavailable.Empty() && !missing.empty()) {
    missing = peer.unavailable.Lacking(ToSet(missing));
  }
  const uint64_t total = CountVersions(missing);
  if (total == 0) {
    Settle(name, now, out);
    return 0;
  }
  const uint64_t share = std::max(kShareMin, total / slots + 1);
  missing = TakeNewest(std::move(missing), std::min(share, shared_.config.sync_versions_max));
  Request request;
  request.peer = name;
  request.wanted = ToSet(missing);
  request.deadline = now + shared_.config.sync_timeout;
  busy.Union(request.wanted);
  const uint64_t id = next_request_++;
  const Member* member = shared_.members.Find(name);
  shared_.SendFrame(*member, Lane::kRepair,
                    Frame(SyncRequest{id, std::move(missing), shared_.config.sync_bytes_max}), out);
  requests_.emplace(id, std::move(request));
  return total;
}

/// Nothing (more) to ask this peer for: what it had is here, on its way, or asked from others.
void Sync::Settle(const std::string& name, Instant now, Outputs& out) {
  Peer& peer = peers_.at(name);
  crdt::VersionSet here = Here();
  here.Union(peer.unavailable);
  if (!here.Lacking(peer.lacking, 1).empty()) {  // from others: look again
    SetDue(name, peer, now + shared_.config.repair_min_age);
    return;
  }
  const bool useful = peer.useful, truncated = peer.truncated;
  Clear(name, peer);
  if (!useful) return;
  peer.interval = shared_.config.sync_interval_min;
  peer.next_exchange = now;
  Member* member = shared_.members.Find(name);
  if (truncated && member != nullptr) Exchange(*member, peer, now, out);
}

/// Its chunks are fetched, if nothing else of the kind is; else it is asked for again later.
bool Sync::TakeManifest(const std::string& from, const Change& change, Instant now, Outputs& out) {
  if (shared_.Has(change.id)) return true;
  const Member* member = shared_.members.Find(from);
  if (member != nullptr && member->Reachable() && transfer_.WantLarge(*member, change, now, out)) {
    return true;
  }
  OnRefused({change.id}, now);
  return false;
}

void Sync::OnChanges(const std::string& from, const SyncChanges& changes, Instant now,
                     Outputs& out) {
  const auto found = requests_.find(changes.request);
  if (found == requests_.end() || found->second.peer != from) return;
  Request& request = found->second;
  request.deadline = now + shared_.config.sync_timeout;
  for (const Change& change : changes.changes) {
    if (!request.wanted.Contains(change.id)) continue;  // not asked for
    if (change.bytes != nullptr && crdt::IsManifest(*change.bytes)) {
      request.useful |= TakeManifest(from, change, now, out);
      continue;
    }
    const bool had = shared_.Has(change.id);
    const bool taken = shared_.TakeIn(change, out);
    if (taken) ++shared_.counters.sync_changes;
    if (had || taken) request.useful = true;
  }
  Peer& peer = peers_.at(from);
  Member* member = shared_.members.Find(from);
  const std::vector<crdt::ActorRanges> not_at_hand =
      IntersectWith(request.wanted, changes.not_at_hand, shared_.config.sync_versions_max);
  if (!not_at_hand.empty()) {
    peer.unavailable.Union(ToSet(not_at_hand));
    if (member != nullptr && member->Reachable()) transfer_.Want(*member, now, out);
  }
  if (!changes.done) return;
  const bool useful = request.useful;
  requests_.erase(found);
  if (useful) {
    peer.useful = true;
    if (peer.due != Instant::max()) SetDue(from, peer, now);
  } else {
    Clear(from, peer);  // it has nothing for us now: the next exchange, later, tells
  }
  Advance(now, out);
}

void Sync::OnPeerLost(const std::string& name, Instant now) {
  const size_t ended =
      std::erase_if(requests_, [&](const auto& request) { return request.second.peer == name; });
  const auto found = peers_.find(name);
  if (ended == 0 || found == peers_.end()) return;
  Clear(found->first, found->second);
  BackOff(found->second, now);
}

void Sync::OnProgress(Instant now, Outputs& out) {
  if (blocked_) Advance(now, out);
}

void Sync::Tick(Instant now, Outputs& out) {
  for (auto request = requests_.begin(); request != requests_.end();) {
    if (request->second.deadline > now) {
      ++request;
      continue;
    }
    ++shared_.counters.sync_timeouts;
    Peer& peer = peers_.at(request->second.peer);
    Clear(request->second.peer, peer);
    BackOff(peer, now);
    request = requests_.erase(request);
  }
  Advance(now, out);
  if (peers_.size() > shared_.members.size()) ForgetGone();
}

void Sync::ForgetGone() {
  for (auto peer = peers_.begin(); peer != peers_.end();) {
    if (shared_.members.Find(peer->first) != nullptr || Asking(peer->first)) {
      ++peer;
      continue;
    }
    Clear(peer->first, peer->second);
    known_.Forget(peer->first);
    peer = peers_.erase(peer);
  }
}

Instant Sync::NextDeadline() const {
  Instant next = Instant::max();
  for (const auto& [id, request] : requests_) next = std::min(next, request.deadline);
  if (blocked_ || transfer_.TakingSnapshot() ||
      requests_.size() >= static_cast<size_t>(shared_.config.sync_peers_max)) {
    return next;
  }
  for (const auto& [at, name] : due_) {
    if (Asking(name)) continue;
    return std::min(next, at);
  }
  return next;
}

uint64_t Sync::VersionsLacking() const {
  crdt::VersionSet told;
  for (const auto& [name, peer] : peers_) {
    const Member* member = shared_.members.Find(name);
    if (member != nullptr && member->Reachable()) told.Union(peer.lacking);
  }
  return CountVersions(shared_.received.Lacking(told));
}

}  // namespace patina::gossip

#include "gossip/node.h"

#include <algorithm>
#include <utility>

#include "gossip/broadcast.h"
#include "gossip/membership.h"
#include "gossip/prober.h"
#include "gossip/publishing.h"
#include "gossip/settlement.h"
#include "gossip/shared.h"
#include "gossip/sync.h"
#include "gossip/sync_server.h"
#include "gossip/transfer.h"

namespace patina::gossip {

void Outputs::Clear() {
  persist.clear();
  stage.clear();
  stage_large.clear();
  abandon_staged.clear();
  datagrams.clear();
  frames.clear();
  log_reads.clear();
  open_transfers.clear();
  read_chunks.clear();
  close_transfers.clear();
  publish.reset();
  events.clear();
}

bool Outputs::Empty() const {
  return persist.empty() && stage.empty() && stage_large.empty() && abandon_staged.empty() &&
         datagrams.empty() && frames.empty() && log_reads.empty() && open_transfers.empty() &&
         read_chunks.empty() && close_transfers.empty() && publish == nullptr && events.empty();
}

struct Node::Impl {
  Impl(const Config& config, const Self& self, crdt::VersionSet received, uint64_t seed)
      : shared(config, self, std::move(received), seed) {}

  Shared shared;
  Membership membership{shared};
  Prober prober{shared, membership};
  Broadcast broadcast{shared};
  Transfer transfer{shared};
  Settlement settlement{shared, transfer};
  Sync sync{shared, transfer, settlement};
  SyncServer sync_server{shared};
  Publishing publishing{shared};
  bool started = false;

  void OnDatagram(const Endpoint& from, const Datagram& datagram, Instant now, Outputs& out);
  void OnFrame(const std::string& from, Frame frame, Instant now, Outputs& out);
};

Node::Node(const Config& config, const Self& self, crdt::VersionSet received, uint64_t seed)
    : impl_(std::make_unique<Impl>(config, self, std::move(received), seed)) {}
Node::~Node() = default;

void Node::SetSeeds(std::vector<Endpoint> seeds) { impl_->prober.SetSeeds(std::move(seeds)); }

void Node::Start(Instant now, Outputs& out) {
  impl_->shared.clock.Advance(now);
  impl_->started = true;
  impl_->shared.started_at = now;
  impl_->membership.Start(now);
  impl_->publishing.Start(now);
  impl_->prober.Start(now, out);
}

void Node::Leave(Instant now, Outputs& out) {
  impl_->prober.Stop();
  impl_->membership.Leave(now, out);
}

bool Node::LeaveDone() const { return impl_->membership.LeaveDone(); }

void Node::OnDatagram(const Endpoint& from, const Datagram& datagram, Instant now, Outputs& out) {
  impl_->shared.clock.Advance(now);
  impl_->OnDatagram(from, datagram, now, out);
}

void Node::Impl::OnDatagram(const Endpoint& from, const Datagram& datagram, Instant now,
                            Outputs& out) {
  Counters& counters = shared.counters;
  ++counters.datagrams_in;
  if (datagram.cluster != shared.config.cluster) {
    ++counters.foreign_cluster;
    return;
  }
  if (datagram.from == shared.self.name) {
    if (from != shared.self.address) membership.OnForeignSelf();
    return;
  }
  const gossip::Member* before = shared.members.Find(datagram.from);
  const bool was_alive = before != nullptr && before->state == MemberState::kAlive;
  for (const MemberUpdate& update : datagram.updates) membership.OnUpdate(update, now, out);
  gossip::Member* member = shared.members.Find(datagram.from);
  if (member == nullptr) ++counters.from_unknown;
  if (const auto* ping = std::get_if<Ping>(&datagram.body)) {
    prober.OnPing(from, datagram, *ping, was_alive, now, out);
    // It pings us by name and we do not know it: it knew an earlier process of ours.
    if (member == nullptr && started && ping->target == shared.self.name)
      prober.Greet(from, now, out);
  } else if (const auto* ack = std::get_if<Ack>(&datagram.body)) {
    prober.OnAck(datagram, *ack, was_alive, now, out);
  } else if (const auto* request = std::get_if<PingRequest>(&datagram.body)) {
    prober.OnPingRequest(from, *request, now, out);
  } else if (const auto* nack = std::get_if<Nack>(&datagram.body)) {
    prober.OnNack(datagram.from, *nack);
  }
  if (member != nullptr && started) sync.OnDigest(*member, datagram.received, now, out);
}

void Node::OnFrame(const std::string& from, Frame frame, Instant now, Outputs& out) {
  impl_->shared.clock.Advance(now);
  impl_->OnFrame(from, std::move(frame), now, out);
}

void Node::Impl::OnFrame(const std::string& from, Frame frame, Instant now, Outputs& out) {
  ++shared.counters.frames_in;
  // These two need no answer to a member, or make one known.
  if (auto* fresh = std::get_if<FreshChanges>(&frame)) {
    return broadcast.OnFresh(from, std::move(*fresh), now, out);
  }
  if (auto* list = std::get_if<MemberList>(&frame)) {
    return membership.OnMemberList(from, *list, now, out);
  }
  gossip::Member* member = shared.members.Find(from);
  if (member == nullptr) {
    ++shared.counters.from_unknown;
    return;
  }
  if (auto* have = std::get_if<IHave>(&frame)) {
    broadcast.OnIHave(from, *have, now);
  } else if (auto* pull = std::get_if<Pull>(&frame)) {
    broadcast.OnPull(*member, *pull, out);
  } else if (auto* state = std::get_if<SyncState>(&frame)) {
    sync.OnState(*member, *state, now, out);
  } else if (auto* sync_request = std::get_if<SyncRequest>(&frame)) {
    sync_server.OnRequest(*member, *sync_request, now, out);
  } else if (auto* changes = std::get_if<SyncChanges>(&frame)) {
    sync.OnChanges(from, *changes, now, out);
  } else if (auto* transfer_request = std::get_if<TransferRequest>(&frame)) {
    transfer.OnRequest(*member, *transfer_request, now, out);
  } else if (auto* chunk = std::get_if<TransferChunk>(&frame)) {
    transfer.OnChunk(from, *chunk, now, out);
  } else if (auto* next = std::get_if<TransferNext>(&frame)) {
    transfer.OnNext(from, *next, now, out);
  } else if (auto* refused = std::get_if<TransferRefused>(&frame)) {
    transfer.OnRefused(from, *refused, now, out);
  } else if (auto* snapshot_request = std::get_if<SnapshotRequest>(&frame)) {
    transfer.OnSnapshotRequest(*member, *snapshot_request, now, out);
  } else if (auto* settle = std::get_if<Settle>(&frame)) {
    settlement.OnSettle(*member, *settle, now, out);
  } else if (auto* ping = std::get_if<StreamPing>(&frame)) {
    prober.OnStreamPing(*member, *ping, out);
  } else if (auto* ack = std::get_if<StreamAck>(&frame)) {
    prober.OnStreamAck(*member, *ack, out);
  } else if (auto* publications_pull = std::get_if<PublicationsPull>(&frame)) {
    publishing.OnPull(*member, *publications_pull, now, out);
  } else if (auto* publications = std::get_if<Publications>(&frame)) {
    publishing.OnPublications(*publications, now);
  }
}

void Node::OnStreamLost(const std::string& member, Instant now, Outputs& out) {
  impl_->sync.OnPeerLost(member, now);
  impl_->transfer.OnPeerLost(member, now, out);
}

void Node::OnLocalCommit(std::vector<Change> changes, Instant now, Outputs& out) {
  impl_->shared.clock.Advance(now);
  impl_->shared.received_at = now;
  impl_->broadcast.OnLocalCommit(std::move(changes), out);
}

void Node::OnPersisted(const std::vector<ChangeId>& ids, Instant now, Outputs& out) {
  impl_->shared.received_at = now;
  for (const ChangeId& id : ids) {
    impl_->shared.received.Add(id);
    impl_->shared.in_flight.Remove(id);
  }
  impl_->sync.OnProgress(now, out);
}

void Node::OnPersistFailed(const std::vector<ChangeId>& ids, Instant now, Outputs& out) {
  for (const ChangeId& id : ids) impl_->shared.in_flight.Remove(id);
  impl_->sync.OnRefused(ids, now);
  impl_->sync.OnProgress(now, out);
}

void Node::OnTooOld(const std::vector<ChangeId>& ids, Instant now, Outputs& out) {
  impl_->settlement.OnTooOld(ids);
  OnPersistFailed(ids, now, out);
}

void Node::OnLogRead(uint64_t read, std::vector<Change> changes,
                     std::vector<crdt::ActorRanges> not_at_hand, bool /*complete*/, Instant,
                     Outputs& out) {
  impl_->sync_server.OnLogRead(read, std::move(changes), std::move(not_at_hand), out);
}

void Node::OnTransferChunkRead(uint64_t serving, uint64_t number, SharedBytes bytes, bool last,
                               Instant now, Outputs& out) {
  impl_->transfer.OnChunkRead(serving, number, std::move(bytes), last, now, out);
}

void Node::OnTransferReadFailed(uint64_t serving, const std::string& reason, Instant,
                                Outputs& out) {
  impl_->transfer.OnReadFailed(serving, reason, out);
}

void Node::OnTransferStaged(uint64_t transfer, uint64_t number, Instant now, Outputs& out) {
  impl_->transfer.OnStaged(transfer, number, now, out);
}

void Node::OnLargeStaged(uint64_t transfer, uint64_t next, Instant now, Outputs& out) {
  impl_->transfer.OnLargeStaged(transfer, next, now, out);
}

void Node::OnTransferMerged(uint64_t transfer, const crdt::VersionSet& received, Instant now,
                            Outputs& out) {
  impl_->transfer.OnMerged(transfer, received, now, out);
  impl_->sync.OnProgress(now, out);
}

void Node::OnTransferNeedsSnapshot(uint64_t transfer, Instant now, Outputs& out) {
  const std::optional<std::string> name = impl_->transfer.PeerOf(transfer);
  if (const auto large = impl_->transfer.LargeOf(transfer)) impl_->settlement.OnTooOld({*large});
  impl_->transfer.OnFailed(transfer, now, out);
  const gossip::Member* peer = name ? impl_->shared.members.Find(*name) : nullptr;
  if (peer != nullptr) impl_->settlement.Begin(*peer, now, out);
}

void Node::OnTransferFailed(uint64_t transfer, const std::string& /*reason*/, Instant now,
                            Outputs& out) {
  impl_->transfer.OnFailed(transfer, now, out);
}

void Node::SetParked(std::vector<ChangeId> parked) { impl_->transfer.SetParked(std::move(parked)); }

void Node::SetKnownMembers(const std::vector<std::pair<std::string, int64_t>>& members) {
  impl_->publishing.SetKnownMembers(members);
}

void Node::SetHorizon(crdt::HlcTime horizon) { impl_->shared.horizon = horizon; }

void Node::OnPublished(Publication publication, Instant now) {
  impl_->publishing.OnPublished(std::move(publication), now);
}

void Node::SetActor(const ActorId& actor, Instant, Outputs& out) {
  if (impl_->shared.self.actor == actor) return;
  impl_->shared.self.actor = actor;
  impl_->membership.RaiseSelf(out);
}

void Node::SetSchema(uint64_t schema, Instant, Outputs& out) {
  if (impl_->shared.self.schema == schema) return;
  impl_->shared.self.schema = schema;
  impl_->membership.RaiseSelf(out);
}

void Node::SetWallMs(int64_t wall_ms) { impl_->shared.clock.SetWallMs(wall_ms); }

void Node::Tick(Instant now, Outputs& out) {
  impl_->shared.clock.Advance(now);
  impl_->prober.Tick(now, out);
  impl_->membership.Tick(now, out);
  impl_->broadcast.Tick(now, out);
  impl_->sync.Tick(now, out);
  impl_->transfer.Tick(now, out);
  impl_->publishing.Tick(now, out);
}

Instant Node::NextDeadline() const {
  return std::min({impl_->prober.NextDeadline(), impl_->membership.NextDeadline(),
                   impl_->broadcast.NextDeadline(), impl_->sync.NextDeadline(),
                   impl_->transfer.NextDeadline(), impl_->publishing.NextDeadline()});
}

std::vector<MemberView> Node::Members() const {
  std::vector<MemberView> views;
  views.reserve(impl_->shared.members.size() + 1);
  bool self_done = false;
  for (const auto& [name, member] : impl_->shared.members.all()) {
    if (!self_done && impl_->shared.self.name < name) {
      views.push_back(impl_->shared.SelfView());
      self_done = true;
    }
    views.push_back(member.View());
  }
  if (!self_done) views.push_back(impl_->shared.SelfView());
  return views;
}

std::optional<MemberView> Node::Member(const std::string& name) const {
  if (name == impl_->shared.self.name) return impl_->shared.SelfView();
  const auto* member = std::as_const(impl_->shared.members).Find(name);
  if (member == nullptr) return std::nullopt;
  return member->View();
}

const crdt::VersionSet& Node::received() const { return impl_->shared.received; }
uint64_t Node::VersionsLacking() const { return impl_->sync.VersionsLacking(); }
int64_t Node::ClockCorrectionMs() const { return impl_->shared.clock.CorrectionMs(); }
int64_t Node::ClusterMinusSteadyMs() const { return impl_->shared.clock.ClusterMinusSteadyMs(); }
const Frontier& Node::frontier() const { return impl_->publishing.frontier(); }
size_t Node::InFlightBytes() const { return impl_->shared.in_flight.bytes(); }
const Counters& Node::counters() const { return impl_->shared.counters; }
const MemberInfo& Node::self() const { return impl_->shared.self; }

}  // namespace patina::gossip

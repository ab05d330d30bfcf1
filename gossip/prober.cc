#include "gossip/prober.h"

#include <algorithm>
#include <set>
#include <utility>

namespace patina::gossip {
namespace {

constexpr auto kGreetingInterval = std::chrono::milliseconds(100);
constexpr size_t kErrandsMax = 256;
constexpr size_t kCallsMax = 64;
constexpr size_t kSeedsMax = 64;
constexpr Duration kCallLife = std::chrono::seconds(5);
constexpr Duration kJoinInterval = std::chrono::milliseconds(500);

}  // namespace

void Prober::SetSeeds(std::vector<Endpoint> seeds) {
  seeds_ = std::move(seeds);
  if (seeds_.size() > kSeedsMax) seeds_.resize(kSeedsMax);
}

void Prober::Start(Instant now, Outputs& out) {
  // Nodes that start together should not probe together.
  const auto interval = static_cast<uint64_t>(shared_.config.probe_interval.count());
  next_probe_ = now + Duration(static_cast<int64_t>(shared_.rng.Below(interval)));
  next_call_ = now;
  CallTheMissing(now, out);
}

Duration Prober::ProbeInterval() const {
  return shared_.config.probe_interval * (shared_.local_health + 1);
}

Duration Prober::ProbeTimeout(const Member& member) const {
  const Config& config = shared_.config;
  const std::optional<Duration> longest = member.round_trips.Longest();
  Duration timeout = config.probe_timeout_default;
  if (longest) timeout = std::max(config.probe_timeout_min, *longest * 2);
  return std::min(timeout * (shared_.local_health + 1), ProbeInterval() / 2);
}

Member* Prober::NextTarget() {
  ProbeOrder& order = shared_.probe_order;
  for (size_t tries = order.names.size() + 1; tries > 0 && !order.names.empty(); --tries) {
    if (order.next >= order.names.size()) {
      order.next = 0;
      shared_.rng.Shuffle(order.names);
    }
    Member* member = shared_.members.Find(order.names[order.next]);
    if (member != nullptr && member->Reachable()) {
      ++order.next;
      return member;
    }
    if (member != nullptr) member->in_probe_order = false;
    order.names.erase(order.names.begin() + static_cast<std::ptrdiff_t>(order.next));
  }
  return nullptr;
}

void Prober::StartProbe(Instant now, Outputs& out) {
  next_probe_ = now + ProbeInterval();
  Member* target = NextTarget();
  if (target == nullptr) return;
  ++shared_.counters.probes;
  Probe probe;
  probe.sequence = next_sequence_++;
  probe.target = target->info.name;
  probe.sent = now;
  probe.timeout_at = now + ProbeTimeout(*target);
  probe.ends_at = next_probe_;
  shared_.SendDatagram({target->info.address, target, false, false},
                       Ping{probe.sequence, target->info.name}, now, out);
  probe_ = std::move(probe);
}

/// No answer in time: ask others to try, and try by stream meanwhile.
void Prober::Escalate(Instant now, Outputs& out) {
  probe_->escalated = true;
  const Member* target = shared_.members.Find(probe_->target);
  if (target == nullptr) return;
  const auto count = static_cast<size_t>(shared_.config.indirect_probes);
  for (Member* helper : shared_.members.PickReachable(shared_.rng, count, probe_->target)) {
    ++shared_.counters.indirect_probes;
    probe_->helpers.push_back(helper->info.name);
    shared_.SendDatagram({helper->info.address, helper, false, false},
                         PingRequest{probe_->sequence, target->info.name, target->info.address},
                         now, out);
  }
  ++shared_.counters.stream_probes;
  shared_.SendFrame(*target, Lane::kMembership, Frame(StreamPing{probe_->sequence}), out);
}

void Prober::EndProbe(Instant now, Outputs& out) {
  const Probe probe = std::move(*probe_);
  probe_.reset();
  if (probe.answered) return;
  Member* target = shared_.members.Find(probe.target);
  if (target == nullptr || !target->Reachable()) return;
  ++shared_.counters.probe_failures;
  // Helpers that did not even say no: then it may be us who does not hear.
  const bool asked = probe.escalated && shared_.config.indirect_probes > 0 &&
                     shared_.members.Reachable().size() > 1;
  shared_.ChangeLocalHealth(asked ? static_cast<int>(probe.helpers.size()) : 1);
  membership_.SuspectByProbe(*target, now, out);
}

void Prober::Answered() {
  if (probe_->answered) return;
  probe_->answered = true;
  shared_.ChangeLocalHealth(-1);
}

void Prober::OnDirectAnswer(Member& member, Instant sent, const Datagram& datagram, Instant now,
                            Outputs& out) {
  member.direct_misses = 0;
  member.round_trips.Add(now - sent);
  shared_.clock.OnSample(member.info.name, datagram.wall_ms, now - sent, now);
  if (member.stream_only) {
    member.stream_only = false;
    membership_.EmitChanged(member, out);
  }
}

void Prober::OnPing(const Endpoint& from, const Datagram& datagram, const Ping& ping,
                    bool was_alive, Instant now, Outputs& out) {
  if (!ping.target.empty() && ping.target != shared_.self.name) {
    ++shared_.counters.not_for_us;
    return;
  }
  const Member* member = shared_.members.Find(datagram.from);
  // A restart whose clock went back must learn that we believe in a later incarnation.
  const bool outdated = member != nullptr && datagram.from_incarnation < member->info.incarnation;
  shared_.SendDatagram({from, member, !was_alive || ping.target.empty(), outdated},
                       Ack{ping.sequence}, now, out);
}

void Prober::OnAck(const Datagram& datagram, const Ack& ack, bool was_alive, Instant now,
                   Outputs& out) {
  Member* member = shared_.members.Find(datagram.from);
  if (const auto call = calls_.find(ack.sequence); call != calls_.end()) {
    const Instant sent = call->second.sent;
    calls_.erase(call);
    if (member == nullptr || stopped_) return;
    OnDirectAnswer(*member, sent, datagram, now, out);
    if (!was_alive || !member->list_sent) membership_.OnMet(*member, now, out);
    return;
  }
  if (const auto errand = errands_.find(ack.sequence); errand != errands_.end()) {
    if (errand->second.target != datagram.from) return;
    shared_.SendDatagram({errand->second.for_address, nullptr, false, false},
                         Ack{errand->second.for_sequence}, now, out);
    errands_.erase(errand);
    return;
  }
  if (!probe_ || probe_->sequence != ack.sequence) return;
  if (datagram.from == probe_->target) {
    if (member != nullptr) OnDirectAnswer(*member, probe_->sent, datagram, now, out);
    Answered();
  } else if (std::erase(probe_->helpers, datagram.from) > 0) {
    Answered();
  }
}

void Prober::OnPingRequest(const Endpoint& from, const PingRequest& request, Instant now,
                           Outputs& out) {
  const Member* target = shared_.members.Find(request.target);
  // Nobody is pinged by hearsay: the address is what we know ourselves.
  if (target == nullptr || errands_.size() >= kErrandsMax) return;
  Errand errand;
  errand.target = request.target;
  errand.for_address = from;
  errand.for_sequence = request.sequence;
  errand.ends_at = now + std::min(ProbeTimeout(*target), shared_.config.probe_timeout_default);
  const uint64_t sequence = next_sequence_++;
  shared_.SendDatagram({target->info.address, target, false, false}, Ping{sequence, request.target},
                       now, out);
  errands_.emplace(sequence, std::move(errand));
}

void Prober::OnNack(const std::string& from, const Nack& nack) {
  if (probe_ && probe_->sequence == nack.sequence) std::erase(probe_->helpers, from);
}

void Prober::OnStreamPing(Member& from, const StreamPing& ping, Outputs& out) {
  shared_.SendFrame(from, Lane::kMembership, Frame(StreamAck{ping.sequence}), out);
}

void Prober::OnStreamAck(Member& from, const StreamAck& ack, Outputs& out) {
  if (!probe_ || probe_->sequence != ack.sequence || probe_->target != from.info.name) return;
  constexpr int kMissesUntilSaid = 2;  // one lost datagram is no news
  Answered();
  if (++from.direct_misses >= kMissesUntilSaid && !from.stream_only) {
    from.stream_only = true;
    membership_.EmitChanged(from, out);
  }
}

void Prober::CallAddress(const Endpoint& address, const Member* member, Instant now, Outputs& out) {
  while (!calls_.empty() &&
         (calls_.size() >= kCallsMax || now - calls_.begin()->second.sent > kCallLife)) {
    calls_.erase(calls_.begin());
  }
  const uint64_t sequence = next_sequence_++;
  calls_.emplace(sequence, Call{now});
  shared_.SendDatagram({address, member, true, false},
                       Ping{sequence, member == nullptr ? std::string() : member->info.name}, now,
                       out);
}

void Prober::Greet(const Endpoint& stranger, Instant now, Outputs& out) {
  if (stopped_ || now < next_greeting_) return;
  next_greeting_ = now + kGreetingInterval;
  CallAddress(stranger, nullptr, now, out);
}

/// One dead member or unreachable seed at a time; all seeds while nobody is known to be there.
void Prober::CallTheMissing(Instant now, Outputs& out) {
  const bool alone = shared_.members.Reachable().empty();
  next_call_ = now + (alone ? std::min(kJoinInterval, shared_.config.dead_probe_interval)
                            : shared_.config.dead_probe_interval);
  std::set<Endpoint> reached = {shared_.self.address};
  for (const Member* member : shared_.members.Reachable()) reached.insert(member->info.address);
  std::vector<std::pair<Endpoint, const Member*>> missing;
  for (const auto& [name, member] : shared_.members.all()) {
    if (member.state == MemberState::kDead) missing.push_back({member.info.address, &member});
  }
  const size_t dead = missing.size();
  for (const Endpoint& seed : seeds_) {
    if (!reached.contains(seed)) missing.push_back({seed, nullptr});
  }
  if (missing.empty()) return;
  if (!alone || dead == missing.size()) {
    const auto& [address, member] = missing[static_cast<size_t>(shared_.rng.Below(missing.size()))];
    return CallAddress(address, member, now, out);
  }
  for (size_t i = dead; i < missing.size(); ++i) CallAddress(missing[i].first, nullptr, now, out);
  if (dead == 0) return;
  const auto& [address, member] = missing[static_cast<size_t>(shared_.rng.Below(dead))];
  CallAddress(address, member, now, out);
}

void Prober::Tick(Instant now, Outputs& out) {
  for (auto errand = errands_.begin(); errand != errands_.end();) {
    if (errand->second.ends_at > now) {
      ++errand;
      continue;
    }
    shared_.SendDatagram({errand->second.for_address, nullptr, false, false},
                         Nack{errand->second.for_sequence}, now, out);
    errand = errands_.erase(errand);
  }
  if (stopped_) return;
  if (probe_ && !probe_->answered && !probe_->escalated && probe_->timeout_at <= now) {
    Escalate(now, out);
  }
  if (probe_ && probe_->ends_at <= now) EndProbe(now, out);
  if (next_probe_ <= now) StartProbe(now, out);
  if (next_call_ <= now) CallTheMissing(now, out);
}

Instant Prober::NextDeadline() const {
  Instant next = Instant::max();
  for (const auto& [sequence, errand] : errands_) next = std::min(next, errand.ends_at);
  if (stopped_) return next;
  next = std::min({next, next_probe_, next_call_});
  if (probe_) {
    next = std::min(next, probe_->ends_at);
    if (!probe_->answered && !probe_->escalated) next = std::min(next, probe_->timeout_at);
  }
  return next;
}

}  // namespace patina::gossip

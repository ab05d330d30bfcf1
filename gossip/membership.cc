#include "gossip/membership.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace patina::gossip {
namespace {

// A peer may claim anything; what it claims must leave room to be overruled.
constexpr uint64_t kIncarnationMax = uint64_t{1} << 62;
constexpr size_t kForeignBootsMax = 16;
constexpr Duration kForgetInterval = std::chrono::minutes(1);
constexpr Duration kListInterval = std::chrono::seconds(1);
constexpr Duration kAnswerInterval = std::chrono::milliseconds(100);
constexpr Duration kWarnInterval = std::chrono::milliseconds(500);
constexpr Duration kRaiseInterval = std::chrono::seconds(1);

bool IsGone(MemberState state) {
  return state == MemberState::kDead || state == MemberState::kLeft;
}

}  // namespace

void Membership::Start(Instant now) {
  next_rumors_ = now;
  next_forget_ = now + kForgetInterval;
  shared_.rumors.Add(shared_.SelfUpdate());
}

void Membership::OnUpdate(const MemberUpdate& update, Instant now, Outputs& out) {
  if (update.info.name.empty() || update.info.incarnation > kIncarnationMax) return;
  if (update.info.name == shared_.self.name) return AboutSelf(update, now, out);
  Member* member = shared_.members.Find(update.info.name);
  if (member == nullptr) return Learn(update, now, out);
  if (update.info.incarnation == member->info.incarnation &&
      update.info.boot != member->info.boot) {
    ++shared_.counters.name_conflicts;  // two processes say they are it: the one we know stays
    return;
  }
  switch (update.state) {
    case MemberState::kAlive:
      return OnAlive(*member, update, now, out);
    case MemberState::kSuspect:
      return OnSuspect(*member, update, now, out);
    case MemberState::kDead:
    case MemberState::kLeft:
      return OnGone(*member, update, now, out);
  }
}

void Membership::AboutSelf(const MemberUpdate& update, Instant now, Outputs& out) {
  if (leaving_) return;
  if (update.info.boot != shared_.self.boot) return AboutFormerSelf(update, now, out);
  const bool accusation = update.state != MemberState::kAlive;
  if (update.info.incarnation < shared_.self.incarnation) return;
  if (!accusation && update.info.incarnation == shared_.self.incarnation) return;
  if (accusation) shared_.ChangeLocalHealth(+1);
  Refute(update.info.incarnation, out);
}

/// The cluster believes in another process of our name: usually the one we are the restart of
/// (whose clock may have been ahead of ours), sometimes a second live one.
void Membership::AboutFormerSelf(const MemberUpdate& update, Instant now, Outputs& out) {
  if (update.info.incarnation < shared_.self.incarnation) return;
  const auto known = foreign_boots_.find(update.info.boot);
  if (known != foreign_boots_.end() && update.state == MemberState::kAlive &&
      update.info.incarnation > known->second) {
    ++shared_.counters.name_conflicts;  // it goes on raising its incarnation: it lives
    if (now < raise_again_) return;
    raise_again_ = now + kRaiseInterval;
  }
  if (known == foreign_boots_.end() && foreign_boots_.size() >= kForeignBootsMax) {
    foreign_boots_.erase(foreign_boots_.begin());
  }
  foreign_boots_[update.info.boot] = update.info.incarnation;
  Refute(update.info.incarnation, out);
}

void Membership::Refute(uint64_t incarnation, Outputs& out) {
  ++shared_.counters.refutations;
  shared_.self.incarnation = std::max(shared_.self.incarnation, incarnation);
  RaiseSelf(out);
}

void Membership::RaiseSelf(Outputs& out) {
  ++shared_.self.incarnation;
  shared_.rumors.Add(shared_.SelfUpdate());
  out.events.push_back({shared_.SelfView(), shared_.self_state});
}

void Membership::Learn(const MemberUpdate& update, Instant now, Outputs& out) {
  if (shared_.members.size() + 1 >= shared_.config.members_max) return;
  Member& member = shared_.members.Insert(update.info.name);
  member.info = update.info;
  member.state = update.state;
  member.since = now;
  member.accuser = update.accuser;
  if (update.state == MemberState::kSuspect) {
    member.suspected_at = now;
    member.accusers = {update.accuser};
    SetSuspicionDeadline(member);
  }
  if (member.Reachable()) AddToProbeOrder(member);
  shared_.rumors.Add(member.Update());
  out.events.push_back({member.View(), std::nullopt});
}

void Membership::OnAlive(Member& member, const MemberUpdate& update, Instant now, Outputs& out) {
  if (update.info.incarnation <= member.info.incarnation) return;
  TakeInfo(member, update.info);
  ClearSuspicion(member);
  AddToProbeOrder(member);
  SetState(member, MemberState::kAlive, now, out);
}

void Membership::OnSuspect(Member& member, const MemberUpdate& update, Instant now, Outputs& out) {
  const uint64_t known = member.info.incarnation;
  if (update.info.incarnation < known) return;
  if (IsGone(member.state) && update.info.incarnation == known) return;
  if (member.state == MemberState::kSuspect && update.info.incarnation == known) {
    // Another one who does not reach it: the first few such make the suspicion shorter.
    const size_t wanted = static_cast<size_t>(shared_.config.suspicion_confirmations) + 1;
    if (member.accusers.size() >= wanted || update.accuser.empty()) return;
    if (std::find(member.accusers.begin(), member.accusers.end(), update.accuser) !=
        member.accusers.end()) {
      return;
    }
    member.accusers.push_back(update.accuser);
    SetSuspicionDeadline(member);
    shared_.rumors.Add(update);
    return;
  }
  if (update.info.incarnation > known) TakeInfo(member, update.info);
  ClearSuspicion(member);
  member.accuser = update.accuser;
  member.accusers = {update.accuser};
  member.suspected_at = now;
  ++shared_.counters.suspicions;
  AddToProbeOrder(member);
  SetState(member, MemberState::kSuspect, now, out);
  SetSuspicionDeadline(member);
}

void Membership::OnGone(Member& member, const MemberUpdate& update, Instant now, Outputs& out) {
  if (update.info.incarnation < member.info.incarnation) return;
  const bool news = update.info.incarnation > member.info.incarnation || member.Reachable() ||
                    (update.state == MemberState::kLeft && member.state == MemberState::kDead);
  if (!news) return;
  if (update.info.incarnation > member.info.incarnation) TakeInfo(member, update.info);
  ClearSuspicion(member);
  member.accuser = update.accuser;
  shared_.clock.Forget(member.info.name);
  SetState(member, update.state, now, out);
}

void Membership::SuspectByProbe(Member& member, Instant now, Outputs& out) {
  MemberUpdate update{member.info, MemberState::kSuspect, shared_.self.name};
  OnSuspect(member, update, now, out);
}

void Membership::TakeInfo(Member& member, const MemberInfo& info) {
  if (info.boot != member.info.boot) {  // a new process
    member.round_trips.Clear();
    member.stream_only = false;
    member.versions_behind.reset();
    member.list_sent.reset();
    shared_.clock.Forget(info.name);
  }
  if (info.region != member.info.region) shared_.members.Changed();
  member.info = info;
}

void Membership::SetState(Member& member, MemberState state, Instant now, Outputs& out) {
  const MemberState before = member.state;
  if (state != before) member.since = now;
  const bool was_reachable = member.Reachable();
  member.state = state;
  if (state == MemberState::kAlive) member.accuser.clear();
  if (member.Reachable() != was_reachable) shared_.members.Changed();
  shared_.rumors.Add(member.Update());
  out.events.push_back({member.View(), before});
}

void Membership::EmitChanged(const Member& member, Outputs& out) {
  out.events.push_back({member.View(), member.state});
}

void Membership::AddToProbeOrder(Member& member) {
  if (member.in_probe_order) return;
  member.in_probe_order = true;
  ProbeOrder& order = shared_.probe_order;
  const auto at = static_cast<size_t>(shared_.rng.Below(order.names.size() + 1));
  order.names.insert(order.names.begin() + static_cast<std::ptrdiff_t>(at), member.info.name);
  if (at < order.next) ++order.next;
}

void Membership::ClearSuspicion(Member& member) {
  suspicions_.erase({member.suspicion_deadline, member.info.name});
  member.suspicion_deadline = Instant::max();
  member.accusers.clear();
}

/// Lifeguard: from max down to min as independent confirmations come in.
void Membership::SetSuspicionDeadline(Member& member) {
  const Config& config = shared_.config;
  int wanted = config.suspicion_confirmations;
  if (shared_.members.Reachable().size() < static_cast<size_t>(wanted) + 1) wanted = 0;
  Duration timeout = config.suspicion_min;
  if (wanted > 0) {
    const auto confirmations = static_cast<double>(member.accusers.size() - 1);
    const double part = std::min(1.0, std::log(confirmations + 1) / std::log(wanted + 1.0));
    const auto range = static_cast<double>((config.suspicion_max - config.suspicion_min).count());
    timeout = std::max(config.suspicion_min,
                       config.suspicion_max - Duration(static_cast<int64_t>(range * part)));
  }
  suspicions_.erase({member.suspicion_deadline, member.info.name});
  member.suspicion_deadline = member.suspected_at + timeout;
  suspicions_.insert({member.suspicion_deadline, member.info.name});
}

void Membership::ExpireSuspicions(Instant now, Outputs& out) {
  while (!suspicions_.empty() && suspicions_.begin()->first <= now) {
    const std::string name = suspicions_.begin()->second;
    suspicions_.erase(suspicions_.begin());
    Member* member = shared_.members.Find(name);
    if (member == nullptr || member->state != MemberState::kSuspect) continue;
    ++shared_.counters.deaths;
    OnGone(*member, {member->info, MemberState::kDead, shared_.self.name}, now, out);
  }
}

void Membership::OnMet(Member& member, Instant now, Outputs& out) {
  if (member.list_sent && now - *member.list_sent < kListInterval) return;
  member.list_sent = now;
  SendMemberList(member, /*answer=*/false, now, out);
}

void Membership::SendMemberList(Member& member, bool answer, Instant, Outputs& out) {
  MemberList list;
  list.answer = answer;
  list.members.reserve(shared_.members.size() + 1);
  list.members.push_back(shared_.SelfUpdate());
  for (const auto& [name, other] : shared_.members.all()) list.members.push_back(other.Update());
  shared_.SendFrame(member, Lane::kMembership, Frame(std::move(list)), out);
}

void Membership::OnMemberList(const std::string& from, const MemberList& list, Instant now,
                              Outputs& out) {
  for (const MemberUpdate& update : list.members) OnListed(from, update, now, out);
  Member* sender = shared_.members.Find(from);
  if (sender == nullptr) {
    ++shared_.counters.from_unknown;
    return;
  }
  if (list.answer) return;
  if (sender->list_answered && now - *sender->list_answered < kAnswerInterval) return;
  sender->list_answered = now;
  SendMemberList(*sender, /*answer=*/true, now, out);
}

/// A list is what somebody believes, maybe from the other side of a split: deaths in it are
/// suspicions that the member may refute, and those of members we never knew are no news.
void Membership::OnListed(const std::string& from, const MemberUpdate& update, Instant now,
                          Outputs& out) {
  if (!IsGone(update.state) || update.info.name == shared_.self.name) {
    return OnUpdate(update, now, out);
  }
  Member* member = shared_.members.Find(update.info.name);
  if (member == nullptr || update.info.incarnation < member->info.incarnation) return;
  if (update.state == MemberState::kLeft) return OnUpdate(update, now, out);
  if (!member->Reachable()) return;
  MemberUpdate claim = update;
  claim.state = MemberState::kSuspect;
  claim.accuser = from;
  OnUpdate(claim, now, out);
  Warn(*member, claim, now, out);
}

/// Tells the member itself, so that it need not wait until the news reaches it.
void Membership::Warn(Member& member, const MemberUpdate& claim, Instant now, Outputs& out) {
  if (member.info.incarnation != claim.info.incarnation || !member.Reachable()) return;
  if (member.warned && now - *member.warned < kWarnInterval) return;
  member.warned = now;
  shared_.SendDatagram({member.info.address, &member, false, false}, Rumor{}, now, out);
}

void Membership::SpreadRumors(Instant now, Outputs& out) {
  const Duration interval =
      leaving_ ? shared_.config.rumor_interval / 4 : shared_.config.rumor_interval;
  if (now < next_rumors_ || shared_.rumors.Empty()) return;
  next_rumors_ = now + interval;
  const auto fanout = static_cast<size_t>(shared_.config.rumor_fanout);
  for (Member* member : shared_.members.PickReachable(shared_.rng, fanout)) {
    if (shared_.rumors.Empty()) break;
    shared_.SendDatagram({member->info.address, member, false, false}, Rumor{}, now, out);
  }
}

void Membership::ForgetOld(Instant now) {
  if (now < next_forget_) return;
  next_forget_ = now + kForgetInterval;
  std::vector<std::string> old;
  for (const auto& [name, member] : shared_.members.all()) {
    if (!member.Reachable() && now - member.since > shared_.config.dead_kept) old.push_back(name);
  }
  for (const std::string& name : old) {
    shared_.rumors.Remove(name);
    shared_.clock.Forget(name);
    shared_.members.Erase(name);
  }
}

void Membership::Leave(Instant now, Outputs& out) {
  if (leaving_) return;
  leaving_ = true;
  shared_.self_state = MemberState::kLeft;
  shared_.rumors.Add(shared_.SelfUpdate());
  out.events.push_back({shared_.SelfView(), MemberState::kAlive});
  next_rumors_ = now;
  SpreadRumors(now, out);
}

bool Membership::LeaveDone() const {
  if (!leaving_) return false;
  if (!shared_.rumors.Contains(shared_.self.name)) return true;
  for (const auto& [name, member] : shared_.members.all()) {
    if (member.Reachable()) return false;
  }
  return true;
}

void Membership::Tick(Instant now, Outputs& out) {
  ExpireSuspicions(now, out);
  SpreadRumors(now, out);
  ForgetOld(now);
}

Instant Membership::NextDeadline() const {
  Instant next = next_forget_;
  if (!suspicions_.empty()) next = std::min(next, suspicions_.begin()->first);
  if (!shared_.rumors.Empty()) next = std::min(next, next_rumors_);
  return next;
}

}  // namespace patina::gossip

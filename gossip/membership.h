#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "gossip/shared.h"

namespace patina::gossip {

/// Who is a member, and in which state: SWIM's rules for news, Lifeguard's suspicion, refutation,
/// leaving, meeting again after a split. Who answers and who does not is the Prober's business. One
/// thread.
///
/// Invariants: of one incarnation a member's state only goes alive, suspect, dead or left. Only a
/// higher incarnation brings it back, and only its owner makes one.
class Membership {
 public:
  explicit Membership(Shared& shared) : shared_(shared) {}

  void Start(Instant now);
  /// News that came on a datagram.
  void OnUpdate(const MemberUpdate& update, Instant now, Outputs& out);
  /// Our own probe failed: the member has until the suspicion's end to refute.
  void SuspectByProbe(Member& member, Instant now, Outputs& out);
  /// Direct contact with a member that we did not know, or thought dead: tell each other all we
  /// know.
  void OnMet(Member& member, Instant now, Outputs& out);
  void OnMemberList(const std::string& from, const MemberList& list, Instant now, Outputs& out);
  /// Somebody else uses our name.
  void OnForeignSelf() { ++shared_.counters.name_conflicts; }
  /// What we say of ourselves has changed.
  void RaiseSelf(Outputs& out);
  void EmitChanged(const Member& member, Outputs& out);

  void Leave(Instant now, Outputs& out);
  bool LeaveDone() const;

  void Tick(Instant now, Outputs& out);
  Instant NextDeadline() const;

 private:
  void AboutSelf(const MemberUpdate& update, Instant now, Outputs& out);
  void AboutFormerSelf(const MemberUpdate& update, Instant now, Outputs& out);
  void Refute(uint64_t incarnation, Outputs& out);
  void Learn(const MemberUpdate& update, Instant now, Outputs& out);
  void OnAlive(Member& member, const MemberUpdate& update, Instant now, Outputs& out);
  void OnSuspect(Member& member, const MemberUpdate& update, Instant now, Outputs& out);
  void OnGone(Member& member, const MemberUpdate& update, Instant now, Outputs& out);
  void OnListed(const std::string& from, const MemberUpdate& update, Instant now, Outputs& out);
  void Warn(Member& member, const MemberUpdate& claim, Instant now, Outputs& out);

  void SetState(Member& member, MemberState state, Instant now, Outputs& out);
  void TakeInfo(Member& member, const MemberInfo& info);
  void AddToProbeOrder(Member& member);
  void SetSuspicionDeadline(Member& member);
  void ClearSuspicion(Member& member);
  void SendMemberList(Member& member, bool answer, Instant now, Outputs& out);
  void ExpireSuspicions(Instant now, Outputs& out);
  void ForgetOld(Instant now);
  void SpreadRumors(Instant now, Outputs& out);

  Shared& shared_;
  std::set<std::pair<Instant, std::string>> suspicions_;
  std::map<uint64_t, uint64_t> foreign_boots_;  // processes that used our name -> their incarnation
  Instant raise_again_{};
  Instant next_rumors_{};
  Instant next_forget_{};
  bool leaving_ = false;
};

}  // namespace patina::gossip

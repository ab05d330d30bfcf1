#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "gossip/member.h"

namespace patina::gossip {

/// The last few round trips to a member.
class RoundTrips {
 public:
  void Add(Duration round_trip);
  std::optional<Duration> Median() const;
  std::optional<Duration> Longest() const;
  void Clear() { recent_.clear(); }

 private:
  std::deque<Duration> recent_;
};

/// What this node knows of another one.
struct Member {
  MemberInfo info;
  MemberState state = MemberState::kAlive;
  Instant since{};

  // While suspect: who said so (the first is not a confirmation), and until when it may refute.
  std::vector<std::string> accusers;
  Instant suspected_at{};
  Instant suspicion_deadline = Instant::max();
  std::string accuser;  // of suspect and dead, as it travels

  RoundTrips round_trips;
  int direct_misses = 0;  // probes in a row that only the stream answered
  bool stream_only = false;
  bool in_probe_order = false;
  std::optional<Instant> list_sent;      // a MemberList, by us, unasked
  std::optional<Instant> list_answered;  // by us
  std::optional<Instant> warned;         // of what others say about it
  std::optional<uint64_t> versions_behind;

  bool Reachable() const { return state == MemberState::kAlive || state == MemberState::kSuspect; }
  MemberUpdate Update() const { return {info, state, accuser}; }
  MemberView View() const;
};

/// All other members by name. One thread (that of Node). Pointers live until Erase.
class MemberTable {
 public:
  Member* Find(const std::string& name);
  const Member* Find(const std::string& name) const;
  Member& Insert(const std::string& name);
  void Erase(const std::string& name);
  size_t size() const { return by_name_.size(); }
  std::map<std::string, Member>& all() { return by_name_; }
  const std::map<std::string, Member>& all() const { return by_name_; }

  /// To be called when a state, region or address changed.
  void Changed() { ++epoch_; }
  /// Raised whenever who is reachable, or where, may have changed.
  uint64_t epoch() const { return epoch_; }
  /// Alive and suspect members, by name.
  const std::vector<Member*>& Reachable();
  /// Up to count different reachable members, none of them named except.
  std::vector<Member*> PickReachable(Rng& rng, size_t count, const std::string& except = {});

 private:
  std::map<std::string, Member> by_name_;
  uint64_t epoch_ = 1;
  uint64_t reachable_epoch_ = 0;
  std::vector<Member*> reachable_;
};

}  // namespace patina::gossip

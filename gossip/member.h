#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/endpoint.h"
#include "base/hash.h"
#include "base/ids.h"

// Members of the cluster as a node sees them. Values, any thread.

namespace patina::gossip {

enum class MemberState : uint8_t { kAlive = 0, kSuspect = 1, kDead = 2, kLeft = 3 };
/// "alive", "suspect", "dead", "left"
std::string_view MemberStateName(MemberState state);

/// What a member says of itself. Identity is the name with its incarnation; the address is an
/// attribute.
struct MemberInfo {
  std::string name;
  /// Begins at the boot's wall milliseconds and is raised by one to refute a suspicion: the higher
  /// one of a name is the newer. Only its owner raises it.
  uint64_t incarnation = 0;
  /// Random per process: two processes that claim one name are told apart.
  uint64_t boot = 0;
  Endpoint address;  // gossip: UDP and TCP
  std::string region;
  std::string api_address;  // as clients of that host would dial it; may be empty
  uint64_t schema = 0;      // hash of its schema
  ActorId actor;            // under which its process writes; zero until its first write

  bool operator==(const MemberInfo&) const = default;
};

/// One piece of news about a member, as it travels.
struct MemberUpdate {
  MemberInfo info;
  MemberState state = MemberState::kAlive;
  std::string accuser;  // of suspect and dead: who says so

  bool operator==(const MemberUpdate&) const = default;
};

/// A member as this node sees it now.
struct MemberView {
  MemberInfo info;
  MemberState state = MemberState::kAlive;
  bool self = false;
  Instant since{};                     // of the state
  std::optional<Duration> round_trip;  // median of recent pings; none if never measured
  /// Versions we have that it lacks, as far as it has told us; nothing if unknown.
  std::optional<uint64_t> versions_behind;
  /// UDP to it fails but TCP works.
  bool stream_only = false;
};

}  // namespace patina::gossip

#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "crdt/version_set.h"
#include "gossip/catch_up.h"
#include "gossip/cluster_clock.h"
#include "gossip/config.h"
#include "gossip/dissemination.h"
#include "gossip/in_flight.h"
#include "gossip/member_table.h"
#include "gossip/messages.h"
#include "gossip/node.h"

namespace patina::gossip {

/// In which order members are probed: shuffled once per round; a new one goes to a random place, so
/// that a member is probed at least once in two rounds. Names that are no longer reachable are
/// skipped and dropped.
struct ProbeOrder {
  std::vector<std::string> names;
  size_t next = 0;
};

/// What the parts of one node share. Owned by Node; one thread.
struct Shared {
  Shared(const Config& config_in, const Self& self_in, crdt::VersionSet received_in, uint64_t seed);

  Config config;
  Rng rng;
  MemberInfo self;
  Instant started_at{};
  MemberState self_state = MemberState::kAlive;  // or kLeft, once it said goodbye
  Counters counters{};
  MemberTable members;
  ProbeOrder probe_order;
  Dissemination rumors;
  ClusterClock clock;
  int local_health = 0;  // Lifeguard's multiplier less one: 0 is well
  crdt::VersionSet received;
  Instant received_at{};  // when the set last grew
  InFlight in_flight;
  crdt::HlcTime horizon;  // storage's
  CatchUp catch_up;

  bool Has(const ChangeId& id) const { return in_flight.Contains(id) || received.Contains(id); }
  MemberUpdate SelfUpdate() const { return {self, self_state, {}}; }
  MemberView SelfView() const;
  void ChangeLocalHealth(int by);

  /// To whom a datagram goes. A member that is not alive for us is told so (it refutes), and who we
  /// are.
  struct Destination {
    Endpoint address;
    const Member* member = nullptr;  // nothing: unknown
    bool introduce = false;          // say who we are in any case
    bool correct = false;            // it is mistaken about itself: say what we know of it
  };
  void SendDatagram(const Destination& to, DatagramBody body, Instant now, Outputs& out);
  void SendFrame(const Member& to, Lane lane, std::shared_ptr<const Frame> frame, Outputs& out);
  void SendFrame(const Member& to, Lane lane, Frame frame, Outputs& out);

  /// Takes a change from a peer in: false if it is malformed, a large one's manifest (anti-entropy
  /// brings that), a duplicate (counted) or there is no room (counted).
  bool TakeIn(const Change& change, Outputs& out);
};

}  // namespace patina::gossip

#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gossip/membership.h"
#include "gossip/shared.h"

namespace patina::gossip {

/// Finds out who answers: SWIM's probes, round robin, each with indirect and stream probes when the
/// direct one gets no answer; and tries seeds and dead members now and then. One thread.
class Prober {
 public:
  Prober(Shared& shared, Membership& membership) : shared_(shared), membership_(membership) {}

  void SetSeeds(std::vector<Endpoint> seeds);
  void Start(Instant now, Outputs& out);
  void Stop() { stopped_ = true; }

  /// member: the sender, if it is known. was_alive: before this datagram.
  void OnPing(const Endpoint& from, const Datagram& datagram, const Ping& ping, bool was_alive,
              Instant now, Outputs& out);
  void OnAck(const Datagram& datagram, const Ack& ack, bool was_alive, Instant now, Outputs& out);
  void OnPingRequest(const Endpoint& from, const PingRequest& request, Instant now, Outputs& out);
  void OnNack(const std::string& from, const Nack& nack);
  void OnStreamPing(Member& from, const StreamPing& ping, Outputs& out);
  void OnStreamAck(Member& from, const StreamAck& ack, Outputs& out);

  /// Somebody we do not know speaks to us: pings that address as if it were a seed. Limited in
  /// rate.
  void Greet(const Endpoint& stranger, Instant now, Outputs& out);
  void Tick(Instant now, Outputs& out);
  Instant NextDeadline() const;

 private:
  /// The one probe that runs.
  struct Probe {
    uint64_t sequence = 0;
    std::string target;
    Instant sent{}, timeout_at{}, ends_at{};
    bool escalated = false;  // indirect and stream probes are out
    bool answered = false;
    std::vector<std::string> helpers;  // asked, and neither Nack nor Ack so far
  };
  /// For somebody else.
  struct Errand {
    std::string target;
    Endpoint for_address;
    uint64_t for_sequence = 0;
    Instant ends_at{};
  };
  /// To a seed or dead member.
  struct Call {
    Instant sent{};
  };

  Duration ProbeInterval() const;
  Duration ProbeTimeout(const Member& member) const;
  Member* NextTarget();
  void StartProbe(Instant now, Outputs& out);
  void Escalate(Instant now, Outputs& out);
  void EndProbe(Instant now, Outputs& out);
  void Answered();
  void OnDirectAnswer(Member& member, Instant sent, const Datagram& datagram, Instant now,
                      Outputs& out);
  void CallTheMissing(Instant now, Outputs& out);
  void CallAddress(const Endpoint& address, const Member* member, Instant now, Outputs& out);

  Shared& shared_;
  Membership& membership_;
  std::vector<Endpoint> seeds_;
  Instant next_greeting_{};
  bool stopped_ = false;
  uint64_t next_sequence_ = 1;
  std::optional<Probe> probe_;
  std::map<uint64_t, Errand> errands_;
  std::map<uint64_t, Call> calls_;
  Instant next_probe_ = Instant::max();
  Instant next_call_ = Instant::max();
};

}  // namespace patina::gossip

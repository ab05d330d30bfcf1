#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "agent/net.h"
#include "base/clock.h"
#include "base/random.h"

// Misbehaviour on purpose (`patina fault`), only for agents started with --fault-injection.

namespace patina::agent {

/// The host's clocks with an error on the wall clock. Any thread.
class FaultClock final : public Clock {
 public:
  Instant Now() const override { return system_.Now(); }
  int64_t WallMs() const override {
    return system_.WallMs() + error_ms_.load(std::memory_order_relaxed);
  }
  void SetErrorMs(int64_t ms) { error_ms_.store(ms, std::memory_order_relaxed); }
  int64_t error_ms() const { return error_ms_.load(std::memory_order_relaxed); }

 private:
  SystemClock system_;
  std::atomic<int64_t> error_ms_{0};
};

/// Which faults are in force between this node and its peers. The net thread's.
class Faults {
 public:
  explicit Faults(uint64_t seed) : rng_(seed) {}

  /// INVALID_ARGUMENT: a fraction outside 0..1. Clock commands are the caller's.
  Status Apply(const FaultCommand& command);
  bool Any() const { return !peers_.empty() || !(all_ == Peer()); }
  bool IsCut(const std::string& peer) const { return Find(peer).cut; }
  Duration Delay(const std::string& peer) const {
    return std::chrono::milliseconds(Find(peer).delay_ms);
  }
  /// Throws the dice for one datagram.
  bool Drops(const std::string& peer);
  /// "cut fra-1", "delay * 50 ms", for people.
  std::vector<std::string> Active() const;

 private:
  struct Peer {
    bool cut = false;
    uint32_t delay_ms = 0;
    double drop_fraction = 0;
    bool operator==(const Peer&) const = default;
  };
  const Peer& Find(const std::string& peer) const;
  static void Set(const FaultCommand& command, Peer* peer);

  Rng rng_;
  Peer all_;  // of peers that are not in the map
  std::map<std::string, Peer> peers_;
};

}  // namespace patina::agent

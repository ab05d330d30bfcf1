#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/clock.h"

namespace patina::gossip {

/// Cluster time: what most hosts' wall clocks show. Kept against the steady clock, so a jump of
/// this host's wall clock is not followed unless the peers' clocks confirm it, and a host that
/// hears nobody any more goes on from where it was. Who never heard anybody has its wall clock. One
/// thread (that of Node).
class ClusterClock {
 public:
  /// tolerated_ms: so far from most others' the wall clock is left alone.
  explicit ClusterClock(int64_t tolerated_ms) : tolerated_ms_(tolerated_ms) {}

  /// The wall clock as of the next Advance.
  void SetWallMs(int64_t wall_ms) {
    wall_ms_ = wall_ms;
    wall_is_new_ = true;
  }
  /// To be called at the start of each step: takes over the wall clock; cheap.
  void Advance(Instant now);
  /// This host's, as it shows: what peers are told.
  int64_t WallMs(Instant now) const;
  /// A direct answer of a peer that carried its wall clock.
  void OnSample(const std::string& peer, int64_t peer_wall_ms, Duration round_trip, Instant now);
  void Forget(const std::string& peer);

  /// What to add to the wall clock: 0 while it is tolerated.
  int64_t CorrectionMs() const { return cluster_minus_steady_ms_ - wall_minus_steady_ms_; }
  int64_t ClusterTimeMs(Instant now) const;
  /// Cluster time against the steady clock, as of the last Advance.
  int64_t ClusterMinusSteadyMs() const { return cluster_minus_steady_ms_; }

 private:
  struct Sample {
    int64_t wall_minus_steady_ms = 0;  // the peer's wall clock, this host's steady one
    Instant at{};
  };
  void Compute(Instant now);

  int64_t tolerated_ms_;
  int64_t wall_ms_ = 0;
  bool started_ = false, wall_is_new_ = false;
  bool heard_ = false;  // anybody, ever
  int64_t wall_minus_steady_ms_ = 0, cluster_minus_steady_ms_ = 0;
  bool stale_ = false;
  Instant computed_at_{};
  std::map<std::string, Sample> samples_;
};

}  // namespace patina::gossip

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/clock.h"

namespace patina::gossip {

/// Tells how far this host's wall clock is from its peers' cluster time. Offsets are kept against
/// the steady clock, and so is the wall clock: a jump of it is not followed until the peers'
/// answers confirm it, and a host that hears nobody stays where it was. One thread (that of Node).
class ClusterClock {
 public:
  /// tolerated_ms: a median offset up to this is left alone.
  explicit ClusterClock(int64_t tolerated_ms) : tolerated_ms_(tolerated_ms) {}

  /// The wall clock as of the next Advance.
  void SetWallMs(int64_t wall_ms) {
    wall_ms_ = wall_ms;
    wall_is_new_ = true;
  }
  /// To be called at the start of each step: takes over the wall clock; cheap.
  void Advance(Instant now);
  /// A direct answer of a peer that carried its cluster time.
  void OnSample(const std::string& peer, int64_t peer_time_ms, Duration round_trip, Instant now);
  void Forget(const std::string& peer);

  /// What to add to the wall clock: 0 while it has not jumped and the median is tolerated.
  int64_t CorrectionMs() const { return ClusterMinusSteadyMs() - wall_minus_steady_ms_; }
  int64_t ClusterTimeMs(Instant now) const;
  /// Cluster time against the steady clock, as of the last Advance.
  int64_t ClusterMinusSteadyMs() const { return trusted_minus_steady_ms_ + correction_ms_; }

 private:
  struct Sample {
    int64_t peer_minus_steady_ms = 0;
    Instant at{};
  };
  void Compute(Instant now);
  /// Of the peers' cluster times, sorted, relative to the trusted clock.
  std::vector<int64_t> Offsets(Instant now) const;

  int64_t tolerated_ms_;
  int64_t wall_ms_ = 0;
  bool started_ = false, wall_is_new_ = false;
  int64_t wall_minus_steady_ms_ = 0;     // as it shows
  int64_t trusted_minus_steady_ms_ = 0;  // without the jumps that nobody confirmed
  int64_t correction_ms_ = 0;            // of the trusted clock
  bool stale_ = false;
  Instant computed_at_{};
  std::map<std::string, Sample> samples_;
};

}  // namespace patina::gossip

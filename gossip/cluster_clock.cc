#include "gossip/cluster_clock.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

namespace patina::gossip {
namespace {

constexpr Duration kSampleLife = std::chrono::minutes(10);
constexpr Duration kComputeInterval = std::chrono::milliseconds(200);
constexpr Duration kRoundTripMax = std::chrono::seconds(2);
constexpr int64_t kPlausibleMs = int64_t{1} << 50;  // hostile values must not overflow

int64_t SteadyMs(Instant now) { return ToMs(now.time_since_epoch()); }

}  // namespace

void ClusterClock::Advance(Instant now) {
  if (wall_is_new_) {
    wall_is_new_ = false;
    const int64_t before = wall_minus_steady_ms_;
    wall_minus_steady_ms_ = wall_ms_ - SteadyMs(now);
    if (std::llabs(wall_minus_steady_ms_ - before) > 5) {
      Compute(now);
      return;
    }
  }
  if (stale_ && now - computed_at_ >= kComputeInterval) Compute(now);
}

void ClusterClock::OnSample(const std::string& peer, int64_t peer_time_ms, Duration round_trip,
                            Instant now) {
  if (std::llabs(peer_time_ms) > kPlausibleMs || round_trip > kRoundTripMax) return;
  samples_[peer] = {peer_time_ms + ToMs(round_trip / 2) - SteadyMs(now), now};
  stale_ = true;
  if (now - computed_at_ >= kComputeInterval) Compute(now);
}

void ClusterClock::Forget(const std::string& peer) {
  if (samples_.erase(peer) > 0) stale_ = true;
}

int64_t ClusterClock::ClusterTimeMs(Instant now) const {
  return SteadyMs(now) + ClusterMinusSteadyMs();
}

void ClusterClock::Compute(Instant now) {
  stale_ = false;
  computed_at_ = now;
  // This node's own clock has a vote (offset 0), and of two middles the one nearer to 0 counts: so
  // two nodes that differ do not run after each other.
  std::vector<int64_t> offsets = {0};
  for (const auto& [peer, sample] : samples_) {
    if (now - sample.at <= kSampleLife) {
      offsets.push_back(sample.peer_minus_steady_ms - wall_minus_steady_ms_);
    }
  }
  std::sort(offsets.begin(), offsets.end());
  const int64_t low = offsets[(offsets.size() - 1) / 2];
  const int64_t high = offsets[offsets.size() / 2];
  const int64_t median = std::llabs(low) <= std::llabs(high) ? low : high;
  correction_ms_ = std::llabs(median) <= tolerated_ms_ ? 0 : median;
}

}  // namespace patina::gossip

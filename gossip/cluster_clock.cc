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
    const int64_t moved = wall_ms_ - SteadyMs(now) - wall_minus_steady_ms_;
    wall_minus_steady_ms_ += moved;
    if (!started_) {
      cluster_minus_steady_ms_ = wall_minus_steady_ms_;
      started_ = true;
    } else if (std::llabs(moved) <= tolerated_ms_) {
      cluster_minus_steady_ms_ += moved;  // slewing, which who hears nobody follows, too
    }
    if (std::llabs(moved) > 5) {
      Compute(now);
      return;
    }
  }
  if (stale_ && now - computed_at_ >= kComputeInterval) Compute(now);
}

void ClusterClock::OnSample(const std::string& peer, int64_t peer_wall_ms, Duration round_trip,
                            Instant now) {
  if (std::llabs(peer_wall_ms) > kPlausibleMs || round_trip > kRoundTripMax) return;
  samples_[peer] = {peer_wall_ms + ToMs(round_trip / 2) - SteadyMs(now), now};
  heard_ = stale_ = true;
  if (now - computed_at_ >= kComputeInterval) Compute(now);
}

void ClusterClock::Forget(const std::string& peer) {
  if (samples_.erase(peer) > 0) stale_ = true;
}

int64_t ClusterClock::WallMs(Instant now) const { return SteadyMs(now) + wall_minus_steady_ms_; }

int64_t ClusterClock::ClusterTimeMs(Instant now) const {
  return SteadyMs(now) + cluster_minus_steady_ms_;
}

void ClusterClock::Compute(Instant now) {
  stale_ = false;
  computed_at_ = now;
  std::vector<int64_t> walls;
  for (const auto& [peer, sample] : samples_) {
    if (now - sample.at <= kSampleLife) walls.push_back(sample.wall_minus_steady_ms);
  }
  if (walls.empty() && heard_) return;
  walls.push_back(wall_minus_steady_ms_);
  std::sort(walls.begin(), walls.end());
  // Of two middles the one nearer to where this host is: so two that differ do not run after each
  // other, and one that jumped does not convince itself.
  const int64_t low = walls[(walls.size() - 1) / 2], high = walls[walls.size() / 2];
  const bool low_is_nearer =
      std::llabs(low - cluster_minus_steady_ms_) <= std::llabs(high - cluster_minus_steady_ms_);
  const int64_t median = low_is_nearer ? low : high;
  const bool tolerated = std::llabs(median - wall_minus_steady_ms_) <= tolerated_ms_;
  cluster_minus_steady_ms_ = tolerated ? wall_minus_steady_ms_ : median;
}

}  // namespace patina::gossip

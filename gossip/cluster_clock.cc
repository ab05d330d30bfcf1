#include "gossip/cluster_clock.h"

#include <algorithm>
#include <cstdlib>

namespace patina::gossip {
namespace {

constexpr Duration kSampleLife = std::chrono::minutes(10);
constexpr Duration kComputeInterval = std::chrono::milliseconds(200);
constexpr Duration kRoundTripMax = std::chrono::seconds(2);
constexpr int64_t kPlausibleMs = int64_t{1} << 50;  // hostile values must not overflow

int64_t SteadyMs(Instant now) { return ToMs(now.time_since_epoch()); }

/// The middle of what is sorted; of two middles the one nearer to here, so two nodes that differ do
/// not run after each other.
int64_t MiddleNear(const std::vector<int64_t>& sorted, int64_t here) {
  const int64_t low = sorted[(sorted.size() - 1) / 2], high = sorted[sorted.size() / 2];
  return std::llabs(low - here) <= std::llabs(high - here) ? low : high;
}

}  // namespace

void ClusterClock::Advance(Instant now) {
  if (wall_is_new_) {
    wall_is_new_ = false;
    const int64_t moved = wall_ms_ - SteadyMs(now) - wall_minus_steady_ms_;
    wall_minus_steady_ms_ += moved;
    if (!started_ || std::llabs(moved) <= tolerated_ms_) trusted_minus_steady_ms_ += moved;
    started_ = true;
    if (std::llabs(moved) > 5) {
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

std::vector<int64_t> ClusterClock::Offsets(Instant now) const {
  std::vector<int64_t> offsets;
  for (const auto& [peer, sample] : samples_) {
    if (now - sample.at <= kSampleLife)
      offsets.push_back(sample.peer_minus_steady_ms - trusted_minus_steady_ms_);
  }
  std::sort(offsets.begin(), offsets.end());
  return offsets;
}

void ClusterClock::Compute(Instant now) {
  stale_ = false;
  computed_at_ = now;
  std::vector<int64_t> offsets = Offsets(now);
  if (offsets.empty()) return;  // nobody to ask: on as before
  const int64_t jumped = wall_minus_steady_ms_ - trusted_minus_steady_ms_;
  const int64_t peers = MiddleNear(offsets, 0);
  if (jumped != 0 && std::llabs(peers - jumped) < std::llabs(peers)) {
    trusted_minus_steady_ms_ += jumped;
    correction_ms_ = 0;
    for (int64_t& offset : offsets) offset -= jumped;
  }
  // This node has a vote, for where it is.
  offsets.insert(std::upper_bound(offsets.begin(), offsets.end(), correction_ms_), correction_ms_);
  const int64_t median = MiddleNear(offsets, correction_ms_);
  correction_ms_ = std::llabs(median) <= tolerated_ms_ ? 0 : median;
}

}  // namespace patina::gossip

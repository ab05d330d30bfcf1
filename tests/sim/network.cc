#include "tests/sim/network.h"

#include <algorithm>

namespace patina::sim {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

Duration Random(Rng& rng, Duration low, Duration high) {
  return Duration(rng.Between(low.count(), high.count()));
}

}  // namespace

Network::Network(uint64_t seed, int hosts, int regions)
    : rng_(seed), regions_(regions), side_(static_cast<size_t>(hosts), false) {
  const auto count = static_cast<size_t>(regions);
  latency_.assign(count, std::vector<Duration>(count, microseconds(400)));
  for (size_t a = 0; a < count; ++a) {
    for (size_t b = a + 1; b < count; ++b) {
      latency_[a][b] = latency_[b][a] = Random(rng_, milliseconds(10), milliseconds(120));
    }
  }
}

Duration Network::Delay(int from, int to) {
  const Duration base =
      latency_[static_cast<size_t>(RegionOf(from))][static_cast<size_t>(RegionOf(to))];
  Duration delay = base + Random(rng_, Duration(0), base / 5);
  if (spike_chance > 0 && rng_.Chance(spike_chance)) {
    ++counts_.late;
    delay += Random(rng_, milliseconds(20), milliseconds(500));
  }
  return delay;
}

bool Network::IsCut(int from, int to) const {
  return side_[static_cast<size_t>(from)] != side_[static_cast<size_t>(to)] ||
         cut_.contains({from, to});
}

std::optional<Instant> Network::Datagram(int from, int to, Instant now) {
  const Duration delay = Delay(from, to);
  if (IsCut(from, to)) {
    ++counts_.cut;
    return std::nullopt;
  }
  if (loss > 0 && rng_.Chance(loss)) {
    ++counts_.lost;
    return std::nullopt;
  }
  return now + delay;
}

std::optional<Instant> Network::Frame(int from, int to, int lane, Instant now) {
  if (IsCut(from, to) || IsCut(to, from)) {  // a stream needs both ways
    ++counts_.cut;
    return std::nullopt;
  }
  Instant& last = last_frame_[{from, to, lane}];
  last = std::max(now + Delay(from, to), last + microseconds(1));
  return last;
}

void Network::Split(const std::vector<bool>& side) { side_ = side; }

void Network::HealAll() {
  side_.assign(side_.size(), false);
  cut_.clear();
  loss = 0;
  spike_chance = 0;
}

}  // namespace patina::sim

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/random.h"

namespace patina::sim {

/// Says when, and whether, a message arrives: regions with latencies, jitter, loss, spikes, cuts.
/// Knows hosts by number only. Deterministic by its generator.
class Network {
 public:
  Network(uint64_t seed, int hosts, int regions);

  int RegionOf(int host) const { return host % regions_; }

  double loss = 0;          // of datagrams
  double spike_chance = 0;  // of any message

  /// When a datagram sent now arrives; nothing: never.
  std::optional<Instant> Datagram(int from, int to, Instant now);
  /// When a frame arrives. Frames of one lane arrive in order. Nothing: the stream is broken.
  std::optional<Instant> Frame(int from, int to, int lane, Instant now);

  void CutOneWay(int from, int to) { cut_.insert({from, to}); }
  /// No message passes between the sides (true and false).
  void Split(const std::vector<bool>& side);
  void HealAll();
  bool IsCut(int from, int to) const;

  /// What became of the messages, to see that the faults were there.
  struct Counts {
    uint64_t lost = 0;  // datagrams, by chance
    uint64_t late = 0;  // by a spike
    uint64_t cut = 0;
  };
  const Counts& counts() const { return counts_; }

 private:
  Duration Delay(int from, int to);

  Rng rng_;
  int regions_;
  std::vector<std::vector<Duration>> latency_;  // between regions
  std::set<std::pair<int, int>> cut_;
  std::vector<bool> side_;
  Counts counts_;
  std::map<std::tuple<int, int, int>, Instant> last_frame_;
};

}  // namespace patina::sim

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/random.h"

namespace patina::sim {

/// Which faults a run has, how hard, and for how long. A value.
struct Scenario {
  std::string name;
  Duration fault_time = std::chrono::seconds(25);
  /// After the heal everything must be equal within this.
  Duration heal_bound = std::chrono::seconds(60);
  double writes_per_second = 25;  // of the whole cluster, in the fault phase

  double loss = 0;             // of datagrams
  double spike_chance = 0;     // of a message that takes up to half a second longer
  Duration partition_every{};  // 0: never
  Duration crash_every{};      // 0: never
  Duration down_max = std::chrono::seconds(10);
  double wrong_clocks = 0;     // part of the hosts
  uint64_t log_bytes_max = 0;  // 0: the store's default
  double large = 0;            // part of the transactions that are large

  // Collection, with a scaled hour. 0: as in production, so nothing of it happens in a run.
  Duration collect_after{};
  Duration forget_after{};
  Duration publish_interval{};
};

std::vector<std::string> ScenarioNames();
/// Nothing if there is no such scenario. "mixed" takes a random part of the faults.
std::optional<Scenario> MakeScenario(const std::string& name, Rng& rng);

}  // namespace patina::sim

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/random.h"
#include "tests/sim/network.h"
#include "tests/sim/scenario.h"
#include "tests/sim/sim_host.h"

namespace patina::sim {

/// Wall clocks that were wrong by an hour.
struct ClockHours {
  uint64_t forward = 0, back = 0, for_a_second = 0;  // the last: of both
};

/// Breaks things during the fault phase, by its own generator, and repairs them all at the end.
class Faults {
 public:
  /// at: runs something at a time, whatever becomes of the hosts.
  Faults(uint64_t seed, const Scenario& scenario, Network& network,
         std::vector<std::unique_ptr<SimHost>>& hosts,
         std::function<void(Duration, std::function<void()>)> later);

  void Begin();
  /// All cuts healed, all hosts up, all clocks right.
  void HealAll();
  uint64_t crashes() const { return crashes_; }
  uint64_t partitions() const { return partitions_; }
  /// While the faults went on; the repair at the end is not among them.
  uint64_t restarts() const { return restarts_; }
  uint64_t clock_jumps() const { return clock_jumps_; }
  ClockHours hours() const { return hours_; }
  uint64_t NextSeed() { return rng_.Next() | 1; }

 private:
  void SchedulePartition();
  void Partition();
  void IsolateOne(const SimHost& host);
  void ScheduleCrash();
  void CrashOne();
  void ScheduleClock();
  void JumpClock(SimHost& host);
  Duration About(Duration time);

  Rng rng_;
  const Scenario& scenario_;
  Network& network_;
  std::vector<std::unique_ptr<SimHost>>& hosts_;
  std::function<void(Duration, std::function<void()>)> later_;
  bool ended_ = false;
  uint64_t crashes_ = 0, partitions_ = 0, restarts_ = 0, clock_jumps_ = 0;
  ClockHours hours_;
};

}  // namespace patina::sim

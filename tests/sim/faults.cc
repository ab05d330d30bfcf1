#include "tests/sim/faults.h"

#include <algorithm>
#include <utility>

namespace patina::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr double kDownMost = 0.3;          // part of the hosts
constexpr int64_t kClockWrongMs = 20'000;  // at most
constexpr int64_t kHourMs = 3'600'000;
constexpr size_t kOneWayCutsMost = 5;

}  // namespace

Faults::Faults(uint64_t seed, const Scenario& scenario, Network& network,
               std::vector<std::unique_ptr<SimHost>>& hosts,
               std::function<void(Duration, std::function<void()>)> later)
    : rng_(seed), scenario_(scenario), network_(network), hosts_(hosts), later_(std::move(later)) {}

Duration Faults::About(Duration time) {
  return Duration(rng_.Between(time.count() / 2, time.count() * 3 / 2));
}

void Faults::Begin() {
  network_.loss = scenario_.loss;
  network_.spike_chance = scenario_.spike_chance;
  if (scenario_.partition_every.count() > 0) SchedulePartition();
  if (scenario_.crash_every.count() > 0) ScheduleCrash();
  if (scenario_.wrong_clocks > 0) ScheduleClock();
}

void Faults::SchedulePartition() {
  later_(About(scenario_.partition_every), [this] {
    if (ended_) return;
    Partition();
    SchedulePartition();
  });
}

/// A clean split, an island, or a few one-way cuts; the one before heals.
void Faults::Partition() {
  const double loss = network_.loss, spikes = network_.spike_chance;
  network_.HealAll();
  network_.loss = loss;
  network_.spike_chance = spikes;
  const size_t count = hosts_.size();
  const uint64_t kind = rng_.Below(4);
  if (kind == 0) return;  // healed for a while
  ++partitions_;
  switch (kind) {
    case 1: {
      for (uint64_t i = 1 + rng_.Below(kOneWayCutsMost); i > 0; --i) {
        const auto from = static_cast<int>(rng_.Below(count));
        network_.CutOneWay(from, static_cast<int>(rng_.Below(count)));
      }
      return;
    }
    case 2: {  // a whole region
      std::vector<bool> side(count);
      const int region = network_.RegionOf(static_cast<int>(rng_.Below(count)));
      for (size_t i = 0; i < count; ++i) side[i] = network_.RegionOf(static_cast<int>(i)) == region;
      return network_.Split(side);
    }
    default: {
      std::vector<bool> side(count);
      const double part = rng_.Unit() / 2;
      for (size_t i = 0; i < count; ++i) side[i] = rng_.Chance(part);
      return network_.Split(side);
    }
  }
}

/// Until the next partition. After some seconds all others are dead to it.
void Faults::IsolateOne(const SimHost& host) {
  ++partitions_;
  std::vector<bool> side(hosts_.size());
  for (size_t i = 0; i < hosts_.size(); ++i) side[i] = hosts_[i].get() == &host;
  network_.Split(side);
}

void Faults::ScheduleCrash() {
  later_(About(scenario_.crash_every), [this] {
    if (ended_) return;
    CrashOne();
    ScheduleCrash();
  });
}

void Faults::CrashOne() {
  const auto down = static_cast<double>(
      std::count_if(hosts_.begin(), hosts_.end(), [](const auto& host) { return !host->up(); }));
  if (down >= kDownMost * static_cast<double>(hosts_.size())) return;
  SimHost& host = *hosts_[static_cast<size_t>(rng_.Below(hosts_.size()))];
  if (!host.up()) return;
  ++crashes_;
  host.Crash();
  const Duration away(
      rng_.Between(Duration(milliseconds(200)).count(), scenario_.down_max.count()));
  later_(away, [this, &host] {
    if (host.up()) return;
    ++restarts_;
    host.Start(NextSeed());
  });
}

/// Some wall clocks jump; a minority, or nobody could know the time.
void Faults::ScheduleClock() {
  const auto wrong =
      static_cast<size_t>(scenario_.wrong_clocks * static_cast<double>(hosts_.size()));
  for (size_t i = 0; i < wrong; ++i) {
    SimHost& host = *hosts_[i];
    for (int jump = 0; jump < 3; ++jump) {
      later_(Duration(static_cast<int64_t>(
                 rng_.Below(static_cast<uint64_t>(scenario_.fault_time.count())))),
             [this, &host] {
               if (ended_) return;
               JumpClock(host);
             });
    }
  }
}

/// Alone or among others, by some seconds, or by an hour forward or back; half of the hours last a
/// second. Not by hours where hosts crash: a process that starts has only the wall clock to go by
/// until it hears others.
void Faults::JumpClock(SimHost& host) {
  ++clock_jumps_;
  if (scenario_.partition_every.count() > 0 && rng_.Chance(0.5)) IsolateOne(host);
  if (scenario_.crash_every.count() > 0 || rng_.Chance(0.3)) {
    host.clock().offset_ms = rng_.Between(-kClockWrongMs, kClockWrongMs);
    return;
  }
  const bool forward = rng_.Chance(0.5);
  host.clock().offset_ms = forward ? kHourMs : -kHourMs;
  ++(forward ? hours_.forward : hours_.back);
  if (rng_.Chance(0.5)) return;
  ++hours_.for_a_second;
  later_(seconds(1), [this, &host] {
    if (!ended_) host.clock().offset_ms = 0;
  });
}

void Faults::HealAll() {
  ended_ = true;
  network_.HealAll();
  for (auto& host : hosts_) {
    host->clock().offset_ms = 0;
    if (!host->up()) host->Start(NextSeed());
  }
}

}  // namespace patina::sim

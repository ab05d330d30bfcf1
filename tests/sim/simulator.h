#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "tests/sim/faults.h"

namespace patina::sim {

struct SimOptions {
  uint64_t seed = 1;
  int nodes = 50;
  std::string scenario = "mixed";
  /// Where the hosts' files go, in a new folder that is removed afterwards; empty: in /dev/shm or
  /// the temporary folder.
  std::string folder;
};

struct SimResult {
  bool ok = false;
  std::string failure;      // what is wrong, when it is
  std::string replay;       // the command that runs it again
  uint64_t trace_hash = 0;  // over every delivery and write: equal for equal options
  Duration healed_after{};  // until everything was equal
  Duration virtual_time{};
  uint64_t events = 0, writes = 0, acknowledged = 0, deliveries = 0;
  uint64_t crashes = 0, restarts = 0, partitions = 0, clock_jumps = 0;
  ClockHours hours;  // of the jumps
  uint64_t messages_lost = 0, messages_late = 0, messages_cut = 0;
  uint64_t snapshots = 0, too_old = 0, set_aside = 0, tombstones_collected = 0;
  uint64_t transfers = 0, sync_changes = 0;
  uint64_t large_writes = 0, large_merged = 0;  // large transactions
  double copies_per_change = 0;                 // fresh copies per node and change, faults included
};

/// Runs one cluster through its faults, heals it, and requires that all nodes end up equal and have
/// every acknowledged write. One thread; no real time passes.
SimResult RunSimulation(const SimOptions& options);

}  // namespace patina::sim

#pragma once

#include "agent/scrub_pace.h"

namespace patina::storage {
class Store;
}  // namespace patina::storage

namespace patina::agent {

/// Looks for what another SQLite client wrote in the node's file (Store::Scrub), slice by slice
/// between the writer's turns. The writer's thread.
class Scrubber {
 public:
  Scrubber(uint64_t rows_per_second, Duration interval) : pace_(rows_per_second, interval) {}

  /// How long the thread may sleep.
  Duration Wait(Instant now, Duration wait_max) const { return pace_.Wait(now, wait_max); }
  /// One slice at most.
  void RunIfDue(storage::Store& store);

 private:
  ScrubPace pace_;
  Instant log_at_{};
};

}  // namespace patina::agent

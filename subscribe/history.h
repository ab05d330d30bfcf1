#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "subscribe/engine.h"

namespace patina::subscribe {

/// What the events of a batch hold in memory, roughly.
size_t BytesOf(const std::vector<Event>& events);

/// Cuts events into batches that are sent one by one.
inline constexpr size_t kBatchEventsMax = 500;
std::vector<EventBatch> IntoBatches(std::vector<Event> events);

/// A query's recent changes, to resume from. Batches are shared with subscribers' queues. Not
/// thread-safe.
///
/// Invariant: it holds every change event with a number above floor().
class History {
 public:
  explicit History(size_t bytes_max) : bytes_max_(bytes_max) {}

  /// Nothing up to this number is held.
  void StartAt(uint64_t change_number);
  /// Change numbers never fall. All events of the batch have that number.
  void Add(uint64_t change_number, EventBatch batch);

  bool ReachesBackTo(uint64_t change_number) const { return change_number >= floor_; }
  /// Batches newer than the number. Requires ReachesBackTo(change_number).
  std::vector<EventBatch> Since(uint64_t change_number) const;

  uint64_t floor() const { return floor_; }
  size_t bytes() const { return bytes_; }

 private:
  struct Entry {
    uint64_t change_number = 0;
    size_t bytes = 0;
    EventBatch batch;
  };
  const size_t bytes_max_;
  size_t bytes_ = 0;
  uint64_t floor_ = 0;
  std::deque<Entry> entries_;
};

}  // namespace patina::subscribe

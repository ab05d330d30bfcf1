#pragma once

#include <compare>
#include <cstdint>
#include <string>

// Hybrid logical time: 48 bits of milliseconds since the Unix epoch, then a counter of 16 bits.

namespace patina::crdt {

struct HlcTime {
  uint64_t bits = 0;

  auto operator<=>(const HlcTime&) const = default;
  static HlcTime FromMs(int64_t ms, uint16_t counter = 0);
  int64_t ms() const { return static_cast<int64_t>(bits >> 16); }
  uint16_t counter() const { return static_cast<uint16_t>(bits & 0xffff); }
  /// Nanoseconds since the epoch, for the API: the milliseconds, with the counter in the low digits
  /// (counter n counts as n nanoseconds), so that order is kept.
  int64_t ns() const;
  /// "2026-11-21T01:02:03.456Z+7"
  std::string ToString() const;
};

/// Gives each local write a time later than every time seen, close to the cluster time.
/// One thread at a time.
class HybridClock {
 public:
  /// Never gives a time at or below the floor.
  explicit HybridClock(HlcTime floor = {}) : last_(floor) {}

  /// max(last + 1, cluster time). A counter that is full carries into the milliseconds.
  HlcTime Next(int64_t cluster_ms);
  /// A stamp was applied: later writes are later than it.
  void Observe(HlcTime time) {
    if (time > last_) last_ = time;
  }
  HlcTime last() const { return last_; }

 private:
  HlcTime last_;
};

}  // namespace patina::crdt

#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "base/clock.h"

namespace patina::agent {

/// When the writer compares the next rows with their seals (Store::Scrub): quietly all the time, at
/// once when another client of the file has committed. Values; the writer's thread.
class ScrubPace {
 public:
  static constexpr size_t kRowsPerSlice = 250;  // well under 1 ms of the writer's time
  /// Between two looks whether another client has committed, and after it was so.
  static constexpr Duration kLookInterval = std::chrono::milliseconds(250);
  static constexpr Duration kLookIntervalAfter = std::chrono::seconds(5);

  /// rows_per_second: at most, when nobody else writes; 0: then not at all. interval: from the
  /// start of a pass to that of the next, if there are few rows.
  ScrubPace(uint64_t rows_per_second, Duration interval)
      : between_slices_(rows_per_second == 0 ? Duration::zero()
                                             : Duration(std::chrono::seconds(kRowsPerSlice)) /
                                                   static_cast<int64_t>(rows_per_second)),
        interval_(interval) {}

  bool LookDue(Instant now) const { return !hurried_ && now >= look_at_; }
  void Looked(Instant now, bool other_wrote) {
    hurried_ = other_wrote;
    look_at_ = now + kLookInterval;
  }

  /// Another client has committed, and the pass that looks at it has not ended.
  bool hurried() const { return hurried_; }
  bool SliceDue(Instant now) const {
    return hurried_ || (between_slices_ > Duration::zero() && now >= slice_at_);
  }
  void Sliced(Instant now, bool pass_ended) {
    slice_at_ = now + between_slices_;
    if (!pass_ended) return;
    slice_at_ = std::max(slice_at_, pass_started_ + interval_);
    pass_started_ = slice_at_;
    if (hurried_) look_at_ = now + kLookIntervalAfter;
    hurried_ = false;
  }

  /// How long the thread may sleep.
  Duration Wait(Instant now, Duration wait_max) const {
    if (hurried_) return Duration::zero();
    if (between_slices_ == Duration::zero()) return wait_max;
    return std::clamp(slice_at_ - now, Duration::zero(), wait_max);
  }

 private:
  const Duration between_slices_, interval_;
  Instant look_at_{}, slice_at_{}, pass_started_{};
  bool hurried_ = false;
};

}  // namespace patina::agent

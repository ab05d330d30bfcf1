#pragma once

#include <algorithm>
#include <atomic>

#include "base/clock.h"

namespace patina::agent {

/// When a thread last got on, for the watchdog. The thread notes, any thread looks.
class TurnWatch {
 public:
  /// An idle thread is never late.
  void SetBusy(bool busy) { busy_.store(busy, std::memory_order_release); }
  /// silence: the thread may say nothing for this long.
  void Note(Duration silence = {}) {
    const Instant now = SystemClock().Now();
    if (busy_.load(std::memory_order_relaxed)) {
      const int64_t silent_ms = SteadyMs(now) - last_turn_ms_.load(std::memory_order_relaxed);
      longest_silence_ms_ = std::max(longest_silence_ms_.load(), static_cast<uint64_t>(silent_ms));
    }
    silent_until_ms_.store(SteadyMs(now + silence), std::memory_order_release);
    last_turn_ms_.store(SteadyMs(now), std::memory_order_release);
  }
  /// On the steady clock.
  int64_t LastMs() const {
    const int64_t now = SteadyMs(SystemClock().Now());
    const int64_t silent_until = silent_until_ms_.load(std::memory_order_acquire);
    if (!busy_.load(std::memory_order_acquire) || now < silent_until) return now;
    return std::max(silent_until, last_turn_ms_.load(std::memory_order_acquire));
  }
  /// While busy, since the start.
  uint64_t longest_silence_ms() const { return longest_silence_ms_; }

 private:
  static int64_t SteadyMs(Instant instant) { return ToMs(instant.time_since_epoch()); }

  std::atomic<bool> busy_{false};
  std::atomic<int64_t> last_turn_ms_{0}, silent_until_ms_{0};
  std::atomic<uint64_t> longest_silence_ms_{0};
};

}  // namespace patina::agent

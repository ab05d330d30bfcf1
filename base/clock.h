#pragma once

#include <chrono>
#include <cstdint>

// Time as it is passed about: steady instants for deadlines, wall milliseconds for what people
// read.

namespace patina {

using Duration = std::chrono::nanoseconds;
/// Steady time; its epoch means nothing. The simulator makes its own, starting at zero.
using Instant = std::chrono::time_point<std::chrono::steady_clock, Duration>;

/// Where a thread gets the time. Implementations: SystemClock here, the simulator's in tests.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Instant Now() const = 0;
  /// Milliseconds since the Unix epoch, as the host believes.
  virtual int64_t WallMs() const = 0;
};

/// The host's clocks. Any thread.
class SystemClock final : public Clock {
 public:
  Instant Now() const override;
  int64_t WallMs() const override;
};

inline int64_t ToMs(Duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}
inline int64_t ToUs(Duration duration) {
  return std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
}

}  // namespace patina

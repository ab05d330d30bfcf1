#include "base/clock.h"

namespace patina {

Instant SystemClock::Now() const {
  return std::chrono::time_point_cast<Duration>(std::chrono::steady_clock::now());
}

int64_t SystemClock::WallMs() const {
  return ToMs(std::chrono::system_clock::now().time_since_epoch());
}

}  // namespace patina

#include "tests/support/eventually.h"

#include <thread>

namespace patina::test {

bool Eventually(const std::function<bool()>& condition, Duration deadline) {
  constexpr Duration kBetweenLooks = std::chrono::milliseconds(5);
  const SystemClock clock;
  const Instant end = clock.Now() + deadline;
  while (true) {
    const bool last = clock.Now() >= end;
    if (condition()) return true;
    if (last) return false;
    // What is waited for needs the processor. The only sleep of the tests.
    std::this_thread::sleep_for(kBetweenLooks);
  }
}

}  // namespace patina::test

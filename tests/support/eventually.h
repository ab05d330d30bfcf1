#pragma once

#include <functional>

#include "base/clock.h"

// Waiting for other threads and processes that tell nobody when they are done. Any thread.

namespace patina::test {

/// Asks again and again until it is true (then true) or the deadline passes (then false). The
/// condition is asked at least once, and once more after the deadline.
bool Eventually(const std::function<bool()>& condition,
                Duration deadline = std::chrono::seconds(20));

}  // namespace patina::test

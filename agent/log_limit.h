#pragma once

#include "base/clock.h"

namespace patina::agent {

/// For what could be logged many times a second: once in ten seconds. One thread.
class LogLimit {
 public:
  bool Due(Instant now) {
    if (now < next_) return false;
    next_ = now + std::chrono::seconds(10);
    return true;
  }

 private:
  Instant next_{};
};

}  // namespace patina::agent

#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "base/clock.h"

namespace patina::tools::bench {

/// Durations and their percentiles. One thread at a time.
class Samples {
 public:
  void Add(Duration duration) { durations_.push_back(duration); }
  void Add(const Samples& other) {
    durations_.insert(durations_.end(), other.durations_.begin(), other.durations_.end());
  }
  size_t size() const { return durations_.size(); }

  /// The smallest sample that is not below fraction of all (nearest rank), in milliseconds, rounded
  /// to microseconds; 0 when there are none.
  double PercentileMs(double fraction) {
    if (durations_.empty()) return 0;
    const auto rank = static_cast<size_t>(std::ceil(fraction * static_cast<double>(size())));
    const auto at = durations_.begin() + static_cast<std::ptrdiff_t>(rank > 0 ? rank - 1 : 0);
    std::nth_element(durations_.begin(), at, durations_.end());
    return static_cast<double>(ToUs(*at)) / 1000;
  }

 private:
  std::vector<Duration> durations_;
};

inline double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

/// To three decimals, as results are printed.
inline double Rounded(double value) { return std::round(value * 1000) / 1000; }

}  // namespace patina::tools::bench

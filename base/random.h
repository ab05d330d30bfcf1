#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/ids.h"

namespace patina {

/// A small fast generator (xoshiro256**) that gives the same numbers for a seed on every machine.
/// One thread at a time. Not for secrets.
class Rng {
 public:
  explicit Rng(uint64_t seed);

  uint64_t Next();
  /// Uniform in [0, bound); bound > 0.
  uint64_t Below(uint64_t bound);
  /// Uniform in [low, high].
  int64_t Between(int64_t low, int64_t high);
  /// Uniform in [0, 1).
  double Unit();
  bool Chance(double probability) { return Unit() < probability; }
  ActorId NextActorId();

  template <class Container>
  void Shuffle(Container& items) {
    for (size_t i = items.size(); i > 1; --i) {
      std::swap(items[i - 1], items[static_cast<size_t>(Below(i))]);
    }
  }

 private:
  uint64_t state_[4];
};

/// 64 bits from the operating system, to seed an Rng in real processes.
uint64_t SystemEntropy();

}  // namespace patina

#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/random.h"
#include "crdt/value.h"

// What the tests of crdt/ share.

namespace patina::crdt {

/// An actor whose id sorts by first.
inline ActorId TestActor(uint8_t first) {
  ActorId actor;
  actor.bytes[0] = first;
  actor.bytes[15] = 1;
  return actor;
}

inline std::string RandomBytes(Rng& rng, size_t size_max) {
  std::string bytes(static_cast<size_t>(rng.Below(size_max + 1)), '\0');
  for (char& c : bytes) c = static_cast<char>(rng.Below(256));
  return bytes;
}

inline Value RandomValue(Rng& rng) {
  switch (rng.Below(5)) {
    case 0:
      return Value::Null();
    case 1:
      return Value::Integer(static_cast<int64_t>(rng.Next() >> rng.Below(64)) *
                            (rng.Chance(0.5) ? 1 : -1));
    case 2:
      return Value::Real((rng.Unit() - 0.5) * static_cast<double>(rng.Below(1000)));
    case 3:
      return Value::Text(RandomBytes(rng, 20));
    default:
      return Value::Blob(RandomBytes(rng, 20));
  }
}

/// Calls decode(bytes) with every prefix of good, with random bit flips of it, and with garbage.
/// The decoder may say what it likes, as long as it comes back.
template <class Decode>
void Torment(const std::string& good, Rng& rng, int rounds, Decode decode) {
  for (size_t size = 0; size < good.size(); ++size) decode(std::string_view(good).substr(0, size));
  for (int i = 0; i < rounds; ++i) {
    std::string bad = good;
    const uint64_t flips = 1 + rng.Below(3);
    for (uint64_t flip = 0; flip < flips && !bad.empty(); ++flip) {
      char& c = bad[static_cast<size_t>(rng.Below(bad.size()))];
      const uint64_t flip_bit = static_cast<uint64_t>(c) ^ (uint64_t{1} << rng.Below(8));
      c = static_cast<char>(rng.Chance(0.5) ? flip_bit : rng.Next());
    }
    decode(bad);
    decode(RandomBytes(rng, 40));
  }
}

/// A test that draws lots says with which seed, so that it can be run again.
#define TRACE_SEED(seed) SCOPED_TRACE("seed " + std::to_string(seed))

}  // namespace patina::crdt

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

// Hashes of byte strings: equal on every host and release, because digests are compared between
// nodes.

namespace patina {

/// XXH3, 64 bits, with a seed. Not for secrets. Any thread.
uint64_t Hash64(std::string_view bytes, uint64_t seed = 0);

/// Mixes two hashes; not symmetric.
inline uint64_t CombineHash(uint64_t a, uint64_t b) {
  uint64_t x = a * 0x9E3779B97F4A7C15u + b;
  x ^= x >> 32;
  x *= 0xD6E8FEB86659FD93u;
  x ^= x >> 32;
  return x;
}

/// 128 bits; sums of digests do not depend on order.
struct Digest128 {
  uint64_t low = 0;
  uint64_t high = 0;

  bool operator==(const Digest128&) const = default;
  auto operator<=>(const Digest128&) const = default;
  Digest128& operator+=(const Digest128& other) {
    low += other.low;
    high += other.high;
    return *this;
  }
  Digest128& operator-=(const Digest128& other) {
    low -= other.low;
    high -= other.high;
    return *this;
  }
  /// 32 hex digits.
  std::string ToString() const;
};

/// XXH3, 128 bits.
Digest128 Hash128(std::string_view bytes, uint64_t seed = 0);

}  // namespace patina

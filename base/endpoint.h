#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace patina {

/// An IP address and a port; IPv4 is kept mapped into IPv6. A value, any thread.
struct Endpoint {
  std::array<uint8_t, 16> ip{};
  uint16_t port = 0;  // host order

  auto operator<=>(const Endpoint&) const = default;
  bool IsV4() const;
  bool IsUnset() const { return *this == Endpoint(); }

  /// "127.0.0.1:7400" or "[fdaa::1]:7400".
  std::string ToString() const;
  /// Numeric addresses only, never a name: nothing is resolved here.
  static std::optional<Endpoint> Parse(std::string_view text);
  static Endpoint V4(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint16_t port);
};

}  // namespace patina

template <>
struct std::hash<patina::Endpoint> {
  size_t operator()(const patina::Endpoint& endpoint) const noexcept {
    uint64_t words[2];
    __builtin_memcpy(words, endpoint.ip.data(), sizeof words);
    return static_cast<size_t>((words[0] ^ (words[1] * 0x9E3779B97F4A7C15u)) * 0xBF58476D1CE4E5B9u +
                               endpoint.port);
  }
};

#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

// Identities. Values, any thread.

namespace patina {

/// 16 random bytes, minted by a process at its first local write; it ends with the process.
/// Actors are ordered by their bytes, which settles equal times.
struct ActorId {
  std::array<uint8_t, 16> bytes{};

  auto operator<=>(const ActorId&) const = default;

  /// 32 lower-case hex digits.
  std::string ToString() const;
  static std::optional<ActorId> Parse(std::string_view hex);
  /// The 16 raw bytes; nothing if the size is wrong.
  static std::optional<ActorId> FromBytes(std::string_view raw);
  std::string_view AsBytes() const {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
};

/// One local transaction: an actor and its commit number, from 1.
struct ChangeId {
  ActorId actor;
  uint64_t version = 0;

  auto operator<=>(const ChangeId&) const = default;
};

}  // namespace patina

template <>
struct std::hash<patina::ActorId> {
  size_t operator()(const patina::ActorId& actor) const noexcept {
    uint64_t word = 0;  // the bytes are random: eight of them are a hash
    __builtin_memcpy(&word, actor.bytes.data(), sizeof word);
    return static_cast<size_t>(word);
  }
};

template <>
struct std::hash<patina::ChangeId> {
  size_t operator()(const patina::ChangeId& id) const noexcept {
    return std::hash<patina::ActorId>()(id.actor) ^
           static_cast<size_t>(id.version * 0x9E3779B97F4A7C15u);
  }
};

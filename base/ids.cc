#include "base/ids.h"

#include <cstring>

#include "base/bytes.h"

namespace patina {

std::string ActorId::ToString() const { return ToHex(AsBytes()); }

std::optional<ActorId> ActorId::Parse(std::string_view hex) {
  auto raw = FromHex(hex);
  if (!raw) return std::nullopt;
  return FromBytes(*raw);
}

std::optional<ActorId> ActorId::FromBytes(std::string_view raw) {
  ActorId id;
  if (raw.size() != id.bytes.size()) return std::nullopt;
  std::memcpy(id.bytes.data(), raw.data(), raw.size());
  return id;
}

}  // namespace patina

#include "base/endpoint.h"

#include <arpa/inet.h>

#include <charconv>
#include <cstring>

namespace patina {
namespace {

constexpr std::array<uint8_t, 12> kV4Prefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

}  // namespace

bool Endpoint::IsV4() const { return std::memcmp(ip.data(), kV4Prefix.data(), 12) == 0; }

Endpoint Endpoint::V4(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint16_t port) {
  Endpoint endpoint;
  std::memcpy(endpoint.ip.data(), kV4Prefix.data(), 12);
  endpoint.ip[12] = a;
  endpoint.ip[13] = b;
  endpoint.ip[14] = c;
  endpoint.ip[15] = d;
  endpoint.port = port;
  return endpoint;
}

std::string Endpoint::ToString() const {
  char text[INET6_ADDRSTRLEN] = {};
  if (IsV4()) {
    inet_ntop(AF_INET, ip.data() + 12, text, sizeof text);
    return std::string(text) + ":" + std::to_string(port);
  }
  inet_ntop(AF_INET6, ip.data(), text, sizeof text);
  return "[" + std::string(text) + "]:" + std::to_string(port);
}

std::optional<Endpoint> Endpoint::Parse(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string_view host = text.substr(0, colon), digits = text.substr(colon + 1);
  Endpoint endpoint;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), endpoint.port);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    const std::string inner(host.substr(1, host.size() - 2));
    if (inet_pton(AF_INET6, inner.c_str(), endpoint.ip.data()) != 1) return std::nullopt;
    return endpoint;
  }
  uint8_t v4[4];
  if (inet_pton(AF_INET, std::string(host).c_str(), v4) != 1) return std::nullopt;
  return V4(v4[0], v4[1], v4[2], v4[3], endpoint.port);
}

}  // namespace patina

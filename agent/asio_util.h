#pragma once

// Asio is expensive to compile (2 CPU seconds): only for .cc files of the transport.
#include <boost/asio.hpp>
#include <cstring>

#include "base/endpoint.h"

namespace patina::agent {

namespace asio = boost::asio;

/// v6: for an IPv6 socket (IPv4 goes mapped); otherwise the endpoint must be IPv4.
template <class Protocol>
typename Protocol::endpoint ToAsio(const Endpoint& endpoint, bool v6) {
  if (!v6) {
    asio::ip::address_v4::bytes_type bytes;
    std::memcpy(bytes.data(), endpoint.ip.data() + 12, 4);
    return {asio::ip::address_v4(bytes), endpoint.port};
  }
  asio::ip::address_v6::bytes_type bytes;
  std::memcpy(bytes.data(), endpoint.ip.data(), 16);
  return {asio::ip::address_v6(bytes), endpoint.port};
}

template <class AsioEndpoint>
Endpoint FromAsio(const AsioEndpoint& from) {
  if (from.address().is_v4()) {
    const auto bytes = from.address().to_v4().to_bytes();
    return Endpoint::V4(bytes[0], bytes[1], bytes[2], bytes[3], from.port());
  }
  Endpoint endpoint;
  const auto bytes = from.address().to_v6().to_bytes();
  std::memcpy(endpoint.ip.data(), bytes.data(), 16);
  endpoint.port = from.port();
  return endpoint;
}

}  // namespace patina::agent

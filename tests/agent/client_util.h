#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "agent/agent.h"

namespace grpc {
class ClientContext;
}
namespace patina::v1 {
class StatusResponse;
}

// What clients of a whole agent need in tests. Any thread.

namespace patina::agent {

/// Later than any call of a test takes.
void SetDeadline(grpc::ClientContext& context);

v1::StatusResponse StatusOf(const Agent& agent);
/// As `patina status` shows it; nothing if there is no such counter.
std::optional<uint64_t> CounterOf(const Agent& agent, std::string_view name);

}  // namespace patina::agent

#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace patina::proxy_sink {

/// [sink] of the configuration file. A value, any thread.
struct SinkConfig {
  std::vector<std::string> listen = {"127.0.0.1:7410"};  // "host:port" or "unix:/path"
  std::string region;  // where this proxy is; empty: requests must name their region
  std::string agent;   // empty: unix:/run/patina/api.sock if it exists, else 127.0.0.1:7401
  int64_t agent_silence_ms_max = 3000;        // from 100; the agent sends a heartbeat each second
  int64_t rtt_age_ms_max = 24 * 3600 * 1000;  // from 1,000; older round trips are estimated
};

/// The value of an environment variable, if set.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;
std::optional<std::string> ProcessEnvironment(const std::string& name);

/// TOML text, then PATINA_SINK_LISTEN (separated by commas), _REGION, _AGENT, _AGENT_SILENCE_MS_MAX
/// and _RTT_AGE_MS_MAX over it. INVALID_ARGUMENT with "file:line: ..." for syntax, unknown keys,
/// types, ranges.
Result<SinkConfig> ParseConfig(std::string_view toml, const std::string& file_name,
                               const Environment& environment);
/// The same from a file; an empty path is an empty file. NOT_FOUND when it cannot be read.
Result<SinkConfig> LoadConfig(const std::string& path, const Environment& environment);

}  // namespace patina::proxy_sink

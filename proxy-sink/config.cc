#include "proxy-sink/config.h"

#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <sstream>

#include "base/log.h"
#include "proxy-sink/toml_reader.h"

namespace patina::proxy_sink {
namespace {

constexpr int64_t kSilenceMsMin = 100, kRttAgeMsMin = 1000;
constexpr const char* kDefaultSocket = "/run/patina/api.sock";

std::vector<std::string> SplitCommas(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) {
    if (!part.empty()) parts.push_back(part);
  }
  return parts;
}

Status ReadToml(const TomlReader& file, SinkConfig* config) {
  RETURN_IF_ERROR(file.OnlyKnown("", {"sink"}));
  RETURN_IF_ERROR(file.OnlyKnown(
      "sink", {"listen", "region", "agent", "agent_silence_ms_max", "rtt_age_ms_max"}));
  RETURN_IF_ERROR(file.Strings("sink", "listen", &config->listen));
  RETURN_IF_ERROR(file.String("sink", "region", &config->region));
  RETURN_IF_ERROR(file.String("sink", "agent", &config->agent));
  RETURN_IF_ERROR(file.Integer("sink", "agent_silence_ms_max", kSilenceMsMin, INT32_MAX,
                               &config->agent_silence_ms_max));
  RETURN_IF_ERROR(
      file.Integer("sink", "rtt_age_ms_max", kRttAgeMsMin, INT64_MAX, &config->rtt_age_ms_max));
  if (config->listen.empty()) return file.ErrorAt("sink", "listen", "listen is empty");
  return OkStatus();
}

Status ReadEnvironmentInteger(const Environment& environment, const std::string& name, int64_t low,
                              int64_t* value) {
  const std::optional<std::string> text = environment(name);
  if (!text) return OkStatus();
  const auto end = text->data() + text->size();
  int64_t integer = 0;
  const auto parsed = std::from_chars(text->data(), end, integer);
  if (parsed.ec != std::errc() || parsed.ptr != end || integer < low) {
    return InvalidArgument(StrCat(name, "=", *text, ": must be an integer from ", low));
  }
  *value = integer;
  return OkStatus();
}

Result<SinkConfig> Finish(const TomlReader& file, const Environment& environment) {
  SinkConfig config;
  RETURN_IF_ERROR(ReadToml(file, &config));
  if (const auto listen = environment("PATINA_SINK_LISTEN")) config.listen = SplitCommas(*listen);
  config.region = environment("PATINA_SINK_REGION").value_or(config.region);
  config.agent = environment("PATINA_SINK_AGENT").value_or(config.agent);
  RETURN_IF_ERROR(ReadEnvironmentInteger(environment, "PATINA_SINK_AGENT_SILENCE_MS_MAX",
                                         kSilenceMsMin, &config.agent_silence_ms_max));
  RETURN_IF_ERROR(ReadEnvironmentInteger(environment, "PATINA_SINK_RTT_AGE_MS_MAX", kRttAgeMsMin,
                                         &config.rtt_age_ms_max));
  if (config.listen.empty()) return InvalidArgument("PATINA_SINK_LISTEN is empty");
  if (config.agent.empty()) {
    config.agent =
        ::access(kDefaultSocket, F_OK) == 0 ? StrCat("unix:", kDefaultSocket) : "127.0.0.1:7401";
  }
  return config;
}

}  // namespace

std::optional<std::string> ProcessEnvironment(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

Result<SinkConfig> ParseConfig(std::string_view text, const std::string& file_name,
                               const Environment& environment) {
  ASSIGN_OR_RETURN(const TomlReader file, TomlReader::Parse(text, file_name));
  return Finish(file, environment);
}

Result<SinkConfig> LoadConfig(const std::string& path, const Environment& environment) {
  if (path.empty()) return ParseConfig("", "(no file)", environment);
  ASSIGN_OR_RETURN(const TomlReader file, TomlReader::Load(path));
  return Finish(file, environment);
}

}  // namespace patina::proxy_sink

#pragma once

#include <sstream>
#include <string>
#include <string_view>

// One line per event on stderr: "2026-11-21T01:02:03.456Z INFO  storage checkpoint rows=64000". Any
// thread.

namespace patina {

enum class LogLevel : int { kDebug = 0, kInfo = 1, kWarning = 2, kError = 3, kOff = 4 };

/// Lines below this level are not written; default kInfo.
void SetLogLevel(LogLevel level);
LogLevel GetLogLevel();
/// "debug", "info", "warning", "error", "off"; false if it is none of them (nothing changes).
bool SetLogLevel(std::string_view name);

/// Writes one line. component is the folder or part that speaks, for example "gossip".
void Log(LogLevel level, std::string_view component, std::string_view message);

/// Concatenates what can be streamed: StrCat("port ", 7400).
template <class... Parts>
std::string StrCat(const Parts&... parts) {
  std::ostringstream stream;
  (stream << ... << parts);
  return std::move(stream).str();
}

template <class... Parts>
void LogDebug(std::string_view component, const Parts&... parts) {
  if (GetLogLevel() <= LogLevel::kDebug) Log(LogLevel::kDebug, component, StrCat(parts...));
}
template <class... Parts>
void LogInfo(std::string_view component, const Parts&... parts) {
  if (GetLogLevel() <= LogLevel::kInfo) Log(LogLevel::kInfo, component, StrCat(parts...));
}
template <class... Parts>
void LogWarning(std::string_view component, const Parts&... parts) {
  if (GetLogLevel() <= LogLevel::kWarning) Log(LogLevel::kWarning, component, StrCat(parts...));
}
template <class... Parts>
void LogError(std::string_view component, const Parts&... parts) {
  if (GetLogLevel() <= LogLevel::kError) Log(LogLevel::kError, component, StrCat(parts...));
}

}  // namespace patina

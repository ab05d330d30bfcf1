#include "base/log.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <ctime>

namespace patina {
namespace {

std::atomic<LogLevel> g_level{LogLevel::kInfo};

constexpr std::string_view kNames[] = {"debug", "info", "warning", "error", "off"};
constexpr std::string_view kLabels[] = {"DEBUG", "INFO ", "WARN ", "ERROR", "OFF  "};

}  // namespace

void SetLogLevel(LogLevel level) { g_level.store(level, std::memory_order_relaxed); }
LogLevel GetLogLevel() { return g_level.load(std::memory_order_relaxed); }

bool SetLogLevel(std::string_view name) {
  for (size_t i = 0; i < std::size(kNames); ++i) {
    if (name == kNames[i]) {
      SetLogLevel(static_cast<LogLevel>(i));
      return true;
    }
  }
  return false;
}

void Log(LogLevel level, std::string_view component, std::string_view message) {
  using std::chrono::milliseconds;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto ms = std::chrono::duration_cast<milliseconds>(now).count();
  const std::time_t seconds = static_cast<std::time_t>(ms / 1000);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char stamp[40];
  const size_t length = std::strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(stamp + length, sizeof stamp - length, ".%03dZ", static_cast<int>(ms % 1000));
  std::string line = std::string(stamp) + " " + std::string(kLabels[static_cast<size_t>(level)]) +
                     " " + std::string(component) + " " + std::string(message) + "\n";
  // One write() per line: lines of threads do not mix. Nothing can be done when stderr is gone.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace patina

#pragma once

#include <string>

#include "base/clock.h"
#include "base/status.h"

// The smallest HTTP client that a check needs. Any thread; the caller's thread waits.

namespace patina::tools {

inline constexpr size_t kHttpBytesMax = 64 << 10;  // of an answer; the rest is not read

struct HttpAnswer {
  int status = 0;
  std::string body;
};

/// One GET on a connection of its own. Errors: UNAVAILABLE ("connection refused", ...),
/// DEADLINE_EXCEEDED ("no answer within 500 ms"), DATA_LOSS (not HTTP). timeout is for everything
/// together.
Result<HttpAnswer> HttpGet(const std::string& host, int port, const std::string& path,
                           Duration timeout);

/// Connects and closes again. Errors as above.
Status TcpProbe(const std::string& host, int port, Duration timeout);

/// "http://host:port/path", port 80 by default; false when it is not.
bool SplitUrl(const std::string& url, std::string* host, int* port, std::string* path);

}  // namespace patina::tools

#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"

// The built `patina` as a user runs it. One thread.

namespace patina::test {

/// One `patina` process. The destructor kills it.
class Process {
 public:
  struct Options {
    /// "NAME=value", added to this process's own environment, before which they count.
    std::vector<std::string> environment = {};
    /// Paths; an empty one is /dev/null. What is written is appended, so that two may be the same.
    std::string input_file = {}, out_file = {}, error_file = {};
  };
  Process(const std::vector<std::string>& arguments, const Options& options);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void Signal(int signal);
  /// Its exit code, or 128 + the signal that ended it; nothing if it still runs at the deadline.
  std::optional<int> Wait(Duration deadline = std::chrono::seconds(20));
  bool running();
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  std::optional<int> exit_code_;
};

struct RunResult {
  int exit_code = -1;  // -1: it did not end in time and was killed
  std::string out, error;
};

/// `patina arguments…`, to its end. environment as in Process::Options; input is its stdin.
RunResult RunPatina(const std::vector<std::string>& arguments,
                    const std::vector<std::string>& environment = {}, const std::string& input = {},
                    Duration deadline = std::chrono::seconds(60));

}  // namespace patina::test

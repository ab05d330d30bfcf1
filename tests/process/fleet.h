#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/process.h"
#include "tests/support/temporary_folder.h"

// Real `patina` processes for tests: started and driven as a user would. One thread.

namespace patina::test {

/// A free TCP and UDP port on 127.0.0.1.
int FreePort();

/// One agent with its configuration and data; it may be killed and started again.
class TestAgent {
 public:
  struct Options {
    std::string cluster = "test";
    std::string seed;  // gossip address
    bool fault_injection = false;
    std::string limits;  // lines of [limits]
  };
  TestAgent(const std::filesystem::path& folder, const std::string& name, const Options& options);

  /// Starts and waits until the API answers; a test failure with the log if it does not.
  void Start();
  void Kill();
  /// SIGTERM; the exit code.
  std::optional<int> Stop();
  bool running() { return process_ != nullptr && process_->running(); }

  const std::string& name() const { return name_; }
  const std::string& api() const { return api_; }
  /// It answers there, too.
  std::filesystem::path api_socket() const { return data_ / "api.sock"; }
  const std::string& gossip() const { return gossip_; }
  int api_port() const { return api_port_; }
  int gossip_port() const { return gossip_port_; }
  const std::filesystem::path& data() const { return data_; }
  std::string log() const;
  /// The most it ever had in memory (VmHWM), since it was started.
  uint64_t PeakMemoryKib() const;
  /// `patina status` as JSON; an empty object if it does not answer.
  nlohmann::json Status() const;

  /// One transaction; its exit code is 0 when acknowledged.
  RunResult Exec(const std::vector<std::string>& sql_and_parameters) const;
  /// The first cell of the answer as text, or the error.
  std::string QueryCell(const std::string& sql) const;
  /// Names of the members it believes to be alive, sorted.
  std::vector<std::string> AliveMembers() const;

 private:
  const std::string name_;
  const std::filesystem::path folder_, data_;
  const int gossip_port_, api_port_;
  const std::string gossip_, api_;
  const bool fault_injection_;
  std::unique_ptr<Process> process_;
};

/// Agents a-1, b-1, c-1 … of one cluster, each with the first as its seed.
class TestFleet {
 public:
  explicit TestFleet(size_t agents);

  TestAgent& operator[](size_t i) { return *agents_[i]; }
  size_t size() const { return agents_.size(); }
  TestAgent& Add(const TestAgent::Options& options);
  TestAgent& Add();
  const std::filesystem::path& folder() const { return folder_.path(); }
  /// API addresses of all, with commas.
  std::string apis() const;
  /// `patina bench wait-equal` over all.
  RunResult WaitEqual(const std::vector<std::string>& more = {}) const;

 private:
  const TemporaryFolder folder_;
  std::vector<std::unique_ptr<TestAgent>> agents_;
};

}  // namespace patina::test

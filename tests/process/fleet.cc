#include "tests/process/fleet.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/check.h"
#include "tests/support/eventually.h"
#include "tests/support/files.h"

namespace patina::test {
namespace {

namespace fs = std::filesystem;

/// A socket bound to 127.0.0.1; -1 when the port is taken.
int BoundSocket(int type, uint16_t port) {
  const int handle = ::socket(AF_INET, type | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  if (::bind(handle, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return handle;
  ::close(handle);
  return -1;
}

uint16_t PortOf(int handle) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  CHECK(::getsockname(handle, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  return ntohs(address.sin_port);
}

std::vector<nlohmann::json> JsonLines(const std::string& text) {
  std::vector<nlohmann::json> objects;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    nlohmann::json object = nlohmann::json::parse(line, nullptr, false);
    if (object.is_object()) objects.push_back(std::move(object));
  }
  return objects;
}

std::string Local(int port) { return "127.0.0.1:" + std::to_string(port); }

}  // namespace

int FreePort() {
  while (true) {
    const int tcp = BoundSocket(SOCK_STREAM, 0);
    CHECK(tcp >= 0);
    const uint16_t port = PortOf(tcp);
    const int udp = BoundSocket(SOCK_DGRAM, port);
    ::close(tcp);
    if (udp < 0) continue;
    ::close(udp);
    return port;
  }
}

TestAgent::TestAgent(const fs::path& folder, const std::string& name, const Options& options)
    : name_(name),
      folder_(folder),
      data_(folder / name),
      gossip_port_(FreePort()),
      api_port_(FreePort()),
      gossip_(Local(gossip_port_)),
      api_(Local(api_port_)),
      fault_injection_(options.fault_injection) {
  fs::create_directories(data_);
  const std::string seeds = options.seed.empty() ? "" : "\"" + options.seed + "\"";
  WriteFile(folder_ / (name_ + ".toml"),
            "[node]\nname = \"" + name_ + "\"\nregion = \"" + name_.substr(0, 1) +
                "\"\ndata_dir = \"" + data_.string() + "\"\n[schema]\npaths = [\"" +
                PATINA_SOURCE_DIR + "/fleet/schema.sql\"]\n[gossip]\nlisten = \"" + gossip_ +
                "\"\nseeds = [" + seeds + "]\ncluster = \"" + options.cluster +
                "\"\n[api]\nlisten = [\"" + api_ + "\", \"unix:" + api_socket().string() + "\"]\n" +
                (options.limits.empty() ? "" : "[limits]\n" + options.limits));
}

void TestAgent::Start() {
  std::vector<std::string> arguments = {"agent", "--config", folder_ / (name_ + ".toml")};
  if (fault_injection_) arguments.push_back("--fault-injection");
  const std::string log = folder_ / (name_ + ".log");
  process_ =
      std::make_unique<Process>(arguments, Process::Options{.out_file = log, .error_file = log});
  const bool ready = Eventually(
      [this] {
        return !process_->running() || RunPatina({"status", "--api", api_}).exit_code == 0;
      },
      std::chrono::seconds(20));
  ASSERT_TRUE(ready && process_->running()) << name_ << " did not start:\n" << this->log();
}

void TestAgent::Kill() {
  process_->Signal(SIGKILL);
  process_->Wait();
}

std::optional<int> TestAgent::Stop() {
  process_->Signal(SIGTERM);
  return process_->Wait();
}

std::string TestAgent::log() const { return ReadFile(folder_ / (name_ + ".log")); }

uint64_t TestAgent::PeakMemoryKib() const {
  const std::string status = ReadFile("/proc/" + std::to_string(process_->pid()) + "/status");
  const size_t line = status.find("VmHWM:");
  return line == std::string::npos ? 0 : std::stoull(status.substr(line + 6));
}

nlohmann::json TestAgent::Status() const {
  const auto answers = JsonLines(RunPatina({"status", "--api", api_, "--format", "json"}).out);
  return answers.empty() ? nlohmann::json::object() : answers[0];
}

RunResult TestAgent::Exec(const std::vector<std::string>& sql_and_parameters) const {
  std::vector<std::string> arguments = {"exec", "--api", api_};
  arguments.insert(arguments.end(), sql_and_parameters.begin(), sql_and_parameters.end());
  return RunPatina(arguments);
}

std::string TestAgent::QueryCell(const std::string& sql) const {
  const RunResult result = RunPatina({"query", "--api", api_, "--format", "json", sql});
  const std::vector<nlohmann::json> rows = JsonLines(result.out);
  if (result.exit_code != 0 || rows.empty() || rows[0].empty()) return result.error;
  const nlohmann::json& cell = rows[0].begin().value();
  return cell.is_string() ? cell.get<std::string>() : cell.dump();
}

std::vector<std::string> TestAgent::AliveMembers() const {
  std::vector<std::string> names;
  for (const auto& member :
       JsonLines(RunPatina({"members", "--api", api_, "--format", "json"}).out)) {
    if (member.value("state", "") == "alive") names.push_back(member.value("name", ""));
  }
  std::sort(names.begin(), names.end());
  return names;
}

TestFleet::TestFleet(size_t agents) {
  for (size_t i = 0; i < agents; ++i) Add();
  std::vector<std::string> names;
  for (const auto& agent : agents_) names.push_back(agent->name());
  for (const auto& agent : agents_) {
    EXPECT_TRUE(Eventually([&] { return agent->AliveMembers() == names; })) << agent->log();
  }
}

TestAgent& TestFleet::Add(const TestAgent::Options& options) {
  const std::string name = std::string(1, static_cast<char>('a' + agents_.size())) + "-1";
  agents_.push_back(std::make_unique<TestAgent>(folder_.path(), name, options));
  agents_.back()->Start();
  return *agents_.back();
}

TestAgent& TestFleet::Add() {
  TestAgent::Options options;
  if (!agents_.empty()) options.seed = agents_[0]->gossip();
  return Add(options);
}

std::string TestFleet::apis() const {
  std::string apis;
  for (const auto& agent : agents_) apis += (apis.empty() ? "" : ",") + agent->api();
  return apis;
}

RunResult TestFleet::WaitEqual(const std::vector<std::string>& more) const {
  std::vector<std::string> arguments = {"bench", "wait-equal", "--agents",
                                        apis(),  "--timeout",  "20"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return RunPatina(arguments);
}

}  // namespace patina::test

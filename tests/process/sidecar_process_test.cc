#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"
#include "tests/process/fleet.h"
#include "tests/support/eventually.h"
#include "tests/support/files.h"

// From a service's HTTP port to the answer a proxy gets: agent, sidecar and proxy-sink as
// processes.

namespace patina::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr Duration kDeadline = std::chrono::seconds(20);

/// A service under test on a port of its own: it answers every request with 200 and nginx's
/// stub_status page, in a thread, until it is closed. Then connections are refused.
class HttpServer {
 public:
  HttpServer() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    CHECK(::bind(listener_, any, size) == 0 && ::listen(listener_, 16) == 0);
    CHECK(::getsockname(listener_, any, &size) == 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Serve(); });
  }
  ~HttpServer() { Close(); }
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  void Close() {
    if (!thread_.joinable()) return;
    closing_ = true;
    thread_.join();
    ::close(listener_);
  }
  int port() const { return port_; }
  /// Requests answered so far.
  int answered() const { return answered_; }
  /// What the page says from now on.
  void SetInflight(int requests) { inflight_ = requests; }

 private:
  void Serve() {
    while (!closing_) {
      pollfd incoming{.fd = listener_, .events = POLLIN, .revents = 0};
      if (::poll(&incoming, 1, kPollMs) != 1) continue;
      const int connection = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection < 0) continue;
      Answer(connection);
      ::close(connection);
    }
  }

  void Answer(int connection) {
    const timeval patience{.tv_sec = 1, .tv_usec = 0};
    ::setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    std::string request;
    for (char bytes[1024]; request.find("\r\n\r\n") == std::string::npos;) {
      const ssize_t size = ::recv(connection, bytes, sizeof bytes, 0);
      if (size <= 0) return;
      request.append(bytes, static_cast<size_t>(size));
    }
    // The one that asks counts as writing.
    const std::string answer =
        "HTTP/1.0 200 OK\r\n\r\nActive connections: 9\nserver accepts handled requests\n 9 9 9\n"
        "Reading: 0 Writing: " +
        std::to_string(inflight_ + 1) + " Waiting: 3\n";
    ::send(connection, answer.data(), answer.size(), MSG_NOSIGNAL);
    ++answered_;
  }

  static constexpr int kPollMs = 10;
  const int listener_;
  int port_ = 0;
  std::atomic<bool> closing_{false};
  std::atomic<int> answered_{0}, inflight_{0};
  std::thread thread_;
};

/// One agent, a proxy-sink, a server, and a sidecar that registers it as machine web-1 of app web.
class SidecarProcessTest : public ::testing::Test {
 protected:
  SidecarProcessTest() : sink_address_("127.0.0.1:" + std::to_string(FreePort())) {
    WriteFile(folder() / "sink.toml", "[sink]\nlisten = [\"" + sink_address_ +
                                          "\"]\nregion = \"a\"\nagent = \"" + agent().api() +
                                          "\"\n");
    const std::string local = "127.0.0.1:" + std::to_string(server_.port());
    // Answers may take long on a busy machine; a closed port refuses at once.
    WriteFile(folder() / "web.toml",
              "machine = \"web-1\"\napp = \"web\"\norganization = \"acme\"\nhost = \"a-1\"\n"
              "region = \"a\"\naddress = \"" +
                  local +
                  "\"\nsoft_limit = 20\n"
                  "[check]\npath = \"/health\"\ninterval_ms = 100\ntimeout_ms = 5000\n"
                  "[load]\ninterval_ms = 200\nstub_status = \"http://" +
                  local + "/status\"\n");
    const std::string log = folder() / "sink.log";
    sink_ = std::make_unique<Process>(
        std::vector<std::string>{"proxy-sink", "--config", folder() / "sink.toml"},
        Process::Options{.out_file = log, .error_file = log});
  }

  /// Starts the sidecar and waits until a proxy is sent to the machine and all rows are there.
  void StartSidecar(const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"sidecar", "--service", folder() / "web.toml", "--api",
                                          agent().api()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    sidecar_ = std::make_unique<Process>(
        arguments, Process::Options{.out_file = SidecarLog(), .error_file = SidecarLog()});
    const auto ready = [this] {
      return CheckStatus() == "passing" && Inflight() == "0" && Route().exit_code == 0;
    };
    ASSERT_TRUE(Eventually([&] { return !sidecar_->running() || ready(); }, kDeadline)) << Logs();
    ASSERT_TRUE(sidecar_->running()) << Logs();
  }
  void CloseServer() {
    server_.Close();
    ASSERT_TRUE(Eventually([this] { return CheckStatus() == "critical"; }, kDeadline)) << Logs();
  }

  RunResult Route() const {
    return RunPatina({"route", "web", "--sink", sink_address_, "--format", "json"});
  }
  /// The first answer that names no machine, or the last one at the deadline.
  RunResult RouteOnceRefused() const {
    RunResult route;
    const auto refused = [&] {
      route = Route();
      return route.exit_code != 0;
    };
    Eventually(refused, kDeadline);
    return route;
  }
  std::string CheckStatus() { return agent().QueryCell("SELECT status FROM checks"); }
  std::string MachineState() { return agent().QueryCell("SELECT state FROM machines"); }
  std::string Inflight() { return agent().QueryCell("SELECT inflight FROM service_load"); }
  /// Of the agent's log; -1: no answer.
  int64_t ChangeNumber() {
    const RunResult status = RunPatina({"status", "--api", agent().api(), "--format", "json"});
    const nlohmann::json json = nlohmann::json::parse(status.out, nullptr, false);
    return json.is_object() ? json.value("change_number", int64_t{-1}) : -1;
  }
  std::string Logs() const {
    return "sidecar:\n" + ReadFile(SidecarLog()) + "proxy-sink:\n" +
           ReadFile(folder() / "sink.log") + "route:\n" + Route().out + Route().error;
  }

  TestAgent& agent() { return fleet_[0]; }
  HttpServer& server() { return server_; }
  Process& sidecar() { return *sidecar_; }

 private:
  const std::filesystem::path& folder() const { return fleet_.folder(); }
  std::string SidecarLog() const { return folder() / "sidecar.log"; }

  HttpServer server_;
  TestFleet fleet_{1};
  const std::string sink_address_;
  std::unique_ptr<Process> sink_, sidecar_;
};

TEST_F(SidecarProcessTest, ARegisteredServiceHasItsRowsAndIsWhereRequestsGo) {
  ASSERT_NO_FATAL_FAILURE(StartSidecar());
  EXPECT_EQ(agent().QueryCell("SELECT m.id || ' ' || m.app || ' ' || m.host || ' ' || m.region "
                              "|| ' ' || m.state FROM machines m"),
            "web-1 web a-1 a started");
  const std::string port = std::to_string(server().port());
  EXPECT_EQ(agent().QueryCell("SELECT machine || ' ' || port || ' ' || address || ' ' || "
                              "soft_limit FROM services"),
            "web-1 " + port + " 127.0.0.1:" + port + " 20");
  EXPECT_EQ(agent().QueryCell("SELECT machine || ' ' || port || ' ' || name || ' ' || output "
                              "FROM checks"),
            "web-1 " + port + " http HTTP 200");
  EXPECT_EQ(agent().QueryCell("SELECT name || ' ' || organization FROM apps"), "web acme");

  RunResult route;
  nlohmann::json best;
  // Behind by a second at most; null until then, never 0.
  EXPECT_TRUE(Eventually([&] {
    route = Route();
    best = nlohmann::json::parse(route.out.substr(0, route.out.find('\n')), nullptr, false);
    return best.is_object() && best["change_number"] == ChangeNumber();
  })) << Logs();
  ASSERT_TRUE(best.is_object()) << route.out << route.error;
  EXPECT_EQ(best.value("rank", 0), 1);
  EXPECT_EQ(best.value("machine", ""), "web-1");
  EXPECT_EQ(best.value("address", ""), "127.0.0.1:" + port);
}

TEST_F(SidecarProcessTest, NothingIsWrittenUntilSomethingNoticeableHappens) {
  ASSERT_NO_FATAL_FAILURE(StartSidecar());
  const int64_t before = ChangeNumber();
  const int answered = server().answered();
  // Checks every 100 ms and load every 200 ms: about 2 s, counted by what the sidecar did.
  ASSERT_TRUE(Eventually([&] { return server().answered() >= answered + 30; }, kDeadline));
  EXPECT_EQ(ChangeNumber(), before) << Logs();

  server().SetInflight(7);
  EXPECT_TRUE(Eventually([&] { return Inflight() == "7"; }, kDeadline)) << Logs();
  EXPECT_EQ(ChangeNumber(), before + 1) << Logs();
}

TEST_F(SidecarProcessTest, AServiceThatEndedIsCriticalAndGetsNoRequestsAnyMore) {
  ASSERT_NO_FATAL_FAILURE(StartSidecar());
  ASSERT_NO_FATAL_FAILURE(CloseServer());
  EXPECT_EQ(agent().QueryCell("SELECT output FROM checks"), "connection refused");
  const RunResult route = RouteOnceRefused();
  EXPECT_EQ(route.exit_code, 1);
  EXPECT_EQ(route.out, "");
  EXPECT_THAT(route.error, AllOf(HasSubstr("web-1"), HasSubstr("check critical")));
}

TEST_F(SidecarProcessTest, SigtermMarksTheMachineStoppedAndTakesItOut) {
  ASSERT_NO_FATAL_FAILURE(StartSidecar());
  sidecar().Signal(SIGTERM);
  EXPECT_EQ(sidecar().Wait(), 0) << Logs();
  EXPECT_EQ(MachineState(), "stopped");
  // Only the machine's state says so; the service and what was known of it stay.
  EXPECT_EQ(CheckStatus(), "passing");
  EXPECT_EQ(agent().QueryCell("SELECT count(*) FROM services"), "1");
  const RunResult route = RouteOnceRefused();
  EXPECT_EQ(route.exit_code, 1);
  EXPECT_THAT(route.error, AllOf(HasSubstr("web-1"), HasSubstr("is stopped")));
}

TEST_F(SidecarProcessTest, SigtermWithKeepWritesNothing) {
  ASSERT_NO_FATAL_FAILURE(StartSidecar({"--keep"}));
  const int64_t before = ChangeNumber();
  sidecar().Signal(SIGTERM);
  EXPECT_EQ(sidecar().Wait(), 0) << Logs();
  EXPECT_EQ(ChangeNumber(), before);
  EXPECT_EQ(MachineState(), "started");
  EXPECT_EQ(Route().exit_code, 0) << Logs();
}

TEST_F(SidecarProcessTest, SigtermWithoutAnAgentSaysThatTheMachineIsNotMarked) {
  ASSERT_NO_FATAL_FAILURE(StartSidecar());
  agent().Kill();
  sidecar().Signal(SIGTERM);
  EXPECT_EQ(sidecar().Wait(), 3) << Logs();
  EXPECT_THAT(Logs(), HasSubstr("machine web-1 is not marked stopped"));
}

}  // namespace
}  // namespace patina::test

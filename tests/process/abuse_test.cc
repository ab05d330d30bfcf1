#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/random.h"
#include "tests/process/fleet.h"
#include "tests/support/eventually.h"
#include "tests/support/files.h"

// Nothing that comes from outside ends a node or makes it deaf.

namespace patina::test {
namespace {

using ::testing::ElementsAre;

constexpr uint64_t kSeed = 20261121;

std::string RandomBytes(Rng& random, size_t size) {
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random.Next());
  return bytes;
}

/// Connects (UDP sockets, too) and sends; what the other side thinks of it does not matter.
void SendBytes(int type, const sockaddr* address, socklen_t size, const std::string& bytes) {
  const int handle = ::socket(address->sa_family, type | SOCK_CLOEXEC, 0);
  const bool connected = ::connect(handle, address, size) == 0;
  EXPECT_TRUE(connected || type == SOCK_DGRAM);
  if (connected) static_cast<void>(::send(handle, bytes.data(), bytes.size(), MSG_NOSIGNAL));
  ::close(handle);
}

void SendToPort(int type, int port, const std::string& bytes) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  SendBytes(type, reinterpret_cast<const sockaddr*>(&address), sizeof address, bytes);
}

void SendToUnixSocket(const std::string& path, const std::string& bytes) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ASSERT_LT(path.size(), sizeof address.sun_path);
  std::copy(path.begin(), path.end(), address.sun_path);
  SendBytes(SOCK_STREAM, reinterpret_cast<const sockaddr*>(&address), sizeof address, bytes);
}

/// Lengths that promise more than there is, or more than anyone should send.
std::vector<std::string> Garbage(Rng& random) {
  std::vector<std::string> garbage = {
      "",
      std::string(1, '\0'),
      std::string(4096, '\xff'),
      "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + std::string(64, '\xff'),
      std::string("\xff\xff\xff\x7f", 4) + "short",
      std::string("\x7f\xff\xff\xff", 4) + "short",
      std::string("\x10\x00\x00\x00", 4) + std::string(16, '\x80'),
  };
  for (const size_t size : {1u, 7u, 64u, 1'200u, 60'000u}) {
    for (int i = 0; i < 10; ++i) garbage.push_back(RandomBytes(random, size));
  }
  return garbage;
}

int64_t CounterOf(const TestAgent& agent, const std::string& name) {
  const RunResult result = RunPatina({"status", "--api", agent.api(), "--format", "json"});
  const auto status = nlohmann::json::parse(result.out, nullptr, false);
  return status.is_object() ? status["counters"].value(name, int64_t{-1}) : -1;
}

/// One app with one machine that can be used, written through this address.
void WriteRoutableApp(const std::string& api) {
  for (const char* sql : {
           "INSERT INTO apps (name) VALUES ('web')",
           "INSERT INTO machines (id, app, region, state) VALUES ('m-1', 'web', 'a', 'started')",
           "INSERT INTO services (machine, port, address) VALUES ('m-1', 80, '10.0.0.1:80')",
           "INSERT INTO checks (machine, port, name, status) VALUES ('m-1', 80, 'up', 'passing')",
       }) {
    const RunResult written = RunPatina({"exec", "--api", api, sql});
    ASSERT_EQ(written.exit_code, 0) << sql << ": " << written.error;
  }
}

TEST(AbuseProcessTest, GarbageOnEveryPortIsDroppedAndTheNodesGoOn) {
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  TestFleet fleet(2);
  Rng random(kSeed);
  const int64_t dropped_before = CounterOf(fleet[0], "net.garbage");
  ASSERT_GE(dropped_before, 0);
  const std::vector<std::string> garbage = Garbage(random);
  for (const std::string& bytes : garbage) {
    SendToPort(SOCK_DGRAM, fleet[0].gossip_port(), bytes);
    SendToPort(SOCK_STREAM, fleet[0].gossip_port(), bytes);
    SendToPort(SOCK_STREAM, fleet[0].api_port(), bytes);
    SendToUnixSocket(fleet[0].api_socket(), bytes);
  }
  ASSERT_TRUE(fleet[0].running()) << fleet[0].log();
  // Not each: short pieces of a stream are no frame yet when their sender goes away.
  EXPECT_TRUE(Eventually([&] {
    return CounterOf(fleet[0], "net.garbage") >=
           dropped_before + static_cast<int64_t>(garbage.size() / 2);
  })) << CounterOf(fleet[0], "net.garbage")
      << " of " << garbage.size();
  const RunResult written = RunPatina({"exec", "--api", "unix:" + fleet[0].api_socket().string(),
                                       "INSERT INTO apps (name) VALUES ('still here')"});
  EXPECT_EQ(written.exit_code, 0) << written.error;
  const RunResult equal = fleet.WaitEqual({"--table", "apps", "--rows", "1"});
  EXPECT_EQ(equal.exit_code, 0) << equal.error;
  EXPECT_THAT(fleet[0].AliveMembers(), ElementsAre("a-1", "b-1"));
}

TEST(AbuseProcessTest, GarbageOnAProxySinksPortIsDroppedAndItGoesOnRouting) {
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  TestFleet fleet(1);
  const int port = FreePort();
  const std::string address = "127.0.0.1:" + std::to_string(port);
  const std::string log = fleet.folder() / "sink.log";
  Process sink({"proxy-sink", "--agent", fleet[0].api(), "--region", "a", "--listen", address},
               {.out_file = log, .error_file = log});
  const auto routes = [&address](const std::string& machine) {
    const RunResult routed = RunPatina({"route", "web", "--sink", address});
    return routed.exit_code == 0 && routed.out.find(machine) != std::string::npos;
  };
  WriteRoutableApp(fleet[0].api());
  ASSERT_TRUE(Eventually([&] { return routes("m-1"); })) << ReadFile(log);
  Rng random(kSeed);
  for (const std::string& bytes : Garbage(random)) SendToPort(SOCK_STREAM, port, bytes);
  ASSERT_TRUE(sink.running()) << ReadFile(log);
  EXPECT_TRUE(routes("m-1")) << ReadFile(log);
  // News still reach its table, too.
  const RunResult moved =
      fleet[0].Exec({"UPDATE services SET address = '10.0.0.2:80' WHERE machine = 'm-1'"});
  EXPECT_EQ(moved.exit_code, 0) << moved.error;
  EXPECT_TRUE(Eventually([&] { return routes("10.0.0.2:80"); })) << ReadFile(log);
}

TEST(AbuseProcessTest, AForeignClusterIsRefused) {
  TestFleet fleet(1);
  TestAgent::Options foreign;
  foreign.cluster = "somebody-elses";
  foreign.seed = fleet[0].gossip();
  TestAgent stranger(fleet.folder(), "x-1", foreign);
  stranger.Start();
  ASSERT_EQ(stranger.Exec({"INSERT INTO apps (name) VALUES ('foreign')"}).exit_code, 0);
  // One of ours that starts later is seen: the stranger had at least as much time.
  TestAgent& friendly = fleet.Add();
  EXPECT_TRUE(Eventually([&] { return fleet[0].AliveMembers().size() == 2; }));
  EXPECT_THAT(fleet[0].AliveMembers(), ElementsAre("a-1", "b-1"));
  EXPECT_THAT(stranger.AliveMembers(), ElementsAre("x-1"));
  ASSERT_EQ(friendly.Exec({"INSERT INTO apps (name) VALUES ('ours')"}).exit_code, 0);
  EXPECT_EQ(fleet.WaitEqual({"--table", "apps", "--rows", "1"}).exit_code, 0);
  EXPECT_EQ(fleet[0].QueryCell("SELECT group_concat(name) FROM apps"), "ours");
}

TEST(AbuseProcessTest, WrongRequestsGetClearErrorsAndChangeNothing) {
  TestFleet fleet(1);
  const struct {
    std::vector<std::string> arguments;
    const char* named;  // in the error
  } cases[] = {
      {{"SELEC 1"}, "syntax error"},
      {{"INSERT INTO machinez (id) VALUES (1)"}, "machinez"},
      {{"INSERT INTO apps (name) VALUES (?1)"}, "parameter"},
      {{"INSERT INTO apps (name) VALUES (?1)", "a", "b"}, "parameter"},
      {{"INSERT INTO __patina_state VALUES (1, 2)"}, "__patina"},
      {{"DROP TABLE apps"}, "PERMISSION_DENIED"},
      {{"INSERT INTO apps (name) VALUES (NULL)"}, "apps.name"},
  };
  for (const auto& wrong : cases) {
    const RunResult result = fleet[0].Exec(wrong.arguments);
    EXPECT_EQ(result.exit_code, 1) << wrong.arguments[0];
    EXPECT_THAT(result.error, ::testing::HasSubstr(wrong.named)) << wrong.arguments[0];
  }
  EXPECT_EQ(fleet[0].QueryCell("SELECT count(*) FROM apps"), "0");
}

}  // namespace
}  // namespace patina::test

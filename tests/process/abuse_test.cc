#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "base/random.h"
#include "tests/process/fleet.h"

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
void SendBytes(int type, int port, const std::string& bytes) {
  const int handle = ::socket(AF_INET, type | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  if (::connect(handle, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) {
    static_cast<void>(::send(handle, bytes.data(), bytes.size(), MSG_NOSIGNAL));
  }
  ::close(handle);
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
  for (size_t size : {1, 7, 64, 1'200, 60'000}) {
    for (int i = 0; i < 10; ++i) garbage.push_back(RandomBytes(random, size));
  }
  return garbage;
}

TEST(AbuseProcessTest, GarbageOnEveryPortIsDroppedAndTheNodesGoOn) {
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  TestFleet fleet(2);
  Rng random(kSeed);
  for (const std::string& bytes : Garbage(random)) {
    SendBytes(SOCK_DGRAM, fleet[0].gossip_port(), bytes);
    SendBytes(SOCK_STREAM, fleet[0].gossip_port(), bytes);
    SendBytes(SOCK_STREAM, fleet[0].api_port(), bytes);
  }
  ASSERT_TRUE(fleet[0].running()) << fleet[0].log();
  const RunResult written = fleet[0].Exec({"INSERT INTO apps (name) VALUES ('still here')"});
  EXPECT_EQ(written.exit_code, 0) << written.error;
  const RunResult equal = fleet.WaitEqual({"--table", "apps", "--rows", "1"});
  EXPECT_EQ(equal.exit_code, 0) << equal.error;
  EXPECT_THAT(fleet[0].AliveMembers(), ElementsAre("a-1", "b-1"));
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

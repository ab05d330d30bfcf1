#include "agent/net.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "base/random.h"
#include "proto/peer_codec.h"
#include "tests/agent/agent_test_util.h"

namespace patina::agent {
namespace {

/// A stranger's socket.
class RawSocket {
 public:
  RawSocket(int type, const std::string& address) : socket_(::socket(AF_INET, type, 0)) {
    const Endpoint endpoint = *Endpoint::Parse(address);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(endpoint.port);
    std::memcpy(&to.sin_addr, endpoint.ip.data() + 12, 4);
    const timeval limit{10, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    connected_ = ::connect(socket_, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0;
  }
  ~RawSocket() { ::close(socket_); }
  bool connected() const { return connected_; }
  void Send(std::string_view bytes) {
    (void)!::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  /// Reads until the other end closes; false after ten seconds.
  bool IsClosed() {
    char buffer[4096];
    while (true) {
      const ssize_t size = ::recv(socket_, buffer, sizeof buffer, 0);
      if (size == 0 || (size < 0 && errno == ECONNRESET)) return true;
      if (size < 0) return false;
    }
  }

 private:
  const int socket_;
  bool connected_ = false;
};

proto::Hello StrangersHello() {
  proto::Hello hello;
  hello.cluster = "test";
  hello.name = "stranger";
  hello.boot = 5;
  hello.address = Endpoint::V4(127, 0, 0, 1, 1);
  return hello;
}

class NetTest : public ::testing::Test {
 protected:
  std::unique_ptr<TestNode> Start(const std::string& name, std::vector<std::string> seeds = {},
                                  const std::function<void(Config&)>& change = nullptr) {
    folders_.push_back(std::make_unique<TemporaryFolder>());
    Config config = TestConfig(name, folders_.back()->path());
    config.gossip.seeds = std::move(seeds);
    if (change) change(config);
    return std::make_unique<TestNode>(std::move(config));
  }
  std::vector<std::unique_ptr<TemporaryFolder>> folders_;
};

TEST_F(NetTest, GarbageDatagramsAreCountedAndNothingElseHappens) {
  const auto node = Start("a");
  RawSocket socket(SOCK_DGRAM, node->address());
  Rng rng(1);
  for (int i = 0; i < 200; ++i) {
    std::string bytes(rng.Below(1400), '\0');
    for (char& c : bytes) c = static_cast<char>(rng.Next());
    if (bytes.size() > 2 && rng.Chance(0.5)) bytes[0] = 'P', bytes[1] = 1;
    socket.Send(bytes);
  }
  EXPECT_TRUE(Eventually([&] { return node->net().stats().garbage >= 100; }));
  EXPECT_TRUE(ExecuteAndWait(node->writer(), "INSERT INTO machines(id) VALUES('m1')").ok());
}

TEST_F(NetTest, GarbageOnAStreamClosesItAndIsCounted) {
  const auto node = Start("a");
  for (const std::string& bytes : {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(8, '\0'),
                                   std::string(64, '\xff'), std::string("\x02\0\0\0\x02x", 6)}) {
    RawSocket socket(SOCK_STREAM, node->address());
    ASSERT_TRUE(socket.connected());
    socket.Send(bytes);
    EXPECT_TRUE(socket.IsClosed());
  }
  EXPECT_TRUE(Eventually([&] { return node->net().stats().garbage >= 4; }));
}

TEST_F(NetTest, GarbageAfterTheHandshakeClosesTheStream) {
  const auto node = Start("a");
  RawSocket socket(SOCK_STREAM, node->address());
  socket.Send(proto::EncodeFrame(StrangersHello()));
  socket.Send(std::string("\x05\0\0\0\x02\xff\xff\xff\xff", 9));
  EXPECT_TRUE(socket.IsClosed());
  EXPECT_TRUE(Eventually([&] { return node->net().stats().garbage >= 1; }));
}

TEST_F(NetTest, AFrameLongerThanTheLimitClosesTheStream) {
  const auto node = Start("a");
  RawSocket socket(SOCK_STREAM, node->address());
  socket.Send(proto::EncodeFrame(StrangersHello()));
  socket.Send(std::string("\xff\xff\xff\x7f\x02", 5));
  EXPECT_TRUE(socket.IsClosed());
}

TEST_F(NetTest, AForeignClusterAndAForeignProtocolAreRefused) {
  const auto node = Start("a");
  proto::Hello foreign = StrangersHello();
  foreign.cluster = "other";
  RawSocket first(SOCK_STREAM, node->address());
  first.Send(proto::EncodeFrame(foreign));
  EXPECT_TRUE(first.IsClosed());
  foreign = StrangersHello();
  foreign.protocol = foreign.protocol_min = 99;
  RawSocket second(SOCK_STREAM, node->address());
  second.Send(proto::EncodeFrame(foreign));
  EXPECT_TRUE(second.IsClosed());
  EXPECT_TRUE(Eventually([&] { return node->net().stats().refused_peers >= 2; }));
}

TEST_F(NetTest, AStreamWithoutAHandshakeIsClosedInTime) {
  const auto node = Start(
      "a", {}, [](Config& config) { config.handshake_timeout = std::chrono::milliseconds(100); });
  RawSocket socket(SOCK_STREAM, node->address());
  EXPECT_TRUE(socket.IsClosed());
}

TEST_F(NetTest, MoreConnectionsThanAllowedAreRefused) {
  const auto node = Start("a", {}, [](Config& config) { config.peer_connections_max = 2; });
  std::vector<std::unique_ptr<RawSocket>> sockets;
  sockets.reserve(4);
  for (int i = 0; i < 4; ++i) {
    sockets.push_back(std::make_unique<RawSocket>(SOCK_STREAM, node->address()));
  }
  EXPECT_TRUE(sockets.back()->IsClosed());
  EXPECT_TRUE(Eventually([&] { return node->net().stats().refused_peers >= 2; }));
}

TEST_F(NetTest, AnAddressThatIsTakenIsAnErrorThatNamesIt) {
  const auto node = Start("a");
  TemporaryFolder folder;
  Config config = TestConfig("b", folder.path());
  config.gossip.listen = config.gossip.advertise = node->address();
  const auto net = Net::Open(config, 1, {});
  ASSERT_FALSE(net.ok());
  EXPECT_NE(net.error().message.find(node->address()), std::string::npos) << net.error().message;
}

TEST_F(NetTest, InquiriesAreAnsweredAndThoseToNobodyFail) {
  const auto a = Start("a");
  const auto b = Start("b", {a->address()});
  ASSERT_TRUE(Eventually([&] { return a->Alive() == 2 && b->Alive() == 2; }));
  const auto ask = [&](const std::string& member) {
    auto answer = std::make_shared<std::promise<Result<InquiryReply>>>();
    auto future = answer->get_future();
    a->net().Ask(member, "why", std::chrono::seconds(5),
                 [answer](Result<InquiryReply> reply) { answer->set_value(std::move(reply)); });
    return future.get();
  };
  const auto reply = ask("b");
  ASSERT_TRUE(reply.ok()) << reply.error().message;
  EXPECT_EQ(reply->payload, "b heard why");
  EXPECT_EQ(ask("nobody").error().code, Errc::kUnavailable);
}

TEST_F(NetTest, ThreeNodesConvergeAlsoAfterACut) {
  const auto a = Start("a");
  const auto b = Start("b", {a->address()});
  const auto c = Start("c", {a->address()});
  TestNode* const nodes[] = {a.get(), b.get(), c.get()};
  for (TestNode* node : nodes) {
    ASSERT_TRUE(Eventually([&] { return node->Alive() == 3; })) << node->name();
  }
  int id = 0;
  const auto write_everywhere = [&] {
    for (TestNode* node : nodes) {
      for (int i = 0; i < 20; ++i) {
        const std::string sql =
            StrCat("INSERT INTO machines(id, region) VALUES('m", id++, "', '", node->name(), "')");
        ASSERT_TRUE(ExecuteAndWait(node->writer(), sql).ok());
      }
    }
  };
  const auto converged = [&] {
    return a->Received() == static_cast<uint64_t>(id) && a->Digests() == b->Digests() &&
           a->Digests() == c->Digests();
  };
  write_everywhere();
  ASSERT_TRUE(Eventually(converged));

  FaultCommand cut;
  cut.kind = FaultCommand::Kind::kCut;
  EXPECT_EQ(*c->net().Fault(cut), std::vector<std::string>{"cut *"});
  ASSERT_TRUE(Eventually([&] { return a->Alive() == 2 && c->Alive() == 1; }));
  write_everywhere();
  EXPECT_FALSE(converged());
  FaultCommand heal;
  heal.kind = FaultCommand::Kind::kHeal;
  EXPECT_TRUE(c->net().Fault(heal)->empty());
  ASSERT_TRUE(Eventually(converged));
  ASSERT_TRUE(Eventually([&] { return a->Alive() == 3 && c->Alive() == 3; }));
}

TEST_F(NetTest, ANodeThatStopsIsSeenToLeaveAndComesBack) {
  const auto a = Start("a");
  auto b = Start("b", {a->address()});
  ASSERT_TRUE(Eventually([&] { return a->Alive() == 2; }));
  b.reset();
  ASSERT_TRUE(Eventually([&] {
    for (const auto& member : a->net().Members()) {
      if (member.info.name == "b") return member.state == gossip::MemberState::kLeft;
    }
    return false;
  }));
  Config config = TestConfig("b", folders_.back()->path());
  config.gossip.seeds = {a->address()};
  b = std::make_unique<TestNode>(config);
  EXPECT_TRUE(Eventually([&] { return a->Alive() == 2 && b->Alive() == 2; }));
}

TEST_F(NetTest, FaultsAreRefusedUnlessAllowed) {
  const auto node = Start("a", {}, [](Config& config) { config.fault_injection = false; });
  EXPECT_EQ(node->net().Fault({}).error().code, Errc::kFailedPrecondition);
}

TEST_F(NetTest, ADelayedLinkStillConverges) {
  const auto a = Start("a");
  const auto b = Start("b", {a->address()});
  ASSERT_TRUE(Eventually([&] { return a->Alive() == 2 && b->Alive() == 2; }));
  FaultCommand delay;
  delay.kind = FaultCommand::Kind::kDelay;
  delay.delay_ms = 15;
  delay.peers = {"b"};
  EXPECT_EQ(*a->net().Fault(delay), std::vector<std::string>{"delay b 15 ms"});
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(
        ExecuteAndWait(a->writer(), StrCat("INSERT INTO machines(id) VALUES('d", i, "')")).ok());
  }
  EXPECT_TRUE(Eventually([&] { return b->Received() == 10; }));
}

}  // namespace
}  // namespace patina::agent

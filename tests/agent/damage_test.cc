#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <fstream>

#include "agent/agent.h"
#include "patina/v1/admin.grpc.pb.h"
#include "patina/v1/cluster.grpc.pb.h"
#include "patina/v1/state.grpc.pb.h"
#include "tests/agent/agent_test_util.h"
#include "tests/agent/client_util.h"

// An agent whose database has a damaged page: found, told, and out of service.

namespace patina::agent {
namespace {

class DamageTest : public ::testing::Test {
 protected:
  static std::unique_ptr<Agent> Start(const std::string& name, const TemporaryFolder& folder,
                                      std::vector<std::string> seeds) {
    Config config = TestConfig(name, folder.path());
    config.schema.paths = {folder.Write("schema.sql", kTestSchema)};
    config.gossip.seeds = std::move(seeds);
    config.page_check_interval = std::chrono::milliseconds(50);
    auto agent = Agent::Start(config);
    EXPECT_TRUE(agent.ok()) << (agent.ok() ? "" : agent.error().message);
    return agent.ok() ? *std::move(agent) : nullptr;
  }
  static std::shared_ptr<grpc::Channel> ChannelTo(const Agent& agent) {
    return grpc::CreateChannel(agent.api_addresses().at(0), grpc::InsecureChannelCredentials());
  }
  static grpc::Status Execute(const Agent& agent, const std::string& sql) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::ExecuteRequest request;
    request.add_statements()->set_sql(sql);
    v1::ExecuteResponse response;
    return v1::State::NewStub(ChannelTo(agent))->Execute(&context, request, &response);
  }
  static grpc::Status Query(const Agent& agent) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::QueryRequest request;
    request.mutable_statement()->set_sql("SELECT count(*) FROM machines");
    const auto state = v1::State::NewStub(ChannelTo(agent));
    const auto reader = state->Query(&context, request);
    v1::QueryResponse response;
    while (reader->Read(&response)) {
    }
    return reader->Finish();
  }
  /// The bytes of grpc.health.v1's answer, whose generated code is not at hand.
  static std::string Health(const Agent& agent) {
    grpc::GenericStub stub(ChannelTo(agent));
    grpc::ClientContext context;
    SetDeadline(context);
    const grpc::Slice empty;
    const grpc::ByteBuffer sent(&empty, 1);  // one without a slice is no message
    grpc::ByteBuffer received;
    std::promise<bool> ended;
    stub.UnaryCall(&context, "/grpc.health.v1.Health/Check", grpc::StubOptions(), &sent, &received,
                   [&ended](const grpc::Status& status) { ended.set_value(status.ok()); });
    grpc::Slice answer;
    if (!ended.get_future().get() || !received.DumpToSingleSlice(&answer).ok()) return {};
    return {reinterpret_cast<const char*>(answer.begin()), answer.size()};
  }
  static v1::Member::State StateAt(const Agent& agent, const std::string& name) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::MembersResponse response;
    EXPECT_TRUE(v1::Cluster::NewStub(ChannelTo(agent))
                    ->Members(&context, v1::MembersRequest(), &response)
                    .ok());
    for (const v1::Member& member : response.members()) {
      if (member.name() == name) return member.state();
    }
    return v1::Member::STATE_UNSPECIFIED;
  }

  static constexpr const char* kServing = "\x08\x01";
  static constexpr const char* kNotServing = "\x08\x02";
};

TEST_F(DamageTest, ADamagedPageIsFoundAndTakesTheNodeOutOfService) {
  const TemporaryFolder folder_a, folder_b;
  {
    const auto a = Start("a", folder_a, {});
    ASSERT_NE(a, nullptr);
    ASSERT_TRUE(Execute(*a,
                        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE "
                        "i < 3000) INSERT INTO machines (id) SELECT 'm' || i FROM n")
                    .ok());
    a->Stop();
  }
  const auto a = Start("a", folder_a, {});
  ASSERT_NE(a, nullptr);
  const auto b = Start("b", folder_b, {a->gossip_address()});
  ASSERT_NE(b, nullptr);
  ASSERT_TRUE(Eventually([&] { return StateAt(*b, "a") == v1::Member::STATE_ALIVE; }));
  EXPECT_EQ(Health(*a), kServing);
  EXPECT_TRUE(Query(*a).ok());
  EXPECT_TRUE(Eventually([&] { return CounterOf(*a, "pages.rounds") > 0u; }));

  {
    std::fstream file(folder_a.File("patina.db"), std::ios::in | std::ios::out | std::ios::binary);
    for (int page = 10; page < 40; ++page) file.seekp(page * 4096).put('\x7f');
    ASSERT_TRUE(file.good());
  }

  EXPECT_TRUE(Eventually([&] { return Health(*a) == kNotServing; }));
  EXPECT_EQ(Query(*a).error_code(), grpc::StatusCode::DATA_LOSS);
  const grpc::Status refused = Execute(*a, "INSERT INTO machines (id) VALUES ('new')");
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_NE(refused.error_message().find("patina reseed"), std::string::npos);
  EXPECT_TRUE(Eventually([&] { return StateAt(*b, "a") == v1::Member::STATE_LEFT; }));
  const v1::StatusResponse status = StatusOf(*a);  // who is out of service still says why
  ASSERT_EQ(status.troubles_size(), 1);
  EXPECT_NE(status.troubles(0).find("is damaged"), std::string::npos);
  EXPECT_TRUE(Query(*b).ok());
}

}  // namespace
}  // namespace patina::agent

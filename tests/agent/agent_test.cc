#include "agent/agent.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "patina/v1/admin.grpc.pb.h"
#include "patina/v1/state.grpc.pb.h"
#include "tests/agent/agent_test_util.h"
#include "tests/agent/client_util.h"
#include "tests/support/files.h"

namespace patina::agent {
namespace {

class AgentTest : public ::testing::Test {
 protected:
  std::unique_ptr<Agent> StartAgent(const std::string& name, std::vector<std::string> seeds = {}) {
    folders_.push_back(std::make_unique<TemporaryFolder>());
    return StartIn(name, folders_.back()->path(), std::move(seeds));
  }
  std::unique_ptr<Agent> StartIn(const std::string& name, const std::string& folder,
                                 std::vector<std::string> seeds) {
    auto agent = Agent::Start(ConfigIn(name, folder, std::move(seeds)));
    EXPECT_TRUE(agent.ok()) << (agent.ok() ? "" : agent.error().message);
    return agent.ok() ? *std::move(agent) : nullptr;
  }
  static Config ConfigIn(const std::string& name, const std::string& folder,
                         std::vector<std::string> seeds) {
    test::WriteFile(folder + "/schema.sql", kTestSchema);
    Config config = TestConfig(name, folder);
    config.schema.paths = {folder + "/schema.sql"};
    config.gossip.seeds = std::move(seeds);
    return config;
  }

  static std::unique_ptr<v1::State::Stub> StateOf(const Agent& agent) {
    return v1::State::NewStub(
        grpc::CreateChannel(agent.api_addresses().at(0), grpc::InsecureChannelCredentials()));
  }
  static grpc::Status Execute(v1::State::Stub& state, const std::string& sql) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    v1::ExecuteRequest request;
    request.add_statements()->set_sql(sql);
    v1::ExecuteResponse response;
    return state.Execute(&context, request, &response);
  }
  static int64_t CountRows(v1::State::Stub& state) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    v1::QueryRequest request;
    request.mutable_statement()->set_sql("SELECT count(*) FROM machines");
    auto reader = state.Query(&context, request);
    v1::QueryResponse response;
    int64_t count = -1;
    while (reader->Read(&response)) {
      if (response.rows_size() > 0) count = response.rows(0).values(0).integer();
    }
    return reader->Finish().ok() ? count : -1;
  }
  /// Holds a reader until it goes. what: "count(*)", or what would be answered without an end.
  class EndlessQuery {
   public:
    explicit EndlessQuery(const Agent& agent, const std::string& what = "count(*)",
                          uint32_t deadline_ms = 120'000)
        : state_(StateOf(agent)) {
      v1::QueryRequest request;
      request.mutable_statement()->set_sql(
          "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT " + what +
          " FROM n");
      request.set_deadline_ms(deadline_ms);
      reader_ = state_->Query(&context_, request);
    }
    ~EndlessQuery() {
      Cancel();
      if (!finished_) (void)Finish();
    }
    void Cancel() { context_.TryCancel(); }
    /// Drops what comes; how it ended.
    grpc::Status Finish() {
      finished_ = true;
      v1::QueryResponse response;
      while (reader_->Read(&response)) continue;
      return reader_->Finish();
    }

   private:
    bool finished_ = false;
    const std::unique_ptr<v1::State::Stub> state_;
    grpc::ClientContext context_;
    std::unique_ptr<grpc::ClientReader<v1::QueryResponse>> reader_;
  };
  static v1::VerifyResponse Verify(const Agent& agent) {
    auto admin = v1::Admin::NewStub(
        grpc::CreateChannel(agent.api_addresses().at(0), grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    v1::VerifyResponse response;
    EXPECT_TRUE(admin->Verify(&context, v1::VerifyRequest(), &response).ok());
    return response;
  }

  std::vector<std::unique_ptr<TemporaryFolder>> folders_;
};

TEST_F(AgentTest, ThreeAgentsConvergeAndVerifyEqual) {
  const auto a = StartAgent("a");
  ASSERT_NE(a, nullptr);
  const auto b = StartAgent("b", {a->gossip_address()});
  const auto c = StartAgent("c", {a->gossip_address()});
  ASSERT_TRUE(b && c);
  const auto at_a = StateOf(*a), at_b = StateOf(*b), at_c = StateOf(*c);
  for (int i = 0; i < 30; ++i) {
    auto& state = *(i % 3 == 0 ? at_a : i % 3 == 1 ? at_b : at_c);
    const grpc::Status status =
        Execute(state, StrCat("INSERT INTO machines(id) VALUES('m", i, "')"));
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  EXPECT_TRUE(Eventually(
      [&] { return CountRows(*at_a) == 30 && CountRows(*at_b) == 30 && CountRows(*at_c) == 30; }));
  EXPECT_TRUE(Eventually([&] {
    const auto response = Verify(*b);
    return response.equal() && response.nodes_size() == 3;
  }));
}

TEST_F(AgentTest, QueriesThatHoldAllReadersDoNotKeepPeersFromRepair) {
  const auto a = StartAgent("a");
  ASSERT_NE(a, nullptr);
  ASSERT_TRUE(Execute(*StateOf(*a), "INSERT INTO machines(id) VALUES('m1')").ok());
  EndlessQuery running(*a), waiting(*a);  // TestConfig gives clients one reader
  ASSERT_TRUE(Eventually([&] { return CounterOf(*a, "readers.queued") == 1; }));
  const auto b = StartAgent("b", {a->gossip_address()});
  ASSERT_NE(b, nullptr);
  const auto at_b = StateOf(*b);
  EXPECT_TRUE(Eventually([&] { return CountRows(*at_b) == 1; }));
  EXPECT_EQ(CounterOf(*a, "readers.queued"), 1);
}

TEST_F(AgentTest, AQueryEndsAtOnceWhenItsClientGoesRunningOrWaiting) {
  const auto agent = StartAgent("a");
  ASSERT_NE(agent, nullptr);
  EndlessQuery running(*agent), waiting(*agent);
  ASSERT_TRUE(Eventually([&] { return CounterOf(*agent, "readers.queued") == 1; }));
  waiting.Cancel();
  EXPECT_TRUE(Eventually([&] { return CounterOf(*agent, "api.streams") == 1; }))
      << "although no reader has come to it";
  running.Cancel();
  EXPECT_TRUE(Eventually([&] { return CounterOf(*agent, "snapshots.open") == 0; }));
  EXPECT_EQ(CountRows(*StateOf(*agent)), 0) << "the reader is free";
}

TEST_F(AgentTest, AQuerysDeadlineCountsItsWaitForAReader) {
  const auto agent = StartAgent("a");
  ASSERT_NE(agent, nullptr);
  EndlessQuery running(*agent);
  ASSERT_TRUE(Eventually([&] { return CounterOf(*agent, "snapshots.open") == 1; }));
  EndlessQuery waiting(*agent, "count(*)", 50);
  const grpc::Status late = waiting.Finish();
  EXPECT_EQ(late.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_NE(late.error_message().find("limits.readers"), std::string::npos) << late.error_message();
  EndlessQuery after(*agent);
  running.Cancel();
  EXPECT_TRUE(Eventually([&] { return CounterOf(*agent, "readers.queued") == 0; }));
}

TEST_F(AgentTest, AClientThatDoesNotReadHoldsNothingBeyondTheDeadline) {
  const auto agent = StartAgent("a");
  ASSERT_NE(agent, nullptr);
  const EndlessQuery unread(*agent, "hex(zeroblob(50000))", 300);
  ASSERT_TRUE(Eventually([&] { return CounterOf(*agent, "api.streams") == 1; }));
  EXPECT_TRUE(Eventually([&] {
    return CounterOf(*agent, "api.streams") == 0 && CounterOf(*agent, "snapshots.open") == 0;
  }));
  EXPECT_EQ(CountRows(*StateOf(*agent)), 0);
}

TEST_F(AgentTest, AQueryThatKeepsTheWriteAheadLogTooLargeIsEndedAndSaysWhy) {
  TemporaryFolder folder;
  Config config = ConfigIn("a", folder.path(), {});
  config.store.wal_bytes_max = 4u << 20;
  auto agent = *Agent::Start(config);
  EndlessQuery running(*agent), waiting(*agent);
  ASSERT_TRUE(Eventually([&] { return CounterOf(*agent, "snapshots.open") == 1; }));
  const auto state = StateOf(*agent);
  for (int i = 0; i < 100 && CounterOf(*agent, "snapshots.ended") == 0; ++i) {
    ASSERT_TRUE(Execute(*state, StrCat("INSERT INTO machines(id, region) VALUES('m", i,
                                       "', hex(zeroblob(50000)))"))
                    .ok());
  }
  const grpc::Status ended = running.Finish();
  EXPECT_EQ(ended.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_NE(ended.error_message().find("limits.wal_bytes_max = 4194304"), std::string::npos)
      << ended.error_message();
  EXPECT_LE(CounterOf(*agent, "store.wal_bytes").value(), 4u << 20);
  EXPECT_TRUE(Execute(*state, "DELETE FROM machines").ok());
}

TEST_F(AgentTest, WhatWasWrittenIsThereAfterARestart) {
  auto agent = StartAgent("a");
  ASSERT_NE(agent, nullptr);
  ASSERT_TRUE(Execute(*StateOf(*agent), "INSERT INTO machines(id) VALUES('m1')").ok());
  agent->Stop();
  agent.reset();
  agent = StartIn("a", folders_.back()->path(), {});
  ASSERT_NE(agent, nullptr);
  EXPECT_EQ(CountRows(*StateOf(*agent)), 1);
}

TEST_F(AgentTest, TwoAgentsDoNotShareAFolder) {
  const auto agent = StartAgent("a");
  ASSERT_NE(agent, nullptr);
  const auto second = Agent::Start(ConfigIn("b", folders_.back()->path(), {}));
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.error().message.find("in use by another agent"), std::string::npos)
      << second.error().message;
}

TEST_F(AgentTest, RequestStopWakesWhoeverWaitsForTheEnd) {
  const auto agent = StartAgent("a");
  ASSERT_NE(agent, nullptr);
  auto ended = std::async(std::launch::async, [&] { return agent->WaitForFatal(); });
  agent->RequestStop();
  EXPECT_TRUE(ended.get().ok());
}

TEST_F(AgentTest, TheWatchdogEndsAProcessWhoseWriterIsStuck) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // started anew: there are threads already
  TemporaryFolder folder;
  Config config = ConfigIn("a", folder.path(), {});
  config.watchdog_timeout = std::chrono::seconds(1);
  config.store.transaction_deadline = std::chrono::seconds(1);
  // One step of SQLite's machine, which no deadline ends: some hours of comparing.
  EXPECT_DEATH(
      {
        auto agent = Agent::Start(config);
        (void)Execute(*StateOf(**agent),
                      "INSERT INTO machines(id) SELECT instr(hex(zeroblob(20000000)), "
                      "hex(zeroblob(1000000)) || '1')");
      },
      "the writer thread has not come round .*limits.watchdog_timeout_ms");
}

TEST_F(AgentTest, AStatementIsEndedByItsDeadlineAndNotByTheWatchdog) {
  TemporaryFolder folder;
  Config config = ConfigIn("a", folder.path(), {});
  config.watchdog_timeout = std::chrono::seconds(1);
  config.store.transaction_deadline = std::chrono::seconds(4);
  const auto agent = *Agent::Start(config);
  const auto state = StateOf(*agent);
  // Steps so long that a few thousand of them take longer than the watchdog waits.
  const grpc::Status late =
      Execute(*state,
              "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
              "INSERT INTO machines(id) SELECT sum(length(hex(zeroblob(5000000)))) FROM n");
  EXPECT_EQ(late.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED) << late.error_message();
  EXPECT_NE(late.error_message().find("transaction_deadline_ms"), std::string::npos);
  EXPECT_TRUE(Execute(*state, "INSERT INTO machines(id) VALUES('m1')").ok());
}

TEST_F(AgentTest, AMissingSchemaIsAnErrorAndLeavesNothingRunning) {
  TemporaryFolder folder;
  Config config = TestConfig("a", folder.path());
  config.schema.paths = {folder.File("nothing.sql")};
  EXPECT_FALSE(Agent::Start(config).ok());
}

}  // namespace
}  // namespace patina::agent

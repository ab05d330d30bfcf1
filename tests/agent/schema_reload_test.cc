#include "agent/schema_reload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <mutex>
#include <thread>

#include "agent/subscriptions.h"
#include "tests/agent/agent_test_util.h"

// Another schema for a writer that is busy, with a live query beside it.

namespace patina::agent {
namespace {

using ::testing::HasSubstr;

class Listener final : public subscribe::Subscriber {
 public:
  void OnEvents(subscribe::EventBatch batch) override {
    const std::lock_guard lock(mutex_);
    for (const subscribe::Event& event : *batch) {
      if (event.kind == subscribe::EventKind::kReset) told_ += "reset: " + event.reason + "\n";
      if (event.kind == subscribe::EventKind::kError) told_ += "error: " + event.reason + "\n";
    }
  }
  std::string told() const {
    const std::lock_guard lock(mutex_);
    return told_;
  }

 private:
  mutable std::mutex mutex_;
  std::string told_;
};

class SchemaReloadTest : public ::testing::Test {
 protected:
  void SetUp() override {
    config_ = TestConfig("a", folder_.path());
    auto store = OpenStore(config_, &clock_);
    const storage::Schema schema = store->schema();
    writer_ = std::make_unique<Writer>(config_, std::move(store));
    Writer::Listeners listeners;
    listeners.on_commit = [this](const auto& effects) { subscriptions_->OnCommit(effects); };
    auto subscriptions = Subscriptions::Start(config_, schema, DatabasePath(config_), &*writer_);
    ASSERT_TRUE(subscriptions.ok());
    subscriptions_ = *std::move(subscriptions);
    writer_->Start(std::move(listeners));
    config_.schema.paths = {folder_.path()};
  }
  void TearDown() override {
    subscriptions_->Stop();
    writer_->Stop();
  }

  Result<storage::SchemaOutcome> Reload(const std::string& sql, bool allow_destructive = false,
                                        const std::string& toml = {}) {
    folder_.Write("schema.sql", sql);
    folder_.Write("tables.toml", toml);
    auto answer = std::make_shared<std::promise<Result<storage::SchemaOutcome>>>();
    auto future = answer->get_future();
    ReloadSchema(config_, *writer_, allow_destructive,
                 [answer](auto outcome) { answer->set_value(std::move(outcome)); });
    return future.get();
  }

  void Subscribe(const std::string& sql, Listener* listener) {
    subscribe::SubscribeRequest request;
    request.statement.sql = sql;
    std::promise<bool> done;
    subscriptions_->Subscribe(request, listener,
                              [&done](const auto& id) { done.set_value(id.ok()); });
    ASSERT_TRUE(done.get_future().get());
  }

  const TemporaryFolder folder_;
  const SystemClock clock_;
  Config config_;
  std::unique_ptr<Writer> writer_;
  std::unique_ptr<Subscriptions> subscriptions_;
};

const std::string kIndexed =
    std::string(kTestSchema) + "CREATE INDEX by_region ON machines (region);";
constexpr const char* kWithoutCpu =
    "CREATE TABLE machines (id TEXT NOT NULL PRIMARY KEY, region TEXT NOT NULL DEFAULT '');";

TEST_F(SchemaReloadTest, UnderLoadNoWriteFailsAndLiveQueriesAreTold) {
  Listener all, cpu, region;
  Subscribe("SELECT * FROM machines", &all);
  Subscribe("SELECT id FROM machines WHERE cpu > 3", &cpu);
  Subscribe("SELECT id FROM machines WHERE region = 'fra'", &region);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> written{0}, failed{0};
  std::thread client([&] {
    for (uint64_t i = 0; !stop; ++i) {
      const auto done = ExecuteAndWait(*writer_, "INSERT INTO machines (id, region) VALUES ('m" +
                                                     std::to_string(i) + "', 'fra')");
      ++(done.ok() ? written : failed);
    }
  });
  const auto busy = [&] {
    const uint64_t before = written;
    return Eventually([&] { return written > before + 20; });
  };
  EXPECT_TRUE(busy());
  const auto indexed = Reload(kIndexed);
  EXPECT_TRUE(indexed.ok()) << indexed.error().message;
  EXPECT_GT(indexed->took, Duration::zero());
  EXPECT_TRUE(busy());
  EXPECT_EQ(all.told() + cpu.told() + region.told(), "") << "an index changes no answer";
  const auto dropped = Reload(kWithoutCpu, true, "[machines]\ndropped = [\"cpu\"]");
  EXPECT_TRUE(dropped.ok()) << dropped.error().message;
  EXPECT_TRUE(busy());
  stop = true;
  client.join();
  EXPECT_EQ(failed, 0u);
  EXPECT_TRUE(Eventually([&] { return !all.told().empty() && !cpu.told().empty(); }));
  EXPECT_THAT(all.told(), HasSubstr("reset: the schema was changed"));
  EXPECT_THAT(cpu.told(), HasSubstr("error: the schema was changed: no such column: cpu"));
  EXPECT_EQ(region.told(), "");
  uint64_t rows = 0;
  writer_->RunAndWait([&](storage::Store& store) { rows = store.Digests()[0].rows; });
  EXPECT_EQ(rows, written);
}

TEST_F(SchemaReloadTest, WhatIsRefusedChangesNothingAndSaysWhy) {
  EXPECT_THAT(Reload("CREATE TABLE machines (id TEXT PRIMARY KEY)").error().message,
              HasSubstr("schema.sql:1: table machines, key column id: may be NULL"));
  EXPECT_THAT(Reload(kWithoutCpu).error().message, HasSubstr("[machines] dropped = [\"cpu\"]"));
  EXPECT_THAT(Reload(kWithoutCpu, false, "[machines]\ndropped = [\"cpu\"]").error().message,
              HasSubstr("--allow-destructive"));
  EXPECT_TRUE(ExecuteAndWait(*writer_, "INSERT INTO machines VALUES ('m', 'fra', 1)").ok());
}

}  // namespace
}  // namespace patina::agent

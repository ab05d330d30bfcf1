#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>

#include "tools/sidecar_load.h"
#include "tools/sidecar_service.h"
#include "tools/sidecar_writer.h"

namespace patina::tools {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

constexpr const char* kMinimal =
    "machine = \"web-ams-1\"\napp = \"web\"\nhost = \"ams-1\"\nregion = \"ams\"\n"
    "address = \"10.0.0.1:8080\"\n";

ServiceFile Minimal() { return *ParseServiceFile(kMinimal, "web.toml"); }

TEST(ServiceFileTest, MinimalFileGetsDefaults) {
  const auto file = ParseServiceFile(kMinimal, "web.toml");
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->machine, "web-ams-1");
  EXPECT_EQ(file->port, 8080);
  EXPECT_EQ(file->soft_limit, 20);
  EXPECT_EQ(file->check.address, "10.0.0.1:8080");
  EXPECT_EQ(file->check.interval_ms, 1000);
}

TEST(ServiceFileTest, EverythingCanBeSaid) {
  const auto file = ParseServiceFile(
      std::string(kMinimal) +
          "organization = \"acme\"\nport = 80\nprotocol = \"tcp\"\nsoft_limit = 5\nhard_limit = 9\n"
          "[check]\nname = \"up\"\npath = \"/health\"\ninterval_ms = 50\ntimeout_ms = 20\n"
          "healthy_after = 2\nunhealthy_after = 3\naddress = \"127.0.0.1:81\"\n"
          "[load]\npid_file = \"/run/nginx.pid\"\nstub_status = \"http://127.0.0.1:81/status\"\n"
          "cpu_cores = 0.1\nmemory_percent = 7\n",
      "web.toml");
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->port, 80);
  EXPECT_EQ(file->check.unhealthy_after, 3);
  EXPECT_EQ(file->check.address, "127.0.0.1:81");
  EXPECT_DOUBLE_EQ(file->load.cpu_cores, 0.1);
  EXPECT_DOUBLE_EQ(file->load.memory_percent, 7);
}

TEST(ServiceFileTest, ErrorsNameFileAndLine) {
  const std::pair<std::string, const char*> cases[] = {
      {"machine = \"m\"\n", "web.toml: needs app"},
      {std::string(kMinimal) + "colour = 1\n", "web.toml:6: unknown key colour"},
      {std::string(kMinimal) + "port = 0\n", "web.toml:6: port must be 1 to 65535"},
      {std::string(kMinimal) + "[check]\ninterval = 1\n", "web.toml:7: unknown key interval"},
      {std::string(kMinimal) + "[load]\ninterval_ms = 9\n", "web.toml:7: interval_ms must be 200"},
      {std::string(kMinimal) + "[check]\npath = \"x\"\n", "web.toml:7: path must begin with /"},
      {"machine = \"m\"\napp = \"a\"\nhost = \"h\"\nregion = \"r\"\naddress = \"x\"\n",
       "web.toml:5: address must be host:port"},
  };
  for (const auto& [text, message] : cases) {
    const auto file = ParseServiceFile(text, "web.toml");
    ASSERT_FALSE(file.ok()) << text;
    EXPECT_THAT(file.error().message, HasSubstr(message)) << text;
  }
}

TEST(ServiceFileTest, HostAndPort) {
  std::string host;
  int port = 0;
  EXPECT_TRUE(SplitHostPort("[fdaa::1]:80", &host, &port));
  EXPECT_EQ(host, "fdaa::1");
  EXPECT_TRUE(SplitHostPort("localhost:1", &host, &port));
  for (const char* bad : {"", "x", ":80", "x:", "x:0", "x:65536", "fdaa::1:80", "[]:1", "x:1y"}) {
    EXPECT_FALSE(SplitHostPort(bad, &host, &port)) << bad;
  }
}

TEST(DesiredRowTest, TheUpsertWritesTheTimeOnlyTogetherWithAChange) {
  const SqlWrite write = CheckRow(Minimal(), "critical", "connection refused", 77).ToSql();
  EXPECT_EQ(write.sql,
            "INSERT INTO checks (machine, port, name, status, output, updated_ms) VALUES "
            "(?, ?, ?, ?, ?, ?) ON CONFLICT (machine, port, name) DO UPDATE SET "
            "status = excluded.status, output = excluded.output, updated_ms = excluded.updated_ms "
            "WHERE checks.status IS NOT excluded.status OR checks.output IS NOT excluded.output");
  ASSERT_THAT(write.parameters, SizeIs(6));
  EXPECT_EQ(write.parameters[5], crdt::Value::Integer(77));
}

TEST(DesiredRowTest, RegisteringLeavesOthersColumnsAlone) {
  EXPECT_THAT(MachineRow(Minimal(), "started", 1).ToSql().sql, Not(HasSubstr("desired_state")));
  EXPECT_THAT(OwnerRows(Minimal()), IsEmpty());
  ServiceFile file = Minimal();
  file.organization = "acme";
  ASSERT_THAT(OwnerRows(file), SizeIs(2));
  EXPECT_THAT(OwnerRows(file)[1].ToSql().sql,
              AllOf(HasSubstr("INSERT INTO apps"), HasSubstr("DO NOTHING")));
}

TEST(CheckStateTest, FlipsAfterEnoughProbesInARow) {
  CheckState state(2, 3);
  EXPECT_EQ(state.status(), "unknown");
  EXPECT_FALSE(state.Update(true));
  EXPECT_TRUE(state.Update(true));
  EXPECT_EQ(state.status(), "passing");
  for (const bool good : {false, false, true, false, false}) EXPECT_FALSE(state.Update(good));
  EXPECT_TRUE(state.Update(false));
  EXPECT_EQ(state.status(), "critical");
  EXPECT_FALSE(state.Update(false));
}

TEST(NewsTest, OnlyWhatChangedNoticeablyIsNews) {
  const ServiceFile::Load rule;
  EXPECT_FALSE(CpuIsNews(rule, 0.0, 0.05));
  EXPECT_TRUE(CpuIsNews(rule, 0.0, 0.06));
  EXPECT_FALSE(CpuIsNews(rule, 2.0, 2.3));
  EXPECT_TRUE(CpuIsNews(rule, 2.0, 2.5));
  EXPECT_TRUE(CpuIsNews(rule, 2.0, 1.5));
  EXPECT_FALSE(MemoryIsNews(rule, 10, 11));
  EXPECT_TRUE(MemoryIsNews(rule, 10, 12));
  EXPECT_FALSE(MemoryIsNews(rule, 1000, 1050));
  EXPECT_TRUE(MemoryIsNews(rule, 1000, 1051));
}

TEST(NewsTest, CrossingALimitIsNewsHoweverSmallTheStep) {
  ServiceFile file = Minimal();
  file.soft_limit = 20;
  file.hard_limit = 25;
  EXPECT_FALSE(InflightIsNews(file, 10, 12));
  EXPECT_TRUE(InflightIsNews(file, 10, 13));
  EXPECT_FALSE(InflightIsNews(file, 0, 1));
  EXPECT_TRUE(InflightIsNews(file, 19, 20));
  EXPECT_TRUE(InflightIsNews(file, 20, 19));
  EXPECT_TRUE(InflightIsNews(file, 24, 25));
}

TEST(ProcTest, OddNamesDoNotShiftTheFields) {
  const auto use = ParseProcStat(
      "12 (a) b) (c) S 7 1 1 0 -1 4194304 100 0 0 0 30 12 0 0 20 0 1 0 100 1000000 50 1844674");
  ASSERT_TRUE(use.has_value());
  EXPECT_EQ(use->parent, 7);
  EXPECT_EQ(use->cpu_ticks, 42u);
  EXPECT_EQ(use->memory_bytes, 50u * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)));
  for (const char* bad : {"", "12", "12 (x)", "12 (x) S 1 2 3", "12 (x) S a b c d e f g h i j k"}) {
    EXPECT_FALSE(ParseProcStat(bad).has_value()) << bad;
  }
}

TEST(ProcTest, ReadsThisProcess) {
  const auto tree = ReadProcessTree(::getpid());
  ASSERT_TRUE(tree.contains(::getpid()));
  EXPECT_GT(tree.at(::getpid()).memory_bytes, 1u << 20);
  EXPECT_EQ(tree.at(::getpid()).parent, ::getppid());
  EXPECT_THAT(ReadProcessTree(0x3fffffff), IsEmpty());
}

TEST(CpuMeterTest, SumsProcessesThatComeAndGo) {
  const Instant start{};
  const auto at = [&](int ms) { return start + std::chrono::milliseconds(ms); };
  CpuMeter meter(100);
  EXPECT_EQ(meter.Sample({{1, {.cpu_ticks = 5000}}}, at(0)), std::nullopt);
  EXPECT_DOUBLE_EQ(*meter.Sample({{1, {.cpu_ticks = 5025}}}, at(500)), 0.5);
  // A worker with a past of its own appears: its past is not counted.
  const auto two = [](uint64_t a, uint64_t b) {
    return std::map<int, ProcessUse>{{1, {.cpu_ticks = a}}, {2, {.cpu_ticks = b}}};
  };
  EXPECT_DOUBLE_EQ(*meter.Sample(two(5050, 900), at(1000)), 0.5);
  EXPECT_DOUBLE_EQ(*meter.Sample(two(5050, 975), at(1500)), 1.0);
  // It goes again, and the sum does not fall below zero.
  EXPECT_DOUBLE_EQ(*meter.Sample({{1, {.cpu_ticks = 5050}}}, at(2000)), 0.75);
  EXPECT_DOUBLE_EQ(*meter.Sample({{1, {.cpu_ticks = 5050}}}, at(3000)), 0);
}

TEST(StubStatusTest, CountsAllRequestsButOurs) {
  EXPECT_EQ(ParseStubStatus("Active connections: 43 \nserver accepts handled requests\n 16 16 18 \n"
                            "Reading: 2 Writing: 5 Waiting: 36 \n"),
            6);
  EXPECT_EQ(ParseStubStatus("Reading: 0 Writing: 0 Waiting: 0"), 0);
  EXPECT_EQ(ParseStubStatus("<html>404</html>"), std::nullopt);
}

/// Keeps the writes; fails as long as it is told to.
class FakeTarget final : public RowTarget {
 public:
  struct State {
    std::mutex mutex;
    std::vector<std::vector<SqlWrite>> writes;
    bool down = false, connected = true;
    std::string actor = "actor-1";
    int attempts = 0, polls_in_vain = 0;
  };
  explicit FakeTarget(std::shared_ptr<State> state) : state_(std::move(state)) {}
  Result<std::string> Write(const std::vector<SqlWrite>& writes) override {
    std::lock_guard<std::mutex> lock(state_->mutex);
    ++state_->attempts;
    if (state_->down) return Unavailable("down");
    state_->writes.push_back(writes);
    return state_->actor;
  }
  bool Connected() override {
    std::lock_guard<std::mutex> lock(state_->mutex);
    if (!state_->connected) ++state_->polls_in_vain;
    return state_->connected;
  }

 private:
  const std::shared_ptr<State> state_;
};

class RowWriterTest : public testing::Test {
 protected:
  RowWriterTest()
      : writer_(std::make_unique<FakeTarget>(state_), [](const std::string&) {},
                {.backoff_min = std::chrono::milliseconds(1),
                 .backoff_max = std::chrono::milliseconds(2),
                 .connection_poll = std::chrono::milliseconds(1)}) {}

  bool Flush() { return writer_.Flush(std::chrono::seconds(20)); }
  size_t WriteCount() {
    std::lock_guard<std::mutex> lock(state_->mutex);
    return state_->writes.size();
  }
  template <class Condition>
  void Await(Condition condition) {
    for (;;) {
      {
        std::lock_guard<std::mutex> lock(state_->mutex);
        if (condition()) return;
      }
      std::this_thread::yield();
    }
  }

  const std::shared_ptr<FakeTarget::State> state_ = std::make_shared<FakeTarget::State>();
  RowWriter writer_;
};

TEST_F(RowWriterTest, EqualRowsAreWrittenOnce) {
  writer_.Set({CheckRow(Minimal(), "passing", "ok", 1)});
  ASSERT_TRUE(Flush());
  writer_.Set({CheckRow(Minimal(), "passing", "ok", 2)});
  ASSERT_TRUE(Flush());
  EXPECT_EQ(WriteCount(), 1u);
  writer_.Set({CheckRow(Minimal(), "critical", "no", 3)});
  ASSERT_TRUE(Flush());
  EXPECT_EQ(WriteCount(), 2u);
}

TEST_F(RowWriterTest, OnlyTheNewestStateIsSentWhenTheAgentIsBack) {
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->down = true;
  }
  writer_.Set({CheckRow(Minimal(), "passing", "ok", 1)});
  Await([&] { return state_->attempts > 0; });
  writer_.Set({CheckRow(Minimal(), "critical", "no", 2)});
  writer_.Set({CheckRow(Minimal(), "passing", "again", 3)});
  EXPECT_FALSE(writer_.Flush(Duration::zero()));
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->down = false;
  }
  ASSERT_TRUE(Flush());
  ASSERT_EQ(WriteCount(), 1u);
  ASSERT_THAT(state_->writes[0], SizeIs(1));
  EXPECT_EQ(state_->writes[0][0].parameters[4], crdt::Value::Text("again"));
}

TEST_F(RowWriterTest, ANewActorIsSentEverything) {
  writer_.Set({ServiceRow(Minimal()), CheckRow(Minimal(), "passing", "ok", 1)});
  ASSERT_TRUE(Flush());
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->actor = "actor-2";
  }
  writer_.Set({CheckRow(Minimal(), "critical", "no", 2)});
  ASSERT_TRUE(Flush());
  ASSERT_EQ(WriteCount(), 3u);
  EXPECT_THAT(state_->writes[2][0].sql, HasSubstr("INSERT INTO services"));
}

TEST_F(RowWriterTest, AfterALostConnectionEverythingIsSentOnceMore) {
  writer_.Set({ServiceRow(Minimal())});
  ASSERT_TRUE(Flush());
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->connected = false;
  }
  Await([&] { return state_->polls_in_vain >= 2; });
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->connected = true;
  }
  Await([&] { return state_->writes.size() == 2; });
}

}  // namespace
}  // namespace patina::tools

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tests/process/fleet.h"
#include "tests/support/eventually.h"
#include "tests/support/temporary_folder.h"

// Whole files between agents: who stayed away beyond the horizon, and who is new.

namespace patina::test {
namespace {

const char* const kInsert = "INSERT INTO apps (name, organization) VALUES (?1, ?2)";
const char* const kRest =
    "publish_interval_ms = 200\nforget_after_ms = 1000\n"
    "dead_probe_interval_ms = 200\nsuspicion_ms_min = 500\nprobe_interval_ms = 200\n"
    "snapshot_rows_min = 1000\n";

const std::string kShortHour = std::string("collect_after_ms = 6000\n") + kRest;
const std::string kLongHour = std::string("collect_after_ms = 600000\n") + kRest;

class Fleet {
 public:
  TestAgent& Add(const std::string& name, const std::string& limits = kShortHour) {
    TestAgent::Options options;
    options.fault_injection = true;
    options.limits = limits;
    if (!agents_.empty()) options.seed = agents_.front()->gossip();
    agents_.push_back(std::make_unique<TestAgent>(folder_.path(), name, options));
    agents_.back()->Start();
    return *agents_.back();
  }

 private:
  const TemporaryFolder folder_;
  std::vector<std::unique_ptr<TestAgent>> agents_;
};

std::string Count(const TestAgent& agent, const std::string& app) {
  return agent.QueryCell("SELECT count(*) FROM apps WHERE name = '" + app + "'");
}

/// 0 also while nobody answers.
int64_t InCollection(const TestAgent& agent, const std::string& name) {
  return agent.Status().value("collection", nlohmann::json::object()).value(name, int64_t{0});
}

int64_t HorizonNs(const TestAgent& agent) { return InCollection(agent, "horizon_ns"); }

uint64_t Counter(const TestAgent& agent, const std::string& name) {
  return agent.Status().value("counters", nlohmann::json::object()).value(name, uint64_t{0});
}

bool EventuallyCount(const TestAgent& agent, const std::string& app, const std::string& count) {
  return Eventually([&] { return Count(agent, app) == count; }, std::chrono::seconds(40));
}

TEST(SnapshotProcessTest, WhoStayedAwayBeyondTheHorizonComesBackByASnapshotWithItsUnsentChanges) {
  Fleet fleet;
  TestAgent& a = fleet.Add("a-1");
  TestAgent& b = fleet.Add("b-1");
  // It collects nothing itself: its horizon is the lowest when it comes back.
  TestAgent& c = fleet.Add("c-1", kLongHour);
  ASSERT_EQ(a.Exec({kInsert, "deleted", "acme"}).exit_code, 0);
  ASSERT_EQ(c.Exec({kInsert, "first", "acme"}).exit_code, 0);
  ASSERT_TRUE(EventuallyCount(c, "deleted", "1") && EventuallyCount(a, "first", "1"));
  const std::string actor = c.Status()["actor"];

  ASSERT_EQ(RunPatina({"fault", "cut", "--api", c.api()}).exit_code, 0);
  ASSERT_EQ(c.Exec({kInsert, "old", "acme"}).exit_code, 0);
  const RunResult deleted = a.Exec({"DELETE FROM apps WHERE name = 'deleted'"});
  ASSERT_EQ(deleted.exit_code, 0) << deleted.error << a.log();
  const int64_t away_ns = HorizonNs(a);
  const bool forgotten = Eventually(
      [&] {
        return HorizonNs(a) > away_ns + 9'000'000'000 && Counter(a, "store.tombstones") == 0 &&
               Counter(b, "gossip.members_forgotten") > 0;
      },
      std::chrono::seconds(60));
  ASSERT_TRUE(forgotten) << a.Status() << b.Status();
  ASSERT_EQ(c.Exec({kInsert, "unsent", "acme"}).exit_code, 0);
  ASSERT_EQ(RunPatina({"fault", "heal", "--api", c.api()}).exit_code, 0);

  const bool taken =
      Eventually([&] { return InCollection(c, "set_aside") == 1; }, std::chrono::seconds(40));
  ASSERT_TRUE(taken) << a.Status() << c.Status() << c.log() << a.log();
  EXPECT_TRUE(EventuallyCount(c, "deleted", "0")) << c.log();
  EXPECT_TRUE(EventuallyCount(a, "unsent", "1")) << c.log() << a.log();
  EXPECT_TRUE(EventuallyCount(b, "unsent", "1"));
  EXPECT_EQ(Count(a, "deleted"), "0") << "nothing rose from the dead";
  EXPECT_TRUE(c.running());
  ASSERT_EQ(c.Exec({kInsert, "later", "acme"}).exit_code, 0);
  EXPECT_NE(c.Status()["actor"], actor);

  const auto listed = nlohmann::json::parse(
      RunPatina({"set-aside", "list", "--format", "json", "--api", c.api()}).out, nullptr, false);
  ASSERT_TRUE(listed.is_object()) << "one change, one line";
  const std::string change = listed["change"];
  const RunResult shown = RunPatina({"set-aside", "show", change, "--api", c.api()});
  EXPECT_THAT(shown.out, testing::HasSubstr("old")) << shown.error;
  EXPECT_EQ(Count(a, "old"), "0");
  EXPECT_EQ(RunPatina({"set-aside", "apply", change, "--api", c.api()}).exit_code, 0);
  EXPECT_TRUE(EventuallyCount(a, "old", "1"));
  EXPECT_EQ(InCollection(c, "set_aside"), 0);
}

TEST(SnapshotProcessTest, ANewNodeBeginsWithACopyOfALargePeersFile) {
  Fleet fleet;
  TestAgent& a = fleet.Add("a-1");
  ASSERT_EQ(a.Exec({"INSERT INTO apps (name, organization) WITH RECURSIVE n(i) AS (SELECT 1 UNION "
                    "ALL SELECT i + 1 FROM n WHERE i < 2000) SELECT 'app-' || i, 'acme' FROM n"})
                .exit_code,
            0);
  TestAgent& b = fleet.Add("b-1");
  const bool there = Eventually([&] { return b.QueryCell("SELECT count(*) FROM apps") == "2000"; },
                                std::chrono::seconds(40));
  EXPECT_TRUE(there) << b.log();
  EXPECT_EQ(Counter(a, "gossip.snapshots_served"), 1u) << a.log();
  ASSERT_EQ(b.Exec({kInsert, "mine", "acme"}).exit_code, 0);
  EXPECT_TRUE(EventuallyCount(a, "mine", "1"));
  EXPECT_TRUE(b.running());
  EXPECT_NE(b.Status()["actor"], a.Status()["actor"]) << "the copy writes under its own name";
  RunResult verified;
  const bool equal = Eventually([&] {
    verified = RunPatina({"verify", "--api", a.api()});
    return verified.exit_code == 0;
  });
  EXPECT_TRUE(equal) << verified.out << verified.error;
}

}  // namespace
}  // namespace patina::test

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <thread>

#include "tests/tools/process_util.h"

// The commands against a real `patina agent --dev`.

namespace patina::tools::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

class AgentProcessTest : public testing::Test {
 protected:
  void SetUp() override {
    agent_ = std::make_unique<Background>(
        std::vector<std::string>{"agent", "--dev", "--fault-injection"},
        std::vector<std::string>{"PATINA_NODE_NAME=test-1", "PATINA_NODE_REGION=fra",
                                 "PATINA_GOSSIP_LISTEN=127.0.0.1:0", "PATINA_API_LISTEN=" + api_,
                                 "TMPDIR=" + folder_.path()},
        log_);
    for (int i = 0; i < 1'000 && ReadFile(log_).find(" ready ") == std::string::npos; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));  // polls a real process
    }
    ASSERT_THAT(ReadFile(log_), HasSubstr("ready name=test-1 region=fra"));
  }

  Outcome Patina(const std::vector<std::string>& arguments, const std::string& input = {}) {
    return RunPatina(arguments, {"PATINA_API=" + api_}, input);
  }

  Folder folder_;
  const std::string log_ = folder_.path() + "/agent.log";
  const std::string api_ = "unix:" + folder_.path() + "/api.sock";
  std::unique_ptr<Background> agent_;
};

TEST_F(AgentProcessTest, WritesAreReadBack) {
  const Outcome exec = Patina({"exec", "INSERT INTO apps (name, status) VALUES (?, ?)",
                               "[\"a\",\"b\"]", "text:12", "--format", "json"});
  EXPECT_EQ(exec.exit_code, 0) << exec.err;
  EXPECT_THAT(exec.out, HasSubstr("\"rows_changed\":1"));
  EXPECT_THAT(exec.out, HasSubstr("\"version\":2"));  // version 1 brought the sample's regions
  const Outcome query = Patina({"query", "SELECT name, status FROM apps", "--format", "json"});
  EXPECT_EQ(query.exit_code, 0) << query.err;
  EXPECT_EQ(query.out, "{\"name\":\"[\\\"a\\\",\\\"b\\\"]\",\"status\":\"12\"}\n");
}

TEST_F(AgentProcessTest, AFileIsOneTransaction) {
  const std::string sql =
      "INSERT INTO apps (name) VALUES ('a;b'); -- one\nINSERT INTO apps (name) VALUES ('c')";
  EXPECT_EQ(Patina({"exec", "--file", "-"}, sql).exit_code, 0);
  const std::string broken =
      "INSERT INTO apps (name) VALUES ('d'); INSERT INTO nonsense VALUES (1);";
  const Outcome failed = Patina({"exec", "--file", folder_.Write("broken.sql", broken)});
  EXPECT_EQ(failed.exit_code, 1);
  EXPECT_THAT(failed.err, HasSubstr("nonsense"));
  EXPECT_EQ(Patina({"query", "SELECT count(*) n FROM apps", "--format", "csv"}).out, "n\n2\n");
}

TEST_F(AgentProcessTest, AFailedRequestExitsWithOneAndSaysWhy) {
  const Outcome query = Patina({"query", "SELECT * FROM nonsense"});
  EXPECT_EQ(query.exit_code, 1);
  EXPECT_THAT(query.err, HasSubstr("INVALID_ARGUMENT: "));
  EXPECT_THAT(query.err, HasSubstr("no such table: nonsense"));
  EXPECT_THAT(query.out, IsEmpty());
  const Outcome writing = Patina({"query", "DELETE FROM apps"});
  EXPECT_EQ(writing.exit_code, 1);
  const Outcome many = Patina({"query", "SELECT * FROM regions", "--rows-max", "3"});
  EXPECT_EQ(many.exit_code, 1);
  EXPECT_THAT(many.err, HasSubstr("RESOURCE_EXHAUSTED"));
}

TEST_F(AgentProcessTest, ALargeAnswerArrivesWhole) {
  const Outcome query = Patina({"query",
                                "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n "
                                "WHERE i < 50000) SELECT i, printf('%0100d', i) FROM n",
                                "--format", "csv"});
  EXPECT_EQ(query.exit_code, 0) << query.err;
  EXPECT_EQ(std::count(query.out.begin(), query.out.end(), '\n'), 50'001);
}

TEST_F(AgentProcessTest, SubscribePrintsTheSnapshotAndThenChanges) {
  ASSERT_EQ(Patina({"exec", "INSERT INTO apps (name) VALUES ('first')"}).exit_code, 0);
  std::thread writer([this] {
    for (int i = 0; i < 20; ++i) {
      // Spread, so that some come after the snapshot; the test holds for any timing.
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      Patina({"exec", "INSERT INTO apps (name) VALUES (?)", "later-" + std::to_string(i)});
    }
  });
  const Outcome outcome =
      Patina({"subscribe", "SELECT name FROM apps", "--events", "3", "--format", "json"});
  writer.join();
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("\"event\":\"row\""));
  EXPECT_THAT(outcome.out, HasSubstr("\"name\":\"first\""));
  EXPECT_THAT(outcome.out, HasSubstr("\"event\":\"end_of_snapshot\""));
  EXPECT_EQ(Patina({"subscribe", "SELECT * FROM nonsense"}).exit_code, 1);
}

TEST_F(AgentProcessTest, MembersStatusVerifyAndSchemaAnswer) {
  const Outcome members = Patina({"members", "--format", "json"});
  EXPECT_EQ(members.exit_code, 0) << members.err;
  EXPECT_THAT(members.out, HasSubstr("\"name\":\"test-1\",\"region\":\"fra\""));
  EXPECT_THAT(members.out, HasSubstr("\"state\":\"alive\""));
  const Outcome status = Patina({"status"});
  EXPECT_EQ(status.exit_code, 0) << status.err;
  EXPECT_THAT(status.out, HasSubstr("runs with --fault-injection"));
  EXPECT_THAT(status.out, HasSubstr("regions"));
  EXPECT_THAT(Patina({"status", "--format", "json"}).out, HasSubstr("\"name\":\"test-1\""));
  const Outcome verify = Patina({"verify"});
  EXPECT_EQ(verify.exit_code, 0) << verify.err;
  EXPECT_THAT(verify.out, HasSubstr("equal"));
  const std::string sql =
      folder_.Write("other.sql", "CREATE TABLE extra (id TEXT NOT NULL PRIMARY KEY);");
  EXPECT_THAT(Patina({"schema", "diff", sql}).out, HasSubstr("extra"));
}

TEST_F(AgentProcessTest, FaultsCanBeInjectedAndHealed) {
  EXPECT_THAT(Patina({"fault", "show"}).out, HasSubstr("no faults"));
  const Outcome clock = Patina({"fault", "clock", "-500"});
  EXPECT_EQ(clock.exit_code, 0) << clock.err;
  EXPECT_THAT(clock.out, HasSubstr("clock"));
  EXPECT_EQ(Patina({"fault", "heal"}).exit_code, 0);
}

TEST_F(AgentProcessTest, ASecondAgentOnTheSameSocketIsRefused) {
  const Outcome second =
      RunPatina({"agent", "--dev"}, {"PATINA_GOSSIP_LISTEN=127.0.0.1:0",
                                     "PATINA_API_LISTEN=" + api_, "TMPDIR=" + folder_.path()});
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_THAT(second.err, HasSubstr("another process"));
  EXPECT_EQ(Patina({"query", "SELECT 1"}).exit_code, 0);
}

TEST_F(AgentProcessTest, SigtermStopsInOrderAndRemovesTheTemporaryData) {
  agent_->Signal(SIGTERM);
  EXPECT_EQ(agent_->Wait(), 0) << ReadFile(log_);
  EXPECT_THAT(ReadFile(log_), HasSubstr("stopped"));
  EXPECT_EQ(Patina({"query", "SELECT 1"}).exit_code, 3);
  for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
    EXPECT_THAT(entry.path().filename().string(), testing::Not(testing::StartsWith("patina-dev-")));
  }
}

}  // namespace
}  // namespace patina::tools::test

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/eventually.h"
#include "tests/support/files.h"
#include "tests/support/process.h"
#include "tests/support/temporary_folder.h"

// The commands against a real `patina agent --dev`.

namespace patina::test {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using testing::IsEmpty;

class AgentProcessTest : public testing::Test {
 protected:
  void SetUp() override {
    agent_ = std::make_unique<Process>(
        std::vector<std::string>{"agent", "--dev", "--fault-injection"},
        Process::Options{
            .environment = {"PATINA_NODE_NAME=test-1", "PATINA_NODE_REGION=fra",
                            "PATINA_GOSSIP_LISTEN=127.0.0.1:0", "PATINA_API_LISTEN=" + api_,
                            "TMPDIR=" + folder_.path().string()},
            .error_file = log_});
    ASSERT_TRUE(Eventually([&] {
      return !agent_->running() || Contains(log_, "ready name=test-1 region=fra");
    })) << ReadFile(log_);
    ASSERT_TRUE(agent_->running()) << ReadFile(log_);
  }

  RunResult Patina(const std::vector<std::string>& arguments, const std::string& input = {}) {
    return RunPatina(arguments, {"PATINA_API=" + api_}, input);
  }

  static bool Contains(const std::string& file, std::string_view text) {
    return ReadFile(file).find(text) != std::string::npos;
  }

  const TemporaryFolder folder_;
  const std::string log_ = folder_.File("agent.log");
  const std::string api_ = "unix:" + folder_.File("api.sock");
  std::unique_ptr<Process> agent_;
};

TEST_F(AgentProcessTest, WritesAreReadBack) {
  const RunResult exec = Patina({"exec", "INSERT INTO apps (name, status) VALUES (?, ?)",
                                 "[\"a\",\"b\"]", "text:12", "--format", "json"});
  EXPECT_EQ(exec.exit_code, 0) << exec.error;
  EXPECT_THAT(exec.out, HasSubstr("\"rows_changed\":1"));
  EXPECT_THAT(exec.out, HasSubstr("\"version\":2"));  // version 1 brought the sample's regions
  const RunResult query = Patina({"query", "SELECT name, status FROM apps", "--format", "json"});
  EXPECT_EQ(query.exit_code, 0) << query.error;
  EXPECT_EQ(query.out, "{\"name\":\"[\\\"a\\\",\\\"b\\\"]\",\"status\":\"12\"}\n");
}

TEST_F(AgentProcessTest, AFileIsOneTransaction) {
  const std::string sql =
      "INSERT INTO apps (name) VALUES ('a;b'); -- one\nINSERT INTO apps (name) VALUES ('c')";
  EXPECT_EQ(Patina({"exec", "--file", "-"}, sql).exit_code, 0);
  const std::string broken =
      "INSERT INTO apps (name) VALUES ('d'); INSERT INTO nonsense VALUES (1);";
  const RunResult failed = Patina({"exec", "--file", folder_.Write("broken.sql", broken)});
  EXPECT_EQ(failed.exit_code, 1);
  EXPECT_THAT(failed.error, HasSubstr("nonsense"));
  EXPECT_EQ(Patina({"query", "SELECT count(*) n FROM apps", "--format", "csv"}).out, "n\n2\n");
}

TEST_F(AgentProcessTest, AFailedRequestExitsWithOneAndSaysWhy) {
  const RunResult query = Patina({"query", "SELECT * FROM nonsense"});
  EXPECT_EQ(query.exit_code, 1);
  EXPECT_THAT(query.error, HasSubstr("INVALID_ARGUMENT: "));
  EXPECT_THAT(query.error, HasSubstr("no such table: nonsense"));
  EXPECT_THAT(query.out, IsEmpty());
  const RunResult writing = Patina({"query", "DELETE FROM apps"});
  EXPECT_EQ(writing.exit_code, 1);
  const RunResult many = Patina({"query", "SELECT * FROM regions", "--rows-max", "3"});
  EXPECT_EQ(many.exit_code, 1);
  EXPECT_THAT(many.error, HasSubstr("RESOURCE_EXHAUSTED"));
}

TEST_F(AgentProcessTest, ALargeAnswerArrivesWhole) {
  const RunResult query =
      Patina({"query",
              "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n "
              "WHERE i < 50000) SELECT i, printf('%0100d', i) FROM n",
              "--format", "csv"});
  EXPECT_EQ(query.exit_code, 0) << query.error;
  EXPECT_EQ(std::count(query.out.begin(), query.out.end(), '\n'), 50'001);
}

TEST_F(AgentProcessTest, SubscribePrintsTheSnapshotAndThenChanges) {
  ASSERT_EQ(Patina({"exec", "INSERT INTO apps (name) VALUES ('first')"}).exit_code, 0);
  const std::string out = folder_.File("events"), errors = folder_.File("errors");
  Process subscribe({"subscribe", "SELECT name FROM apps", "--events", "3", "--format", "json"},
                    {.environment = {"PATINA_API=" + api_}, .out_file = out, .error_file = errors});
  ASSERT_TRUE(Eventually([&] { return Contains(out, "\"event\":\"end_of_snapshot\""); }))
      << ReadFile(errors);
  EXPECT_THAT(ReadFile(out), HasSubstr("\"event\":\"row\""));
  EXPECT_THAT(ReadFile(out), HasSubstr("\"name\":\"first\""));
  for (const char* name : {"second", "third"}) {
    EXPECT_EQ(Patina({"exec", "INSERT INTO apps (name) VALUES (?)", name}).exit_code, 0);
  }
  EXPECT_EQ(subscribe.Wait(), 0) << ReadFile(errors);
  const std::string events = ReadFile(out);
  const std::string changes = events.substr(events.find("end_of_snapshot"));
  EXPECT_THAT(changes, ContainsRegex("\"event\":\"insert\".*\"name\":\"second\""));
  EXPECT_THAT(changes, ContainsRegex("\"event\":\"insert\".*\"name\":\"third\""));
  EXPECT_EQ(Patina({"subscribe", "SELECT * FROM nonsense"}).exit_code, 1);
}

TEST_F(AgentProcessTest, MembersStatusVerifyAndSchemaAnswer) {
  const RunResult members = Patina({"members", "--format", "json"});
  EXPECT_EQ(members.exit_code, 0) << members.error;
  EXPECT_THAT(members.out, HasSubstr("\"name\":\"test-1\",\"region\":\"fra\""));
  EXPECT_THAT(members.out, HasSubstr("\"state\":\"alive\""));
  const RunResult status = Patina({"status"});
  EXPECT_EQ(status.exit_code, 0) << status.error;
  EXPECT_THAT(status.out, HasSubstr("runs with --fault-injection"));
  EXPECT_THAT(status.out, HasSubstr("regions"));
  EXPECT_THAT(Patina({"status", "--format", "json"}).out, HasSubstr("\"name\":\"test-1\""));
  const RunResult verify = Patina({"verify"});
  EXPECT_EQ(verify.exit_code, 0) << verify.error;
  EXPECT_THAT(verify.out, HasSubstr("equal"));
  const std::string sql =
      folder_.Write("other.sql", "CREATE TABLE extra (id TEXT NOT NULL PRIMARY KEY);");
  EXPECT_THAT(Patina({"schema", "diff", sql}).out, HasSubstr("extra"));
}

TEST_F(AgentProcessTest, FaultsCanBeInjectedAndHealed) {
  EXPECT_THAT(Patina({"fault", "show"}).out, HasSubstr("no faults"));
  const RunResult clock = Patina({"fault", "clock", "-500"});
  EXPECT_EQ(clock.exit_code, 0) << clock.error;
  EXPECT_THAT(clock.out, HasSubstr("clock"));
  EXPECT_EQ(Patina({"fault", "heal"}).exit_code, 0);
}

TEST_F(AgentProcessTest, ASecondAgentOnTheSameSocketIsRefused) {
  const RunResult second = RunPatina(
      {"agent", "--dev"}, {"PATINA_GOSSIP_LISTEN=127.0.0.1:0", "PATINA_API_LISTEN=" + api_,
                           "TMPDIR=" + folder_.path().string()});
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_THAT(second.error, HasSubstr("another process"));
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
}  // namespace patina::test

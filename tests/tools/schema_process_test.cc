#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/eventually.h"
#include "tests/support/files.h"
#include "tests/support/process.h"
#include "tests/support/temporary_folder.h"

// `patina schema` and SIGHUP against a real agent.

namespace patina::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kFirst = "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a, b);";

class SchemaProcessTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(schema_);
    Declare(kFirst);
    StartAgent({"agent"});
  }

  void Declare(const std::string& sql, const std::string& toml = {}) {
    folder_.Write("schema/t.sql", sql);
    folder_.Write("schema/tables.toml", toml);
  }

  void StartAgent(const std::vector<std::string>& arguments) {
    agent_ = std::make_unique<Process>(
        arguments, Process::Options{.environment = {"PATINA_NODE_NAME=test-1",
                                                    "PATINA_NODE_DATA_DIR=" + folder_.File("data"),
                                                    "PATINA_SCHEMA_PATHS=" + schema_,
                                                    "PATINA_GOSSIP_LISTEN=127.0.0.1:0",
                                                    "PATINA_API_LISTEN=" + api_},
                                    .error_file = log_});
    ASSERT_TRUE(Eventually([&] {
      return !agent_->running() || Patina({"query", "SELECT 1"}).exit_code == 0;
    }));
  }

  RunResult Patina(const std::vector<std::string>& arguments) {
    return RunPatina(arguments, {"PATINA_API=" + api_});
  }
  std::string Rows() {
    return Patina({"query", "SELECT * FROM t ORDER BY id", "--format", "csv"}).out;
  }

  const TemporaryFolder folder_;
  const std::string schema_ = folder_.File("schema"), log_ = folder_.File("agent.log");
  const std::string api_ = "unix:" + folder_.File("api.sock");
  std::unique_ptr<Process> agent_;
};

TEST_F(SchemaProcessTest, ApplyChangesARunningAgentAndDropsOnlyWhenToldTo) {
  ASSERT_EQ(Patina({"exec", "INSERT INTO t VALUES ('k', 1, 'gone')"}).exit_code, 0);
  Declare("CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a, c DEFAULT 7); CREATE INDEX i ON t (a);",
          "[t]\ndropped = [\"b\"]");
  EXPECT_EQ(Patina({"schema", "check", schema_}).exit_code, 0);
  EXPECT_THAT(Patina({"schema", "diff", schema_, "--format", "csv"}).out,
              AllOf(HasSubstr("drop column t.b,destructive"), HasSubstr("add column t.c,additive"),
                    HasSubstr("add index i on t,additive")));
  const RunResult refused = Patina({"schema", "apply"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.error, HasSubstr("--allow-destructive"));
  EXPECT_EQ(Rows(), "id,a,b\nk,1,gone\n");
  const RunResult applied = Patina({"schema", "apply", "--allow-destructive"});
  EXPECT_EQ(applied.exit_code, 0) << applied.error;
  EXPECT_THAT(applied.out, AllOf(HasSubstr("drop column t.b"), HasSubstr("add index i on t")));
  EXPECT_THAT(applied.error, HasSubstr("writes waited"));
  EXPECT_EQ(Rows(), "id,a,c\nk,1,7\n");
  EXPECT_THAT(Patina({"schema", "diff", schema_}).out, HasSubstr("no difference"));
  Declare(std::string("\n") + kFirst + "CREATE TABLE u (id TEXT PRIMARY KEY);");
  const RunResult wrong = Patina({"schema", "apply"});
  EXPECT_EQ(wrong.exit_code, 1);
  EXPECT_THAT(wrong.error, HasSubstr("t.sql:2: table u, key column id: may be NULL"));
  EXPECT_EQ(Rows(), "id,a,c\nk,1,7\n");
}

TEST_F(SchemaProcessTest, SighupReadsTheFilesAgain) {
  Declare(std::string(kFirst) + "CREATE TABLE u (id TEXT NOT NULL PRIMARY KEY);");
  agent_->Signal(SIGHUP);
  EXPECT_TRUE(Eventually([&] {
    return Patina({"query", "SELECT * FROM u"}).exit_code == 0;
  })) << ReadFile(log_);
}

TEST_F(SchemaProcessTest, AStartWithADroppedColumnNeedsTheFlag) {
  ASSERT_EQ(Patina({"exec", "INSERT INTO t VALUES ('k', 1, 'gone')"}).exit_code, 0);
  agent_->Signal(SIGTERM);
  EXPECT_EQ(agent_->Wait(), 0);
  Declare("CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a);", "[t]\ndropped = [\"b\"]");
  StartAgent({"agent"});
  EXPECT_EQ(agent_->Wait(), 1);
  EXPECT_THAT(ReadFile(log_), HasSubstr("--allow-destructive"));
  StartAgent({"agent", "--allow-destructive"});
  EXPECT_EQ(Rows(), "id,a\nk,1\n");
}

}  // namespace
}  // namespace patina::test

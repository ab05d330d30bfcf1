#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/process.h"
#include "tests/support/temporary_folder.h"

// The binary without an agent: usage, exit codes, what needs no agent.

namespace patina::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

TEST(CommandLineTest, HelpIsFineAndNamesTheCommands) {
  const RunResult outcome = RunPatina({"--help"});
  EXPECT_EQ(outcome.exit_code, 0);
  for (const char* command : {"agent", "exec", "query", "subscribe", "members", "status", "verify",
                              "schema", "fault", "proxy-sink", "route", "sidecar", "bench"}) {
    EXPECT_THAT(outcome.out, HasSubstr(command));
  }
  EXPECT_THAT(outcome.error, IsEmpty());
}

TEST(CommandLineTest, EveryCommandHasHelp) {
  for (const char* command : {"agent", "exec", "query", "subscribe", "members", "status", "verify",
                              "schema", "fault", "proxy-sink", "route", "sidecar", "bench"}) {
    EXPECT_EQ(RunPatina({command, "--help"}).exit_code, 0) << command;
  }
  EXPECT_THAT(RunPatina({"exec", "--help"}).out, HasSubstr("text:12"));
  EXPECT_THAT(RunPatina({"query", "--help"}).out, HasSubstr("--format"));
}

TEST(CommandLineTest, WrongUsageExitsWithTwoAndSaysWhyOnStderr) {
  const std::vector<std::vector<std::string>> wrong = {{},
                                                       {"nonsense"},
                                                       {"query"},
                                                       {"query", "SELECT 1", "--format", "xml"},
                                                       {"fault"},
                                                       {"fault", "drop", "1.5"},
                                                       {"exec"},
                                                       {"exec", "SELECT 1", "--file", "x"},
                                                       {"exec", "--file", "/nowhere"},
                                                       {"members", "--nonsense"},
                                                       {"schema", "check"}};
  for (const auto& arguments : wrong) {
    const RunResult outcome = RunPatina(arguments, {"PATINA_API=127.0.0.1:1"});
    EXPECT_EQ(outcome.exit_code, 2) << testing::PrintToString(arguments);
    EXPECT_FALSE(outcome.error.empty()) << testing::PrintToString(arguments);
    EXPECT_THAT(outcome.out, IsEmpty()) << testing::PrintToString(arguments);
  }
}

TEST(CommandLineTest, NoAgentExitsWithThreeAndSaysWhatToDo) {
  for (const char* address : {"127.0.0.1:1", "unix:/nowhere/api.sock"}) {
    const std::vector<std::vector<std::string>> commands = {{"query", "SELECT 1"},
                                                            {"exec", "DELETE FROM t"},
                                                            {"members"},
                                                            {"status"},
                                                            {"verify"},
                                                            {"fault", "show"},
                                                            {"subscribe", "SELECT 1"},
                                                            {"members", "--watch"}};
    for (const auto& arguments : commands) {
      const RunResult outcome = RunPatina(arguments, {std::string("PATINA_API=") + address});
      EXPECT_EQ(outcome.exit_code, 3) << arguments[0];
      EXPECT_THAT(outcome.error, HasSubstr(address)) << arguments[0];
      EXPECT_THAT(outcome.error, HasSubstr("patina agent --dev")) << arguments[0];
    }
  }
  EXPECT_EQ(RunPatina({"--api", "127.0.0.1:1", "status"}).exit_code, 3);
  EXPECT_EQ(RunPatina({"status", "--api", "127.0.0.1:1"}).exit_code, 3);
}

TEST(CommandLineTest, SchemaCheckNeedsNoAgent) {
  const TemporaryFolder folder;
  const std::string good =
      folder.Write("good.sql", "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, n INTEGER);");
  const RunResult fine = RunPatina({"schema", "check", good, "--format", "json"});
  EXPECT_EQ(fine.exit_code, 0) << fine.error;
  EXPECT_EQ(fine.out, "{\"table\":\"t\",\"key\":\"id\",\"columns\":1,\"merge\":\"cell\"}\n");
  const std::string bad = folder.Write("bad.sql", "CREATE TABLE t (id TEXT);");
  const RunResult refused = RunPatina({"schema", "check", bad});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.error, HasSubstr("bad.sql"));
}

TEST(CommandLineTest, AWrongConfigurationNamesFileAndLine) {
  const TemporaryFolder folder;
  const std::string path = folder.Write("patina.toml", "[node]\nname = \"a\"\nnonsense = 1\n");
  const RunResult outcome = RunPatina({"agent", "--config", path});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.error, HasSubstr(path + ":3"));
  EXPECT_THAT(outcome.error, HasSubstr("nonsense"));
}

}  // namespace
}  // namespace patina::test

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/process/fleet.h"
#include "tests/support/files.h"

// How an agent begins and ends, and what exit codes say.

namespace patina::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

namespace fs = std::filesystem;

std::vector<std::string> WriteAheadLogs(const fs::path& folder) {
  std::vector<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().string().ends_with("-wal")) found.push_back(entry.path());
  }
  return found;
}

TEST(StartProcessTest, SigtermEndsCleanlyAndLeavesNoWriteAheadLog) {
  TestFleet fleet(2);
  ASSERT_EQ(fleet[0].Exec({"INSERT INTO apps (name) VALUES ('kept')"}).exit_code, 0);
  EXPECT_EQ(fleet[0].Stop(), 0) << fleet[0].log();
  EXPECT_THAT(WriteAheadLogs(fleet[0].data()), IsEmpty());
  fleet[0].Start();
  EXPECT_EQ(fleet[0].QueryCell("SELECT name FROM apps"), "kept");
}

TEST(StartProcessTest, ConfigurationErrorsNameFileLineAndKey) {
  const TemporaryFolder folder;
  const fs::path config = folder.path() / "agent.toml";
  WriteFile(config, "[node]\nname = \"a\"\ncolour = \"red\"\n");
  const RunResult unknown = RunPatina({"agent", "--config", config});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.error, AllOf(HasSubstr("agent.toml:3"), HasSubstr("colour")));

  WriteFile(config, "[node]\nname = \"a\"\n\n[gossip]\nlisten = 7400\n");
  const RunResult wrong_type = RunPatina({"agent", "--config", config});
  EXPECT_EQ(wrong_type.exit_code, 2);
  EXPECT_THAT(wrong_type.error, AllOf(HasSubstr("agent.toml:5"), HasSubstr("listen")));

  WriteFile(config, "[node\n");
  const RunResult syntax = RunPatina({"agent", "--config", config});
  EXPECT_EQ(syntax.exit_code, 2);
  EXPECT_THAT(syntax.error, HasSubstr("agent.toml:1"));
}

TEST(StartProcessTest, ASchemaThatCannotBeReplicatedIsRefusedWithFileAndLine) {
  const TemporaryFolder folder;
  const fs::path schema = folder.path() / "schema.sql";
  WriteFile(schema,
            "CREATE TABLE good (id TEXT NOT NULL PRIMARY KEY);\n\nCREATE TABLE bad (a TEXT);\n");
  const fs::path config = folder.path() / "agent.toml";
  WriteFile(config, "[node]\nname = \"a\"\ndata_dir = \"" + folder.path().string() +
                        "\"\n[schema]\npaths = [\"" + schema.string() +
                        "\"]\n[gossip]\nlisten = \"127.0.0.1:0\"\n[api]\nlisten = "
                        "[\"127.0.0.1:0\"]\n");
  const RunResult result = RunPatina({"agent", "--config", config});
  EXPECT_THAT(result.exit_code, ::testing::AnyOf(1, 2));
  EXPECT_THAT(result.error, AllOf(HasSubstr("schema.sql:3"), HasSubstr("bad")));
}

TEST(StartProcessTest, AnAddressInUseIsNamed) {
  TestFleet fleet(1);
  TestAgent second(fleet.folder(), "z-1", {});
  const fs::path config = fleet.folder() / "z-1.toml";
  std::string text = ReadFile(config);
  text.replace(text.find(second.api()), second.api().size(), fleet[0].api());
  WriteFile(config, text);
  const RunResult result = RunPatina({"agent", "--config", config});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.error, HasSubstr(fleet[0].api()));
}

}  // namespace
}  // namespace patina::test

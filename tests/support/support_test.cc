#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <optional>

#include "tests/support/environment.h"
#include "tests/support/eventually.h"
#include "tests/support/files.h"
#include "tests/support/process.h"
#include "tests/support/temporary_folder.h"

// The helpers of tests: what no test that uses them would notice.

namespace patina::test {
namespace {

using ::testing::HasSubstr;

TEST(EventuallyTest, AConditionThatHoldsIsAskedOnce) {
  int asked = 0;
  EXPECT_TRUE(Eventually([&] { return ++asked > 0; }, Duration(0)));
  EXPECT_EQ(asked, 1);
}

TEST(EventuallyTest, AConditionThatNeverHoldsFailsAtTheDeadline) {
  const SystemClock clock;
  const Instant start = clock.Now();
  EXPECT_FALSE(Eventually([] { return false; }, std::chrono::milliseconds(20)));
  EXPECT_GE(clock.Now() - start, std::chrono::milliseconds(20));
}

TEST(TemporaryFolderTest, GoesWithAllThatIsInIt) {
  std::filesystem::path path;
  {
    const TemporaryFolder folder;
    path = folder.path();
    std::filesystem::create_directory(path / "inner");
    EXPECT_EQ(folder.Write("inner/file", "text"), folder.File("inner/file"));
    EXPECT_EQ(ReadFile(path / "inner/file"), "text");
    EXPECT_NE(TemporaryFolder().path(), path);
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(TemporaryFolderTest, StandsInTheFolderThatIsGiven) {
  const TemporaryFolder outer;
  EXPECT_EQ(TemporaryFolder(outer.path()).path().parent_path(), outer.path());
}

TEST(FilesTest, WritingReplacesAndNoFileReadsAsEmpty) {
  const TemporaryFolder folder;
  EXPECT_EQ(ReadFile(folder.File("file")), "");
  WriteFile(folder.File("file"), std::string("long\0text", 9));
  WriteFile(folder.File("file"), std::string("a\0", 2));
  EXPECT_EQ(ReadFile(folder.File("file")), std::string("a\0", 2));
}

TEST(EnvironmentTest, AVariableThatIsNoNumberFromOneEndsTheTest) {
  EXPECT_EQ(FromEnvironment("PATINA_TEST_SEEDS", 7), 7u);
  ASSERT_EQ(::setenv("PATINA_TEST_FIRST", "12", 1), 0);
  EXPECT_EQ(FromEnvironment("PATINA_TEST_FIRST", 7), 12u);
  const SeedRange seeds("PATINA_TEST", 3);
  EXPECT_EQ(seeds.first, 12u);
  EXPECT_EQ(seeds.end, 15u);
  for (const char* text : {"", "0", "-1", "ten", "1e3", "99999999999999999999"}) {
    ASSERT_EQ(::setenv("PATINA_TEST_SEEDS", text, 1), 0);
    EXPECT_DEATH(FromEnvironment("PATINA_TEST_SEEDS", 7), "PATINA_TEST_SEEDS must be") << text;
  }
  ASSERT_EQ(::unsetenv("PATINA_TEST_FIRST"), 0);
  ASSERT_EQ(::unsetenv("PATINA_TEST_SEEDS"), 0);
}

TEST(ProcessTest, TheGivenEnvironmentCountsBeforeTheInheritedOne) {
  ASSERT_EQ(::setenv("PATINA_API", "127.0.0.1:1", 1), 0);
  const RunResult inherited = RunPatina({"status"});
  const RunResult given = RunPatina({"status"}, {"PATINA_API=127.0.0.1:2"});
  ASSERT_EQ(::unsetenv("PATINA_API"), 0);
  EXPECT_THAT(inherited.error, HasSubstr("127.0.0.1:1"));
  EXPECT_THAT(given.error, HasSubstr("127.0.0.1:2"));
}

TEST(ProcessTest, OneThatDoesNotEndIsKilledAtTheDeadline) {
  const TemporaryFolder folder;
  const std::vector<std::string> environment = {"PATINA_GOSSIP_LISTEN=127.0.0.1:0",
                                                "PATINA_API_LISTEN=127.0.0.1:0",
                                                "TMPDIR=" + folder.path().string()};
  EXPECT_EQ(RunPatina({"agent", "--dev"}, environment, {}, Duration(0)).exit_code, -1);
  Process agent({"agent", "--dev"}, {.environment = environment});
  EXPECT_EQ(agent.Wait(Duration(0)), std::nullopt);
  EXPECT_TRUE(agent.running());
  agent.Signal(SIGKILL);
  EXPECT_EQ(agent.Wait(), 128 + SIGKILL);
  EXPECT_FALSE(agent.running());
}

}  // namespace
}  // namespace patina::test

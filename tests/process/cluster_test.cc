#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "tests/process/fleet.h"
#include "tests/support/eventually.h"
#include "tests/support/files.h"

// A few agents as real processes: what only they can show.

namespace patina::test {
namespace {

const char* const kInsert = "INSERT INTO apps (name, organization) VALUES (?1, ?2)";

TEST(ClusterProcessTest, ThreeAgentsConvergeFromOneSeed) {
  TestFleet fleet(3);
  for (size_t i = 0; i < fleet.size(); ++i) {
    const RunResult written = fleet[i].Exec({kInsert, "app-" + std::to_string(i), "acme"});
    ASSERT_EQ(written.exit_code, 0) << written.error;
  }
  const RunResult equal = fleet.WaitEqual({"--table", "apps", "--rows", "3"});
  EXPECT_EQ(equal.exit_code, 0) << equal.error;
  for (size_t i = 0; i < fleet.size(); ++i) {
    EXPECT_EQ(
        fleet[i].QueryCell("SELECT group_concat(name) FROM (SELECT name FROM apps ORDER BY 1)"),
        "app-0,app-1,app-2");
  }
  const RunResult verified = RunPatina({"verify", "--api", fleet[1].api()});
  EXPECT_EQ(verified.exit_code, 0) << verified.out << verified.error;
}

TEST(ClusterProcessTest, AWriterKilledUnderLoadLosesNothingItAcknowledged) {
  TestFleet fleet(3);
  const std::string ledger = fleet.folder() / "ledger.csv";
  {
    Process writer({"bench", "ledger-write", "--agents", fleet[0].api(), "--ledger", ledger,
                    "--clients", "8", "--seconds", "0"},
                   {});
    const auto lines = [&ledger] {
      const std::string text = ReadFile(ledger);
      return std::count(text.begin(), text.end(), '\n');
    };
    ASSERT_TRUE(Eventually([&] { return lines() >= 2'000; }, std::chrono::seconds(20)));
    fleet[0].Kill();
  }
  fleet[0].Start();
  const RunResult checked = RunPatina(
      {"bench", "ledger-check", "--agents", fleet.apis(), "--ledger", ledger, "--wait", "20"});
  EXPECT_EQ(checked.exit_code, 0) << checked.out << checked.error;
  const RunResult equal = fleet.WaitEqual();
  EXPECT_EQ(equal.exit_code, 0) << equal.error;
}

TEST(ClusterProcessTest, ALateJoinerGetsEverything) {
  TestFleet fleet(2);
  const RunResult inserted =
      RunPatina({"bench", "insert", "--agent", fleet[0].api(), "--rows", "20000"});
  ASSERT_EQ(inserted.exit_code, 0) << inserted.error;
  fleet.Add();
  const RunResult equal = fleet.WaitEqual({"--table", "machines", "--rows", "20000"});
  EXPECT_EQ(equal.exit_code, 0) << equal.error;
}

TEST(ClusterProcessTest, ANodeThatWasAwayCatchesUpAndGoesOnWriting) {
  TestFleet fleet(2);
  ASSERT_EQ(fleet[1].Exec({kInsert, "before", "acme"}).exit_code, 0);
  EXPECT_EQ(fleet[1].Stop(), 0);
  ASSERT_EQ(fleet[0].Exec({kInsert, "meanwhile", "acme"}).exit_code, 0);
  fleet[1].Start();
  ASSERT_EQ(fleet[1].Exec({kInsert, "after", "acme"}).exit_code, 0);
  const RunResult equal = fleet.WaitEqual({"--table", "apps", "--rows", "3"});
  EXPECT_EQ(equal.exit_code, 0) << equal.error;
}

/// A second of writes on an agent whose clock is an hour wrong, alone or among its peers: they are
/// neither from the future nor older than what was written before.
TEST(ClusterProcessTest, AWrongHourChangesNeitherWhoWinsNorWhatIsKept) {
  TestFleet fleet(0);
  TestAgent::Options options;
  options.fault_injection = true;
  for (int i = 0; i < 3; ++i) {
    fleet.Add(options);
    options.seed = fleet[0].gossip();
  }
  ASSERT_TRUE(Eventually([&] { return fleet[2].AliveMembers().size() == 3; }));
  const auto fault = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "fault");
    arguments.insert(arguments.end(), {"--api", fleet[2].api()});
    const RunResult result = RunPatina(arguments);
    ASSERT_EQ(result.exit_code, 0) << result.error;
  };
  ASSERT_EQ(fleet[0].Exec({kInsert, "app", "acme"}).exit_code, 0);
  ASSERT_EQ(fleet.WaitEqual().exit_code, 0);
  for (const std::string wrong_by_ms : {"3600000", "-3600000"}) {
    for (const bool alone : {true, false}) {
      SCOPED_TRACE(wrong_by_ms + (alone ? " alone" : ""));
      const auto write = [&](size_t agent, const std::string& what) {
        const RunResult written =
            fleet[agent].Exec({"UPDATE apps SET organization = ?1", what + wrong_by_ms});
        EXPECT_EQ(written.exit_code, 0) << written.error;
      };
      if (alone) fault({"cut"});
      write(1, "before");
      fault({"clock", wrong_by_ms});
      const std::string ledger =
          fleet.folder() / ("ledger" + wrong_by_ms + (alone ? "-alone" : ""));
      const RunResult wrote = RunPatina({"bench", "ledger-write", "--agents", fleet[2].api(),
                                         "--ledger", ledger, "--seconds", "1"});
      EXPECT_EQ(wrote.exit_code, 0) << wrote.error;
      write(2, "wrong hour");
      fault({"heal"});
      const RunResult checked = RunPatina(
          {"bench", "ledger-check", "--agents", fleet.apis(), "--ledger", ledger, "--wait", "20"});
      EXPECT_EQ(checked.exit_code, 0) << checked.out << checked.error;
      const RunResult equal = fleet.WaitEqual();
      EXPECT_EQ(equal.exit_code, 0) << equal.error;
      EXPECT_EQ(fleet[0].QueryCell("SELECT organization FROM apps WHERE name = 'app'"),
                "wrong hour" + wrong_by_ms);
      write(0, "after");
      EXPECT_EQ(fleet.WaitEqual().exit_code, 0);
      EXPECT_EQ(fleet[2].QueryCell("SELECT organization FROM apps WHERE name = 'app'"),
                "after" + wrong_by_ms);
    }
  }
  const RunResult verified = RunPatina({"verify", "--api", fleet[1].api()});
  EXPECT_EQ(verified.exit_code, 0) << verified.out << verified.error;
}

}  // namespace
}  // namespace patina::test

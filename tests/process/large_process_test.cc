#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/process/fleet.h"
#include "tests/support/eventually.h"

// Large transactions between real agents: all at once or not at all, and in little memory.
//
//     PATINA_LARGE_ROWS=1000000 process_tests --gtest_filter='LargeProcessTest.Many*'

namespace patina::test {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kMemoryMaxKib = 64 * 1024;
constexpr uint64_t kWatchdogMs = 30'000;  // limits.watchdog_timeout_ms
constexpr Duration kPatience = std::chrono::seconds(90);
const char* const kCount = "SELECT count(*) FROM machines";

std::string Rows() {
  const char* const wanted = std::getenv("PATINA_LARGE_ROWS");
  return wanted == nullptr ? "200000" : wanted;
}

std::string Insert() {
  return "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < " + Rows() +
         ") INSERT INTO machines (id, app, host, region, state) SELECT 'machine-' || i, 'app-' || "
         "i % 1000, 'host-' || i % 100, 'fra', 'started' FROM n";
}

uint64_t Counter(const nlohmann::json& status, const char* name) {
  return status.value("counters", nlohmann::json::object()).value(name, uint64_t{0});
}

/// Nodes that began together and have a history: one that is new and lacks much takes a snapshot,
/// and no chunks.
void MakeHistory(TestFleet& fleet) {
  for (int i = 0; i < 6; ++i) {
    ASSERT_EQ(
        fleet[0].Exec({"INSERT INTO machines (id, state) VALUES ('old', 'created')"}).exit_code, 0);
    ASSERT_EQ(fleet[0].Exec({"DELETE FROM machines"}).exit_code, 0);
  }
  const RunResult equal = fleet.WaitEqual({});
  ASSERT_EQ(equal.exit_code, 0) << equal.error;
}

TEST(LargeProcessTest, ManyRowsArriveAtOnceAndInLittleMemory) {
  TestFleet fleet(3);
  MakeHistory(fleet);
  const RunResult refused = fleet[0].Exec({Insert()});
  EXPECT_NE(refused.exit_code, 0);
  EXPECT_THAT(refused.error, HasSubstr("50000 rows (limit transaction_rows_max)"));
  EXPECT_THAT(refused.error, HasSubstr("--large"));
  std::vector<uint64_t> before;
  for (size_t i = 0; i < fleet.size(); ++i) before.push_back(fleet[i].PeakMemoryKib());

  const SystemClock clock;
  const Instant begin = clock.Now();
  const auto seconds = [&] { return static_cast<double>(ToMs(clock.Now() - begin)) / 1000; };
  Process writer({"exec", "--api", fleet[0].api(), "--large", Insert()}, {});
  std::string busy;
  EXPECT_TRUE(Eventually(
      [&] {
        busy = fleet[0].Status().value("busy", "");
        return !busy.empty() || !writer.running();
      },
      kPatience));
  EXPECT_THAT(busy, HasSubstr("a large transaction runs"));
  EXPECT_EQ(writer.Wait(kPatience), 0) << fleet[0].log();
  std::cout << "acknowledged after " << seconds() << " s\n";
  for (size_t i = 0; i < fleet.size(); ++i) {
    std::string rows;
    EXPECT_TRUE(Eventually(
        [&] {
          rows = fleet[i].QueryCell(kCount);
          return rows != "0" && std::isdigit(rows[0]) != 0;  // else it had no time to answer
        },
        kPatience));
    EXPECT_EQ(rows, Rows()) << "in part";
    std::cout << fleet[i].name() << " has it after " << seconds() << " s\n";
  }
  const RunResult equal = fleet.WaitEqual({"--table", "machines", "--rows", Rows()});
  EXPECT_EQ(equal.exit_code, 0) << equal.error;
  for (size_t i = 0; i < fleet.size(); ++i) {
    const nlohmann::json status = fleet[i].Status();
    const uint64_t peak = fleet[i].PeakMemoryKib();
    std::cout << fleet[i].name() << ": peak memory " << before[i] << " -> " << peak
              << " KiB, longest silence to the watchdog "
              << Counter(status, "writer.longest_silence_ms") << " ms\n";
    EXPECT_LT(peak - before[i], kMemoryMaxKib) << fleet[i].name();
    EXPECT_LT(Counter(status, "writer.longest_silence_ms"), kWatchdogMs / 3);
    EXPECT_EQ(Counter(status, "store.large_local"), i == 0 ? 1u : 0u);
    EXPECT_EQ(Counter(status, "store.large_merged"), i == 0 ? 0u : 1u);
    EXPECT_EQ(Counter(status, "store.large_staged_bytes"), 0u);
  }
}

TEST(LargeProcessTest, AnAgentKilledWhileChunksArriveGoesOnWhereItStopped) {
  TestFleet fleet(2);
  MakeHistory(fleet);
  ASSERT_EQ(fleet[0].Exec({"--large", Insert()}).exit_code, 0) << fleet[0].log();
  ASSERT_TRUE(Eventually(
      [&] {
        const nlohmann::json status = fleet[1].Status();
        return Counter(status, "gossip.large_chunks_here") > 0 ||
               Counter(status, "store.large_merged") > 0;
      },
      kPatience));
  fleet[1].Kill();
  fleet[1].Start();
  EXPECT_TRUE(Eventually([&] { return fleet[1].QueryCell(kCount) == Rows(); }, kPatience))
      << fleet[1].log();
  const RunResult equal = fleet.WaitEqual({"--table", "machines", "--rows", Rows()});
  EXPECT_EQ(equal.exit_code, 0) << equal.error;
}

}  // namespace
}  // namespace patina::test

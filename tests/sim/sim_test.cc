#include <gtest/gtest.h>

#include "base/log.h"
#include "tests/sim/scenario.h"
#include "tests/sim/simulator.h"

namespace patina::sim {
namespace {

SimResult RunOne(const std::string& scenario, uint64_t seed, int nodes) {
  SetLogLevel(LogLevel::kError);
  SimOptions options;
  options.scenario = scenario;
  options.seed = seed;
  options.nodes = nodes;
  SimResult result = RunSimulation(options);
  EXPECT_TRUE(result.ok) << result.failure << "\nreplay: " << result.replay;
  return result;
}

TEST(SimTest, FiftyNodesConvergeAfterEveryKindOfFaultTwiceByTheSameTrace) {
  const SimResult first = RunOne("all", 1, 50);
  EXPECT_GT(first.messages_lost, 400u);
  EXPECT_GT(first.messages_late, 300u);
  EXPECT_GE(first.partitions, 2u);
  EXPECT_GT(first.messages_cut, 1000u);
  EXPECT_GE(first.crashes, 10u);
  EXPECT_GE(first.restarts, 5u);
  EXPECT_GE(first.clock_jumps, 10u);
  EXPECT_GT(first.acknowledged, 300u);
  EXPECT_LE(first.healed_after, std::chrono::seconds(30));  // RunOne: received sets, rows, digests
  const SimResult second = RunOne("all", 1, 50);
  EXPECT_EQ(first.trace_hash, second.trace_hash);
  EXPECT_EQ(first.events, second.events);
}

TEST(SimTest, AnotherSeedGivesAnotherTrace) {
  EXPECT_NE(RunOne("mixed", 7, 12).trace_hash, RunOne("mixed", 8, 12).trace_hash);
}

TEST(SimTest, EachScenarioConverges) {
  for (const std::string& name : ScenarioNames()) RunOne(name, 3, 12);
}

TEST(SimTest, AnHourForwardOrBackForASecondOrForLongDoesNoHarm) {
  ClockHours hours;
  for (uint64_t seed = 1; seed <= 25; ++seed) {  // few hosts: the others are dead sooner
    const ClockHours each = RunOne("clock", seed, 6).hours;
    hours.forward += each.forward;
    hours.back += each.back;
    hours.for_a_second += each.for_a_second;
  }
  EXPECT_GE(hours.forward, 3u);
  EXPECT_GE(hours.back, 3u);
  EXPECT_GE(hours.for_a_second, 3u);
}

TEST(SimTest, LargeTransactionsArriveUnderLossPartitionAndCrash) {
  const SimResult result = RunOne("large", 4, 12);
  EXPECT_GT(result.large_writes, 10u);
  EXPECT_GT(result.large_merged, 50u);
}

TEST(SimTest, ACalmClusterSendsOneCopyPerNode) {
  const SimResult result = RunOne("calm", 5, 20);
  EXPECT_LE(result.copies_per_change, 1.05);
  EXPECT_LE(result.healed_after, std::chrono::seconds(1));
}

TEST(SimTest, WithAShortLogWhoWasAwayIsBroughtBackByTransfers) {
  const SimResult result = RunOne("transfer", 2, 12);
  EXPECT_GT(result.transfers, 0u);
}

TEST(SimTest, WhoWasAwayBeyondTheHorizonComesBackBySnapshotAndNothingRisesFromTheDead) {
  SimResult all;
  for (const uint64_t seed : {1, 2, 3, 4}) {
    const SimResult result = RunOne("collect", seed, 7);
    all.snapshots += result.snapshots;
    all.too_old += result.too_old;
    all.set_aside += result.set_aside;
    EXPECT_GT(result.tombstones_collected, 0u);
  }
  EXPECT_GT(all.snapshots, 0u);
  EXPECT_GT(all.too_old, 0u);
  EXPECT_GT(all.set_aside, 0u);
}

}  // namespace
}  // namespace patina::sim

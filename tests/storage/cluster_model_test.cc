#include <cstdlib>
#include <iostream>

#include "tests/storage/model_world.h"
#include "tests/support/environment.h"

// The executable specification, over the real store and the real frontier: four nodes, seeded
// histories of writes, lost and doubled messages, pulls, transfers, snapshots, crashes, power cuts,
// restored files, wrong clocks, schema upgrades, partitions and forgotten members; see
// model_world.h for what must hold. A quarter of them writes all kinds of SQL to all kinds of
// tables, in groups with savepoints and failures; the others integers to a few cells, where more
// meet.
//
//     PATINA_MODEL_SEEDS=100000 storage_model_tests                        more seeds
//     PATINA_MODEL_ANY=1 storage_model_tests                               all of any SQL
//     PATINA_MODEL_FIRST=17 PATINA_MODEL_SEEDS=1 storage_model_tests       one of them
//
// A failure prints the shortest part of its history that still fails, and what happens in it.

namespace patina::storage::model {
namespace {

constexpr uint64_t kSeeds = 10'000, kParts = 100;

/// A hundredth of the seeds each, so that several processes may share them (GTEST_TOTAL_SHARDS).
class ClusterModelTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  ClusterModelTest() { SetLogLevel(LogLevel::kOff); }
};

TEST_P(ClusterModelTest, NothingIsLostNothingComesBackAndAllNodesAgree) {
  const test::SeedRange seeds("PATINA_MODEL", kSeeds);
  std::map<std::string, uint64_t> count;
  for (uint64_t seed = seeds.first + GetParam(); seed < seeds.end; seed += kParts) {
    const History history = HistoryOf(seed);
    RunOptions options;
    options.large = seed % 2 == 0;
    const bool any = seed % 8 == 3 || seed % 8 == 6 || std::getenv("PATINA_MODEL_ANY") != nullptr;
    options.sql = any ? Sql::kAny : Sql::kPlain;
    const Outcome outcome = RunHistory(history, options);
    for (const auto& [what, times] : outcome.count) count[what] += times;
    if (outcome.violation.empty()) continue;
    const History shortest = Shrink(history, options);
    RunOptions traced = options;
    traced.trace = true;
    const Outcome shown = RunHistory(shortest, traced);
    FAIL() << "seed " << seed << ": " << outcome.violation << "\nshrunk to " << shortest.size()
           << " events: " << ToString(shortest) << "\n"
           << shown.trace << shown.violation << "\nagain: PATINA_MODEL_FIRST=" << seed
           << " PATINA_MODEL_SEEDS=1 storage_model_tests";
  }
  if (std::getenv("PATINA_MODEL_COUNTS") != nullptr) {
    for (const auto& [what, times] : count) std::cout << what << " " << times << ", ";
    std::cout << "\n";
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ClusterModelTest, ::testing::Range(uint64_t{0}, kParts));

}  // namespace
}  // namespace patina::storage::model

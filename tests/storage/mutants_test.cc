#include <iostream>

#include "tests/storage/model_world.h"

// Breaks the rules of the store and of the node one at a time and shows that the cluster model
// finds it. What each rule is for stands in storage/mutants.h and model_node.h.
//
//     storage_model_tests --gtest_filter='*MutantsTest*'

namespace patina::storage::model {
namespace {

constexpr uint64_t kSeedsMax = 3'000;

struct Case {
  const char* name;
  Broken broken;
  uint64_t first_seed;  // where it was last found; the search starts there
};

void PrintTo(const Case& broken, std::ostream* out) { *out << broken.name; }

class MutantsTest : public ::testing::TestWithParam<Case> {
 protected:
  MutantsTest() { SetLogLevel(LogLevel::kOff); }
};

TEST_P(MutantsTest, IsCaught) {
  RunOptions options;
  options.broken = GetParam().broken;
  for (uint64_t seed = GetParam().first_seed; seed < GetParam().first_seed + kSeedsMax; ++seed) {
    const Outcome outcome = RunHistory(HistoryOf(seed), options);
    if (outcome.violation.empty()) continue;
    std::cout << "seed " << seed << ": " << outcome.violation.substr(0, 200) << "\n";
    return;
  }
  FAIL() << kSeedsMax << " histories do not show that the rule is broken";
}

constexpr NodeMutant kNode = NodeMutant::kNone;

INSTANTIATE_TEST_SUITE_P(
    Rules, MutantsTest,
    ::testing::Values(
        Case{"ClaimRange", {Mutant::kClaimRange, kNode}, 16},
        Case{"CollectWhenAllHaveDelete",
             {Mutant::kCollectWithoutHorizon, NodeMutant::kCollectWhenAllHaveDelete},
             2},
        Case{"ReuseActor", {Mutant::kReuseActor, kNode}, 12},
        Case{"SkipHorizon", {Mutant::kSkipHorizon, kNode}, 845},
        Case{"ParkedIsApplied", {Mutant::kParkedIsApplied, kNode}, 1},
        Case{"ReplayWithoutStamps", {Mutant::kReplayWithoutStamps, kNode}, 12},
        Case{"MergeFutureAtOnce", {Mutant::kMergeFutureAtOnce, kNode}, 8},
        Case{"ApplyHalfOfTransaction", {Mutant::kApplyHalfOfTransaction, kNode}, 1},
        Case{"RefuseOnly", {Mutant::kNone, NodeMutant::kRefuseOnly}, 65},
        Case{"TransferToWhoIsNotBehind",
             {Mutant::kTransferWithoutCollected, NodeMutant::kTransferToWhoIsNotBehind},
             43},
        Case{"HeadsOnly", {Mutant::kNone, NodeMutant::kHeadsOnly}, 382},
        Case{"LaggardsLeftOut", {Mutant::kNone, NodeMutant::kLaggardsLeftOut}, 121},
        Case{"PublishedNotInFile", {Mutant::kPublishedNotInFile, kNode}, 160},
        Case{"ClockFromParked", {Mutant::kClockFromParked, kNode}, 47},
        Case{"TombstoneTakesCells", {Mutant::kTombstoneTakesCells, kNode}, 42},
        Case{"OwnUnsentOnly", {Mutant::kOwnUnsentOnly, kNode}, 65},
        Case{"AnySchema", {Mutant::kAnySchema, kNode}, 8},
        Case{"TransferWithoutCheckpoint", {Mutant::kTransferWithoutCheckpoint, kNode}, 34},
        Case{"UnparkedNotLogged", {Mutant::kUnparkedNotLogged, kNode}, 169},
        Case{"MinorityForgets", {Mutant::kNone, NodeMutant::kMinorityForgets}, 174},
        Case{"LivesNotLookedAt", {Mutant::kLivesNotLookedAt, kNode}, 1},
        Case{"ParkedDoesNotHoldT", {Mutant::kNone, NodeMutant::kParkedDoesNotHoldT}, 6'834}),
    [](const auto& tested) { return std::string(tested.param.name); });

// One rule of the specification has no switch, because breaking it changes nothing: a snapshot of
// another schema. Behind the check by hash (CollectTest.ASnapshotIsRefusedForItsSchema…) the copy
// is opened under the receiver's schema, which brings it up to that or refuses it, as any older
// file.

INSTANTIATE_TEST_SUITE_P(
    // Three thousand histories are not enough; a test of its own shows it:
    // TransferTest.AnOldOneBringsBackNothingThatWasCollectedMeanwhile. By hand, with
    // --gtest_also_run_disabled_tests.
    DISABLED_Rare, MutantsTest,
    ::testing::Values(Case{"StaleTransfer", {Mutant::kStaleTransfer, kNode}, 1'000}),
    [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace patina::storage::model

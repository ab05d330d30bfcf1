#include <gtest/gtest.h>

#include "tests/gossip/cluster.h"

// Who takes whose snapshot, and when.

namespace patina::gossip {
namespace {

using crdt::HlcTime;

class SettlementTest : public testing::Test {
 protected:
  SettlementTest() { cluster_.config.snapshots_taken = true; }

  void SetHorizon(const std::string& name, int64_t ms) {
    cluster_.node(name).SetHorizon(HlcTime::FromMs(ms));
  }
  /// Two that hold so much that a new node begins with a copy of their file.
  void TwoWithMuch() {
    cluster_.AddMany(2);
    cluster_.Write("n00", 500);
    cluster_.Run(seconds(5));
    for (const char* name : {"n00", "n01"}) cluster_.host(name).rows = 1'000'000;
  }
  uint64_t Taken(const std::string& name) { return cluster_.host(name).snapshots_taken; }

  Cluster cluster_;
};

TEST_F(SettlementTest, TheOneWithTheLowerHorizonTakesTheOthersFile) {
  cluster_.AddMany(2);
  SetHorizon("n00", 1'000);
  SetHorizon("n01", 2'000);
  cluster_.Partition({"n00"}, {"n01"});
  const std::vector<ChangeId> old = cluster_.Write("n00", 1);
  cluster_.host("n01").too_old.insert(old[0]);
  cluster_.Heal();
  cluster_.Run(seconds(30));
  EXPECT_EQ(Taken("n00"), 1u);
  EXPECT_EQ(Taken("n01"), 0u);
}

TEST_F(SettlementTest, TheReceiverTakesItWhenItsHorizonIsTheLowerOne) {
  cluster_.AddMany(2);
  SetHorizon("n00", 2'000);
  SetHorizon("n01", 1'000);
  const std::vector<ChangeId> old = {cluster_.Write("n00", 1)};
  cluster_.Run(milliseconds(0));
  cluster_.host("n01").too_old.insert(old[0]);
  cluster_.Run(seconds(30));
  EXPECT_EQ(Taken("n00"), 0u);
  EXPECT_EQ(Taken("n01"), 1u);
  EXPECT_TRUE(cluster_.Converged());
}

TEST_F(SettlementTest, OfEqualHorizonsTheLowerNameTakesIt) {
  cluster_.AddMany(2);
  SetHorizon("n00", 1'000);
  SetHorizon("n01", 1'000);
  const std::vector<ChangeId> old = cluster_.Write("n00", 1);
  cluster_.host("n01").too_old.insert(old[0]);
  cluster_.Run(seconds(30));
  EXPECT_EQ(Taken("n00"), 1u);
  EXPECT_EQ(Taken("n01"), 0u);
}

TEST_F(SettlementTest, ATransferThatNeedsASnapshotEndsInOneAlthoughTransfersWait) {
  cluster_.AddMany(3);
  SetHorizon("n00", 2'000);
  SetHorizon("n01", 2'000);
  SetHorizon("n02", 1'000);
  cluster_.Partition({"n02"}, {"n00", "n01"});
  cluster_.Write("n00", 300);
  cluster_.Run(seconds(2));
  cluster_.host("n00").log.clear();
  cluster_.host("n01").log.clear();
  cluster_.host("n02").transfers_need_snapshot = true;
  cluster_.Heal();
  cluster_.Run(seconds(30));
  EXPECT_EQ(Taken("n02"), 1u);
  EXPECT_TRUE(cluster_.Converged());
}

TEST_F(SettlementTest, ANodeThatCannotBeginAnewSaysSoAndGoesOn) {
  cluster_.config.snapshots_taken = false;
  cluster_.AddMany(2);
  SetHorizon("n01", 2'000);
  const std::vector<ChangeId> old = cluster_.Write("n00", 1);
  cluster_.host("n01").too_old.insert(old[0]);
  cluster_.Run(seconds(30));
  EXPECT_EQ(Taken("n00"), 0u);
  EXPECT_GT(cluster_.node("n00").counters().snapshots_impossible, 0u);
}

TEST_F(SettlementTest, WhatWasRefusedAsTooOldIsNotFetchedAgain) {
  cluster_.config.snapshots_taken = false;
  cluster_.AddMany(2);
  const std::vector<ChangeId> old = cluster_.Write("n00", 1);
  cluster_.host("n01").too_old.insert(old[0]);
  cluster_.Run(seconds(60));
  EXPECT_LE(cluster_.host("n01").persisted[old[0]], 2);
}

TEST_F(SettlementTest, AnEmptyNodeBeginsWithASnapshotOfAPeerThatHasMuch) {
  TwoWithMuch();
  cluster_.Add("n02");
  cluster_.Run(seconds(20));
  EXPECT_EQ(Taken("n02"), 1u);
  EXPECT_TRUE(cluster_.Converged());
}

TEST_F(SettlementTest, ANewNodeThatHasWrittenAlreadyBeginsWithOneToo) {
  TwoWithMuch();
  cluster_.Add("n02");
  cluster_.Write("n02", 3);
  cluster_.Run(seconds(20));
  EXPECT_EQ(Taken("n02"), 1u);
  EXPECT_TRUE(cluster_.Converged());
}

TEST_F(SettlementTest, WhoBeganWithTheOthersDoesNotBeginAnewForTheLittleItLacksLater) {
  cluster_.AddMany(3);
  for (const char* name : {"n00", "n01", "n02"}) cluster_.host(name).rows = 1'000'000;
  cluster_.Write("n00", 500);
  cluster_.Run(seconds(5));
  const uint64_t before = Taken("n02");
  cluster_.Partition({"n02"}, {"n00", "n01"});
  cluster_.Write("n00", 50);
  cluster_.Run(seconds(1));
  cluster_.Heal();
  cluster_.Run(seconds(20));
  EXPECT_EQ(Taken("n02"), before);
  EXPECT_TRUE(cluster_.Converged());
}

TEST_F(SettlementTest, AnEmptyNodeFetchesWhatIsLittle) {
  cluster_.AddMany(2);
  cluster_.Write("n00", 500);
  cluster_.Run(seconds(5));
  cluster_.Add("n02");
  cluster_.Run(seconds(20));
  EXPECT_EQ(Taken("n02"), 0u);
  EXPECT_TRUE(cluster_.Converged());
}

TEST_F(SettlementTest, ServedSnapshotsAreFewAndOthersComeLater) {
  cluster_.config.snapshots_served_max = 1;
  cluster_.Add("n00");
  cluster_.Write("n00", 500);
  cluster_.host("n00").rows = 1'000'000;
  cluster_.drop_frame = [](const std::string&, const std::string&, const Frame& frame) {
    return std::holds_alternative<TransferNext>(frame);  // the first one hangs
  };
  for (const char* name : {"n01", "n02", "n03"}) cluster_.Add(name);
  cluster_.Run(seconds(10));
  uint64_t failed = 0;
  for (const char* name : {"n01", "n02", "n03"}) {
    failed += cluster_.node(name).counters().snapshots_failed;
  }
  EXPECT_GE(failed, 2u) << "told to wait";
  EXPECT_EQ(cluster_.node("n00").counters().snapshots_refused, failed);
  cluster_.Run(seconds(60));
  EXPECT_TRUE(cluster_.Converged()) << "by the log, in the end";
}

TEST_F(SettlementTest, ASnapshotThatTakesTooLongIsGivenUp) {
  cluster_.config.snapshot_deadline = seconds(2);
  cluster_.config.snapshot_bytes_per_s = 1;
  cluster_.Add("n00");
  cluster_.Write("n00", 500);
  cluster_.host("n00").rows = 1'000'000;
  cluster_.Add("n01");
  cluster_.Run(seconds(30));
  EXPECT_EQ(Taken("n01"), 0u);
  EXPECT_EQ(cluster_.node("n01").counters().snapshots_failed, 1u);
  EXPECT_TRUE(cluster_.Converged());
}

}  // namespace
}  // namespace patina::gossip

#include <gtest/gtest.h>

#include "tests/gossip/cluster.h"

namespace patina::gossip {
namespace {

TEST(SyncTest, ALateJoinerGetsEverythingSoonAndNothingTwice) {
  Cluster cluster;
  cluster.AddMany(5);
  for (const std::string& name : cluster.Names()) cluster.Write(name, 2000);
  cluster.Run(seconds(3));
  cluster.Add("late");
  EXPECT_TRUE(cluster.RunUntil([&] { return cluster.Converged(); }, seconds(5)));
  for (const auto& [id, times] : cluster.host("late").persisted) EXPECT_EQ(times, 1);
  EXPECT_EQ(cluster.node("late").counters().sync_changes, 10'000u);
  EXPECT_EQ(cluster.node("late").counters().changes_duplicate, 0u);
  EXPECT_EQ(cluster.node("late").VersionsLacking(), 0u);
}

TEST(SyncTest, WhatTheBroadcastLostIsRepairedWithinAFewSeconds) {
  Cluster cluster(2);
  cluster.AddMany(10, 2);
  cluster.drop_frame = [](const std::string&, const std::string& to, const Frame& frame) {
    return to == "n03" &&
           (std::holds_alternative<FreshChanges>(frame) || std::holds_alternative<IHave>(frame));
  };
  cluster.Write("n05", 20);
  EXPECT_TRUE(cluster.RunUntil([&] { return cluster.Converged(); }, seconds(5)));
  EXPECT_EQ(cluster.node("n03").counters().sync_changes, 20u);
}

TEST(SyncTest, NothingIsSentWhileAllSetsAreEqual) {
  Cluster cluster(2);
  cluster.AddMany(10, 2);
  cluster.Write("n05", 20);
  cluster.Run(seconds(10));
  uint64_t before = 0, after = 0;
  for (const auto& name : cluster.Names()) before += cluster.node(name).counters().syncs;
  cluster.Run(seconds(60));
  for (const auto& name : cluster.Names()) after += cluster.node(name).counters().syncs;
  EXPECT_EQ(before, after);
}

TEST(SyncTest, WhatCameBySyncIsNotBroadcastAgain) {
  Cluster cluster;
  cluster.AddMany(3);
  cluster.Write("n00", 300);
  cluster.Run(seconds(2));
  cluster.Add("late");
  const auto others = cluster.Names();
  std::map<std::string, uint64_t> copies;
  for (const auto& name : others) copies[name] = cluster.host(name).copies;
  cluster.Run(seconds(5));
  EXPECT_TRUE(cluster.Converged());
  for (const auto& name : others) EXPECT_EQ(cluster.host(name).copies, copies[name]);
}

TEST(SyncTest, WhatNoLogHasComesByOneTransfer) {
  Cluster cluster;
  cluster.AddMany(3);
  cluster.Write("n00", 300);
  cluster.Run(seconds(2));
  for (const auto& name : cluster.Names()) cluster.host(name).log.clear();
  cluster.Write("n00", 10);
  cluster.Run(seconds(2));
  cluster.Add("late");
  EXPECT_TRUE(cluster.RunUntil([&] { return cluster.Converged(); }, seconds(10)));
  EXPECT_EQ(cluster.host("late").transfers_merged, 1u);
  EXPECT_EQ(cluster.node("late").counters().transfers_merged, 1u);
}

TEST(SyncTest, ATransferWhoseSenderDiesIsAskedFromAnother) {
  Cluster cluster;
  cluster.config.transfer_timeout = seconds(2);
  cluster.AddMany(4);
  cluster.Write("n00", 300);
  cluster.Run(seconds(2));
  for (const auto& name : cluster.Names()) cluster.host(name).log.clear();
  std::string sender;
  cluster.drop_frame = [&](const std::string& from, const std::string&, const Frame& frame) {
    const auto* chunk = std::get_if<TransferChunk>(&frame);
    if (chunk == nullptr) return false;
    if (sender.empty()) sender = from;
    return from == sender && chunk->number == 1;
  };
  cluster.Add("late");
  EXPECT_TRUE(cluster.RunUntil([&] { return cluster.Converged(); }, seconds(60)));
  EXPECT_EQ(cluster.host("late").transfers_merged, 1u);
  EXPECT_GE(cluster.node("late").counters().transfers_failed, 1u);
}

TEST(SyncTest, OnlySoManyTransfersAreServedAtOnce) {
  Cluster cluster;
  cluster.AddMany(5);
  std::vector<Outputs> outs(4);
  int i = 1;
  for (Outputs& out : outs) {
    cluster.node("n00").OnFrame("n0" + std::to_string(i++), TransferRequest{7, 1, {}},
                                cluster.now(), out);
  }
  EXPECT_EQ(outs[0].open_transfers.size() + outs[1].open_transfers.size(), 2u);
  EXPECT_TRUE(outs[2].open_transfers.empty());
  EXPECT_TRUE(std::holds_alternative<TransferRefused>(*outs[2].frames.at(0).frame));
  // Nobody asks for the next chunk: they are closed in time.
  Outputs later;
  cluster.node("n00").Tick(cluster.now() + cluster.config.transfer_timeout, later);
  EXPECT_EQ(later.close_transfers.size(), 2u);
}

TEST(SyncTest, ASilentPeerIsGivenUpAndAnotherAsked) {
  Cluster cluster;
  cluster.AddMany(4);
  cluster.Write("n00", 500);
  cluster.Run(seconds(2));
  std::string silent;
  cluster.drop_frame = [&](const std::string& from, const std::string& to, const Frame& frame) {
    if (!std::holds_alternative<SyncChanges>(frame) || to != "late") return false;
    if (silent.empty()) silent = from;
    return from == silent;
  };
  cluster.Add("late");
  EXPECT_TRUE(cluster.RunUntil([&] { return cluster.Converged(); }, seconds(30)));
  EXPECT_GE(cluster.node("late").counters().sync_timeouts, 1u);
}

TEST(SyncTest, AChangeThatStorageRefusesIsNotAskedForInALoop) {
  Cluster cluster;
  cluster.AddMany(2);
  const auto ids = cluster.Write("n00", 1);
  for (int i = 0; i < 200; ++i) {
    cluster.host("n01").persists = false;
    cluster.Run(milliseconds(100));
    if (cluster.node("n01").InFlightBytes() == 0) continue;
    cluster.Do("n01",
               [&](Node& node, Instant now, Outputs& out) { node.OnPersistFailed(ids, now, out); });
  }
  EXPECT_LE(cluster.host("n01").persisted[ids[0]], 8);  // in 20 s
}

TEST(SyncTest, ANodeSaysHowFarBehindItsPeersAre) {
  Cluster cluster;
  cluster.AddMany(2);
  cluster.host("n01").persists = false;
  cluster.Write("n00", 7);
  cluster.Run(seconds(3));
  EXPECT_EQ(cluster.node("n00").Member("n01")->versions_behind, 7u);
}

TEST(SyncTest, ParkedChangesAreAskedForAgainInATransfer) {
  Cluster cluster;
  cluster.AddMany(2);
  const auto ids = cluster.Write("n00", 3);
  cluster.Run(seconds(1));
  cluster.node("n01").SetParked({ids[1]});
  cluster.host("n00").log.clear();
  crdt::VersionSet asked;
  cluster.drop_frame = [&](const std::string&, const std::string&, const Frame& frame) {
    if (const auto* request = std::get_if<TransferRequest>(&frame)) asked = request->applied;
    return std::holds_alternative<FreshChanges>(frame) || std::holds_alternative<IHave>(frame);
  };
  cluster.Write("n00", 1);
  cluster.host("n00").log.clear();
  cluster.Run(seconds(5));
  EXPECT_TRUE(asked.Contains(ids[0]));
  EXPECT_FALSE(asked.Contains(ids[1]));
}

}  // namespace
}  // namespace patina::gossip

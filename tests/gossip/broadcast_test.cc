#include <gtest/gtest.h>

#include <cstdio>

#include "tests/gossip/cluster.h"

namespace patina::gossip {
namespace {

bool AllHave(Cluster& cluster, const std::vector<ChangeId>& ids) {
  for (const std::string& name : cluster.Names()) {
    if (!cluster.host(name).node) continue;
    for (const ChangeId& id : ids) {
      if (!cluster.node(name).received().Contains(id)) return false;
    }
  }
  return true;
}

TEST(BroadcastTest, AChangeLeavesInTheCallThatCommitsItAndIsPersistedInTheCallThatBringsIt) {
  Cluster cluster;
  cluster.AddMany(3);
  Outputs out;
  const Change change{{Rng(9).NextActorId(), 1}, std::make_shared<const std::string>("bytes")};
  cluster.node("n00").OnLocalCommit({change}, cluster.now(), out);
  ASSERT_EQ(out.frames.size(), 2u);
  EXPECT_TRUE(std::holds_alternative<FreshChanges>(*out.frames[0].frame));
  Outputs there;
  cluster.node("n01").OnFrame("n00", *out.frames[0].frame, cluster.now(), there);
  ASSERT_EQ(there.persist.size(), 1u);
  EXPECT_EQ(there.persist[0].bytes, change.bytes);
}

TEST(BroadcastTest, EveryNodeGetsEveryChangeExactlyOnceInThreeRegions) {
  Cluster cluster(7);
  cluster.AddMany(30, 3);
  std::vector<ChangeId> ids;
  for (int round = 0; round < 5; ++round) {
    for (const std::string& name : cluster.Names()) {
      for (const ChangeId& id : cluster.Write(name)) ids.push_back(id);
    }
    cluster.Run(milliseconds(100));
  }
  const auto took = cluster.RunUntil([&] { return AllHave(cluster, ids); }, seconds(2));
  ASSERT_TRUE(took);
  cluster.Run(seconds(10));
  uint64_t copies = 0, wanted = 0;
  for (const std::string& name : cluster.Names()) {
    const Cluster::Host& host = cluster.host(name);
    copies += host.copies;
    wanted += ids.size() - 5;  // not its own
    for (const auto& [id, times] : host.persisted) EXPECT_EQ(times, 1);
    EXPECT_EQ(host.persisted.size(), ids.size() - 5);
  }
  const double per_node = static_cast<double>(copies) / static_cast<double>(wanted);
  std::printf("copies per node: %.3f\n", per_node);
  EXPECT_LE(per_node, 1.05);
}

TEST(BroadcastTest, AFarRegionHasAChangeAfterOneFarAndAFewNearHops) {
  Cluster cluster(8);
  cluster.AddMany(60, 3);
  const auto ids = cluster.Write("n00");
  cluster.Run(milliseconds(40 + 3 * 1));
  EXPECT_TRUE(AllHave(cluster, ids) ||
              cluster.RunUntil([&] { return AllHave(cluster, ids); }, milliseconds(2)));
}

/// All frames of fresh changes to the victim are lost: the notes of the tree's neighbours must do.
TEST(BroadcastTest, LostBytesArePulledAfterANoteWithinAFewDelays) {
  Cluster cluster(9);
  cluster.AddMany(30, 3);
  int lost = 0;
  cluster.drop_frame = [&](const std::string&, const std::string& to, const Frame& frame) {
    const auto* fresh = std::get_if<FreshChanges>(&frame);
    if (fresh == nullptr || fresh->hops == 0 || to != "n13" || lost > 0) return false;
    ++lost;
    return true;
  };
  std::vector<ChangeId> ids;
  for (const std::string& name : cluster.Names()) {
    if (name == "n13") continue;
    ids = cluster.Write(name);
    cluster.Run(milliseconds(150));
    if (lost > 0) break;
  }
  ASSERT_EQ(lost, 1);
  EXPECT_TRUE(AllHave(cluster, ids));
  EXPECT_EQ(cluster.node("n13").counters().pulls, 1u);
  EXPECT_EQ(cluster.node("n13").counters().pulled_changes, 1u);
}

TEST(BroadcastTest, ACrashedRelayDelaysItsRegionByAPullOnly) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Cluster cluster(seed);
    cluster.AddMany(24, 2);
    // Find a relay: who gets bytes first hand from n00 in the other region.
    std::string relay;
    cluster.drop_frame = [&](const std::string& from, const std::string& to, const Frame& frame) {
      const auto* fresh = std::get_if<FreshChanges>(&frame);
      if (from == "n00" && fresh && relay.empty() && cluster.host(to).region == "r2") relay = to;
      return false;
    };
    cluster.Write("n00");
    cluster.Run(seconds(1));
    ASSERT_FALSE(relay.empty());
    cluster.Crash(relay);
    const auto ids = cluster.Write("n00");
    const auto took = cluster.RunUntil([&] { return AllHave(cluster, ids); }, seconds(3));
    ASSERT_TRUE(took);
    EXPECT_LE(*took, milliseconds(200)) << "seed " << seed;
  }
}

TEST(BroadcastTest, AGapIsPulledFromWhoSentTheLaterVersion) {
  Cluster cluster;
  cluster.Add("a");
  cluster.Add("b");
  cluster.Run(seconds(5));
  int dropped = 0;
  cluster.drop_frame = [&](const std::string&, const std::string&, const Frame& frame) {
    return std::holds_alternative<FreshChanges>(frame) && ++dropped == 2;
  };
  const auto ids = cluster.Write("a", 3);
  cluster.Run(milliseconds(50));
  EXPECT_TRUE(AllHave(cluster, ids));
  EXPECT_EQ(cluster.node("b").counters().pulled_changes, 1u);
}

TEST(BroadcastTest, WhatCannotBePutInFlightIsDroppedCountedAndRepairedLater) {
  Cluster cluster;
  cluster.config.in_flight_bytes_max = 1000;
  cluster.Add("a");
  cluster.Add("b");
  cluster.Run(seconds(5));
  cluster.host("b").persists = false;
  const auto ids = cluster.Write("a", 50);  // of 100 bytes each
  cluster.Run(seconds(1));
  EXPECT_LE(cluster.node("b").InFlightBytes(), 1000u);
  EXPECT_GT(cluster.node("b").counters().changes_dropped_in_flight_full, 0u);
  cluster.host("b").persists = true;
  std::vector<ChangeId> stuck;
  for (const auto& [id, times] : cluster.host("b").persisted) stuck.push_back(id);
  cluster.Do("b",
             [&](Node& node, Instant now, Outputs& out) { node.OnPersistFailed(stuck, now, out); });
  EXPECT_TRUE(cluster.RunUntil([&] { return cluster.Converged(); }, seconds(30)));
  EXPECT_EQ(cluster.node("b").InFlightBytes(), 0u);
}

TEST(BroadcastTest, AnOwnChangeWithoutBytesIsLeftToRepairAndCounted) {
  Cluster cluster;
  cluster.AddMany(3);
  cluster.Run(seconds(2));
  auto& writer = cluster.host("n01");
  const ChangeId id{writer.actor, writer.next_version++};
  writer.log[id] = std::make_shared<const std::string>(100, 'x');
  writer.received.Add(id);
  cluster.Do("n01", [&](Node& node, Instant now, Outputs& out) {
    node.OnLocalCommit({{id, nullptr}}, now, out);
  });
  EXPECT_EQ(cluster.node("n01").counters().changes_left_to_repair, 1u);
  EXPECT_TRUE(cluster.RunUntil([&] { return cluster.Converged(); }, seconds(10)));
}

TEST(BroadcastTest, MembershipViewsThatDifferStillDeliver) {
  Cluster cluster(4);
  cluster.AddMany(20, 2);
  for (int i = 0; i < 10; ++i) {
    cluster.Add("late" + std::to_string(i), i % 2 ? "r1" : "r2");
    cluster.Write("n00");
    cluster.Run(milliseconds(150));
    cluster.Write("late" + std::to_string(i));
  }
  EXPECT_TRUE(cluster.RunUntil([&] { return cluster.Converged(); }, seconds(6)));
}

}  // namespace
}  // namespace patina::gossip

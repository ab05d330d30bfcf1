#include <gtest/gtest.h>

#include "tests/gossip/cluster.h"

// Large transactions: the manifest comes by anti-entropy, the chunks one by one.

namespace patina::gossip {
namespace {

TEST(LargeTest, ReachesEveryNodeInChunksAndIsReceivedWhenAllAreThere) {
  Cluster cluster;
  cluster.AddMany(5);
  const ChangeId id = cluster.WriteLarge("n01", 50);
  EXPECT_TRUE(cluster.RunUntil([&] { return cluster.Converged(); }, seconds(20)));
  for (const std::string& name : cluster.Names()) {
    EXPECT_TRUE(cluster.node(name).received().Contains(id));
    EXPECT_EQ(cluster.host(name).persisted.count(id), 0u) << "never as a changeset";
    EXPECT_EQ(cluster.node(name).counters().large_merged, name == "n01" ? 0u : 1u);
    EXPECT_EQ(cluster.node(name).InFlightBytes(), 0u);
  }
}

TEST(LargeTest, WhenThePeerGoesItGoesOnWithAnotherWhereItStopped) {
  Cluster cluster(3);
  cluster.AddMany(2);
  const ChangeId id = cluster.WriteLarge("n00", 100);
  ASSERT_TRUE(cluster.RunUntil([&] { return cluster.Converged(); }, seconds(20)));
  const uint64_t served = cluster.host("n00").large_chunks_served;
  EXPECT_EQ(served, 100u);
  Cluster::Host& late = cluster.Add("late");
  ASSERT_TRUE(cluster.RunUntil([&] { return late.staged_large[id] >= 30; }, seconds(20)));
  // Whoever it asked goes away.
  const std::string asked = cluster.host("n00").large_chunks_served > served ? "n00" : "n01";
  cluster.Crash(asked);
  ASSERT_TRUE(cluster.RunUntil([&] { return late.received.Contains(id); }, seconds(60)));
  const uint64_t all =
      cluster.host("n00").large_chunks_served + cluster.host("n01").large_chunks_served - served;
  EXPECT_LE(all, 103u) << "nothing is fetched twice, but what was on its way";
}

TEST(LargeTest, ARestartedReceiverGoesOnWhereItStopped) {
  Cluster cluster(4);
  cluster.AddMany(2);
  const ChangeId id = cluster.WriteLarge("n00", 100);
  Cluster::Host& other = cluster.host("n01");
  ASSERT_TRUE(cluster.RunUntil([&] { return other.staged_large[id] >= 40; }, seconds(20)));
  cluster.Crash("n01");
  cluster.Restart("n01", 1);
  ASSERT_TRUE(cluster.RunUntil([&] { return other.received.Contains(id); }, seconds(60)));
  EXPECT_LE(cluster.host("n00").large_chunks_served, 103u);
}

TEST(LargeTest, SmallChangesAreNotHeldUp) {
  Cluster cluster(5);
  cluster.AddMany(2);
  cluster.WriteLarge("n00", 5'000);
  cluster.Run(seconds(3));
  const ChangeId small = cluster.Write("n00")[0];
  EXPECT_TRUE(
      cluster.RunUntil([&] { return cluster.node("n01").received().Contains(small); }, seconds(1)));
  EXPECT_FALSE(cluster.Converged());
}

TEST(LargeTest, OneAtATime) {
  Cluster cluster(6);
  cluster.AddMany(3);
  for (int i = 0; i < 4; ++i) cluster.WriteLarge("n00", 20);
  cluster.WriteLarge("n02", 20);
  EXPECT_TRUE(cluster.RunUntil([&] { return cluster.Converged(); }, seconds(60)));
  EXPECT_EQ(cluster.node("n01").counters().large_merged, 5u);
  EXPECT_EQ(cluster.node("n01").counters().transfers_failed, 0u);
}

TEST(LargeTest, AManifestAmongFreshChangesIsNotTakenForAChangeset) {
  Cluster cluster(7);
  cluster.AddMany(2);
  const ChangeId id = cluster.WriteLarge("n00", 3);
  const SharedBytes manifest = cluster.host("n00").log[id];
  cluster.Do("n01", [&](Node& node, Instant now, Outputs& out) {
    node.OnFrame("n00", FreshChanges{"n00", 0, {{id, manifest}}}, now, out);
    EXPECT_TRUE(out.persist.empty());
  });
  EXPECT_TRUE(cluster.RunUntil([&] { return cluster.Converged(); }, seconds(20)));
}

}  // namespace
}  // namespace patina::gossip

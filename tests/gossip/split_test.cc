#include <gtest/gtest.h>

#include <cstdio>

#include "tests/gossip/cluster.h"

namespace patina::gossip {
namespace {

void SplitAndHeal(uint64_t seed, int nodes, int first_side) {
  Cluster cluster(seed);
  cluster.AddMany(nodes, 2);
  std::set<std::string> a, b;
  for (const std::string& name : cluster.Names()) {
    (static_cast<int>(a.size()) < first_side ? a : b).insert(name);
  }
  cluster.Partition(a, b);
  const auto apart = [&] {
    for (const std::string& x : a) {
      for (const std::string& y : b) {
        if (cluster.Sees(x, y) != MemberState::kDead) return false;
        if (cluster.Sees(y, x) != MemberState::kDead) return false;
      }
    }
    return true;
  };
  ASSERT_TRUE(cluster.RunUntil(apart, seconds(400))) << "seed " << seed;
  cluster.Run(seconds(30));
  cluster.Write(*a.begin(), 5);
  cluster.Write(*b.begin(), 5);
  cluster.Run(seconds(5));
  cluster.Heal();
  const auto alive = cluster.RunUntil([&] { return cluster.AllAlive(); }, seconds(20));
  ASSERT_TRUE(alive) << "seed " << seed;
  EXPECT_LE(*alive, seconds(10)) << "seed " << seed;
  EXPECT_TRUE(cluster.RunUntil([&] { return cluster.Converged(); }, seconds(10)));
  std::printf("%d nodes, split at %d: all alive again after %lld ms\n", nodes, first_side,
              static_cast<long long>(ToMs(*alive)));
}

TEST(SplitTest, BothSidesOfAHealedSplitAreAliveAgainWithinTenSeconds) {
  SplitAndHeal(1, 10, 5);
  SplitAndHeal(2, 30, 15);
  SplitAndHeal(3, 30, 3);
}

TEST(SplitTest, TwoNodesFindEachOtherAgain) { SplitAndHeal(4, 2, 1); }

TEST(SplitTest, AnIslandOfOneComesBack) { SplitAndHeal(5, 12, 1); }

TEST(SplitTest, AOneWayCutDoesNotKillTheReachable) {
  Cluster cluster;
  cluster.AddMany(10);
  for (const char* other : {"n01", "n02", "n03"}) cluster.Cut("n00", other);
  cluster.Run(seconds(60));
  EXPECT_EQ(cluster.Sees("n00", "n04"), MemberState::kAlive);
  EXPECT_EQ(cluster.Sees("n05", "n00"), MemberState::kAlive);
  cluster.Heal();
  EXPECT_TRUE(cluster.RunUntil([&] { return cluster.AllAlive(); }, seconds(10)));
}

TEST(SplitTest, AMemberDeadForTooLongIsForgotten) {
  Cluster cluster;
  cluster.config.dead_kept = std::chrono::minutes(5);
  cluster.AddMany(4);
  cluster.Crash("n03");
  cluster.Run(std::chrono::minutes(10));
  EXPECT_FALSE(cluster.node("n01").Member("n03"));
}

}  // namespace
}  // namespace patina::gossip

#include "base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

namespace patina {
namespace {

TEST(RandomTest, ASeedGivesTheSameNumbersForEver) {
  Rng one(1), two(1), other(2);
  EXPECT_EQ(one.Next(), 0xb3f2af6d0fc710c5u);  // recorded: simulations are replayed by seed
  two.Next();
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(one.Next(), two.Next());
  EXPECT_NE(one.Next(), other.Next());
}

TEST(RandomTest, NumbersStayWithinTheirBounds) {
  Rng rng(3);
  std::set<uint64_t> below;
  std::set<int64_t> between;
  for (int i = 0; i < 10'000; ++i) {
    below.insert(rng.Below(7));
    between.insert(rng.Between(-3, 3));
    const double unit = rng.Unit();
    ASSERT_TRUE(unit >= 0 && unit < 1);
  }
  EXPECT_EQ(below, (std::set<uint64_t>{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(between, (std::set<int64_t>{-3, -2, -1, 0, 1, 2, 3}));
}

TEST(RandomTest, ChanceZeroNeverHappensAndChanceOneAlways) {
  Rng rng(4);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_FALSE(rng.Chance(0));
    EXPECT_TRUE(rng.Chance(1));
  }
}

TEST(RandomTest, ShufflingKeepsTheItems) {
  Rng rng(5);
  std::vector<int> items(100);
  for (int i = 0; i < 100; ++i) items[static_cast<size_t>(i)] = i;
  const std::vector<int> before = items;
  rng.Shuffle(items);
  EXPECT_NE(items, before);
  std::sort(items.begin(), items.end());
  EXPECT_EQ(items, before);
}

TEST(RandomTest, ActorIdsDiffer) {
  Rng rng(6);
  std::set<ActorId> actors;
  for (int i = 0; i < 1000; ++i) actors.insert(rng.NextActorId());
  EXPECT_EQ(actors.size(), 1000u);
}

}  // namespace
}  // namespace patina

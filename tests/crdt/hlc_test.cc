#include "crdt/hlc.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace patina::crdt {
namespace {

TEST(HlcTest, FollowsTheClusterTime) {
  HybridClock clock;
  EXPECT_EQ(clock.Next(1000), HlcTime::FromMs(1000));
  EXPECT_EQ(clock.Next(1001), HlcTime::FromMs(1001));
}

TEST(HlcTest, CountsWhileTheClusterTimeStandsStillOrGoesBack) {
  HybridClock clock;
  EXPECT_EQ(clock.Next(1000), HlcTime::FromMs(1000, 0));
  EXPECT_EQ(clock.Next(1000), HlcTime::FromMs(1000, 1));
  EXPECT_EQ(clock.Next(10), HlcTime::FromMs(1000, 2));
  EXPECT_EQ(clock.Next(-5), HlcTime::FromMs(1000, 3));
}

TEST(HlcTest, AFullCounterCarriesIntoTheMilliseconds) {
  HybridClock clock(HlcTime::FromMs(1000, 0xffff));
  EXPECT_EQ(clock.Next(1000), HlcTime::FromMs(1001, 0));
}

TEST(HlcTest, AWriteAfterAnObservedStampIsLaterThanIt) {
  HybridClock clock;
  clock.Observe(HlcTime::FromMs(5000, 7));
  EXPECT_EQ(clock.Next(1000), HlcTime::FromMs(5000, 8));
  clock.Observe(HlcTime::FromMs(3000));
  EXPECT_EQ(clock.last(), HlcTime::FromMs(5000, 8));
}

TEST(HlcTest, NeverGivesATimeAtOrBelowTheFloor) {
  HybridClock clock(HlcTime::FromMs(1000));
  EXPECT_GT(clock.Next(0), HlcTime::FromMs(1000));
}

TEST(HlcTest, TimesAreStrictlyAscendingWhateverTheClockDoes) {
  Rng rng(21);
  HybridClock clock;
  HlcTime last;
  for (int i = 0; i < 100'000; ++i) {
    const int64_t now = rng.Between(0, 50);
    if (rng.Chance(0.2)) clock.Observe(HlcTime::FromMs(rng.Between(0, 60)));
    const HlcTime seen = clock.last(), next = clock.Next(now);
    ASSERT_GT(next, last);
    ASSERT_GT(next, seen);
    ASSERT_GE(next, HlcTime::FromMs(now));
    last = next;
  }
}

TEST(HlcTest, MillisecondsAreClampedToTheirBits) {
  EXPECT_EQ(HlcTime::FromMs(-1).bits, 0u);
  EXPECT_EQ(HlcTime::FromMs(INT64_MAX, 3).ms(), (int64_t{1} << 48) - 1);
  EXPECT_EQ(HlcTime::FromMs(INT64_MAX, 3).counter(), 3);
}

TEST(HlcTest, NanosecondsKeepTheOrderAndDoNotOverflow) {
  EXPECT_EQ(HlcTime::FromMs(2, 5).ns(), 2'000'005);
  EXPECT_LT(HlcTime::FromMs(2, 0xffff).ns(), HlcTime::FromMs(3).ns());
  EXPECT_EQ(HlcTime{UINT64_MAX}.ns(), INT64_MAX);
  EXPECT_GT(HlcTime::FromMs(INT64_MAX / 1'000'000 - 1, 0xffff).ns(), 0);
}

TEST(HlcTest, ReadsAsADate) {
  EXPECT_EQ(HlcTime::FromMs(1795222923456, 7).ToString(), "2026-11-21T01:02:03.456Z+7");
  EXPECT_EQ(HlcTime().ToString(), "1970-01-01T00:00:00.000Z+0");
  EXPECT_FALSE(HlcTime{UINT64_MAX}.ToString().empty());
}

}  // namespace
}  // namespace patina::crdt

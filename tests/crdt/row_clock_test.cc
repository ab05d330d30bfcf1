#include "crdt/row_clock.h"

#include <gtest/gtest.h>

#include <array>

#include "tests/crdt/crdt_test_util.h"

namespace patina::crdt {
namespace {

class RowClockTest : public ::testing::Test {
 protected:
  // The first actor has the larger id: its number is smaller, its writes win at equal times.
  RowClockTest() : large_(actors_.Intern(TestActor(9))), small_(actors_.Intern(TestActor(1))) {}

  static Stamp At(uint64_t time, ActorIndex actor, uint64_t version = 1) {
    return {{time}, version, actor};
  }
  MergeEffect Merge(RowClock* clock, Stamp stamp, Says says, std::vector<ColumnIndex> columns) {
    return clock->Merge({stamp, says, columns.data(), columns.size()}, actors_);
  }
  static std::string Encoded(const RowClock& clock) {
    std::string bytes;
    ByteWriter out(&bytes);
    clock.Encode(out);
    return bytes;
  }
  bool Decode(std::string_view bytes, RowClock* clock) const {
    ByteReader in(bytes);
    return RowClock::Decode(in, actors_.size(), clock) && in.AtEnd();
  }
  RowClock RandomClock(Rng& rng, size_t changes, uint64_t columns) {
    RowClock clock;
    for (size_t i = 0; i < changes; ++i) {
      const auto says = static_cast<Says>(rng.Below(40) < 38 ? 0 : 1 + rng.Below(2));
      std::vector<ColumnIndex> written;
      for (uint64_t column = 0; column < columns && says != Says::kDeleted; ++column) {
        if (says == Says::kAlive || rng.Chance(0.2)) {
          written.push_back(static_cast<ColumnIndex>(column));
        }
      }
      Merge(&clock, At(rng.Next() >> 8, rng.Chance(0.5) ? large_ : small_, 1 + rng.Below(1000)),
            says, written);
    }
    return clock;
  }

  ActorTable actors_;
  ActorIndex large_, small_;
};

TEST_F(RowClockTest, ARowNeverHeardOfHasNothing) {
  const RowClock clock;
  EXPECT_FALSE(clock.alive());
  EXPECT_TRUE(clock.existence().IsNever());
  EXPECT_TRUE(clock.Cell(7).IsNever());
  EXPECT_EQ(clock.CellCount(), 0u);
}

TEST_F(RowClockTest, LaterWriteWinsAlthoughItsClockWasBehind) {
  // The second writer's host clock says 50, but it has seen a write of 100, so it writes at 101.
  HybridClock behind;
  behind.Observe({100});
  const HlcTime written = behind.Next(0);
  RowClock clock;
  Merge(&clock, At(100, large_), Says::kAlive, {0, 1});
  const MergeEffect effect = Merge(&clock, {written, 1, small_}, Says::kNothing, {1});
  EXPECT_TRUE(effect.taken[1]);
  EXPECT_EQ(clock.Cell(1).actor, small_);
  EXPECT_EQ(clock.Cell(0).actor, large_);
}

TEST_F(RowClockTest, EqualTimesAreSettledByTheActorsBytesNotByItsNumber) {
  RowClock clock;
  Merge(&clock, At(100, small_), Says::kAlive, {0});
  EXPECT_TRUE(Merge(&clock, At(100, large_), Says::kNothing, {0}).taken[0]);
  EXPECT_TRUE(Merge(&clock, At(100, small_), Says::kNothing, {0}).Nothing());
  EXPECT_TRUE(Later(At(100, large_), At(100, small_), actors_));
}

TEST_F(RowClockTest, EverythingIsLaterThanNever) {
  EXPECT_TRUE(Later(At(0, small_), Stamp(), actors_));
  EXPECT_FALSE(Later(Stamp(), At(0, small_), actors_));
  EXPECT_FALSE(Later(Stamp(), Stamp(), actors_));
}

TEST_F(RowClockTest, AnInsertAfterADeleteHoldsDefaultsWhereItWroteNothing) {
  RowClock clock;
  Merge(&clock, At(10, large_), Says::kAlive, {0, 1, 2});
  const MergeEffect effect = Merge(&clock, At(20, large_), Says::kAlive, {1});
  EXPECT_TRUE(effect.existence);
  EXPECT_EQ(effect.taken, ColumnMask(0b010));
  EXPECT_EQ(effect.reset, ColumnMask(0b101));
  EXPECT_EQ(clock.CellCount(), 1u);
}

TEST_F(RowClockTest, AnUpdateThatOvertookTheDelayedInsertIsKept) {
  RowClock clock;
  EXPECT_FALSE(Merge(&clock, At(20, small_), Says::kNothing, {1}).existence);
  EXPECT_FALSE(clock.alive());
  const MergeEffect effect = Merge(&clock, At(10, large_), Says::kAlive, {0, 1});
  EXPECT_TRUE(effect.existence);
  EXPECT_EQ(effect.taken, ColumnMask(0b01));
  EXPECT_TRUE(clock.alive());
  EXPECT_EQ(clock.Cell(1), At(20, small_));
}

TEST_F(RowClockTest, ADeletedRowKeepsCellsLaterThanTheDeleteForADelayedInsert) {
  RowClock clock;
  Merge(&clock, At(10, large_), Says::kAlive, {0, 1});
  Merge(&clock, At(30, small_), Says::kNothing, {1});
  const MergeEffect effect = Merge(&clock, At(20, large_), Says::kDeleted, {});
  EXPECT_EQ(effect.reset, ColumnMask(0b01));
  EXPECT_FALSE(clock.alive());
  EXPECT_EQ(clock.Cell(1), At(30, small_));
  EXPECT_TRUE(Merge(&clock, At(25, large_), Says::kAlive, {0, 1}).taken[0]);
  EXPECT_EQ(clock.Cell(1), At(30, small_));
}

TEST_F(RowClockTest, AnInsertOnANodeThatHadNotHeardOfTheOldDeleteDoesNotVanish) {
  RowClock clock;
  Merge(&clock, At(20, large_), Says::kDeleted, {});
  EXPECT_TRUE(Merge(&clock, At(30, small_), Says::kAlive, {0}).existence);
  EXPECT_TRUE(clock.alive());
}

TEST_F(RowClockTest, OlderWritesThanTheDeleteChangeNothing) {
  RowClock clock;
  Merge(&clock, At(20, large_), Says::kDeleted, {});
  EXPECT_TRUE(Merge(&clock, At(10, small_), Says::kAlive, {0, 1}).Nothing());
  EXPECT_TRUE(Merge(&clock, At(15, small_), Says::kNothing, {240}).Nothing());
  EXPECT_EQ(clock.ColumnLimit(), 0u);
  EXPECT_EQ(clock.HeapBytes(), 0u);
}

TEST_F(RowClockTest, EveryColumnMayHaveItsOwnStamp) {
  RowClock clock, twin;
  for (ColumnIndex column = 0; column < kMaxColumns; ++column) {
    const auto mirrored = static_cast<ColumnIndex>(kMaxColumns - 1 - column);
    Merge(&clock, At(100u + column, small_), Says::kNothing, {column});
    Merge(&twin, At(5000u + mirrored, large_), Says::kNothing, {mirrored});
  }
  RowClock decoded;
  EXPECT_TRUE(Decode(Encoded(clock), &decoded));
  EXPECT_EQ(decoded, clock);
  EXPECT_EQ(decoded.CellCount(), kMaxColumns);
  clock.Join(twin, actors_);  // 250 stamps meet 250 others
  EXPECT_EQ(clock, twin);
  EXPECT_EQ(clock.Cell(kMaxColumns - 1).time, HlcTime{5000 + kMaxColumns - 1});
}

TEST_F(RowClockTest, ErasingAColumnMovesLaterColumnsDown) {
  RowClock clock;
  Merge(&clock, At(10, large_), Says::kAlive, {0, 1, 2});
  Merge(&clock, At(20, small_), Says::kNothing, {1});
  Merge(&clock, At(30, small_), Says::kNothing, {2});
  clock.EraseColumn(1);
  EXPECT_EQ(clock.Cell(0), At(10, large_));
  EXPECT_EQ(clock.Cell(1), At(30, small_));
  EXPECT_FALSE(clock.HasCell(2));
  clock.EraseColumn(100);
  EXPECT_EQ(clock.CellCount(), 2u);
  RowClock decoded;
  EXPECT_TRUE(Decode(Encoded(clock), &decoded));
  EXPECT_EQ(decoded, clock);
}

TEST_F(RowClockTest, ARowOfOneStampIsAFewBytes) {
  RowClock clock;
  std::vector<ColumnIndex> columns;
  for (ColumnIndex i = 0; i < 15; ++i) columns.push_back(i);
  Merge(&clock, At(0x1a2b3c4d5e6f0001, large_, 300), Says::kAlive, columns);
  EXPECT_EQ(ToHex(Encoded(clock)), "0701006f5e4d3c2b1aac02010f");
  EXPECT_EQ(clock.HeapBytes(), 0u);
}

TEST_F(RowClockTest, RandomClocksComeBackFromTheirBytes) {
  const uint64_t seed = 41;
  TRACE_SEED(seed);
  Rng rng(seed);
  RowClock decoded;  // reused: nothing of the one before may remain
  for (int i = 0; i < 20'000; ++i) {
    const RowClock clock = RandomClock(rng, static_cast<size_t>(rng.Below(8)), 1 + rng.Below(20));
    const std::string bytes = Encoded(clock);
    ASSERT_TRUE(Decode(bytes, &decoded));
    ASSERT_EQ(decoded, clock);
    RowClock cut;
    for (size_t size = 0; size < bytes.size(); ++size) {
      ASSERT_FALSE(Decode(std::string_view(bytes).substr(0, size), &cut));
    }
  }
}

TEST_F(RowClockTest, UnknownActorsAndColumnsBeyondTheLimitAreRefused) {
  RowClock clock, decoded;
  Merge(&clock, At(1, small_), Says::kAlive, {0});
  const std::string bytes = Encoded(clock);
  ByteReader in(bytes);
  EXPECT_FALSE(RowClock::Decode(in, small_, &decoded));
  EXPECT_FALSE(Decode(*FromHex("07"
                               "0100000000000000"
                               "01"
                               "01"
                               "fb01"),
                      &decoded));
  EXPECT_FALSE(Decode(*FromHex("04"
                               "01"),
                      &decoded));  // uniform, but never existed
  EXPECT_FALSE(Decode(*FromHex("00"
                               "01"
                               "00"
                               "00"),
                      &decoded));  // a cell of no existence
  EXPECT_FALSE(Decode(*FromHex("00"
                               "01"
                               "ff"
                               "00"),
                      &decoded));  // a column more than said
  EXPECT_FALSE(Decode(*FromHex("00"
                               "01"
                               "02"
                               "01"
                               "010101"),
                      &decoded));  // slot 2 of 1
}

TEST_F(RowClockTest, AnyBytesThatDecodeAreTheBytesOfThatClock) {
  const uint64_t seed = 42;
  TRACE_SEED(seed);
  Rng rng(seed);
  RowClock decoded;
  for (int i = 0; i < 50; ++i) {
    Torment(Encoded(RandomClock(rng, 6, 6)), rng, 3000, [&](std::string_view bytes) {
      ByteReader in(bytes);
      if (!RowClock::Decode(in, actors_.size(), &decoded)) return;
      RowClock again;
      ASSERT_TRUE(Decode(Encoded(decoded), &again));
      ASSERT_EQ(again, decoded);
    });
  }
}

TEST(ActorTableTest, NumbersActorsFromOneAndKeepsThem) {
  ActorTable table;
  EXPECT_EQ(table.size(), 1u);
  EXPECT_EQ(table.Intern(TestActor(5)), 1u);
  EXPECT_EQ(table.Intern(TestActor(3)), 2u);
  EXPECT_EQ(table.Intern(TestActor(5)), 1u);
  EXPECT_EQ(table.Get(2), TestActor(3));
  EXPECT_EQ(table.Find(TestActor(4)), std::nullopt);
  EXPECT_EQ(table.Intern(ActorId{}), 0u);  // no actor
}

TEST(ActorTableTest, AFailedCommitsActorsAreForgotten) {
  ActorTable table;
  table.Restore(1, TestActor(1));
  table.Intern(TestActor(2));
  table.Truncate(2);
  EXPECT_EQ(table.Find(TestActor(2)), std::nullopt);
  EXPECT_EQ(table.Intern(TestActor(3)), 2u);
  EXPECT_DEATH(table.Restore(7, TestActor(7)), "order of their numbers");
}

}  // namespace
}  // namespace patina::crdt

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "crdt/row_clock.h"
#include "tests/crdt/crdt_test_util.h"

// The merge must be commutative, associative and idempotent, and be the rules of the model
// (model.py, join()): every sequence of changes of a small domain, against a plain oracle.

namespace patina::crdt {
namespace {

using Order = std::tuple<int64_t, ActorId, uint64_t>;  // of a stamp: (time, actor, version)
const Order kNeverOrder = {-1, ActorId{}, 0};

/// The model's Row: existence, and cells as column -> stamp.
struct OracleRow {
  Order exists = kNeverOrder;
  bool alive = false;
  std::map<ColumnIndex, Order> cells;
  bool operator==(const OracleRow&) const = default;
};

OracleRow OracleJoin(const OracleRow& one, const OracleRow& other) {
  OracleRow joined;
  std::tie(joined.exists, joined.alive) =
      std::max(std::make_tuple(one.exists, one.alive), std::make_tuple(other.exists, other.alive));
  for (const auto* cells : {&one.cells, &other.cells}) {
    for (const auto& [column, stamp] : *cells) {
      const auto [it, inserted] = joined.cells.emplace(column, stamp);
      it->second = std::max(it->second, stamp);
    }
  }
  std::erase_if(joined.cells, [&](const auto& cell) { return cell.second < joined.exists; });
  return joined;
}

struct Change {
  Stamp stamp;
  Says says = Says::kNothing;
  std::vector<ColumnIndex> columns;
};

class MergeLaws : public ::testing::Test {
 protected:
  // Numbered against the order of their ids, so that an order by number would be seen.
  MergeLaws() {
    for (const int first : {9, 5, 2}) actors_.Intern(TestActor(static_cast<uint8_t>(first)));
  }

  MergeEffect Apply(const Change& change, RowClock* clock) const {
    return clock->Merge({change.stamp, change.says, change.columns.data(), change.columns.size()},
                        actors_);
  }
  RowClock ClockOf(const std::vector<Change>& changes) const {
    RowClock clock;
    for (const Change& change : changes) Apply(change, &clock);
    return clock;
  }
  Order OrderOf(const Stamp& stamp) const {
    if (stamp.IsNever()) return kNeverOrder;
    return {static_cast<int64_t>(stamp.time.bits), actors_.Get(stamp.actor), stamp.version};
  }
  OracleRow OracleOf(const Change& change) const {
    OracleRow row;
    if (change.says != Says::kNothing) row.exists = OrderOf(change.stamp);
    row.alive = change.says == Says::kAlive;
    for (ColumnIndex column : change.columns) row.cells[column] = OrderOf(change.stamp);
    return row;
  }
  OracleRow OracleOf(const RowClock& clock) const {
    OracleRow row{OrderOf(clock.existence()), clock.alive(), {}};
    for (ColumnIndex column = 0; column < 5; ++column) {
      if (clock.HasCell(column)) row.cells[column] = OrderOf(clock.Cell(column));
    }
    return row;
  }

  /// What a transaction can say about a row of two columns.
  std::vector<Change> ChangesWith(Stamp stamp) const {
    return {{stamp, Says::kAlive, {0, 1}}, {stamp, Says::kDeleted, {}},
            {stamp, Says::kAlive, {}},     {stamp, Says::kNothing, {0}},
            {stamp, Says::kNothing, {1}},  {stamp, Says::kNothing, {0, 1}}};
  }
  /// Two times, two actors: later, earlier, and equal times of different actors.
  std::vector<Change> Domain(size_t stamps) const {
    const Stamp all[] = {{{10}, 1, 1}, {{10}, 1, 2}, {{20}, 2, 1}, {{20}, 2, 2}};
    std::vector<Change> domain;
    for (size_t i = 0; i < stamps; ++i) {
      for (Change& change : ChangesWith(all[i])) domain.push_back(change);
    }
    return domain;
  }
  /// One transaction says one thing about a row.
  static bool Honest(const std::vector<const Change*>& changes) {
    for (const Change* a : changes) {
      for (const Change* b : changes) {
        if (a != b && a->stamp == b->stamp) return false;
      }
    }
    return true;
  }

  void CheckEffect(const RowClock& before, const Change& change, const MergeEffect& effect,
                   const RowClock& after) const {
    ASSERT_EQ(effect.any_cell, effect.taken.any());
    ASSERT_EQ(effect.Nothing(), before == after);
    ASSERT_EQ(effect.existence,
              !(before.existence() == after.existence()) || before.alive() != after.alive());
    for (ColumnIndex column = 0; column < 5; ++column) {
      const bool differs = !(before.Cell(column) == after.Cell(column));
      ASSERT_EQ(effect.taken[column], differs && after.Cell(column) == change.stamp);
      ASSERT_EQ(effect.reset[column], before.HasCell(column) && !after.HasCell(column));
    }
  }

  ActorTable actors_;
};

TEST_F(MergeLaws, EverySequenceOfThreeChangesGivesTheModelsRow) {
  const std::vector<Change> domain = Domain(4);
  for (const Change& a : domain) {
    for (const Change& b : domain) {
      for (const Change& c : domain) {  // with repetition: also idempotence, and liars
        RowClock clock;
        OracleRow oracle;
        for (const Change* change : {&a, &b, &c}) {
          const RowClock before = clock;
          const MergeEffect effect = Apply(*change, &clock);
          oracle = OracleJoin(oracle, OracleOf(*change));
          ASSERT_EQ(OracleOf(clock), oracle);
          CheckEffect(before, *change, effect, clock);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST_F(MergeLaws, EveryOrderOfFourChangesGivesTheSameClock) {
  const std::vector<Change> domain = Domain(4);
  const size_t per_stamp = domain.size() / 4;
  std::vector<size_t> pick(4, 0);
  const auto next = [&] {
    size_t i = 0;
    while (i < 4 && ++pick[i] == per_stamp) pick[i++] = 0;
    return i < 4;
  };
  do {  // one change of each stamp, in all 24 orders
    std::vector<Change> changes;
    for (size_t i = 0; i < 4; ++i) changes.push_back(domain[i * per_stamp + pick[i]]);
    OracleRow oracle;
    for (const Change& change : changes) oracle = OracleJoin(oracle, OracleOf(change));
    std::vector<size_t> order = {0, 1, 2, 3};
    do {
      RowClock clock;
      for (size_t i : order) Apply(changes[i], &clock);
      ASSERT_EQ(OracleOf(clock), oracle);
    } while (std::next_permutation(order.begin(), order.end()));
  } while (next());
}

TEST_F(MergeLaws, AChangeTwiceIsAChangeOnce) {
  for (const Change& a : Domain(4)) {
    for (const Change& b : Domain(4)) {
      RowClock clock = ClockOf({a, b});
      const RowClock once = clock;
      ASSERT_TRUE(Apply(a, &clock).Nothing() || a.stamp == b.stamp);
      ASSERT_TRUE(Apply(b, &clock).Nothing() || a.stamp == b.stamp);
      ASSERT_EQ(clock, once);
      ASSERT_TRUE(clock.Join(once, actors_).Nothing());
    }
  }
}

TEST_F(MergeLaws, JoinOfClocksIsTheMergeOfTheirChangesInAnyGrouping) {
  const std::vector<Change> domain = Domain(3);
  for (const Change& a : domain) {
    for (const Change& b : domain) {
      for (const Change& c : domain) {
        if (!Honest({&a, &b, &c})) continue;
        const RowClock all = ClockOf({a, b, c});
        RowClock left = ClockOf({a, b}), right = ClockOf({c});
        left.Join(ClockOf({c}), actors_);
        const MergeEffect effect = right.Join(ClockOf({a, b}), actors_);
        ASSERT_EQ(left, all);
        ASSERT_EQ(right, all);
        for (ColumnIndex column = 0; column < 2; ++column) {
          ASSERT_EQ(effect.taken[column],
                    right.HasCell(column) && !(right.Cell(column) == ClockOf({c}).Cell(column)));
        }
      }
    }
  }
}

TEST_F(MergeLaws, RandomHistoriesInRandomOrdersWithDuplicatesConverge) {
  const uint64_t seed = 31;
  TRACE_SEED(seed);
  Rng rng(seed);
  for (int round = 0; round < 20'000; ++round) {
    std::vector<Change> changes;
    OracleRow oracle;
    const uint64_t count = 1 + rng.Below(8);
    for (uint64_t i = 0; i < count; ++i) {
      Change change{{{rng.Below(4)}, i + 1, static_cast<ActorIndex>(1 + rng.Below(3))}, {}, {}};
      change.says = static_cast<Says>(rng.Below(3));
      for (ColumnIndex column = 0; column < 5 && change.says != Says::kDeleted; ++column) {
        if (rng.Chance(0.5)) change.columns.push_back(column);
      }
      oracle = OracleJoin(oracle, OracleOf(change));
      changes.push_back(std::move(change));
    }
    const RowClock first = ClockOf(changes);
    ASSERT_EQ(OracleOf(first), oracle);
    const size_t distinct = changes.size();
    for (size_t i = 0; i < distinct; ++i) {
      if (rng.Chance(0.5)) changes.push_back(changes[i]);
    }
    rng.Shuffle(changes);
    RowClock joined;
    const size_t half = changes.size() / 2;
    const auto middle = changes.begin() + static_cast<ptrdiff_t>(half);
    joined.Join(ClockOf({middle, changes.end()}), actors_);
    joined.Join(ClockOf({changes.begin(), middle}), actors_);
    ASSERT_EQ(ClockOf(changes), first);
    ASSERT_EQ(joined, first);
    std::string bytes, again;
    ByteWriter out(&bytes), out_again(&again);
    first.Encode(out);
    joined.Encode(out_again);
    ASSERT_EQ(bytes, again);  // equal clocks have equal bytes
  }
}

}  // namespace
}  // namespace patina::crdt

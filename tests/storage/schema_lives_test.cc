#include <algorithm>

#include "base/log.h"
#include "storage/log.h"
#include "tests/storage/test_util.h"

// Names that are dropped and used again: model.py's SCHEMAS, deployed at another time on each of
// three nodes, while changes are late, doubled and out of order.
//
//     PATINA_MODEL_SEEDS=5000 storage_tests --gtest_filter='SchemaLivesTest.*'
//     PATINA_MODEL_FIRST=17 PATINA_MODEL_SEEDS=1 …                           one of them

namespace patina::storage {
namespace {

Schema Level(size_t level) {
  const std::string key = "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a, ";
  const std::string keyed = "PRIMARY KEY (x, y)) WITHOUT ROWID;";
  const std::string gone = "CREATE TABLE g (id INTEGER NOT NULL PRIMARY KEY, v);";
  switch (level) {
    case 0:
      return MustParse(key + "z DEFAULT 0);" +
                       "CREATE TABLE w (v, x TEXT NOT NULL, y INTEGER NOT NULL, " + keyed + gone);
    case 1:
      return MustParse(key + "b TEXT DEFAULT 'old', z DEFAULT 0); CREATE INDEX i ON t (b);" +
                       "CREATE TABLE w (b, v, x TEXT NOT NULL, y INTEGER NOT NULL, " + keyed +
                       gone);
    case 2:
      return MustParse(key + "z DEFAULT 0);" +
                           "CREATE TABLE w (v, x TEXT NOT NULL, y INTEGER NOT NULL, " + keyed,
                       "dropped_tables = [\"g\"]\n[t]\ndropped = [\"b\"]\n[w]\ndropped = [\"b\"]");
    default:
      return MustParse(key +
                           "b INTEGER NOT NULL DEFAULT 5, z DEFAULT 0); CREATE INDEX i ON t (b);" +
                           "CREATE TABLE w (b, v, x TEXT NOT NULL, y INTEGER NOT NULL, " + keyed +
                           "CREATE TABLE g (id INTEGER NOT NULL PRIMARY KEY, v);",
                       "dropped_tables = [\"g\"]\n[t]\ndropped = [\"b\"]\n[w]\ndropped = [\"b\"]");
  }
}

constexpr size_t kLevels = 4;

class LivesWorld {
 public:
  explicit LivesWorld(uint64_t seed) : rng_(seed) {
    for (size_t level = 0; level < kLevels; ++level) levels_.push_back(Level(level));
    for (int i = 0; i < 3; ++i) {
      nodes_.push_back(std::make_unique<TestNode>(levels_[0]));
      TestNode& node = *nodes_.back();
      node.options.allow_destructive = true;
      node.options.limits.row_cache_bytes = rng_.Chance(0.5) ? 500 : 1u << 20;
      Reopen(node, false);
    }
  }

  void Run(int steps) {
    for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) Step();
    if (!::testing::Test::HasFailure()) Heal();
    if (::testing::Test::HasFailure()) ADD_FAILURE() << "history:" << trace_;
  }

 private:
  void Reopen(TestNode& node, bool crash) {
    crash ? node.Crash() : node.Close();
    node.options.seed = rng_.Next() | 1;
    node.Open();
    while (!node.Settle().empty()) {
    }
  }

  std::string Pick(std::initializer_list<const char*> choices) {
    return *(choices.begin() + rng_.Below(choices.size()));
  }

  std::string Statement(const Schema& schema) {
    const Table& table = schema.tables[rng_.Below(schema.tables.size())];
    const std::string key = table.name == "w"   ? Pick({"'p', 1", "'q', 1"})
                            : table.name == "g" ? Pick({"1", "2"})
                                                : Pick({"'k1'", "'k2'"});
    const std::string names = table.name == "w" ? "x, y" : "id";
    const std::string column = table.columns[rng_.Below(table.columns.size())].name;
    const std::string value = Pick({"1", "2", "'x'", "5", "0", "'old'"});
    switch (rng_.Below(5)) {
      case 0:
        return "DELETE FROM " + table.name + " WHERE (" + names + ") = (" + key + ")";
      case 1:
      case 2:
        return "INSERT OR REPLACE INTO " + table.name + " (" + names + ", " + column +
               ") VALUES (" + key + ", " + value + ")";
      default:
        return "UPDATE " + table.name + " SET " + column + " = " + value + " WHERE (" + names +
               ") = (" + key + ")";
    }
  }

  void Write(size_t index) {
    TestNode& node = *nodes_[index];
    Transaction transaction;
    for (uint64_t i = 0; i <= rng_.Below(3); ++i) {
      transaction.statements.push_back({Statement(node.options.schema), {}, {}});
      trace_ += StrCat("\n  node ", index, ": ", transaction.statements.back().sql);
    }
    const auto result = node.Run({transaction})[0];
    ASSERT_TRUE(result.ok()) << result.error().ToString();
    if (result->version == 0) return;
    record_[{result->actor, result->version}] = result->changeset;
    for (size_t other = 0; other < nodes_.size(); ++other) {
      for (uint64_t i = other == index ? 0 : rng_.Below(3); i > 0; --i)
        wires_[other].push_back(result->changeset);
    }
  }

  void Deliver(size_t index) {
    auto& wires = wires_[index];
    std::vector<SharedBytes> batch;
    for (uint64_t i = 1 + rng_.Below(4); i > 0 && !wires.empty(); --i) {
      const auto at = static_cast<std::ptrdiff_t>(rng_.Below(wires.size()));
      batch.push_back(wires[static_cast<size_t>(at)]);
      wires.erase(wires.begin() + at);
    }
    if (batch.empty()) return;
    trace_ += StrCat("\n  node ", index, " merges ", batch.size());
    for (const MergeOutcome& outcome : nodes_[index]->Merge(batch)) {
      trace_ += outcome.reason;
      ASSERT_NE(outcome.state, MergeState::kRejected) << outcome.reason;
    }
  }

  void Upgrade(size_t index, size_t level) {
    TestNode& node = *nodes_[index];
    level_[index] = level;
    const uint64_t how = rng_.Below(3);
    trace_ +=
        StrCat("\n  node ", index, how == 0 ? " reloads" : " restarts", " with level ", level);
    if (how == 0) {
      const auto outcome = node.Apply(levels_[level], true);
      ASSERT_TRUE(outcome.ok()) << outcome.error().ToString();
    } else {
      node.options.schema = levels_[level];
      Reopen(node, how == 1);
    }
  }

  void Transfer(size_t from_index, size_t to_index) {
    TestNode &from = *nodes_[from_index], &to = *nodes_[to_index];
    if (from.store->schema().Hash() != to.store->schema().Hash()) return;
    trace_ += StrCat("\n  node ", from_index, " sends its difference to node ", to_index);
    const Status status = TakeTransfer(to, TransferChunks(from, to.store->applied(), 100));
    ASSERT_TRUE(status.ok()) << status.error().ToString();
  }

  void Check(size_t index) {
    TestNode& node = *nodes_[index];
    OracleState expected;
    for (const auto& [id, bytes] : record_) {
      if (node.store->applied().Contains(id)) JoinInto(expected, Says(bytes));
    }
    ASSERT_EQ(node.Dump(), Visible(expected, node.options.schema)) << "node " << index;
    ASSERT_EQ(LiveCells(node, expected), LiveCells(expected, node.options.schema))
        << "node " << index;
  }

  void Step() {
    const auto index = static_cast<size_t>(rng_.Below(nodes_.size()));
    for (auto& each : nodes_) each->clock.AdvanceMs(rng_.Between(0, 3));
    const uint64_t lot = rng_.Below(100);
    if (lot < 45) {
      Write(index);
    } else if (lot < 75) {
      Deliver(index);
    } else if (lot < 80) {
      ASSERT_TRUE(nodes_[index]->store->Checkpoint().ok());
    } else if (lot < 84) {
      trace_ += StrCat("\n  node ", index, " crashes");
      const auto digests = nodes_[index]->Digests();
      Reopen(*nodes_[index], true);
      ASSERT_EQ(nodes_[index]->Digests(), digests);
    } else if (lot < 90) {
      Transfer(index, (index + 1 + rng_.Below(2)) % nodes_.size());
    } else if (level_[index] + 1 < kLevels) {
      Upgrade(index, std::min<size_t>(level_[index] + 1 + rng_.Below(2), kLevels - 1));
    }
    if (!::testing::Test::HasFatalFailure()) Check(index);
  }

  void Heal() {
    std::vector<SharedBytes> everything;
    for (const auto& [id, bytes] : record_) everything.push_back(bytes);
    for (size_t i = 0; i < nodes_.size() && !::testing::Test::HasFailure(); ++i) {
      if (level_[i] + 1 < kLevels) Upgrade(i, kLevels - 1);
      rng_.Shuffle(everything);
      nodes_[i]->Merge(everything);
      EXPECT_TRUE(nodes_[i]->store->Parked().empty());
      Check(i);
      EXPECT_EQ(nodes_[i]->Digests(), nodes_[0]->Digests());
      const auto digests = nodes_[i]->Digests();
      Reopen(*nodes_[i], true);
      EXPECT_EQ(nodes_[i]->Digests(), digests);
    }
  }

  Rng rng_;
  std::vector<Schema> levels_;
  std::vector<std::unique_ptr<TestNode>> nodes_;
  std::map<size_t, size_t> level_;
  std::map<ChangeId, SharedBytes> record_;
  std::map<size_t, std::vector<SharedBytes>> wires_;
  std::string trace_;
};

TEST(SchemaLivesTest, DroppedAndDeclaredAgainAnyHistoryGivesTheJoinOnEveryNode) {
  ForEachSeed("PATINA_MODEL", 60, [](uint64_t seed) { LivesWorld(seed).Run(60); });
}

// ---- One claim each -----------------------------------------------------------------------------

TEST(SchemaLivesTest, CellsOfADroppedColumnAreDiscardedAndCountedTheOthersCount) {
  TestNode old(Level(1)), dropped(Level(2));
  const SharedBytes change = old.Do("INSERT INTO t VALUES ('k', 1, 'gone', 2)").changeset;
  EXPECT_EQ(dropped.Merge(change), MergeState::kApplied);
  EXPECT_EQ(dropped.Dump(), std::vector<std::string>{"t: 1|'k'|2"});
  EXPECT_EQ(dropped.store->Stats().cells_discarded, 1u);
  const SharedBytes only = old.Do("UPDATE t SET b = 'later'").changeset;
  EXPECT_EQ(dropped.Merge(only), MergeState::kApplied) << "nothing of it counts, but it is known";
  EXPECT_EQ(dropped.store->applied(), old.store->applied());
  EXPECT_EQ(dropped.store->Stats().cells_discarded, 2u);
}

TEST(SchemaLivesTest, DeclaringTheNameAgainBringsNothingBack) {
  TestNode node(Level(1));
  node.Do("INSERT INTO t VALUES ('k', 1, 'gone', 2), ('stays', 3, 'old', 4)");
  TestNode late(Level(1));
  late.clock.AdvanceMs(100);
  const SharedBytes later = late.Do("INSERT INTO t VALUES ('k', 9, 'late', 9)").changeset;
  ASSERT_TRUE(node.Apply(Level(2), true).ok());
  ASSERT_TRUE(node.Apply(Level(3), true).ok());
  EXPECT_EQ(node.Dump(), (std::vector<std::string>{"t: 1|5|'k'|2", "t: 3|5|'stays'|4"}));
  node.Merge(later);
  EXPECT_EQ(node.Dump(), (std::vector<std::string>{"t: 3|5|'stays'|4", "t: 9|5|'k'|9"}))
      << "a later stamp, but of the column's life before";
  EXPECT_EQ(node.Rows("SELECT count(*) FROM t WHERE b = 5"), std::vector<std::string>{"2"});
}

TEST(SchemaLivesTest, ChangesForALaterLifeWait) {
  TestNode node(Level(1)), newer(Level(3));
  const SharedBytes column = newer.Do("INSERT INTO t VALUES ('k', 1, 7, 2)").changeset;
  const SharedBytes table = newer.Do("INSERT INTO g VALUES (1, 'again')").changeset;
  EXPECT_EQ(node.Merge(column), MergeState::kParked);
  EXPECT_EQ(node.Merge(table), MergeState::kParked);
  ASSERT_TRUE(node.Apply(Level(2), true).ok());
  ASSERT_EQ(node.store->Parked().size(), 2u);
  EXPECT_EQ(node.store->Parked()[0].reason, "unknown column t.b (dropped 1 times before)");
  EXPECT_EQ(node.store->Parked()[1].reason, "unknown table g (dropped 1 times before)");
  ASSERT_TRUE(node.Apply(Level(3)).ok()) << "adding is not destructive";
  EXPECT_TRUE(node.store->Parked().empty());
  EXPECT_EQ(node.Dump(), newer.Dump());
  EXPECT_EQ(node.Digests(), newer.Digests());
}

TEST(SchemaLivesTest, RowsOfADroppedTableAreDiscardedAndCounted) {
  TestNode old(Level(1)), node(Level(1));
  node.Do("INSERT INTO g VALUES (1, 'mine')");
  ASSERT_TRUE(node.Apply(Level(2), true).ok());
  const SharedBytes change =
      old.Do({"INSERT INTO g VALUES (2, 'x')", "DELETE FROM g", "INSERT INTO g VALUES (3, 'y')",
              "INSERT INTO t (id) VALUES ('k')"})
          .changeset;
  EXPECT_EQ(node.Merge(change), MergeState::kApplied);
  EXPECT_EQ(node.store->Stats().rows_discarded, 1u);
  EXPECT_EQ(node.Dump(), std::vector<std::string>{"t: NULL|'k'|0"});
  ASSERT_TRUE(node.Apply(Level(3), true).ok());
  EXPECT_EQ(node.Rows("SELECT count(*) FROM g"), std::vector<std::string>{"0"});
}

TEST(SchemaLivesTest, TheLogSaysWhichWordsWereDiscarded) {
  TestNode old(Level(1)), dropped(Level(2));
  dropped.Merge(
      old.Do({"INSERT INTO g VALUES (1, 'x')", "INSERT INTO t VALUES ('k', 1, 'gone', 2)"})
          .changeset);
  const auto entries = dropped.reader->ReadLogAfter(0, 1 << 20);
  ASSERT_TRUE(entries.ok());
  std::string bits;
  EffectReader effect((*entries)[0].effect);
  for (int i = 0; i < 6; ++i) bits += effect.Next() ? '1' : '0';
  EXPECT_EQ(bits, "001101") << "g's row and its v; t's row, a, b, z";
}

TEST(SchemaLivesTest, DroppingNeedsTheNameListedAndTheFlag) {
  TestNode node(Level(1));
  node.Do("INSERT INTO t VALUES ('k', 1, 'x', 2)");
  const auto rows = node.Dump();
  EXPECT_THAT(node.Apply(Level(0), true).error().message,
              ::testing::HasSubstr("[t] dropped = [\"b\"]"));
  EXPECT_THAT(node.Apply(Level(2)).error().message,
              ::testing::AllOf(::testing::HasSubstr("--allow-destructive"),
                               ::testing::HasSubstr("drop column t.b"),
                               ::testing::HasSubstr("drop table g")));
  EXPECT_EQ(node.Dump(), rows);
  ASSERT_TRUE(node.Apply(Level(2), true).ok());
  EXPECT_THAT(node.Apply(Level(1), true).error().message,
              ::testing::HasSubstr("keep it in tables.toml"));
  node.Close();
  node.options.schema = Level(0);
  EXPECT_EQ(node.TryOpen().error().code, Errc::kFailedPrecondition);
}

TEST(SchemaLivesTest, AChangeThatSqliteRefusesLeavesEverythingAsItWas) {
  TestNode node(MustParse("CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, b, a)"));
  node.Do("INSERT INTO t VALUES ('k', 1, 2)");
  const auto digests = node.Digests();
  const Schema bad =
      MustParse("CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a, c DEFAULT 1 CHECK (c > 1))",
                "[t]\ndropped = [\"b\"]");
  EXPECT_EQ(node.Apply(bad, true).error().code, Errc::kFailedPrecondition)
      << "the row's default breaks the CHECK, and b was dropped before that was seen";
  EXPECT_EQ(node.Digests(), digests);
  node.Do("UPDATE t SET a = 3");
  EXPECT_EQ(node.Dump(), std::vector<std::string>{"t: 3|1|'k'"});
  node.CrashAndOpen();
  EXPECT_EQ(node.Dump(), std::vector<std::string>{"t: 3|1|'k'"});
}

}  // namespace
}  // namespace patina::storage

#include <algorithm>
#include <set>

#include "base/log.h"
#include "storage/foreign_rows.h"
#include "tests/storage/test_util.h"
#include "tests/support/environment.h"

// Another SQLite client writes in the node's file at random, or not at all for an hour: all of it
// is found, and nothing else.

namespace patina::storage {
namespace {

constexpr std::string_view kThreeKinds =
    "CREATE TABLE t (a TEXT NOT NULL PRIMARY KEY, v INTEGER NOT NULL DEFAULT 0, w TEXT);"
    "CREATE TABLE k (a INTEGER NOT NULL PRIMARY KEY, v INTEGER NOT NULL DEFAULT 0, w TEXT);"
    "CREATE TABLE p (a TEXT NOT NULL PRIMARY KEY, v INTEGER NOT NULL DEFAULT 0, w TEXT) "
    "WITHOUT ROWID;";

/// "t: 'key'" of a line of Dump: the key is the first column.
std::string KeyOfLine(const std::string& line) { return line.substr(0, line.find('|')); }

class RandomWrites {
 public:
  explicit RandomWrites(uint64_t seed)
      : rng_(seed), node_(MustParse(kThreeKinds)), peer_(MustParse(kThreeKinds)) {}

  void Run() {
    for (int i = 0; i < 40; ++i) Patina(true);
    for (int round = 0; round < 6; ++round) {
      for (int i = 0; i < 8; ++i) {
        rng_.Below(2) == 0 ? Foreign() : Patina(false);
        if (rng_.Below(4) == 0) {
          ASSERT_TRUE(node_.store->Checkpoint().ok());
        }
        if (rng_.Below(8) == 0) node_.CloseAndOpen();
        ASSERT_TRUE(node_.store->Scrub(1 + rng_.Below(20)).ok());
      }
      Check();
      if (::testing::Test::HasFailure()) return;
      Settle();
      touched_.clear();
      for (int i = 0; i < 10; ++i) Patina(true);
    }
  }

 private:
  std::string Table() { return std::string(1, "tkp"[rng_.Below(3)]); }
  std::string Key(const std::string& table) {
    const std::string number = StrCat(rng_.Below(12));
    return table == "k" ? number : "'" + number + "'";
  }
  std::string Sql(const std::string& table, const std::string& key, uint64_t kind) {
    const std::string value = StrCat(rng_.Below(5));
    if (kind == 0) return StrCat("DELETE FROM ", table, " WHERE a = ", key);
    if (kind == 1)
      return StrCat("INSERT OR REPLACE INTO ", table, " VALUES(", key, ",", value, ",'x')");
    return StrCat("UPDATE ", table, kind == 2 ? " SET v = " : " SET w = ", value,
                  " WHERE a = ", key);
  }
  /// A local write or one of the peer. A new row may get the rowid, and with it the clock row, of
  /// one that another client deleted: not while such a deletion is to be found.
  void Patina(bool inserts) {
    const std::string table = Table(), key = Key(table);
    const std::string sql =
        Sql(table, key, inserts || table == "p" ? rng_.Below(4) : 2 + rng_.Below(2));
    if (rng_.Below(2) == 0) {
      node_.Do(sql);
    } else {
      const Committed committed = peer_.Do(sql);
      if (committed.version > 0) {
        EXPECT_EQ(node_.Merge(committed.changeset), MergeState::kApplied);
      }
    }
    node_.clock.AdvanceMs(5);
    peer_.clock.AdvanceMs(5);
    const auto log = node_.Log();
    for (; seen_ < log.size(); ++seen_) JoinInto(state_, Says(log[seen_]));
  }
  void Foreign() {
    const std::string table = Table(), key = Key(table);
    RunForeign(node_.options.path, Sql(table, key, rng_.Below(4)));
    touched_.insert(table + ": " + key);
  }
  void Check() {
    const std::vector<std::string> wanted = Visible(state_, node_.options.schema),
                                   is = node_.Dump();
    std::vector<std::string> lines;
    std::set_symmetric_difference(wanted.begin(), wanted.end(), is.begin(), is.end(),
                                  std::back_inserter(lines));
    ASSERT_TRUE(node_.store->Checkpoint().ok());  // clocks without rows are looked for in the file
    ForeignRowsOf(*node_.store);
    std::set<std::string> found;
    for (const ForeignRow& row : node_.store->ForeignRows()) {
      const std::string key = DescribeKey(row.key);
      found.insert(row.table + ": " + key.substr(1, key.size() - 2));
    }
    for (const std::string& line : lines) EXPECT_TRUE(found.contains(KeyOfLine(line))) << line;
    for (const std::string& key : found) EXPECT_TRUE(touched_.contains(key)) << key;
  }
  void Settle() {
    const bool adopt = rng_.Below(2) == 0;
    const std::vector<std::string> before = node_.Dump();
    const auto outcome = node_.store->SettleForeignRows(
        adopt ? ForeignAction::kAdopt : ForeignAction::kDiscard, &node_.effects);
    ASSERT_TRUE(outcome.ok()) << outcome.error().ToString();
    EXPECT_TRUE(outcome->left.empty());
    const auto log = node_.Log();
    for (; seen_ < log.size(); ++seen_) JoinInto(state_, Says(log[seen_]));
    if (!outcome->adopted.empty()) peer_.Merge(log.back());
    if (adopt) {
      EXPECT_EQ(node_.Dump(), before);
    }
    EXPECT_EQ(node_.Dump(), Visible(state_, node_.options.schema));
    EXPECT_EQ(LiveCells(node_, state_), LiveCells(state_, node_.options.schema));
    node_.CloseAndOpen();
    TestNode fresh(node_.options.schema, node_.clock.WallMs());
    fresh.Merge(node_.Log());
    EXPECT_EQ(node_.Digests(), fresh.Digests());
    EXPECT_EQ(ForeignRowsOf(*node_.store), std::vector<std::string>{});
  }

  Rng rng_;
  TestNode node_, peer_;
  OracleState state_;
  size_t seen_ = 0;
  std::set<std::string> touched_;
};

TEST(ForeignRowsModelTest, AllAreFoundNoneIsFalseAndBothWaysOfSettlingAgreeWithTheLog) {
  ForEachSeed("PATINA_MODEL", 50, [](uint64_t seed) { RandomWrites(seed).Run(); });
}

/// An hour of virtual time: a node that writes, one that merges, one that comes now and then and
/// takes a transfer; kills, restarts, columns that come and go. All of them scrub.
class AnHour {
 public:
  AnHour() : writer_(Schema(0)), merger_(Schema(0)), late_(Schema(0)) {}

  void Run() {
    for (second_ = 1; second_ <= 3'600; ++second_) {
      Write();
      Disturb();
      for (TestNode* node : {&writer_, &merger_}) {
        node->clock.AdvanceMs(1'000);
        ASSERT_TRUE(node->store->CheckpointIfDue().ok());
        ASSERT_TRUE(node->store->Scrub(kSliceRows).ok());
        ASSERT_FALSE(node->store->OtherClientWrote());
        ASSERT_THAT(node->store->ForeignRows(), ::testing::IsEmpty()) << "second " << second_;
      }
    }
    EXPECT_EQ(writer_.Digests(), merger_.Digests());
  }

  /// How many seconds until a flip in the merger's file is named, under the same load.
  int SecondsUntilNamed() {
    RunForeign(merger_.options.path, "UPDATE machines SET region = 'flipped' WHERE id = 'm1234'");
    for (int seconds = 1; seconds <= 60; ++seconds) {
      Write();
      merger_.clock.AdvanceMs(1'000);
      EXPECT_TRUE(merger_.store->Scrub(kSliceRows).ok());
      const std::vector<ForeignRow> found = merger_.store->ForeignRows();
      if (found.empty()) continue;
      EXPECT_EQ(found.size(), 1u);
      EXPECT_EQ(found[0].table + DescribeKey(found[0].key), "machines('m1234')");
      return seconds;
    }
    return 60;
  }

 private:
  static constexpr uint64_t kMachines = 2'000;
  static constexpr size_t kSliceRows = 500;  // a second: a pass takes four

  /// A column comes, goes, and comes again.
  static storage::Schema Schema(int level) {
    return MustParse(
        StrCat("CREATE TABLE machines (id TEXT NOT NULL PRIMARY KEY, region TEXT NOT NULL DEFAULT "
               "'x', cpu REAL NOT NULL DEFAULT 0, ",
               level % 2 == 0 ? "" : "rack INTEGER NOT NULL DEFAULT 7, ",
               "note TEXT);"
               "CREATE TABLE ports (number INTEGER NOT NULL PRIMARY KEY, service TEXT);"
               "CREATE TABLE pairs (a TEXT NOT NULL, b INTEGER NOT NULL, v BLOB, PRIMARY KEY (a, "
               "b)) WITHOUT ROWID;"),
        level < 2 ? "" : "[machines]\ndropped = [\"rack\"]");
  }

  Transaction Reports() {
    Transaction transaction;
    for (int i = 0; i < 20; ++i) {
      const crdt::Value id = crdt::Value::Text(StrCat("m", rng_.Below(kMachines)));
      const auto cpu = crdt::Value::Real(static_cast<double>(++rows_written_));
      if (rng_.Below(50) == 0) {
        transaction.statements.push_back({"DELETE FROM machines WHERE id = ?1", {id}, {}});
      }
      transaction.statements.push_back(
          {"INSERT INTO machines(id, cpu) VALUES(?1, ?2) ON CONFLICT DO UPDATE SET cpu = ?2",
           {id, cpu},
           {}});
    }
    return transaction;
  }

  void Write() {
    static const uint64_t rows_per_second = test::FromEnvironment("PATINA_SCRUB_ROWS", 40);
    std::vector<SharedBytes> changesets;
    for (uint64_t done = 0; done < rows_per_second; done += 20) {
      auto results = writer_.Run({Reports()});
      ASSERT_TRUE(results[0].ok()) << results[0].error().ToString();
      changesets.push_back(results[0]->changeset);
    }
    const std::string number = StrCat(rng_.Below(100));
    changesets.push_back(
        writer_
            .Do({"INSERT OR REPLACE INTO pairs VALUES('p', " + number + ", randomblob(9))",
                 "INSERT OR REPLACE INTO ports VALUES(" + number + ", hex(randomblob(3)))"})
            .changeset);
    merger_.Merge(changesets);
  }

  void Disturb() {
    if (second_ % 420 == 215) merger_.CrashAndOpen();
    if (second_ % 600 == 303) writer_.CrashAndOpen();
    if (second_ % 700 == 350) merger_.CloseAndOpen();
    if (second_ % 900 == 450 && level_ < 3) {
      ++level_;
      for (TestNode* node : {&merger_, &writer_, &late_}) {
        const auto outcome = node->Apply(Schema(level_), true);
        ASSERT_TRUE(outcome.ok()) << outcome.error().ToString();
      }
    }
    if (second_ % 1'100 != 1'099) return;
    late_.clock.SetWallMs(merger_.clock.WallMs());
    const Status taken =
        TakeTransfer(late_, TransferChunks(merger_, late_.store->applied(), 64 << 10));
    ASSERT_TRUE(taken.ok()) << taken.error().ToString();
    ASSERT_THAT(ForeignRowsOf(*late_.store), ::testing::IsEmpty());
    EXPECT_EQ(late_.Digests(), merger_.Digests());
  }

  Rng rng_{7};
  TestNode writer_, merger_, late_;
  int second_ = 0, level_ = 0;
  uint64_t rows_written_ = 0;
};

/// The load is PATINA_SCRUB_ROWS=20000 (rows per virtual second), by hand: some 20 minutes.
/// In every run it is 40, and as many seconds, passes, kills and schema changes.
TEST(ForeignRowsModelTest, AnHourUnderLoadIsWithoutFalseAlarmAndThenOneFlipIsNamedIn30Seconds) {
  AnHour hour;
  hour.Run();
  if (::testing::Test::HasFailure()) return;
  EXPECT_LE(hour.SecondsUntilNamed(), 30);
}

}  // namespace
}  // namespace patina::storage

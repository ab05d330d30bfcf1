#include <algorithm>
#include <atomic>

#include "storage/db.h"
#include "storage/file_check.h"
#include "storage/wal_check.h"
#include "tests/storage/test_util.h"

// The merge rules through SQLite: for every cell, and for whether the row exists, the later write
// wins.

namespace patina::storage {
namespace {

constexpr const char* kSchema = R"sql(
CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a, b TEXT DEFAULT 'd');
CREATE TABLE p (v, x TEXT NOT NULL, y INTEGER NOT NULL, PRIMARY KEY (y, x)) WITHOUT ROWID;
CREATE TABLE whole (id TEXT NOT NULL PRIMARY KEY, a, b);
CREATE TABLE c (id TEXT NOT NULL PRIMARY KEY, lo INTEGER NOT NULL DEFAULT 0, hi INTEGER NOT NULL
                    DEFAULT 9, CHECK (lo <= hi));
)sql";

class MergeTest : public ::testing::Test {
 protected:
  // Each write is later than all before it, whoever makes it.
  SharedBytes Write(TestNode& node, std::initializer_list<std::string> sql) {
    node.clock.SetWallMs(now_ += 10);
    return node.Do(sql).changeset;
  }
  SharedBytes Write(TestNode& node, const std::string& sql) { return Write(node, {sql}); }
  void Both(const SharedBytes& bytes) {
    a_.Merge(bytes);
    b_.Merge(bytes);
  }
  void ExpectBoth(const std::vector<std::string>& rows) {
    EXPECT_EQ(a_.Dump(), rows);
    EXPECT_EQ(b_.Dump(), rows);
    EXPECT_EQ(a_.Digests(), b_.Digests());
  }

  int64_t now_ = 1'800'000'000'000;
  Schema schema_ = MustParse(kSchema, "[whole]\nmerge = \"row\"\n");
  TestNode a_{schema_}, b_{schema_}, c_{schema_};
};

TEST_F(MergeTest, TheLaterWriteWinsAlthoughTheOtherSideWroteMoreOften) {
  Both(Write(a_, "INSERT INTO t VALUES ('k', 0, 'x')"));
  std::vector<SharedBytes> many;
  for (int i = 9; i > 4; --i) many.push_back(Write(a_, "UPDATE t SET a = " + std::to_string(i)));
  const SharedBytes later = Write(b_, "UPDATE t SET a = 1");
  a_.Merge(later);
  b_.Merge(many);
  ExpectBoth({"t: 1|'x'|'k'"});
}

TEST_F(MergeTest, TheLaterWriteWinsAlthoughItsValueIsSmaller) {
  Both(Write(a_, "INSERT INTO t VALUES ('k', 'started', 'x')"));
  const SharedBytes one = Write(b_, "UPDATE t SET a = 'stopped'"),
                    two = Write(a_, "UPDATE t SET a = 'started 2'");
  a_.Merge(one);
  b_.Merge(two);
  ExpectBoth({"t: 'started 2'|'x'|'k'"});
}

TEST_F(MergeTest, CellsOfTwoWritersMergeIntoOneRow) {
  Both(Write(a_, "INSERT INTO t VALUES ('k', 0, 'x')"));
  const SharedBytes one = Write(a_, "UPDATE t SET a = 1"), two = Write(b_, "UPDATE t SET b = 'y'");
  a_.Merge(two);
  EXPECT_EQ(DescribeEffects(a_.effects, schema_), "t('k'): ('k'|1|'x') -> ('k'|1|'y')");
  b_.Merge(one);
  EXPECT_EQ(DescribeEffects(b_.effects, schema_), "t('k'): ('k'|0|'y') -> ('k'|1|'y')");
  ExpectBoth({"t: 1|'y'|'k'"});
}

TEST_F(MergeTest, RowsOfTwoWritersDoNotMixWhenTheTableIsMergedByRow) {
  Both(Write(a_, "INSERT INTO whole VALUES ('k', 0, 0)"));
  const SharedBytes one = Write(a_, "UPDATE whole SET a = 1"),
                    two = Write(b_, "UPDATE whole SET b = 2");
  a_.Merge(two);
  b_.Merge(one);
  ExpectBoth({"whole: 0|2|'k'"});
}

TEST_F(MergeTest, AnInsertAfterADeleteThatItDidNotKnowStays) {
  Both(Write(a_, "INSERT INTO t VALUES ('k', 0, 'x')"));
  const SharedBytes gone = Write(a_, "DELETE FROM t");
  const SharedBytes again = Write(c_, "INSERT INTO t VALUES ('k', 7, 'new')");
  a_.Merge(again);
  b_.Merge({again, gone});
  ExpectBoth({"t: 7|'new'|'k'"});
}

TEST_F(MergeTest, ADeleteBeatsEarlierUpdatesAndAnUpdateDoesNotRevive) {
  Both(Write(a_, "INSERT INTO t VALUES ('k', 0, 'x')"));
  const SharedBytes gone = Write(a_, "DELETE FROM t"), update = Write(b_, "UPDATE t SET a = 1");
  a_.Merge(update);
  b_.Merge(gone);
  ExpectBoth({});
  // A cell later than the DELETE waits for an older INSERT that may come.
  EXPECT_EQ(a_.store->Stats().tombstones, 0u);
  ASSERT_TRUE(a_.store->Checkpoint().ok());
  EXPECT_EQ(a_.store->Stats().tombstones, 1u);
}

TEST_F(MergeTest, ALateCellSurvivesTheDeleteAndShowsInTheNextLife) {
  const SharedBytes first = Write(a_, "INSERT INTO t VALUES ('k', 0, 'x')");
  b_.Merge(first);
  c_.Merge(first);
  const SharedBytes gone = Write(a_, "DELETE FROM t"),
                    again = Write(a_, "INSERT INTO t VALUES ('k', 5, 'y')");
  const SharedBytes late = Write(c_, "UPDATE t SET a = 8");
  a_.Merge(late);
  b_.Merge(late);
  ASSERT_TRUE(b_.store->Checkpoint().ok());
  b_.Merge(gone);
  b_.CrashAndOpen();  // the late cell has left the user's table; its clock row had the row's number
  b_.Merge(again);
  ExpectBoth({"t: 8|'y'|'k'"});
  b_.CrashAndOpen();
  ExpectBoth({"t: 8|'y'|'k'"});
}

TEST_F(MergeTest, ALateCellSurvivesADeleteAndAnInsertBetweenCheckpointAndCrash) {
  const SharedBytes first = Write(a_, "INSERT INTO t VALUES ('k', 0, 'x'), ('other', 0, 'x')");
  b_.Merge(first);
  c_.Merge(first);
  const SharedBytes gone = Write(a_, "DELETE FROM t WHERE id = 'k'"),
                    again = Write(a_, "INSERT INTO t VALUES ('k', 5, 'y')");
  const SharedBytes late = Write(c_, "UPDATE t SET a = 8 WHERE id = 'k'");
  a_.Merge(late);
  b_.Merge(late);
  ASSERT_TRUE(b_.store->Checkpoint().ok());
  b_.Merge(gone);
  b_.Merge(again);
  b_.CrashAndOpen();
  ExpectBoth({"t: 0|'x'|'other'", "t: 8|'y'|'k'"});
}

TEST_F(MergeTest, TheSameChangesetTwiceIsADuplicateAlsoInOneBatch) {
  const SharedBytes bytes = Write(a_, "INSERT INTO t VALUES ('k', 0, 'x')");
  const auto outcomes = b_.Merge({bytes, bytes});
  EXPECT_EQ(outcomes[0].state, MergeState::kApplied);
  EXPECT_EQ(outcomes[1].state, MergeState::kDuplicate);
  EXPECT_EQ(b_.Merge(bytes), MergeState::kDuplicate);
  EXPECT_EQ(a_.Merge(bytes), MergeState::kDuplicate) << "one's own";
  EXPECT_EQ(b_.store->last_seq(), 1u);
  EXPECT_TRUE(b_.effects.rows.empty());
}

TEST_F(MergeTest, ColumnsNumberedOtherwiseOnTheReceiverFindTheirPlace) {
  TestNode sender(
      MustParse("CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, x INTEGER, y TEXT, z "
                "TEXT)"));
  TestNode receiver(
      MustParse("CREATE TABLE t (z TEXT, y TEXT, x INTEGER, id TEXT NOT NULL "
                "PRIMARY KEY)"));
  const SharedBytes insert = sender.Do("INSERT INTO t VALUES ('k', 1, 'y', 'z')").changeset;
  const SharedBytes update = sender.Do("UPDATE t SET x = 2, z = 'zz'").changeset;
  EXPECT_EQ(receiver.Merge({update, insert})[0].state, MergeState::kApplied);
  EXPECT_EQ(receiver.Dump(), sender.Dump());
  EXPECT_EQ(receiver.Digests(), sender.Digests());
  EXPECT_EQ(receiver.store->schema().Hash(), sender.store->schema().Hash());
}

TEST_F(MergeTest, ChecksHoldForLocalWritesAndNotForMerges) {
  Both(Write(a_, "INSERT INTO c VALUES ('k', 1, 5)"));
  const SharedBytes low = Write(a_, "UPDATE c SET hi = 2"), high = Write(b_, "UPDATE c SET lo = 4");
  EXPECT_EQ(a_.Merge(high), MergeState::kApplied);
  EXPECT_EQ(b_.Merge(low), MergeState::kApplied);
  ExpectBoth({"c: 2|'k'|4"});
  const auto local = a_.Try({"UPDATE c SET lo = 3"});
  ASSERT_FALSE(local.ok());
  EXPECT_THAT(local.error().message, ::testing::HasSubstr("CHECK constraint failed"));
}

TEST_F(MergeTest, ARowThatBreaksACheckTogetherIsNoDamage) {
  Both(Write(a_, "INSERT INTO c VALUES ('k', 1, 5)"));
  const SharedBytes low = Write(a_, "UPDATE c SET hi = 2"), high = Write(b_, "UPDATE c SET lo = 4");
  EXPECT_EQ(a_.Merge(high), MergeState::kApplied);
  ASSERT_TRUE(a_.store->Checkpoint().ok());
  const std::atomic<bool> stop = false;
  const Status pages = CheckPages(a_.options.path, stop);
  EXPECT_TRUE(pages.ok()) << pages.error().ToString();
  const auto report = VerifyFile(a_.options.path);
  ASSERT_TRUE(report.ok());
  EXPECT_THAT(report->problems, ::testing::IsEmpty());
  auto db = Db::Open(a_.options.path, Db::Mode::kReadWriteCreate);
  const Status sound = CheckSound(*db, a_.options.path);
  EXPECT_TRUE(sound.ok()) << sound.error().ToString();
  EXPECT_FALSE(db->Exec("UPDATE c SET lo = 4").ok()) << "of this connection, too";
}

// What peers insert is taken for new and not looked for first.
TEST_F(MergeTest, AnInsertOfARowThatIsThereMergesAsAnyOther) {
  const SharedBytes first = Write(a_, "INSERT INTO t VALUES ('k', 1, 'x'), ('l', 1, 'x')"),
                    later = Write(c_, "INSERT INTO t VALUES ('m', 2, 'y'), ('k', 2, 'y')"),
                    gone = Write(c_, "INSERT INTO t VALUES ('n', 2, 'y')"),
                    deleted = Write(c_, "DELETE FROM t WHERE id = 'n'");
  b_.options.limits.row_cache_bytes = 100;
  b_.CloseAndOpen();
  b_.Merge(first);
  EXPECT_EQ(b_.store->Stats().merges_run_again, 0u);
  b_.CloseAndOpen();
  b_.Merge(std::vector{gone, deleted});
  EXPECT_EQ(b_.store->Stats().merges_run_again, 1u) << "nothing was inserted that would show it";
  b_.CloseAndOpen();
  EXPECT_EQ(b_.Merge(later), MergeState::kApplied);
  a_.Merge({gone, deleted, later});
  ExpectBoth({"t: 1|'x'|'l'", "t: 2|'y'|'k'", "t: 2|'y'|'m'"});
  b_.CrashAndOpen();
  EXPECT_EQ(a_.Digests(), b_.Digests());
  EXPECT_THAT(ForeignRowsOf(*b_.store), ::testing::IsEmpty());
}

/// A table's own ON CONFLICT is for clients' statements.
TEST_F(MergeTest, AnInsertOfARowThatIsThereDoesNotReplaceItByTheTablesOwnClause) {
  for (const std::string clause : {"REPLACE", "IGNORE"}) {
    const Schema schema =
        MustParse("CREATE TABLE r (id TEXT NOT NULL PRIMARY KEY ON CONFLICT " + clause +
                  ", a, n INTEGER NOT NULL ON CONFLICT " + clause + " DEFAULT 3)");
    TestNode older(schema), newer(schema);
    const SharedBytes first = Write(older, "INSERT INTO r VALUES ('k', 'older', 1)"),
                      second = Write(newer, "INSERT INTO r VALUES ('k', 'newer', 2)");
    newer.CloseAndOpen();
    EXPECT_EQ(newer.Merge(first), MergeState::kApplied);
    EXPECT_EQ(newer.Rows("SELECT a, n FROM r"), std::vector<std::string>{"'newer'|2"}) << clause;
    older.CloseAndOpen();
    EXPECT_EQ(older.Merge(second), MergeState::kApplied);
    EXPECT_EQ(older.Dump(), newer.Dump());
    EXPECT_EQ(older.Digests(), newer.Digests());
  }
}

TEST_F(MergeTest, WhatWasTakenForNewIsForgottenWhenTheMergeFails) {
  b_.Merge(Write(a_, "INSERT INTO t VALUES ('k', 1, 'x')"));
  b_.CloseAndOpen();
  // Before the key that is there, one that only SQLite refuses.
  RunForeign(b_.options.path,
             "CREATE TRIGGER no BEFORE INSERT ON t WHEN new.id = 'a' BEGIN SELECT RAISE(ABORT, "
             "'no'); END");
  const SharedBytes both = Write(c_, "INSERT INTO t VALUES ('a', 2, 'y'), ('k', 2, 'y')");
  EXPECT_EQ(b_.Merge(both), MergeState::kParked);
  EXPECT_EQ(b_.Dump(), std::vector<std::string>{"t: 1|'x'|'k'"});
  EXPECT_EQ(b_.Merge(Write(a_, "UPDATE t SET a = 3")), MergeState::kApplied);
  EXPECT_EQ(b_.Dump(), std::vector<std::string>{"t: 3|'x'|'k'"});
}

TEST_F(MergeTest, AMergeThatChangesNoValueStillTakesTheLaterStamp) {
  Both(Write(a_, "INSERT INTO t VALUES ('k', 0, 'x')"));
  const SharedBytes same_a = Write(a_, "UPDATE t SET a = 1"),
                    same_b = Write(b_, "UPDATE t SET a = 1");
  a_.Merge(same_b);
  EXPECT_TRUE(a_.effects.rows.empty());
  b_.Merge(same_a);
  ExpectBoth({"t: 1|'x'|'k'"});
}

TEST_F(MergeTest, TheLogNotesWhichWordsTookEffect) {
  Both(Write(a_, "INSERT INTO t VALUES ('k', 0, 'x')"));
  const SharedBytes both = Write(a_, "UPDATE t SET a = 1, b = 'y'");
  b_.Merge({Write(b_, "UPDATE t SET a = 2")});
  b_.Merge(both);
  const auto entries = b_.reader->ReadLogAfter(0, UINT64_MAX);
  ASSERT_TRUE(entries.ok());
  EXPECT_TRUE((*entries)[0].effect.empty());
  EXPECT_EQ((*entries)[2].effect, std::string(1, '\x02')) << "a lost, b counts";
}

TEST_F(MergeTest, FoldedBatchesGiveTheSameAsOneByOne) {
  std::vector<SharedBytes> all{Write(a_, "INSERT INTO t VALUES ('k', 0, 'x'), ('l', 1, 'x')"),
                               Write(a_, "UPDATE t SET a = 5"),
                               Write(a_, "DELETE FROM t WHERE id = 'k'"),
                               Write(a_, "INSERT INTO p VALUES (1, 'x', 1)"),
                               Write(a_, "UPDATE p SET y = 2"),
                               Write(a_, "INSERT INTO t (id) VALUES ('k')")};
  std::sort(all.begin(), all.end());
  b_.Merge(all);
  for (const SharedBytes& bytes : all) c_.Merge(bytes);
  EXPECT_EQ(b_.Dump(), a_.Dump());
  EXPECT_EQ(b_.Digests(), a_.Digests());
  EXPECT_EQ(c_.Digests(), a_.Digests());
}

TEST_F(MergeTest, DigestsDifferWhenAndOnlyWhenRowsDo) {
  const SharedBytes bytes = Write(a_, "INSERT INTO t VALUES ('k', 0, 'x')");
  EXPECT_NE(a_.Digests(), b_.Digests());
  b_.Merge(bytes);
  EXPECT_EQ(a_.Digests(), b_.Digests());
  EXPECT_EQ(a_.Digests()[2].rows, 1u) << a_.Digests()[2].table;
  Write(a_, "UPDATE t SET a = 3");
  EXPECT_NE(a_.Digests(), b_.Digests());
  EXPECT_NE(a_.store->Buckets("t"), b_.store->Buckets("t"));
  EXPECT_TRUE(a_.store->Buckets("none").empty());
}

TEST_F(MergeTest, LocalWritesAreLaterThanAllThatWasMerged) {
  a_.clock.AdvanceMs(400);  // within the tolerated skew
  b_.Merge(a_.Do("INSERT INTO t VALUES ('k', 0, 'x')").changeset);
  const SharedBytes later = b_.Do("UPDATE t SET a = 1").changeset;
  a_.Merge(later);
  ExpectBoth({"t: 1|'x'|'k'"});
}

}  // namespace
}  // namespace patina::storage

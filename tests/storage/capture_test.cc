#include "storage/capture.h"

#include "tests/storage/test_util.h"

// The traps of SQLite's preupdate hook, one by one (docs/capture.md).

namespace patina::storage {
namespace {

constexpr const char* kOld =
    "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a, r REAL);"
    "CREATE TABLE w (id TEXT NOT NULL PRIMARY KEY, a) WITHOUT ROWID;";
constexpr const char* kNew =
    "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a, r REAL, late TEXT DEFAULT 'd', "
    "firm INTEGER NOT NULL DEFAULT 3);"
    "CREATE TABLE w (id TEXT NOT NULL PRIMARY KEY, a, late TEXT DEFAULT "
    "'d') WITHOUT ROWID;";

class CaptureTest : public ::testing::Test {
 protected:
  std::string Said(std::initializer_list<std::string> sql) {
    return Describe(node_.Do(sql).changeset);
  }
  void Upgrade() {
    node_.options.schema = MustParse(kNew);
    node_.CloseAndOpen();
  }
  void ExpectSameAfterCrash() {
    const auto digests = node_.Digests();
    node_.CrashAndOpen();
    EXPECT_EQ(node_.Digests(), digests);
    EXPECT_TRUE(node_.store->Checkpoint().ok());
    node_.CrashAndOpen();
    EXPECT_EQ(node_.Digests(), digests);
  }
  TestNode node_{MustParse(kOld)};
};

TEST_F(CaptureTest, ADefaultThatARowNeverStoredIsNotAnOldNull) {
  node_.Do({"INSERT INTO t VALUES ('k', 1, 1.5)", "INSERT INTO w VALUES ('k', 1)"});
  Upgrade();
  EXPECT_EQ(Said({"UPDATE t SET a = 2, late = 'd', firm = 3"}), "t~('k') a=2");
  EXPECT_EQ(DescribeEffects(node_.effects, node_.store->schema()),
            "t('k'): ('k'|1|1.5|'d'|3) -> ('k'|2|1.5|'d'|3)");
  EXPECT_EQ(node_.Do("UPDATE t SET late = 'd'").version, 0u);
  EXPECT_EQ(Said({"UPDATE t SET late = NULL"}), "t~('k') late=NULL");
  EXPECT_EQ(Said({"UPDATE t SET late = 'd'"}), "t~('k') late='d'")
      << "a NULL that was written is a NULL";
  EXPECT_EQ(Said({"UPDATE w SET late = NULL"}), "w~('k') late=NULL");
}

TEST_F(CaptureTest, ADefaultIsToldFromANullWrittenBeforeInTheSameGroup) {
  node_.Do("INSERT INTO t VALUES ('k', 1, 1.5)");
  Upgrade();
  const auto results =
      node_.Run({Tx({"UPDATE t SET late = NULL"}), Tx({"UPDATE t SET late = 'd'"})});
  EXPECT_EQ(Describe(results[0]->changeset), "t~('k') late=NULL");
  EXPECT_EQ(Describe(results[1]->changeset), "t~('k') late='d'");
  ExpectSameAfterCrash();
}

TEST_F(CaptureTest, TheLastImageOfADeletedRowHasItsDefaults) {
  node_.Do("INSERT INTO t VALUES ('k', 1, 1.5)");
  Upgrade();
  node_.Do("DELETE FROM t");
  EXPECT_EQ(DescribeEffects(node_.effects, node_.store->schema()),
            "t('k'): ('k'|1|1.5|'d'|3) -> none");
}

TEST_F(CaptureTest, ADefaultThatAPeerWroteIsNotANullAlthoughTheStoredRowIsTooShortForIt) {
  const Committed old = node_.Do("INSERT INTO t VALUES ('k', 1, 1.5)");
  TestNode peer(MustParse(kNew));
  Upgrade();
  peer.Merge(old.changeset);
  peer.Do("UPDATE t SET late = 'x'");
  peer.clock.AdvanceMs(1);
  EXPECT_EQ(node_.Merge(peer.Do("UPDATE t SET late = 'd'").changeset), MergeState::kApplied);
  EXPECT_EQ(Said({"UPDATE t SET a = 2"}), "t~('k') a=2");
  ExpectSameAfterCrash();
}

TEST_F(CaptureTest, AWholeNumberInARealColumnIsAReal) {
  EXPECT_EQ(Said({"INSERT INTO t VALUES ('k', 1.0, 1)"}), "t+('k') a=1.0 r=1.0");
  EXPECT_EQ(node_.Do("UPDATE t SET r = 1").version, 0u);
  EXPECT_EQ(node_.Do("UPDATE t SET r = 1.0").version, 0u);
  EXPECT_EQ(Said({"UPDATE t SET a = 1"}), "t~('k') a=1")
      << "but without a type 1 and 1.0 are two values";
}

TEST_F(CaptureTest, AStatementThatAbortedHasCalledTheHookButChangedNothing) {
  node_.Do("INSERT INTO t VALUES ('k', 1, 1)");
  // The first row is inserted, the second collides, the statement is undone: the transaction fails
  // whole.
  EXPECT_FALSE(node_.Try({"INSERT INTO t (id) VALUES ('new'), ('k')"}).ok());
  EXPECT_FALSE(
      node_.Try({"UPDATE t SET a = 7", "INSERT OR FAIL INTO t (id) VALUES ('new'), ('k')"}).ok());
  EXPECT_EQ(node_.store->last_seq(), 1u);
  EXPECT_EQ(node_.Rows("SELECT id, a FROM t"), std::vector<std::string>{"'k'|1"});
  EXPECT_EQ(Said({"INSERT OR IGNORE INTO t (id) VALUES ('new'), ('k')"}),
            "t+('new') a=NULL r=NULL");
}

TEST_F(CaptureTest, DeletingAllRowsIsSeenRowByRow) {
  // SQLite would truncate the table if nobody looked
  node_.Do("INSERT INTO t VALUES ('k', 1, 1), ('l', 1, 1)");
  EXPECT_EQ(Said({"DELETE FROM t"}), "t-('k'); t-('l')");
}

TEST_F(CaptureTest, ARowThatOnlyMovedKeepsItsClock) {
  node_.Do("INSERT INTO t VALUES ('k', 1, 1), ('l', 2, 2)");
  ASSERT_TRUE(node_.store->Checkpoint().ok());
  const auto digests = node_.Digests();
  EXPECT_EQ(node_.Do("REPLACE INTO t VALUES ('k', 1, 1)").version, 0u);
  EXPECT_EQ(node_.Rows("SELECT rowid FROM t WHERE id = 'k'"), std::vector<std::string>{"3"});
  EXPECT_EQ(node_.Digests(), digests);
  ExpectSameAfterCrash();
  EXPECT_EQ(node_.Digests(), digests);
}

TEST_F(CaptureTest, RowsThatChangePlacesKeepTheirClocks) {
  node_.options.limits.row_cache_bytes = 0;
  node_.CloseAndOpen();
  node_.Do("INSERT INTO t VALUES ('k', 1, 1)");
  node_.Do("INSERT INTO t VALUES ('l', 2, 2)");
  ASSERT_TRUE(node_.store->Checkpoint().ok());
  const auto digests = node_.Digests();
  EXPECT_EQ(node_.Do({"DELETE FROM t", "INSERT INTO t VALUES ('l', 2, 2), ('k', 1, 1)"}).version,
            0u);
  EXPECT_EQ(node_.Rows("SELECT id FROM t ORDER BY rowid"),
            (std::vector<std::string>{"'l'", "'k'"}));
  EXPECT_EQ(node_.Digests(), digests);
  ExpectSameAfterCrash();
  EXPECT_EQ(node_.Digests(), digests);
}

TEST_F(CaptureTest, ARowThatMovesToADeletedRowsPlaceKeepsItsClock) {
  node_.Do({"INSERT INTO t VALUES ('k', 1, 1), ('last', 2, 2)"});
  ASSERT_TRUE(node_.store->Checkpoint().ok());
  node_.Do({"DELETE FROM t WHERE id = 'last'", "REPLACE INTO t VALUES ('k', 1, 1)"});
  EXPECT_EQ(node_.Rows("SELECT rowid FROM t"), std::vector<std::string>{"2"});
  const auto digests = node_.Digests();
  ASSERT_TRUE(node_.store->Checkpoint().ok());
  ExpectSameAfterCrash();
  EXPECT_EQ(node_.Digests(), digests);
}

TEST_F(CaptureTest, ARowChangedAndThenMovedInOneGroupHasTheRightDigest) {
  node_.options.limits.row_cache_bytes = 0;
  node_.CloseAndOpen();
  node_.Do("INSERT INTO t VALUES ('k', 1, 1), ('l', 2, 2)");
  ASSERT_TRUE(node_.store->Checkpoint().ok());
  node_.Run({Tx({"UPDATE t SET a = 5 WHERE id = 'k'"}), Tx({"REPLACE INTO t VALUES ('k', 5, 1)"}),
             Tx({"REPLACE INTO t VALUES ('k', 5, 1)"})});
  ExpectSameAfterCrash();
}

TEST_F(CaptureTest, RowidsSetByHandMoveClocksInAnyOrder) {
  node_.Do("INSERT INTO t VALUES ('k', 1, 1), ('l', 2, 2), ('m', 3, 3)");
  ASSERT_TRUE(node_.store->Checkpoint().ok());
  EXPECT_EQ(node_.Do({"UPDATE t SET rowid = -rowid", "UPDATE t SET rowid = 4 + rowid"}).version,
            0u);
  ExpectSameAfterCrash();
}

TEST_F(CaptureTest, MergesAreNotCaptured) {
  TestNode other(node_.options.schema);
  const Committed done = node_.Do("INSERT INTO t VALUES ('k', 1, 1)");
  EXPECT_EQ(other.Merge(done.changeset), MergeState::kApplied);
  EXPECT_EQ(other.Do("INSERT INTO w VALUES ('k', 1)").version, 1u);
  EXPECT_EQ(other.Log().size(), 2u);
}

}  // namespace
}  // namespace patina::storage

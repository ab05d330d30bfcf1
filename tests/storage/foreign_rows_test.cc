#include "storage/foreign_rows.h"

#include "base/log.h"
#include "tests/storage/test_util.h"

// Another SQLite client writes in the node's file, past Patina.

namespace patina::storage {
namespace {

constexpr std::string_view kSchema =
    "CREATE TABLE machines (id TEXT NOT NULL PRIMARY KEY, region TEXT NOT NULL DEFAULT 'x', "
    "cpu REAL NOT NULL DEFAULT 0, note TEXT);"
    "CREATE TABLE ports (number INTEGER NOT NULL PRIMARY KEY, service TEXT);"
    "CREATE TABLE pairs (a TEXT NOT NULL, b INTEGER NOT NULL, v BLOB, PRIMARY KEY (a, b)) "
    "WITHOUT ROWID;";

class ForeignRowsTest : public ::testing::Test {
 protected:
  ForeignRowsTest() : node_(MustParse(kSchema)) {
    node_.Do(
        {"INSERT INTO machines(id, region, cpu) VALUES('a', 'fra', 1.0), ('b', 'fra', 2.5), "
         "('c', 'ams', 3)",
         "INSERT INTO ports VALUES(80, 'web'), (443, 'web')",
         "INSERT INTO pairs VALUES('p', 1, x'01'), ('p', 2, NULL), ('q', 1, x'02')"});
  }
  void Write(const std::string& sql) { RunForeign(node_.options.path, sql); }
  ForeignOutcome Settle(ForeignAction action) {
    Result<ForeignOutcome> outcome = node_.store->SettleForeignRows(action, &node_.effects);
    EXPECT_TRUE(outcome.ok()) << outcome.error().ToString();
    return outcome.ok() ? *outcome : ForeignOutcome();
  }
  std::vector<TableDigest> DigestsFromScratch() {
    node_.CloseAndOpen();
    TestNode other(node_.options.schema);
    EXPECT_TRUE(other.Merge(node_.Log()).size() > 0);
    return other.Digests();
  }

  TestNode node_;
};

using Lines = std::vector<std::string>;

TEST_F(ForeignRowsTest, AFlippedValueIsNamedBeforeAndAfterTheCheckpoint) {
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{});
  Write("UPDATE machines SET cpu = 9 WHERE id = 'b'");
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{"machines('b') changed"});
  ASSERT_TRUE(node_.store->Checkpoint().ok());
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{"machines('b') changed"});
  Write("UPDATE pairs SET v = x'03' WHERE b = 2; UPDATE ports SET service = 'x' WHERE number = 80");
  EXPECT_EQ(ForeignRowsOf(*node_.store),
            (Lines{"machines('b') changed", "pairs('p'|2) changed", "ports(80) changed"}));
  node_.CloseAndOpen();
  EXPECT_EQ(ForeignRowsOf(*node_.store),
            (Lines{"machines('b') changed", "pairs('p'|2) changed", "ports(80) changed"}));
  Write("UPDATE machines SET cpu = 2.5 WHERE id = 'b'; UPDATE ports SET service = 'web'");
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{"pairs('p'|2) changed"});
}

TEST_F(ForeignRowsTest, AValueThatWasNeverWrittenIsComparedWithItsDefault) {
  ASSERT_TRUE(node_
                  .Apply(MustParse(std::string(kSchema) +
                                   "CREATE TABLE late (k TEXT NOT NULL PRIMARY KEY);"))
                  .ok());
  node_.Do("INSERT INTO late VALUES('k')");
  ASSERT_TRUE(
      node_
          .Apply(MustParse(std::string(kSchema) +
                           "CREATE TABLE late (k TEXT NOT NULL PRIMARY KEY, n REAL DEFAULT 5);"))
          .ok());
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{});
  Write("UPDATE late SET n = 6");
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{"late('k') changed"});
}

TEST_F(ForeignRowsTest, InsertedDeletedReplacedAndRenamedRowsAreNamed) {
  for (const bool checkpointed : {false, true}) {
    if (checkpointed) {
      ASSERT_TRUE(node_.store->Checkpoint().ok());
    }
    Write(
        "INSERT INTO machines(id) VALUES('new'); DELETE FROM machines WHERE id = 'a';"
        "DELETE FROM pairs WHERE a = 'q'; INSERT INTO pairs VALUES('z', 1, NULL);"
        "REPLACE INTO machines(id) VALUES('b'); UPDATE ports SET number = 81 WHERE number = 80");
    ASSERT_TRUE(node_.store->Checkpoint().ok());
    const Lines found = ForeignRowsOf(*node_.store);
    EXPECT_EQ(found, (Lines{"machines('a') deleted", "machines('b') changed",
                            "machines('new') inserted", "pairs('q'|1) deleted",
                            "pairs('z'|1) inserted", "ports(80) deleted", "ports(81) inserted"}));
    EXPECT_EQ(Settle(ForeignAction::kDiscard).settled, 7u);
    EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{});
  }
}

TEST_F(ForeignRowsTest, DiscardingPutsBackWhatPatinaWrote) {
  const Lines before = node_.Dump();
  const auto digests = node_.Digests();
  Write(
      "UPDATE machines SET region = 'bad', note = 'bad'; DELETE FROM ports;"
      "INSERT INTO ports VALUES(8080, 'bad'); UPDATE pairs SET v = 'bad' WHERE b = 2");
  const ForeignOutcome outcome = Settle(ForeignAction::kDiscard);
  EXPECT_EQ(outcome.settled, 7u);
  EXPECT_TRUE(outcome.left.empty());
  EXPECT_EQ(node_.Dump(), before);
  EXPECT_EQ(node_.Digests(), digests);
  EXPECT_TRUE(node_.effects.rows_unknown);
  node_.CrashAndOpen();
  EXPECT_EQ(node_.Dump(), before);
  EXPECT_EQ(node_.Digests(), digests);
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{});
}

TEST_F(ForeignRowsTest, AdoptingMakesOneLocalWriteOfIt) {
  Write(
      "UPDATE machines SET region = 'new' WHERE id = 'a'; DELETE FROM ports WHERE number = 80;"
      "INSERT INTO pairs VALUES('new', 1, x'ff'); REPLACE INTO machines(id) VALUES('b')");
  const Lines wanted = node_.Dump();
  const ForeignOutcome outcome = Settle(ForeignAction::kAdopt);
  EXPECT_EQ(outcome.settled, 4u);
  EXPECT_EQ(outcome.adopted.size(), 1u);
  EXPECT_EQ(Describe(node_.Log().back()),
            "machines~('a') region='new'; machines~('b') region='x' cpu=0.0; "
            "pairs+('new'|1) v=x'ff'; ports-(80)");
  EXPECT_EQ(node_.Dump(), wanted);
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{});
  const auto digests = node_.Digests();
  EXPECT_EQ(DigestsFromScratch(), digests);
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{});
}

TEST_F(ForeignRowsTest, WithoutTheLogTheSealStillTellsWhatIsKnown) {
  node_.Close();
  Write(
      "DELETE FROM __patina_log; DELETE FROM __patina_log_index;"
      "UPDATE machines SET note = 'bad' WHERE id = 'a';"
      "UPDATE machines SET cpu = 7 WHERE id = 'b'; DELETE FROM ports WHERE number = 80;"
      "INSERT INTO ports VALUES(1, 'bad')");
  node_.Open();
  EXPECT_EQ(ForeignRowsOf(*node_.store), (Lines{"machines('a') changed", "machines('b') changed",
                                                "ports(1) inserted", "ports(?) deleted"}));
  const ForeignOutcome outcome = Settle(ForeignAction::kDiscard);
  EXPECT_EQ(outcome.settled, 1u);  // the inserted one
  ASSERT_EQ(outcome.left.size(), 3u);
  EXPECT_THAT(outcome.left[0].why,
              ::testing::HasSubstr("no longer has what was written to region"));
  EXPECT_EQ(Settle(ForeignAction::kAdopt).settled, 2u);
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{"ports(?) deleted"});
}

TEST_F(ForeignRowsTest, AChangeStaysNamedWhateverIsWrittenToOtherCells) {
  ASSERT_TRUE(node_.store->Checkpoint().ok());
  node_.CloseAndOpen();  // nothing is cached
  Write("UPDATE machines SET region = 'bad'");
  node_.Do("UPDATE machines SET cpu = 1.5");
  node_.Do("UPDATE machines SET cpu = 2.5");
  EXPECT_EQ(ForeignRowsOf(*node_.store).size(), 3u);
  Write("UPDATE machines SET region = 'worse'");  // and now they are cached
  node_.Do("UPDATE machines SET note = 'n'");
  EXPECT_EQ(ForeignRowsOf(*node_.store).size(), 3u);
  node_.CloseAndOpen();
  EXPECT_EQ(ForeignRowsOf(*node_.store).size(), 3u);
  Settle(ForeignAction::kDiscard);
  EXPECT_EQ(node_.Rows("SELECT id, region, cpu, note FROM machines ORDER BY id"),
            (Lines{"'a'|'fra'|2.5|'n'", "'b'|'fra'|2.5|'n'", "'c'|'ams'|2.5|'n'"}));
}

TEST_F(ForeignRowsTest, ACommitOfAnotherClientIsNoticedAndOurOwnAreNot) {
  EXPECT_FALSE(node_.store->OtherClientWrote());
  node_.Do("UPDATE machines SET cpu = 5");
  ASSERT_TRUE(node_.store->Checkpoint().ok());
  node_.Rows("SELECT * FROM machines");
  EXPECT_FALSE(node_.store->OtherClientWrote());
  Write("UPDATE machines SET cpu = 6");
  EXPECT_TRUE(node_.store->OtherClientWrote());
  EXPECT_FALSE(node_.store->OtherClientWrote());
  EXPECT_EQ(node_.store->Stats().foreign_commits, 1u);
}

TEST_F(ForeignRowsTest, TheListIsBoundedAndTheRestCounted) {
  node_.options.limits.foreign_rows_max = 3;
  node_.CloseAndOpen();
  Write(
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20) "
      "INSERT INTO ports SELECT 1000 + i, '' FROM n");
  EXPECT_EQ(ForeignRowsOf(*node_.store).size(), 3u);
  EXPECT_EQ(node_.store->Stats().foreign_rows, 3u);
  EXPECT_GT(node_.store->Stats().foreign_rows_unlisted, 16u);
}

TEST_F(ForeignRowsTest, KeysOfSeveralColumnsBlobsAndOneByteOfThem) {
  TestNode node(
      MustParse("CREATE TABLE links (a TEXT NOT NULL, b BLOB NOT NULL, v BLOB, n, "
                "PRIMARY KEY (a, b));"));
  node.Do(
      "INSERT INTO links VALUES('x', x'00', zeroblob(100000), 1), ('x', x'01', x'6100', 1), ('y', "
      "x'00', 'a', 1), ('y', x'01', '', 1)");
  node.CloseAndOpen();
  const Lines before = node.Dump();
  RunForeign(
      node.options.path,
      "UPDATE links SET v = CAST(substr(v, 1, 99999) || x'01' AS BLOB) WHERE a = 'x' AND b "
      "= x'00'; UPDATE links SET v = x'61' WHERE a = 'x' AND b = x'01'; UPDATE links SET v = "
      "x'61' WHERE a = 'y' AND b = x'00'; UPDATE links SET v = NULL WHERE a = 'y' AND b = "
      "x'01'; INSERT INTO links VALUES('z', x'', x'', 2)");
  EXPECT_EQ(
      ForeignRowsOf(*node.store),
      (Lines{"links('x'|x'00') changed", "links('x'|x'01') changed", "links('y'|x'00') changed",
             "links('y'|x'01') changed", "links('z'|x'') inserted"}));
  ASSERT_TRUE(node.store->SettleForeignRows(ForeignAction::kDiscard, &node.effects).ok());
  EXPECT_EQ(node.Dump(), before);
  EXPECT_EQ(ForeignRowsOf(*node.store), Lines{});
}

TEST_F(ForeignRowsTest, RowsInTheCacheAndRowsOutOfItAreFoundAlike) {
  for (const bool cached : {false, true}) {
    node_.CloseAndOpen();
    if (cached) node_.Do({"UPDATE machines SET cpu = cpu + 1", "UPDATE pairs SET v = x'aa'"});
    Write(
        "DELETE FROM machines WHERE id = 'a'; UPDATE machines SET cpu = 99 WHERE id = 'b';"
        "UPDATE pairs SET v = x'99' WHERE a = 'q'; DELETE FROM pairs WHERE b = 2");
    ASSERT_TRUE(node_.store->Checkpoint().ok());
    EXPECT_EQ(ForeignRowsOf(*node_.store), (Lines{"machines('a') deleted", "machines('b') changed",
                                                  "pairs('p'|2) deleted", "pairs('q'|1) changed"}));
    Settle(ForeignAction::kDiscard);
    EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{});
  }
}

TEST_F(ForeignRowsTest, Rowid0IsARowidLikeOthers) {
  node_.Do("INSERT INTO ports VALUES(0, 'none')");
  ASSERT_TRUE(node_.store->Checkpoint().ok());
  node_.Do("DELETE FROM ports WHERE number = 0");
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{});
  ASSERT_TRUE(node_.store->Checkpoint().ok());
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{});
  Write("INSERT INTO ports VALUES(0, 'bad')");
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{"ports(0) inserted"});
  Settle(ForeignAction::kAdopt);
  Write("DELETE FROM ports WHERE number = 0");
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{"ports(0) deleted"});
  Settle(ForeignAction::kDiscard);
  EXPECT_EQ(node_.Rows("SELECT service FROM ports WHERE number = 0"), Lines{"'bad'"});
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{});
}

/// Its old clock row is at the rowid that it had, and where the log is trimmed nothing but the
/// replay knows.
TEST_F(ForeignRowsTest, AKeyThatTookAnothersRowidBeforeACrashIsNoForeignRow) {
  node_.Do("DELETE FROM machines");
  node_.Do("INSERT INTO machines (id) VALUES ('one'), ('two')");
  node_.Close();
  Write("DELETE FROM __patina_log; DELETE FROM __patina_log_index");
  node_.Open();
  node_.Do("DELETE FROM machines WHERE id = 'two'");
  node_.Do("UPDATE machines SET id = 'two' WHERE id = 'one'");
  node_.CrashAndOpen();
  EXPECT_THAT(ForeignRowsOf(*node_.store), ::testing::IsEmpty());
  EXPECT_EQ(Ask(node_.options.path, "SELECT count(*) FROM __patina_clock_machines"), "1");
}

/// The row that was deleted before the crash left its clock behind, and hides it while it is back.
TEST_F(ForeignRowsTest, AKeyInsertedAgainAfterACrashHidesItsOldClockAndTakesItAlong) {
  node_.Do("DELETE FROM machines");
  node_.Do("INSERT INTO machines (rowid, id) VALUES (1, 'one')");
  node_.Close();
  Write("DELETE FROM __patina_log; DELETE FROM __patina_log_index");
  node_.Open();
  node_.Do("DELETE FROM machines");
  node_.CrashAndOpen();
  node_.Do("INSERT INTO machines (rowid, id) VALUES (1, 'one')");
  EXPECT_THAT(ForeignRowsOf(*node_.store), ::testing::IsEmpty());
  node_.Do("DELETE FROM machines");
  Write("DELETE FROM __patina_log; DELETE FROM __patina_log_index");
  EXPECT_THAT(ForeignRowsOf(*node_.store), ::testing::IsEmpty());
  ASSERT_TRUE(node_.store->Checkpoint().ok());
  EXPECT_EQ(Ask(node_.options.path, "SELECT count(*) FROM __patina_clock_machines"), "0");
}

/// Its clock row is at the first rowid, while the row was elsewhere already when it moved.
TEST_F(ForeignRowsTest, AKeyInsertedAgainThatMovesLeavesNoClockBehind) {
  node_.Do("DELETE FROM machines");
  node_.Do("INSERT INTO machines (rowid, id) VALUES (1, 'one'), (2, 'two')");
  ASSERT_TRUE(node_.store->Checkpoint().ok());
  node_.Do("DELETE FROM machines WHERE id = 'one'");
  node_.Do("INSERT INTO machines (rowid, id) VALUES (7, 'one')");
  node_.Do("UPDATE machines SET rowid = 1 WHERE id = 'two'");  // another's clock at that rowid
  const std::string taken =
      Ask(node_.options.path, "SELECT hex(clock) FROM __patina_clock_machines WHERE id = 1");
  node_.Do("UPDATE machines SET rowid = 9 WHERE id = 'one'");
  EXPECT_EQ(Ask(node_.options.path, "SELECT hex(clock) FROM __patina_clock_machines WHERE id = 1"),
            taken);
  node_.Do("DELETE FROM machines WHERE id = 'two'");
  ASSERT_TRUE(node_.store->Checkpoint().ok());
  node_.Do("DELETE FROM machines WHERE id = 'one'");
  node_.Do("INSERT INTO machines (rowid, id) VALUES (3, 'one')");
  node_.Do("UPDATE machines SET rowid = 4");
  EXPECT_EQ(Ask(node_.options.path, "SELECT group_concat(id) FROM __patina_clock_machines"), "4");
  Write("DELETE FROM __patina_log; DELETE FROM __patina_log_index");
  EXPECT_THAT(ForeignRowsOf(*node_.store), ::testing::IsEmpty());
}

TEST_F(ForeignRowsTest, WhatIsAdoptedWinsOnEveryNode) {
  TestNode peer(node_.options.schema);
  peer.Merge(node_.Log());
  Write("UPDATE machines SET region = 'adopted'; DELETE FROM ports WHERE number = 443");
  const Committed of_peer = peer.Do(
      {"UPDATE machines SET region = 'peer', note = 'peer'", "UPDATE ports SET service = 'peer'"});
  node_.clock.AdvanceMs(10);
  peer.clock.AdvanceMs(10);
  EXPECT_EQ(Settle(ForeignAction::kAdopt).settled, 4u);
  node_.Merge(of_peer.changeset);
  peer.Merge(node_.Log().back());
  peer.Merge(node_.Log());
  EXPECT_EQ(node_.Rows("SELECT DISTINCT region, note FROM machines"), Lines{"'adopted'|'peer'"});
  EXPECT_EQ(node_.Rows("SELECT number, service FROM ports"), Lines{"80|'peer'"});
  EXPECT_EQ(peer.Dump(), node_.Dump());
  EXPECT_EQ(peer.Digests(), node_.Digests());
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{});
}

TEST_F(ForeignRowsTest, WhatPatinaWritesOverForeignRowsLeavesNoTraceInTheDigests) {
  node_.CloseAndOpen();
  Write("UPDATE machines SET region = 'bad'; DELETE FROM pairs; INSERT INTO ports VALUES(7, 'x')");
  EXPECT_TRUE(node_.store->OtherClientWrote());
  node_.Do({"DELETE FROM machines", "INSERT INTO pairs VALUES('p', 1, x'01')",
            "DELETE FROM ports WHERE number = 7"});
  node_.Do("DELETE FROM pairs");
  // Those pairs that Patina does not know to be gone are still to be settled.
  EXPECT_EQ(ForeignRowsOf(*node_.store), (Lines{"pairs('p'|2) deleted", "pairs('q'|1) deleted"}));
  EXPECT_EQ(Settle(ForeignAction::kAdopt).settled, 2u);
  EXPECT_EQ(DigestsFromScratch(), node_.Digests());
  Write("UPDATE ports SET service = 'bad' WHERE number = 80");
  EXPECT_TRUE(node_.store->OtherClientWrote());
  node_.Do("DELETE FROM ports WHERE number = 80");
  node_.clock.AdvanceMs(600'000);
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{});
  TestNode other(node_.options.schema, node_.clock.WallMs());
  other.Merge(node_.Log());
  EXPECT_EQ(node_.Digests(), other.Digests());
}

TEST_F(ForeignRowsTest, MoreThanTheListHoldsAreSettledInSeveralRounds) {
  node_.options.limits.foreign_rows_max = 8;
  for (const ForeignAction action : {ForeignAction::kAdopt, ForeignAction::kDiscard}) {
    node_.CloseAndOpen();
    Write(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20) "
        "REPLACE INTO ports SELECT 1000 + i, random() FROM n");
    std::vector<uint64_t> settled;
    ForeignOutcome outcome;
    do {
      outcome = Settle(action);
      settled.push_back(outcome.settled);
    } while (outcome.more);
    EXPECT_EQ(settled, (std::vector<uint64_t>{8, 8, 4}));
    EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{});
  }
}

TEST_F(ForeignRowsTest, ARowThatIsTooLargeForAChangeIsNotAdoptedAndTheOthersAre) {
  node_.options.limits.changeset.bytes_max = 20'000;
  node_.CloseAndOpen();
  Write("UPDATE pairs SET v = zeroblob(11000) WHERE a = 'q'; UPDATE pairs SET v = x'' WHERE b = 2");
  const ForeignOutcome outcome = Settle(ForeignAction::kAdopt);
  EXPECT_EQ(outcome.settled, 1u);
  ASSERT_EQ(outcome.left.size(), 1u);
  EXPECT_THAT(outcome.left[0].why, ::testing::HasSubstr("changeset_bytes_max"));
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{"pairs('q'|1) changed"});
}

TEST_F(ForeignRowsTest, AColumnThatGoesTakesSealsWithItOnlyWhereItHadAValue) {
  ASSERT_TRUE(node_.store->Checkpoint().ok());
  Write("UPDATE ports SET service = 'bad' WHERE number = 80");
  const Schema without = MustParse(
      "CREATE TABLE machines (id TEXT NOT NULL PRIMARY KEY, region TEXT NOT NULL DEFAULT 'x', "
      "cpu REAL NOT NULL DEFAULT 0);"
      "CREATE TABLE ports (number INTEGER NOT NULL PRIMARY KEY, service TEXT);"
      "CREATE TABLE pairs (a TEXT NOT NULL, b INTEGER NOT NULL, v BLOB, PRIMARY KEY (a, b)) "
      "WITHOUT ROWID;",
      "[machines]\ndropped = [\"note\"]");
  ASSERT_TRUE(node_.Apply(without, true).ok());
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{"ports(80) changed"});
  Write("UPDATE machines SET cpu = 7 WHERE id = 'c'");
  EXPECT_EQ(ForeignRowsOf(*node_.store), (Lines{"machines('c') changed", "ports(80) changed"}));
}

TEST_F(ForeignRowsTest, WhatALargeTransactionWroteIsKnownFromItsChunks) {
  node_.options.limits.large_chunk_bytes = 4'096;
  node_.CloseAndOpen();
  Transaction large =
      Tx({"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) "
          "INSERT INTO ports SELECT 1000 + i, 'large' FROM n"});
  large.large = true;
  ASSERT_TRUE(node_.Run({large})[0].ok());
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{});
  Write(
      "UPDATE ports SET service = 'bad' WHERE number IN (1001, 4000);"
      "DELETE FROM ports WHERE number = 2500");
  EXPECT_EQ(ForeignRowsOf(*node_.store),
            (Lines{"ports(1001) changed", "ports(2500) deleted", "ports(4000) changed"}));
  EXPECT_EQ(Settle(ForeignAction::kDiscard).settled, 3u);
  EXPECT_EQ(node_.Rows("SELECT count(*) FROM ports WHERE service = 'large'"), Lines{"3000"});
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{});
}

TEST_F(ForeignRowsTest, FilesOfAReleaseWithoutSealsGetThem) {
  node_.Close();
  for (const char* table : {"machines", "ports", "pairs"}) {
    Write(StrCat("UPDATE __patina_clock_", table,
                 " SET clock = substr(clock, 1, length(clock) - 4)"));
  }
  node_.Open();
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{});
  node_.CloseAndOpen();
  Write("UPDATE machines SET region = 'bad' WHERE id = 'a'");
  EXPECT_EQ(ForeignRowsOf(*node_.store), Lines{"machines('a') changed"});
}

}  // namespace
}  // namespace patina::storage

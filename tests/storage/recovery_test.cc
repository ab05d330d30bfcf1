#include <filesystem>
#include <set>

#include "base/log.h"
#include "tests/storage/test_util.h"

// What is in memory only is rebuilt from the checkpoint and the log's tail.

namespace patina::storage {
namespace {

constexpr const char* kSchema = R"sql(
CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a, b TEXT DEFAULT 'd');
CREATE TABLE p (v, x TEXT NOT NULL, y INTEGER NOT NULL, PRIMARY KEY (y, x)) WITHOUT ROWID;
)sql";

std::string RandomSql(Rng& rng) {
  const std::string key = "'k" + std::to_string(rng.Below(4)) + "'",
                    value = std::to_string(rng.Below(9));
  switch (rng.Below(6)) {
    case 0:
      return "REPLACE INTO t (id, a) VALUES (" + key + ", " + value + ")";
    case 1:
      return "UPDATE t SET b = " + value;
    case 2:
      return "DELETE FROM t WHERE id = " + key;
    case 3:
      return "REPLACE INTO p VALUES (" + value + ", " + key + ", 1)";
    case 4:
      return "DELETE FROM p WHERE x = " + key;
    default:
      return "UPDATE OR IGNORE t SET id = " + key + " WHERE a = " + value;
  }
}

TEST(RecoveryTest, ACopyOfTheFileTakenAfterAnyCommitOpensToThatState) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Rng rng(seed);
    TestNode node(MustParse(kSchema)), peer(node.options.schema);
    struct Copy {
      std::string path;
      std::vector<std::string> rows;
      std::vector<TableDigest> digests;
      Digest128 applied;
      uint64_t last_seq;
    };
    std::vector<Copy> copies;
    for (int i = 0; i < 30; ++i) {
      node.clock.AdvanceMs(1);
      peer.clock.AdvanceMs(1);
      if (rng.Chance(0.5)) {
        node.Do(RandomSql(rng));
      } else if (const Committed done = peer.Do(RandomSql(rng)); done.changeset) {
        node.Merge(done.changeset);
      }
      if (rng.Chance(0.15)) {
        ASSERT_TRUE(node.store->Checkpoint().ok());
      }
      if (!rng.Chance(0.4)) continue;
      const std::string to = node.dir.File("copy" + std::to_string(i) + ".db");
      std::filesystem::copy_file(node.options.path, to);
      std::filesystem::copy_file(node.options.path + "-wal", to + "-wal");
      copies.push_back({to, node.Dump(), node.Digests(), node.store->applied().digest(),
                        node.store->last_seq()});
    }
    for (const Copy& copy : copies) {
      TestNode restored(node.options.schema, copy.path, node.clock.WallMs());
      EXPECT_EQ(restored.Dump(), copy.rows);
      EXPECT_EQ(restored.Digests(), copy.digests);
      EXPECT_EQ(restored.store->applied().digest(), copy.applied);
      EXPECT_EQ(restored.store->last_seq(), copy.last_seq);
      restored.CrashAndOpen();
      EXPECT_EQ(restored.Digests(), copy.digests);
    }
  }
}

TEST(RecoveryTest, ACleanStopLeavesNothingToReplay) {
  TestNode node(MustParse(kSchema));
  node.Do("INSERT INTO t (id) VALUES ('k')");
  const auto digests = node.Digests();
  node.CloseAndOpen();
  EXPECT_EQ(node.store->Stats().replayed, 0u);
  EXPECT_EQ(node.Digests(), digests);
  node.Do("UPDATE t SET a = 1");
  node.CrashAndOpen();
  EXPECT_EQ(node.store->Stats().replayed, 1u);
}

TEST(RecoveryTest, NoTwoOpensGiveAVersionTwiceEvenFromACopyOrWithTheSameSeed) {
  TestNode node(MustParse(kSchema));
  node.options.seed = 42;
  node.CloseAndOpen();
  std::set<ChangeId> ids;
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(node.store->actor(), ActorId()) << "minted at the first write";
    const Committed done = node.Do("INSERT INTO t (id) VALUES ('k" + std::to_string(i) + "')");
    EXPECT_TRUE(ids.insert({done.actor, done.version}).second);
    EXPECT_EQ(done.version, 1u);
    i % 2 == 0 ? node.CrashAndOpen() : node.CloseAndOpen();
  }
  EXPECT_EQ(node.store->Actors().size(), 4u);
}

TEST(RecoveryTest, AFailedWriteDoesNotBurnAVersionAcrossACrash) {
  TestNode node(MustParse(kSchema));
  node.Do("INSERT INTO t (id) VALUES ('k')");
  EXPECT_FALSE(node.Try({"UPDATE t SET a = 1", "INSERT INTO t (id) VALUES ('k')"}).ok());
  node.Do({"SAVEPOINT s", "UPDATE t SET a = 2", "ROLLBACK TO s"});
  EXPECT_EQ(node.Do("UPDATE t SET a = 3").version, 2u);
  node.CrashAndOpen();
  EXPECT_EQ(node.store->applied().Size(), 2u);
}

TEST(RecoveryTest, TheClockNeverGoesBackAcrossOpens) {
  TestNode node(MustParse(kSchema));
  const Committed one = node.Do("INSERT INTO t (id) VALUES ('k')");
  node.clock.AdvanceMs(-100'000);
  node.CrashAndOpen();
  EXPECT_GT(node.Do("UPDATE t SET a = 1").time, one.time);
}

TEST(RecoveryTest, TheLogIsTrimmedFromTheFrontAndNeverPastTheCheckpoint) {
  TestNode node(MustParse(kSchema));
  node.options.limits.log_bytes_max = 1;
  node.CloseAndOpen();
  const ActorId actor = node.Do("INSERT INTO t (id) VALUES ('k')").actor;
  for (int i = 0; i < 4; ++i) node.Do("UPDATE t SET a = " + std::to_string(i));
  EXPECT_EQ(node.Log().size(), 5u);
  ASSERT_TRUE(node.store->Checkpoint().ok());
  node.Do("UPDATE t SET a = 'after'");
  EXPECT_EQ(node.reader->ReadLogAfter(0, 1000).error().code, Errc::kOutOfRange);
  const auto tail = node.reader->ReadLogAfter(5, 1000);
  ASSERT_TRUE(tail.ok());
  EXPECT_EQ(tail->size(), 1u);
  EXPECT_TRUE(node.reader->ReadLogAfter(6, 1000)->empty());
  const auto range = node.reader->ReadLog({{actor, {{1, 8}}}}, 1 << 20);
  ASSERT_TRUE(range.ok());
  ASSERT_EQ(range->changes.size(), 1u);
  EXPECT_EQ(range->changes[0].first, (ChangeId{actor, 6}));
  ASSERT_EQ(range->not_at_hand.size(), 1u);
  EXPECT_EQ(range->not_at_hand[0].ranges, (std::vector<crdt::VersionRange>{{1, 5}, {7, 8}}));
  EXPECT_TRUE(range->complete);
  node.CrashAndOpen();
  EXPECT_EQ(node.store->last_seq(), 6u);
  EXPECT_EQ(node.Rows("SELECT a FROM t"), std::vector<std::string>{"'after'"});
}

TEST(RecoveryTest, AnEmptyLogRemembersItsNumbers) {
  TestNode node(MustParse(kSchema));
  node.options.limits.log_bytes_max = 0;
  node.CloseAndOpen();
  node.Do("INSERT INTO t (id) VALUES ('k')");
  node.CloseAndOpen();
  EXPECT_EQ(node.store->last_seq(), 1u);
  EXPECT_EQ(*node.reader->LastSeq(), 1u);
  EXPECT_EQ(node.Do("UPDATE t SET a = 1").seq, 2u);
}

TEST(RecoveryTest, OldEntriesAreTrimmedByAge) {
  TestNode node(MustParse(kSchema));
  node.Do("INSERT INTO t (id) VALUES ('k')");
  node.clock.AdvanceMs(25LL * 3600 * 1000);
  node.Do("UPDATE t SET a = 1");
  ASSERT_TRUE(node.store->Checkpoint().ok());
  EXPECT_EQ(node.store->Stats().log_first_seq, 2u);
  EXPECT_EQ(node.store->Stats().log_entries, 1u);
}

TEST(RecoveryTest, ACheckpointIsDueByTimeOrByDirtyRows) {
  TestNode node(MustParse(kSchema));
  node.options.limits.dirty_rows_max = 3;
  node.CloseAndOpen();
  node.Do("INSERT INTO t (id) VALUES ('k')");
  ASSERT_TRUE(node.store->CheckpointIfDue().ok());
  EXPECT_EQ(node.store->Stats().dirty_rows, 1u);
  node.Do("INSERT INTO t (id) VALUES ('l'), ('m')");
  ASSERT_TRUE(node.store->CheckpointIfDue().ok());
  EXPECT_EQ(node.store->Stats().dirty_rows, 0u);
  node.Do("UPDATE t SET a = 1 WHERE id = 'k'");
  node.clock.AdvanceMs(10'001);
  ASSERT_TRUE(node.store->CheckpointIfDue().ok());
  EXPECT_EQ(node.store->Stats().dirty_rows, 0u);
  const uint64_t checkpoints = node.store->Stats().checkpoints;
  node.clock.AdvanceMs(10'001);
  ASSERT_TRUE(node.store->CheckpointIfDue().ok());
  EXPECT_EQ(node.store->Stats().checkpoints, checkpoints) << "nothing to write";
}

TEST(RecoveryTest, ParkedChangesSurviveACrash) {
  TestNode node(MustParse(kSchema)), ahead(node.options.schema, 1'800'000'900'000);
  const SharedBytes bytes = ahead.Do("INSERT INTO t (id) VALUES ('k')").changeset;
  EXPECT_EQ(node.Merge(bytes), MergeState::kParked);
  node.CrashAndOpen();
  EXPECT_EQ(node.store->Parked().size(), 1u);
  EXPECT_EQ(node.Merge(bytes), MergeState::kDuplicate);
  EXPECT_EQ(node.store->received().Size(), 1u);
  EXPECT_TRUE(node.store->applied().Empty());
}

TEST(RecoveryTest, AClockRowOfAnotherKeyIsNotTakenForOnesOwn) {
  TestNode node(MustParse(kSchema));
  node.Do("INSERT INTO t VALUES ('k', 1, 'x'), ('l', 2, 'x')");
  ASSERT_TRUE(node.store->Checkpoint().ok());
  // at the rowid of 'l'
  node.Do({"DELETE FROM t WHERE id = 'l'", "INSERT INTO t VALUES ('m', 3, 'x')"});
  const auto digests = node.Digests();
  node.CrashAndOpen();
  EXPECT_EQ(node.Digests(), digests);
}

/// Rowids far apart: the table is read by several threads, each from one to another.
TEST(RecoveryTest, DigestsMadeByThreadsAreThoseThatWritesKeptUp) {
  TestNode node(MustParse("CREATE TABLE n (id INTEGER NOT NULL PRIMARY KEY, a);"));
  node.Do(
      "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 999) "
      "INSERT INTO n SELECT i * i * 1013 - 400000, i FROM c");
  node.Do("UPDATE n SET a = -a WHERE id % 7 = 0");
  node.Do("DELETE FROM n WHERE id % 5 = 0");
  const auto digests = node.Digests();
  node.CrashAndOpen();
  EXPECT_EQ(node.Digests(), digests);
  node.Do("INSERT INTO n VALUES (9223372036854775807, 1), (-9223372036854775808, 2)");
  const auto with_extremes = node.Digests();
  EXPECT_NE(with_extremes, digests);
  node.CrashAndOpen();
  EXPECT_EQ(node.Digests(), with_extremes);
  RunForeign(node.options.path, "UPDATE n SET a = 'other' WHERE id = 9223372036854775807");
  node.Do("UPDATE n SET a = 3 WHERE id = -9223372036854775808");
  node.CrashAndOpen();
  EXPECT_NE(node.Digests(), with_extremes) << "they are read, not remembered";
}

}  // namespace
}  // namespace patina::storage

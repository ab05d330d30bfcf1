#include <sys/stat.h>

#include <filesystem>

#include "storage/backup.h"
#include "storage/db.h"
#include "storage/peer_snapshot.h"
#include "tests/storage/test_util.h"

// Forgetting behind a horizon, and what keeps it from hurting: changes refused, transfers refused,
// snapshots that set aside.

namespace patina::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kSchema = R"sql(
CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a DEFAULT 0, b DEFAULT 0);
CREATE TABLE p (v, x TEXT NOT NULL, y INTEGER NOT NULL, PRIMARY KEY (y, x)) WITHOUT ROWID;
)sql";
constexpr int64_t kStart = 1'800'000'000'000;
constexpr int64_t kHourMs = 3'600'000;

crdt::HlcTime At(int64_t ms) { return crdt::HlcTime::FromMs(ms); }

class CollectTest : public ::testing::Test {
 protected:
  CollectTest() {
    a_.options.node_name = "a";
    b_.options.node_name = "b";
    a_.CloseAndOpen();
    b_.CloseAndOpen();
  }
  Committed Write(TestNode& node, std::initializer_list<std::string> sql) {
    now_ += 10;
    for (TestNode* each : {&a_, &b_}) each->clock.SetWallMs(now_);
    return node.Do(sql);
  }
  void Sleep(int64_t ms) {
    now_ += ms;
    for (TestNode* each : {&a_, &b_}) each->clock.SetWallMs(now_);
  }
  static void CollectAll(TestNode& node, int64_t line_ms) {
    while (true) {
      const auto more = node.store->Collect(At(line_ms));
      ASSERT_TRUE(more.ok()) << more.error().ToString();
      if (!*more) return;
    }
  }
  /// b's file becomes a's, with what only b had.
  Result<SnapshotOutcome> TakeSnapshot(TestNode& from, TestNode& to) {
    const std::string staged = to.dir.File("staged");
    std::filesystem::remove(staged);
    EXPECT_TRUE(from.store->Checkpoint().ok());
    const auto copy = BackupFile(from.options.path, staged, {});
    EXPECT_TRUE(copy.ok()) << copy.error().ToString();
    return to.store->PrepareSnapshot(staged);
  }

  int64_t now_ = kStart;
  TestNode a_{MustParse(kSchema)}, b_{MustParse(kSchema)};
};

TEST_F(CollectTest, TombstonesGoUpToTheLineAndOthersStay) {
  Write(a_,
        {"INSERT INTO t VALUES ('k1', 1, 1), ('k2', 2, 2)", "INSERT INTO p VALUES (1, 'x', 1)"});
  Write(a_, {"DELETE FROM t WHERE id = 'k1'", "DELETE FROM p"});
  const int64_t line = now_ + 1;
  Write(a_, {"DELETE FROM t WHERE id = 'k2'"});
  ASSERT_TRUE(a_.store->Checkpoint().ok());
  EXPECT_EQ(a_.store->Stats().tombstones, 3u);
  CollectAll(a_, line);
  EXPECT_EQ(a_.store->horizon(), At(line));
  EXPECT_EQ(a_.store->Stats().tombstones, 1u);
  EXPECT_EQ(a_.store->Stats().tombstones_collected, 2u);
  EXPECT_THAT(a_.Dump(), IsEmpty());
  a_.CrashAndOpen();
  EXPECT_EQ(a_.store->horizon(), At(line)) << "in the file";
  EXPECT_EQ(a_.store->Stats().tombstones, 1u);
  CollectAll(a_, line - 5);
  EXPECT_EQ(a_.store->horizon(), At(line)) << "it never falls";
}

TEST_F(CollectTest, WhetherThereIsAnythingToForgetIsSaidBefore) {
  Write(a_, {"INSERT INTO t VALUES ('k', 1, 1)"});
  ASSERT_TRUE(a_.store->Checkpoint().ok());
  EXPECT_FALSE(*a_.store->AnyToCollect(At(now_ + 1)));
  Write(a_, {"DELETE FROM t"});
  ASSERT_TRUE(a_.store->Checkpoint().ok());
  EXPECT_FALSE(*a_.store->AnyToCollect(At(now_ - 1)));
  EXPECT_TRUE(*a_.store->AnyToCollect(At(now_ + 1)));
}

TEST_F(CollectTest, ALateCellOutlivesItsTombstoneUntilItIsOlderItself) {
  const auto insert = Write(a_, {"INSERT INTO t VALUES ('k', 1, 1)"}).changeset;
  b_.Merge(insert);
  const auto deleted = Write(a_, {"DELETE FROM t"}).changeset;
  const int64_t line = now_ + 1;
  b_.Merge(Write(a_, {"INSERT INTO t VALUES ('other', 0, 0)"}).changeset);
  const auto update = Write(b_, {"UPDATE t SET a = 9 WHERE id = 'k'"}).changeset;
  EXPECT_EQ(a_.Merge(update), MergeState::kApplied);
  ASSERT_TRUE(a_.store->Checkpoint().ok());
  CollectAll(a_, line);
  EXPECT_EQ(a_.store->Stats().tombstones, 1u) << "the cell";
  // A node that inserted the row anew, later: its row has the cell if that is later still.
  const auto again = b_.store->PublishClock();
  ASSERT_TRUE(again.ok());
  CollectAll(a_, now_ + 1);
  EXPECT_EQ(a_.store->Stats().tombstones, 0u);
  (void)deleted;
}

TEST_F(CollectTest, RowsInMemoryForgetToo) {
  Write(a_, {"INSERT INTO t VALUES ('k', 1, 1)"});
  Write(a_, {"DELETE FROM t"});
  ASSERT_TRUE(a_.store->Checkpoint().ok());
  CollectAll(a_, now_ + 1);
  Sleep(1000);
  const auto late = Write(b_, {"INSERT INTO t VALUES ('k', 5, 5)"}).changeset;
  EXPECT_EQ(a_.Merge(late), MergeState::kApplied);
  EXPECT_THAT(a_.Dump(), ElementsAre("t: 5|5|'k'"));
  ASSERT_TRUE(a_.store->Checkpoint().ok());
  EXPECT_EQ(a_.Digests(), b_.Digests());
}

TEST_F(CollectTest, AReplayNeverSeesALogWhoseTombstonesAreGone) {
  const auto insert = Write(b_, {"INSERT INTO t VALUES ('k', 1, 1)"}).changeset;
  Sleep(5);
  const auto change = Write(a_, {"INSERT INTO t VALUES ('k', 2, 2)"}).changeset;
  Write(a_, {"DELETE FROM t"});
  ASSERT_TRUE(a_.store->Checkpoint().ok());
  EXPECT_EQ(a_.Merge(insert), MergeState::kApplied) << "lost to the tombstone, but in the log";
  CollectAll(a_, now_ + 1);
  EXPECT_EQ(a_.store->Stats().tombstones, 0u);
  const auto digests = a_.Digests();
  a_.CrashAndOpen();
  EXPECT_THAT(a_.Dump(), IsEmpty());
  EXPECT_EQ(a_.Digests(), digests);
}

TEST_F(CollectTest, WhatIsOlderThanTheHorizonIsRefusedWithoutATrace) {
  const auto old = Write(b_, {"INSERT INTO t VALUES ('k', 1, 1)"}).changeset;
  const auto known = Write(a_, {"INSERT INTO t VALUES ('l', 1, 1)"}).changeset;
  CollectAll(a_, now_ + 1);
  const auto actors = a_.store->Actors();
  const auto outcomes = a_.Merge({old, old, known});
  EXPECT_EQ(outcomes[0].state, MergeState::kTooOld);
  EXPECT_THAT(outcomes[0].reason, HasSubstr("before the horizon"));
  EXPECT_EQ(outcomes[1].state, MergeState::kTooOld);
  EXPECT_EQ(outcomes[2].state, MergeState::kDuplicate) << "once received is received";
  EXPECT_EQ(a_.store->Actors(), actors);
  EXPECT_EQ(a_.store->Stats().too_old, 2u);
  EXPECT_FALSE(a_.store->received().Contains(outcomes[0].id));
}

TEST_F(CollectTest, APublishedClockIsInTheFileAndLaterWritesAreLater) {
  const auto first = a_.store->PublishClock();
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(*first, At(now_));
  a_.Crash();
  a_.clock.SetWallMs(now_ - kHourMs);
  a_.Open();
  EXPECT_EQ(a_.store->published(), *first);
  const Committed write = a_.Do("INSERT INTO t VALUES ('k', 1, 1)");
  EXPECT_GT(write.time, *first);
}

TEST_F(CollectTest, AParkedChangeHoldsTAndDoesNotMoveTheClock) {
  b_.clock.SetWallMs(now_ + kHourMs);
  const Committed future = b_.Do("INSERT INTO t VALUES ('k', 1, 1)");
  EXPECT_EQ(a_.store->OldestParked(), std::nullopt);
  EXPECT_EQ(a_.Merge(future.changeset), MergeState::kParked);
  EXPECT_EQ(a_.store->OldestParked(), future.time);
  a_.CrashAndOpen();
  EXPECT_EQ(a_.store->OldestParked(), future.time);
  EXPECT_LT(a_.Do("INSERT INTO t VALUES ('l', 1, 1)").time, future.time);
}

TEST_F(CollectTest, ATransferIsRefusedByWhoLacksWhatTheSenderCollected) {
  a_.options.limits.log_bytes_max = 0;
  a_.CloseAndOpen();
  const auto insert = Write(a_, {"INSERT INTO t VALUES ('k', 1, 1)"}).changeset;
  b_.Merge(insert);
  const auto deleted = Write(a_, {"DELETE FROM t"}).changeset;
  const int64_t line = now_ + 1;
  Sleep(100);
  Write(a_, {"INSERT INTO t VALUES ('l', 1, 1)"});
  ASSERT_TRUE(a_.store->Checkpoint().ok());
  CollectAll(a_, line);
  const auto chunks = TransferChunks(a_, b_.store->applied(), 1 << 20);
  const Status refused = TakeTransfer(b_, chunks);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, kNeedsSnapshot) << refused.error().ToString();
  EXPECT_THAT(b_.Dump(), ElementsAre("t: 1|1|'k'")) << "as it was";
  // With the DELETE applied there is nothing to miss.
  EXPECT_EQ(b_.Merge(deleted), MergeState::kApplied);
  const Status taken = TakeTransfer(b_, TransferChunks(a_, b_.store->applied(), 1 << 20), 2);
  ASSERT_TRUE(taken.ok()) << taken.error().ToString();
  EXPECT_EQ(b_.Dump(), a_.Dump());
}

TEST_F(CollectTest, ATransferOfWhatIsOlderThanOnesOwnHorizonIsRefused) {
  a_.options.limits.log_bytes_max = 0;
  a_.CloseAndOpen();
  Write(a_, {"INSERT INTO t VALUES ('k', 1, 1)"});
  CollectAll(b_, now_ + 1);
  const Status refused = TakeTransfer(b_, TransferChunks(a_, b_.store->applied(), 1 << 20));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, kNeedsSnapshot) << refused.error().ToString();
}

TEST_F(CollectTest, ASnapshotKeepsWhatIsNewerAndSetsAsideWhatIsOlder) {
  const auto shared = Write(a_, {"INSERT INTO t VALUES ('shared', 1, 1)"}).changeset;
  b_.Merge(shared);
  const Committed old = Write(b_, {"INSERT INTO t VALUES ('old', 7, 8)"});
  CollectAll(a_, now_ + 1);
  Sleep(10);
  const Committed recent = Write(b_, {"INSERT INTO t VALUES ('new', 2, 2)"});
  Write(a_, {"UPDATE t SET a = 3 WHERE id = 'shared'"});
  const auto outcome = TakeSnapshot(a_, b_);
  ASSERT_TRUE(outcome.ok()) << outcome.error().ToString();
  EXPECT_EQ(outcome->kept, 1u);
  EXPECT_EQ(outcome->set_aside, 1u);
  EXPECT_TRUE(b_.store->broken()) << "the process ends here";
  b_.CrashAndOpen();
  EXPECT_THAT(b_.Dump(), ElementsAre("t: 2|2|'new'", "t: 3|1|'shared'"));
  EXPECT_EQ(b_.store->horizon(), a_.store->horizon());
  EXPECT_TRUE(b_.store->applied().Contains({recent.actor, recent.version}));
  EXPECT_FALSE(b_.store->received().Contains({old.actor, old.version}));
  EXPECT_NE(b_.Do("INSERT INTO t VALUES ('mine', 0, 0)").actor, recent.actor);
  bool named = false;
  for (const auto& [id, name] : b_.store->Actors()) named |= id == recent.actor && name == "b";
  EXPECT_TRUE(named) << "it answers for what it wrote under that actor";
  // What it kept can be had from it.
  EXPECT_EQ(a_.Merge(recent.changeset), MergeState::kApplied);
  EXPECT_EQ(b_.Log().size(), 4u) << "shared, update, kept, mine";

  const auto listed = b_.store->SetAside();
  ASSERT_TRUE(listed.ok());
  ASSERT_EQ(listed->size(), 1u);
  EXPECT_EQ((*listed)[0].id, (ChangeId{old.actor, old.version}));
  EXPECT_EQ((*listed)[0].time, old.time);
  EXPECT_THAT((*listed)[0].reason, HasSubstr("horizon"));
  EXPECT_EQ(*b_.store->SetAsideBytes((*listed)[0].id), *old.changeset);
  EXPECT_EQ(b_.store->Stats().set_aside, 1u);
  const uint64_t commits = b_.store->Stats().commits;
  const auto applied = b_.store->ApplySetAside((*listed)[0].id, &b_.effects);
  ASSERT_TRUE(applied.ok()) << applied.error().ToString();
  EXPECT_EQ(b_.store->Stats().commits, commits + 1) << "applied and dropped in one";
  EXPECT_GT(applied->time, b_.store->horizon());
  EXPECT_THAT(b_.Rows("SELECT * FROM t WHERE id = 'old'"), ElementsAre("'old'|7|8"));
  EXPECT_EQ(b_.store->Stats().set_aside, 0u);
  EXPECT_EQ(a_.Merge(applied->changeset), MergeState::kApplied);
}

TEST_F(CollectTest, WhatCannotBeAppliedStaysSetAside) {
  const Committed old = Write(b_, {"INSERT INTO t VALUES ('old', 7, 8)"});
  Write(a_, {"INSERT INTO t VALUES ('other', 1, 1)"});
  CollectAll(a_, now_ + 1);
  ASSERT_TRUE(TakeSnapshot(a_, b_).ok());
  b_.options.limits.transaction_rows_max = 0;
  b_.CrashAndOpen();
  EXPECT_FALSE(b_.store->ApplySetAside({old.actor, old.version}, &b_.effects).ok());
  EXPECT_EQ(b_.store->SetAside()->size(), 1u);
  b_.options.limits.transaction_rows_max = 10;
  b_.CrashAndOpen();
  EXPECT_TRUE(b_.store->ApplySetAside({old.actor, old.version}, &b_.effects).ok());
  b_.CrashAndOpen();
  EXPECT_EQ(b_.store->SetAside()->size(), 0u);
}

TEST_F(CollectTest, TheMembersThatWereKnownAreKeptByWhoTakesAFile) {
  ASSERT_TRUE(a_.store->SaveMembers("a's").ok());
  Write(a_, {"INSERT INTO t VALUES ('k', 1, 1)"});
  ASSERT_TRUE(TakeSnapshot(a_, b_).ok());
  b_.CrashAndOpen();
  EXPECT_EQ(*b_.store->SavedMembers(), "a's") << "a new node begins with the sender's";
  ASSERT_TRUE(b_.store->SaveMembers("b's").ok());
  ASSERT_TRUE(TakeSnapshot(a_, b_).ok());
  b_.CrashAndOpen();
  EXPECT_EQ(*b_.store->SavedMembers(), "b's");
}

TEST_F(CollectTest, WhatIsSetAsideIsRebuiltFromRowsWhenTheLogHasItNoLonger) {
  b_.options.limits.log_bytes_max = 0;
  b_.CloseAndOpen();
  const Committed first = Write(b_, {"INSERT INTO t VALUES ('old', 7, 8)"});
  const Committed gone = Write(b_, {"UPDATE t SET a = 9"});
  const Committed second = Write(b_, {"UPDATE t SET a = 10"});
  CollectAll(a_, now_ + 1);
  ASSERT_TRUE(TakeSnapshot(a_, b_).ok());
  b_.CrashAndOpen();
  EXPECT_THAT(b_.Dump(), IsEmpty());
  const auto listed = b_.store->SetAside();
  ASSERT_TRUE(listed.ok());
  ASSERT_EQ(listed->size(), 3u);
  EXPECT_EQ(Describe(Share(*b_.store->SetAsideBytes({first.actor, first.version}))),
            "t+('old') b=8");
  EXPECT_EQ(Describe(Share(*b_.store->SetAsideBytes({second.actor, second.version}))),
            "t~('old') a=10");
  const ChangeId nothing_left{gone.actor, gone.version};
  EXPECT_EQ(*b_.store->SetAsideBytes(nothing_left), "");
  const auto refused = b_.store->ApplySetAside(nothing_left, &b_.effects);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message, HasSubstr("drop it"));
  EXPECT_TRUE(b_.store->DropSetAside(nothing_left).ok());
  EXPECT_EQ(b_.store->DropSetAside(nothing_left).error().code, Errc::kNotFound);
  EXPECT_TRUE(b_.store->ApplySetAside({first.actor, first.version}, &b_.effects).ok());
  EXPECT_TRUE(b_.store->ApplySetAside({second.actor, second.version}, &b_.effects).ok());
  EXPECT_THAT(b_.Dump(), ElementsAre("t: 10|8|'old'"));
}

TEST_F(CollectTest, LargeTransactionsAreKeptOrSetAsideWithTheirChunks) {
  b_.options.limits.large_chunk_bytes = a_.options.limits.large_chunk_bytes = 1;
  b_.CloseAndOpen();
  a_.CloseAndOpen();
  const Committed old = b_.DoLarge({"INSERT INTO t VALUES ('o1', 7, 8), ('o2', 7, 8)"});
  const ChangeId old_id{old.actor, old.version};
  const LargeChange old_change = ReadLarge(b_, old_id);
  ASSERT_TRUE(a_.store->StageLarge(*old_change.manifest).ok());
  for (uint64_t i = 0; i < 2; ++i) {
    ASSERT_TRUE(a_.store->StageLargeChunk(old_id, i, *old_change.chunks[i]).ok());
  }
  Sleep(10);
  CollectAll(a_, now_);
  EXPECT_EQ(a_.store->MergeLarge(old_id, &a_.effects)->state, MergeState::kTooOld);
  EXPECT_EQ(a_.store->StageLarge(*old_change.manifest).error().code, kNeedsSnapshot);
  EXPECT_EQ(a_.store->Stats().too_old, 2u);
  EXPECT_THAT(a_.Rows("SELECT count(*) FROM __patina_chunk"), ElementsAre("0")) << "not kept";
  // The sender has begun to fetch what this node has: that must not take its chunks away.
  const Committed recent = b_.DoLarge({"INSERT INTO t VALUES ('n1', 2, 2), ('n2', 2, 2)"});
  const ChangeId recent_id{recent.actor, recent.version};
  const LargeChange change = ReadLarge(b_, recent_id);
  ASSERT_TRUE(a_.store->StageLarge(*change.manifest).ok());
  ASSERT_TRUE(a_.store->StageLargeChunk(recent_id, 0, *change.chunks[0]).ok());
  ASSERT_TRUE(TakeSnapshot(a_, b_).ok());
  b_.CrashAndOpen();
  EXPECT_THAT(b_.Dump(), ElementsAre("t: 2|2|'n1'", "t: 2|2|'n2'"));
  EXPECT_EQ(TakeLarge(a_, ReadLarge(b_, recent_id))->state, MergeState::kApplied) << "serves it";

  const auto listed = b_.store->SetAside();
  ASSERT_TRUE(listed.ok() && listed->size() == 1);
  EXPECT_EQ(*b_.store->SetAsideBytes(old_id), *old_change.manifest);
  EXPECT_GT(b_.store->Stats().set_aside_bytes, 2 * old_change.chunks[0]->size());
  ASSERT_TRUE(TakeSnapshot(a_, b_).ok()) << "and once more";
  b_.CrashAndOpen();
  const auto applied = b_.store->ApplySetAside(old_id, &b_.effects);
  ASSERT_TRUE(applied.ok()) << applied.error().ToString();
  EXPECT_TRUE(b_.effects.rows_unknown);
  EXPECT_THAT(b_.Rows("SELECT id FROM t WHERE a = 7 ORDER BY id"), ElementsAre("'o1'", "'o2'"));
  EXPECT_EQ(b_.store->Stats().set_aside_bytes, 0u);
  EXPECT_THAT(b_.Rows("SELECT count(*) FROM __patina_chunk"), ElementsAre("2")) << "the kept one's";
}

TEST_F(CollectTest, AParkedLargeTransactionSurvivesASnapshot) {
  TestNode c(MustParse(kSchema), now_);
  b_.clock.SetWallMs(now_ + kHourMs);
  const Committed future = b_.DoLarge({"INSERT INTO t VALUES ('f1', 1, 1), ('f2', 1, 1)"});
  const LargeChange change = ReadLarge(b_, {future.actor, future.version});
  EXPECT_EQ(TakeLarge(c, change)->state, MergeState::kParked);
  ASSERT_TRUE(TakeSnapshot(a_, c).ok());
  c.CrashAndOpen();
  EXPECT_GT(c.store->Stats().large_staged_bytes, 0u);
  c.clock.SetWallMs(now_ + kHourMs);
  EXPECT_EQ(c.Settle().size(), 1u);
  EXPECT_EQ(c.Dump(), b_.Dump());
}

TEST_F(CollectTest, TheOldestThatAreSetAsideGoWhenThereIsNoRoom) {
  b_.options.limits.set_aside_changes_max = 3;
  b_.CloseAndOpen();
  for (int i = 0; i < 5; ++i)
    Write(b_, {"INSERT INTO t VALUES ('k" + std::to_string(i) + "', 1, 1)"});
  CollectAll(a_, now_ + 1);
  ASSERT_TRUE(TakeSnapshot(a_, b_).ok());
  b_.CrashAndOpen();
  EXPECT_EQ(b_.store->Stats().set_aside, 3u);
  EXPECT_EQ(b_.store->Stats().set_aside_dropped, 2u);
}

TEST_F(CollectTest, ParkedChangesAndThePublishedClockSurviveASnapshot) {
  b_.clock.SetWallMs(now_ + kHourMs);
  const Committed future = b_.Do("INSERT INTO t VALUES ('future', 1, 1)");
  b_.clock.SetWallMs(now_);
  TestNode c(MustParse(kSchema), now_);
  EXPECT_EQ(c.Merge(future.changeset), MergeState::kParked);
  const auto published = c.store->PublishClock();
  ASSERT_TRUE(published.ok());
  ASSERT_TRUE(TakeSnapshot(a_, c).ok());
  c.CrashAndOpen();
  EXPECT_EQ(c.store->OldestParked(), future.time);
  EXPECT_EQ(c.store->published(), *published);
  c.clock.SetWallMs(now_ + kHourMs);
  EXPECT_EQ(c.Settle().size(), 1u);
}

TEST_F(CollectTest, ASnapshotIsRefusedForItsSchemaItsHorizonItsFutureAndItsDamage) {
  TestNode other(MustParse("CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, z);"), now_);
  auto refused = TakeSnapshot(other, b_);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message, HasSubstr("schema"));
  CollectAll(b_, now_);
  refused = TakeSnapshot(a_, b_);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message, HasSubstr("horizon"));
  a_.clock.SetWallMs(now_ + kHourMs);
  a_.Do("INSERT INTO t VALUES ('future', 1, 1)");
  CollectAll(a_, now_);
  refused = TakeSnapshot(a_, b_);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::kUnavailable);
  b_.clock.SetWallMs(now_ + kHourMs);
  ASSERT_TRUE(a_.store->Checkpoint().ok());
  const std::string staged = b_.dir.File("staged");
  std::filesystem::remove(staged);
  ASSERT_TRUE(BackupFile(a_.options.path, staged, {}).ok());
  {
    auto db = Db::Open(staged, Db::Mode::kReadWriteCreate);
    ASSERT_TRUE(db.ok() && db->Exec("UPDATE t SET a = 99").ok());
  }
  refused = b_.store->PrepareSnapshot(staged);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::kDataLoss) << refused.error().ToString();
  EXPECT_FALSE(b_.store->broken());
  b_.Do("INSERT INTO t VALUES ('goes on', 1, 1)");
}

TEST_F(CollectTest, ACrashAtAnyPointOfTakingASnapshotLeavesOneWholeFile) {
  Write(a_, {"INSERT INTO t VALUES ('theirs', 1, 1)"});
  Write(b_, {"INSERT INTO t VALUES ('ours', 1, 1)"});
  const std::string wal = b_.options.path + "-wal";
  ASSERT_TRUE(TakeSnapshot(a_, b_).ok());
  // Prepared, and the old file's write-ahead log is still there: it must not reach the new file.
  const std::string kept = b_.dir.File("kept-wal");
  std::filesystem::copy_file(wal, kept);
  b_.Crash();
  for (const bool log_gone : {false, true}) {
    if (!log_gone) std::filesystem::copy_file(kept, wal);
    ASSERT_TRUE(std::filesystem::exists(PreparedSnapshotPath(b_.options.path)));
    if (log_gone) break;
    std::filesystem::remove(wal);  // a crash after the first step
  }
  b_.Open();
  EXPECT_THAT(b_.Dump(), ElementsAre("t: 1|1|'ours'", "t: 1|1|'theirs'"));
  EXPECT_FALSE(std::filesystem::exists(PreparedSnapshotPath(b_.options.path)));
  b_.CrashAndOpen();
  EXPECT_THAT(b_.Dump(), ElementsAre("t: 1|1|'ours'", "t: 1|1|'theirs'"));
  EXPECT_EQ(b_.store->Digests()[1].rows, 2u);
}

TEST_F(CollectTest, AFileOfTheFirstReleaseGetsItsTombstonesCollected) {
  Write(a_, {"INSERT INTO t VALUES ('k', 1, 1)"});
  Write(a_, {"DELETE FROM t"});
  a_.Close();
  {
    auto db = Db::Open(a_.options.path, Db::Mode::kReadWriteCreate);
    ASSERT_TRUE(db.ok());
    const Status old = db->Exec(
        "DROP INDEX __patina_older_t; ALTER TABLE __patina_dead_t DROP COLUMN time; DROP TABLE "
        "__patina_set_aside");
    ASSERT_TRUE(old.ok()) << old.error().ToString();
  }
  a_.Open();
  EXPECT_EQ(a_.store->Stats().tombstones, 1u);
  CollectAll(a_, now_ - 5);
  EXPECT_EQ(a_.store->Stats().tombstones, 1u) << "looked at, and not older";
  CollectAll(a_, now_ + 1);
  EXPECT_EQ(a_.store->Stats().tombstones, 0u);
}

TEST_F(CollectTest, ManyTombstonesGoInBoundedSteps) {
  Write(a_, {"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
             "INSERT INTO t SELECT 'k' || i, i, i FROM n"});
  Write(a_, {"DELETE FROM t"});
  ASSERT_TRUE(a_.store->Checkpoint().ok());
  ASSERT_TRUE(*a_.store->Collect(At(now_ + 1)));
  const uint64_t left = a_.store->Stats().tombstones;
  EXPECT_GT(left, 2'000u);
  EXPECT_LT(left, 5'000u);
  a_.CrashAndOpen();
  EXPECT_EQ(a_.store->Stats().tombstones, left) << "each step is a commit";
  CollectAll(a_, now_ + 1);
  EXPECT_EQ(a_.store->Stats().tombstones, 0u);
}

}  // namespace
}  // namespace patina::storage

#include <algorithm>

#include "base/bytes.h"
#include "tests/storage/test_util.h"

// A whole difference from one read snapshot: exact, atomic, and harmless when it is broken.

namespace patina::storage {
namespace {

constexpr const char* kSchema = R"sql(
CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, clock TEXT, a);
CREATE TABLE p (v, x TEXT NOT NULL, y INTEGER NOT NULL, PRIMARY KEY (y, x)) WITHOUT ROWID;
CREATE TABLE c (id INTEGER PRIMARY KEY, lo INTEGER NOT NULL DEFAULT 0 CHECK (lo < 5));
)sql";

class TransferTest : public ::testing::Test {
 protected:
  TransferTest() {
    from_.options.limits.log_bytes_max = 0;
    from_.CloseAndOpen();
  }
  Committed Write(TestNode& node, std::initializer_list<std::string> sql) {
    node.clock.SetWallMs(now_ += 10);
    return node.Do(sql);
  }
  void Fill() {
    for (int i = 0; i < 20; ++i) {
      const std::string key = "'k" + std::to_string(i) + "'";
      Write(from_, {"INSERT INTO t VALUES (" + key + ", 'tick', " + std::to_string(i) + ")",
                    "INSERT INTO p VALUES (" + std::to_string(i) + ", " + key + ", 1)"});
    }
    Write(from_, {"UPDATE t SET a = 'updated' WHERE a < 5", "UPDATE p SET v = NULL WHERE v > 15"});
    Write(from_, {"DELETE FROM t WHERE a = 7", "DELETE FROM p WHERE v = 7",
                  "INSERT INTO c VALUES (1, 4)"});
  }
  void ExpectEqual() {
    EXPECT_EQ(to_.Dump(), from_.Dump());
    EXPECT_EQ(to_.Digests(), from_.Digests());
    const auto digests = to_.Digests();
    to_.CrashAndOpen();
    EXPECT_EQ(to_.Digests(), digests);
  }

  int64_t now_ = 1'800'000'000'000;
  Schema schema_ = MustParse(kSchema);
  TestNode from_{schema_}, to_{schema_}, third_{schema_};
};

TEST_F(TransferTest, ANewNodeGetsEverythingInChunksOfAnySize) {
  Fill();
  for (const size_t size : {size_t{1}, size_t{100}, size_t{1} << 20}) {
    TestNode fresh(schema_, now_);
    const auto chunks = TransferChunks(from_, fresh.store->applied(), size);
    const Status status = TakeTransfer(fresh, chunks);
    ASSERT_TRUE(status.ok()) << status.error().ToString();
    EXPECT_EQ(fresh.Dump(), from_.Dump());
    EXPECT_EQ(fresh.Digests(), from_.Digests());
    EXPECT_EQ(fresh.store->applied(), from_.store->applied());
    EXPECT_EQ(fresh.store->received(), from_.store->applied());
    EXPECT_TRUE(fresh.effects.rows_unknown);
    EXPECT_EQ(fresh.store->last_seq(), 1u) << "a marker";
    EXPECT_TRUE((*fresh.reader->ReadLogAfter(0, 1000))[0].rows_unknown);
  }
}

TEST_F(TransferTest, MergingTellsThatItGetsOnAfterEachChunk) {
  Fill();
  to_.clock.SetWallMs(now_);
  size_t told = 0;
  to_.store->SetProgress([&told](Duration) { ++told; });
  const auto chunks = TransferChunks(from_, {}, 100);
  ASSERT_GT(chunks.size(), 5u);
  ASSERT_TRUE(TakeTransfer(to_, chunks).ok());
  EXPECT_EQ(told, chunks.size());
}

TEST_F(TransferTest, ACheckpointTellsThatItGetsOnEachThousandRows) {
  size_t told = 0;
  Write(to_, {"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3500) "
              "INSERT INTO t SELECT 'k' || i, '', i FROM n"});
  to_.store->SetProgress([&told](Duration) { ++told; });
  ASSERT_TRUE(to_.store->Checkpoint().ok());
  EXPECT_EQ(told, 3u);
  told = 0;
  ASSERT_TRUE(to_.store->RowsInBucket("t", 0).ok());
  EXPECT_EQ(told, 3u);
}

TEST_F(TransferTest, ANodeThatIsBehindGetsOnlyWhatItLacks) {
  Fill();
  to_.clock.SetWallMs(now_);
  ASSERT_TRUE(TakeTransfer(to_, TransferChunks(from_, {}, 1000)).ok());
  Write(from_, {"UPDATE t SET a = 'one' WHERE id = 'k3'"});
  to_.clock.SetWallMs(now_);
  const auto chunks = TransferChunks(from_, to_.store->applied(), 1 << 20);
  EXPECT_LT(chunks[0].size(), 250u);
  ASSERT_TRUE(TakeTransfer(to_, chunks).ok());
  ExpectEqual();
}

TEST_F(TransferTest, DivergedNodesBecomeEqualByATransferEachWay) {
  Fill();
  Write(to_, {"INSERT INTO t VALUES ('k1', 'mine', 'mine'), ('own', 'mine', 'mine')",
              "INSERT INTO p VALUES (9, 'k2', 1)"});
  to_.clock.SetWallMs(now_);
  ASSERT_TRUE(TakeTransfer(to_, TransferChunks(from_, to_.store->applied(), 64)).ok());
  ASSERT_TRUE(TakeTransfer(from_, TransferChunks(to_, from_.store->applied(), 64)).ok());
  ExpectEqual();
  EXPECT_EQ(from_.Rows("SELECT a FROM t WHERE id = 'k1'"), std::vector<std::string>{"'mine'"});
}

TEST_F(TransferTest, TombstonesAndLateCellsTravel) {
  const Committed first =
      Write(from_, {"INSERT INTO t VALUES ('k', 'x', 1)", "INSERT INTO p VALUES (1, 'k', 1)"});
  third_.Merge(first.changeset);
  const Committed gone = Write(from_, {"DELETE FROM t", "DELETE FROM p"});
  const Committed again = Write(third_, {"UPDATE t SET a = 2"});
  const Committed late = Write(third_, {"UPDATE t SET a = 3", "UPDATE p SET v = 3"});
  from_.clock.SetWallMs(now_);
  from_.Merge({late.changeset, again.changeset});
  to_.clock.SetWallMs(now_);
  ASSERT_TRUE(TakeTransfer(to_, TransferChunks(from_, {}, 10)).ok());
  EXPECT_EQ(to_.store->Stats().tombstones, 2u);
  EXPECT_EQ(to_.Merge(first.changeset), MergeState::kDuplicate)
      << "claimed, although nothing is left of it";
  // A life between the DELETE and the late cells, written by a node that had not heard of them.
  TestNode fourth(schema_);
  fourth.clock.SetWallMs(gone.time.ms() + 5);
  const SharedBytes life =
      fourth.Do({"INSERT INTO t VALUES ('k', 'y', 0)", "INSERT INTO p VALUES (0, 'k', 1)"})
          .changeset;
  to_.Merge(life);
  from_.Merge(life);
  EXPECT_EQ(to_.Rows("SELECT * FROM t"), std::vector<std::string>{"'k'|'y'|3"});
  EXPECT_EQ(to_.Rows("SELECT v FROM p"), std::vector<std::string>{"3"});
  ExpectEqual();
}

TEST_F(TransferTest, WhatWasAppliedMeanwhileIsKept) {
  Fill();
  const auto chunks = TransferChunks(from_, to_.store->applied(), 100);
  const Committed later = Write(from_, {"UPDATE t SET a = 'meanwhile'"});
  to_.clock.SetWallMs(now_);
  to_.Merge(later.changeset);
  ASSERT_TRUE(TakeTransfer(to_, chunks).ok());
  ExpectEqual();
}

TEST_F(TransferTest, AnOldOneBringsBackNothingThatWasCollectedMeanwhile) {
  const Committed insert = Write(from_, {"INSERT INTO t VALUES ('k', 'x', 1)"});
  const auto asked = TransferChunks(from_, to_.store->applied(), 1 << 20);
  to_.clock.SetWallMs(now_ + 100);
  to_.Merge(insert.changeset);
  to_.Merge(Write(from_, {"DELETE FROM t"}).changeset);
  ASSERT_TRUE(to_.store->Checkpoint().ok());
  ASSERT_TRUE(to_.store->Collect(crdt::HlcTime::FromMs(now_ + 1)).ok());
  ASSERT_EQ(to_.store->Stats().tombstones, 0u);
  ASSERT_TRUE(TakeTransfer(to_, asked).ok());
  EXPECT_EQ(to_.Dump(), std::vector<std::string>());
  // What would come of it if all were merged that was lacking when it was asked for.
  to_.options.mutant = Mutant::kStaleTransfer;
  to_.CloseAndOpen();
  ASSERT_TRUE(TakeTransfer(to_, asked, 2).ok());
  EXPECT_EQ(to_.Dump(), std::vector<std::string>{"t: 1|'x'|'k'"});
}

TEST_F(TransferTest, ARowDeletedAndAnotherInsertedAtItsRowidKeepTheirClocks) {
  const Committed first = Write(from_, {"INSERT INTO t VALUES ('z', 'x', 1)"});
  to_.Merge(first.changeset);
  Write(from_, {"INSERT INTO t VALUES ('a', 'x', 1)"});
  Write(from_, {"DELETE FROM t WHERE id = 'z'"});
  to_.clock.SetWallMs(now_);
  ASSERT_TRUE(TakeTransfer(to_, TransferChunks(from_, to_.store->applied(), 1 << 20)).ok());
  ExpectEqual();
}

TEST_F(TransferTest, ParkedChangesThatATransferBringsAreParkedNoMore) {
  from_.clock.SetWallMs(now_ + 900);
  const Committed ahead = from_.Do("INSERT INTO t VALUES ('k', 'x', 1)");
  EXPECT_EQ(to_.Merge(ahead.changeset), MergeState::kParked);
  auto chunks = TransferChunks(from_, to_.store->applied(), 100);
  const Status early = TakeTransfer(to_, chunks);
  ASSERT_FALSE(early.ok());
  EXPECT_EQ(early.error().code, Errc::kUnavailable) << "a transfer obeys the clock, too";
  EXPECT_TRUE(to_.Dump().empty());
  to_.clock.SetWallMs(now_ + 900);
  ASSERT_TRUE(TakeTransfer(to_, chunks).ok());
  EXPECT_TRUE(to_.store->Parked().empty());
  EXPECT_EQ(to_.store->Stats().parked_bytes, 0u);
  EXPECT_TRUE(to_.Settle().empty());
  ExpectEqual();
}

TEST_F(TransferTest, ChecksAreIgnoredInTransfersAndEnforcedAfter) {
  TestNode loose(
      MustParse("CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, clock TEXT, a);"
                "CREATE TABLE p (v, x TEXT NOT NULL, y INTEGER NOT NULL, PRIMARY KEY "
                "(y, x)) WITHOUT ROWID;"
                "CREATE TABLE c (id INTEGER PRIMARY KEY, lo INTEGER NOT NULL DEFAULT "
                "0);"));
  loose.Do("INSERT INTO c VALUES (1, 99)");
  ASSERT_TRUE(TakeTransfer(to_, TransferChunks(loose, {}, 100)).ok());
  EXPECT_EQ(to_.Rows("SELECT lo FROM c"), std::vector<std::string>{"99"});
  EXPECT_FALSE(to_.Try({"INSERT INTO c VALUES (2, 99)"}).ok());
}

TEST_F(TransferTest, BetweenDifferentSchemasNothingIsTaken) {
  Fill();
  TestNode other(MustParse("CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, clock TEXT, a, b)"),
                 now_);
  const Status status = TakeTransfer(other, TransferChunks(from_, {}, 1000));
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Errc::kFailedPrecondition);
  EXPECT_TRUE(other.store->applied().Empty());
}

TEST_F(TransferTest, WhatIsCutOffOrHasAHoleIsNotClaimed) {
  Fill();
  to_.clock.SetWallMs(now_);
  const auto chunks = TransferChunks(from_, {}, 200);
  ASSERT_GT(chunks.size(), 4u);
  std::vector<std::string> cut(chunks.begin(), chunks.end() - 1);
  EXPECT_EQ(TakeTransfer(to_, cut, 1).error().code, Errc::kInvalidArgument);
  for (size_t i = 0; i < chunks.size(); ++i) {
    if (i == 2) continue;
    ASSERT_TRUE(to_.store->StageTransferChunk(2, i, chunks[i]).ok());
  }
  EXPECT_EQ(to_.store->MergeTransfer(2, &to_.effects).error().code, Errc::kInvalidArgument);
  EXPECT_EQ(to_.store->MergeTransfer(77, &to_.effects).error().code, Errc::kInvalidArgument);
  EXPECT_TRUE(to_.Dump().empty());
  EXPECT_TRUE(to_.store->applied().Empty());
  ASSERT_TRUE(to_.store->AbandonTransfers().ok());
  ASSERT_TRUE(TakeTransfer(to_, chunks, 3).ok());
  ExpectEqual();
}

TEST_F(TransferTest, TheActorsOfOneThatFailedAreNotTakenForOthersInDigests) {
  Fill();
  std::vector<std::string> chunks = TransferChunks(from_, to_.store->applied(), 100);
  chunks.pop_back();  // its end is missing: found when the rest is merged
  ASSERT_FALSE(TakeTransfer(to_, chunks).ok());
  const Committed change = Write(third_, {"INSERT INTO t VALUES ('other', 'tick', 1)"});
  to_.clock.SetWallMs(now_);
  to_.Merge({change.changeset});
  EXPECT_EQ(to_.Digests(), third_.Digests());
}

TEST_F(TransferTest, BrokenBytesAreRefusedWholeOrUnderstoodWhole) {
  Fill();
  to_.clock.SetWallMs(now_);
  Write(to_, {"INSERT INTO t VALUES ('k1', 'mine', 'mine')", "DELETE FROM t",
              "INSERT INTO p VALUES (1, 'k1', 1)"});
  ASSERT_TRUE(to_.store->Checkpoint().ok());
  const auto chunks = TransferChunks(from_, {}, 300);
  Rng rng(5);
  int refused = 0;
  for (int round = 0; round < 300; ++round) {
    auto bad = chunks;
    std::string& chunk = bad[static_cast<size_t>(rng.Below(bad.size()))];
    if (rng.Chance(0.2)) {
      chunk.resize(static_cast<size_t>(rng.Below(chunk.size() + 1)));
    } else {
      chunk[static_cast<size_t>(rng.Below(chunk.size()))] = static_cast<char>(rng.Below(256));
    }
    const auto rows = to_.Dump();
    const auto digests = to_.Digests();
    const auto tombstones = to_.store->Stats().tombstones;
    const Digest128 applied = to_.store->applied().digest();
    if (TakeTransfer(to_, bad, 9).ok()) {  // a flipped letter of a value cannot be told
      to_.store.reset();
      for (const char* tail : {"", "-wal", "-shm"})
        (void)::remove((to_.options.path + tail).c_str());
      to_.Open();
      continue;
    }
    ++refused;
    ASSERT_EQ(to_.Dump(), rows) << "round " << round;
    ASSERT_EQ(to_.Digests(), digests);
    ASSERT_EQ(to_.store->Stats().tombstones, tombstones);
    ASSERT_EQ(to_.store->applied().digest(), applied);
    ASSERT_TRUE(to_.store->AbandonTransfers().ok());
    ASSERT_FALSE(to_.store->broken());
  }
  EXPECT_GT(refused, 50);
  ASSERT_TRUE(TakeTransfer(to_, TransferChunks(from_, to_.store->applied(), 300)).ok());
}

TEST_F(TransferTest, AnActorOfZerosIsMalformed) {
  std::string bytes;
  ByteWriter out(&bytes);
  out.U8(1);
  out.U8(1);
  out.U64(to_.store->schema().Hash());
  crdt::VersionSet().Encode(out);
  out.U8(2);
  out.String("t");
  out.Varint(0);
  out.U8(3);
  out.String(crdt::PackValues(std::vector{crdt::Value::Text("k")}));
  out.Varint(1);
  out.Varint(0);
  out.Raw(std::string(16, '\0'));
  out.Varint(1);
  out.Varint(1);
  out.U8(1);
  out.Varint(0);
  out.U8(0);
  EXPECT_EQ(TakeTransfer(to_, {bytes}).error().code, Errc::kInvalidArgument);
}

TEST_F(TransferTest, TheSnapshotOfARunningTransferDoesNotSeeLaterWrites) {
  Fill();
  ASSERT_TRUE(from_.store->Checkpoint().ok());
  ASSERT_TRUE(from_.reader->BeginTransfer(from_.store->schema(), {}).ok());
  const auto rows = from_.Dump();
  Write(from_, {"DELETE FROM t", "DELETE FROM p"});
  ASSERT_TRUE(from_.store->Checkpoint().ok());
  to_.clock.SetWallMs(now_);
  bool last = false;
  for (uint64_t number = 0; !last; ++number) {
    const auto chunk = from_.reader->NextTransferChunk(50);
    ASSERT_TRUE(chunk.ok());
    last = chunk->last;
    ASSERT_TRUE(to_.store->StageTransferChunk(1, number, chunk->bytes).ok());
  }
  from_.reader->EndTransfer();
  EXPECT_EQ(from_.reader->NextTransferChunk(50).error().code, Errc::kFailedPrecondition);
  ASSERT_TRUE(to_.store->MergeTransfer(1, &to_.effects).ok());
  EXPECT_EQ(to_.Dump(), rows);
}

}  // namespace
}  // namespace patina::storage

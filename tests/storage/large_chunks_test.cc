#include <filesystem>

#include "tests/storage/large_test_util.h"

// Chunks of peers' large transactions: staged, applied all at once, parked, refused, dropped.

namespace patina::storage {
namespace {

class LargeChunksTest : public LargeTest {};

TEST_F(LargeChunksTest, NothingIsSeenBeforeAllIsThereAndACrashKeepsWhatIsStaged) {
  const Committed large =
      node_.DoLarge({"INSERT INTO words (id, a) VALUES ('a', 1), ('b', 2), ('c', 3)",
                     "INSERT INTO pairs VALUES (1, 'p', 1)"});
  const LargeChange change = Change(large);
  const ChangeId id{large.actor, large.version};
  ASSERT_EQ(change.chunks.size(), 4u);
  for (uint64_t i = 0; i < 4; ++i) {
    const auto first = peer_.store->StageLarge(*change.manifest);
    ASSERT_TRUE(first.ok());
    EXPECT_EQ(*first, i);
    EXPECT_EQ(peer_.store->MergeLarge(id, &peer_.effects).error().code, Errc::kFailedPrecondition);
    EXPECT_TRUE(peer_.Dump().empty());
    EXPECT_FALSE(peer_.store->received().Contains(id));
    ASSERT_TRUE(peer_.store->StageLargeChunk(id, i, *change.chunks[i]).ok());
    peer_.CrashAndOpen();
  }
  EXPECT_EQ(*peer_.store->StageLarge(*change.manifest), 4u);
  EXPECT_GT(peer_.store->Stats().large_staged_bytes, 0u);
  ASSERT_TRUE(peer_.store->MergeLarge(id, &peer_.effects).ok());
  EXPECT_EQ(peer_.store->Stats().large_staged_bytes, 0u);
  ExpectEqual(node_, peer_);
  EXPECT_EQ(*peer_.store->StageLarge(*change.manifest), 4u);
  EXPECT_EQ(peer_.store->MergeLarge(id, &peer_.effects)->state, MergeState::kDuplicate);
  peer_.CrashAndOpen();
  ExpectEqual(node_, peer_);
  EXPECT_EQ(Words(ReadLarge(peer_, id)), Words(change)) << "it serves others";
}

TEST_F(LargeChunksTest, ACopyOfTheFileAtAnyStageOpensToNothingOrAll) {
  const Committed large =
      node_.DoLarge({"INSERT INTO words (id, a) VALUES ('a', 1), ('b', 2), ('c', 3)"});
  const LargeChange change = Change(large);
  const ChangeId id{large.actor, large.version};
  peer_.Do("INSERT INTO words (id, a) VALUES ('a', 'own')");
  const auto before = peer_.Dump();
  ASSERT_TRUE(peer_.store->StageLarge(*change.manifest).ok());
  for (uint64_t i = 0; i < change.chunks.size(); ++i) {
    ASSERT_TRUE(peer_.store->StageLargeChunk(id, i, *change.chunks[i]).ok());
  }
  size_t copies = 0;
  const auto copy = [&](Duration) {
    const std::string to = peer_.dir.File("copy" + std::to_string(copies++) + ".db");
    std::filesystem::copy_file(peer_.options.path, to);
    std::filesystem::copy_file(peer_.options.path + "-wal", to + "-wal");
  };
  peer_.store->SetProgress(copy);
  ASSERT_TRUE(peer_.store->MergeLarge(id, &peer_.effects).ok());
  peer_.store->SetProgress({});
  const size_t within = copies;
  EXPECT_GT(within, 3u);
  copy({});
  for (size_t i = 0; i < copies; ++i) {
    TestNode restored(schema_, peer_.dir.File("copy" + std::to_string(i) + ".db"),
                      peer_.clock.WallMs());
    EXPECT_EQ(restored.Dump(), i < within ? before : peer_.Dump());
    EXPECT_EQ(restored.store->applied().Contains(id), i >= within);
    ASSERT_TRUE(TakeLarge(restored, change).ok());
    EXPECT_EQ(restored.Dump(), peer_.Dump());
    EXPECT_EQ(restored.Digests(), peer_.Digests());
  }
}

TEST_F(LargeChunksTest, OneFromTheFutureIsReceivedAndWaitsForItsTime) {
  node_.clock.AdvanceMs(10'000);
  const Committed large = node_.DoLarge({"INSERT INTO words (id) VALUES ('a'), ('b')"});
  const LargeChange change = Change(large);
  EXPECT_EQ(TakeLarge(peer_, change)->state, MergeState::kParked);
  EXPECT_EQ(peer_.store->Parked().size(), 1u);
  EXPECT_TRUE(peer_.Dump().empty());
  peer_.CrashAndOpen();
  EXPECT_TRUE(peer_.store->received().Contains({large.actor, large.version}));
  EXPECT_EQ(Words(ReadLarge(peer_, {large.actor, large.version})), Words(change)) << "serves it";
  peer_.clock.AdvanceMs(10'000);
  EXPECT_EQ(peer_.Settle().size(), 1u);
  ExpectEqual(node_, peer_);
  EXPECT_TRUE(peer_.store->Parked().empty());
}

TEST_F(LargeChunksTest, OneWithAnUnknownColumnWaitsForTheSchema) {
  node_.options.schema = MustParse(kNew, kToml);
  node_.CloseAndOpen();
  const Committed large = node_.DoLarge({"INSERT INTO pairs (x, y) VALUES ('p', 1)",
                                         "INSERT INTO words (id, late) VALUES ('a', 'l')"});
  const auto taken = TakeLarge(peer_, Change(large));
  ASSERT_TRUE(taken.ok());
  EXPECT_EQ(taken->state, MergeState::kParked);
  EXPECT_NE(taken->reason.find("unknown column"), std::string::npos) << taken->reason;
  EXPECT_TRUE(peer_.Dump().empty());
  peer_.CrashAndOpen();
  EXPECT_EQ(peer_.store->Parked().size(), 1u);
  peer_.options.schema = node_.options.schema;
  peer_.CloseAndOpen();
  ExpectEqual(node_, peer_);
  EXPECT_EQ(peer_.store->Stats().large_staged_bytes, 0u);
}

TEST_F(LargeChunksTest, ADuplicateChunkAndAGapChangeNothing) {
  const Committed large = node_.DoLarge({"INSERT INTO words (id) VALUES ('a'), ('b'), ('c')"});
  const LargeChange change = Change(large);
  const ChangeId id{large.actor, large.version};
  ASSERT_EQ(change.chunks.size(), 3u);
  ASSERT_TRUE(peer_.store->StageLarge(*change.manifest).ok());
  for (const uint64_t number : {0u, 0u, 2u, 0u, 2u}) {
    ASSERT_TRUE(peer_.store->StageLargeChunk(id, number, *change.chunks[number]).ok());
  }
  const auto missing = peer_.store->MergeLarge(id, &peer_.effects);
  EXPECT_EQ(missing.error().code, Errc::kFailedPrecondition);
  EXPECT_NE(missing.error().message.find("chunk 1 of 3"), std::string::npos);
  EXPECT_EQ(*peer_.store->StageLarge(*change.manifest), 1u) << "the first that is missing";
  ASSERT_TRUE(peer_.store->StageLargeChunk(id, 1, *change.chunks[1]).ok());
  ASSERT_TRUE(peer_.store->MergeLarge(id, &peer_.effects).ok());
  ExpectEqual(node_, peer_);
}

TEST_F(LargeChunksTest, WrongChunksAreRefusedOrDropped) {
  const Committed large = node_.DoLarge({"INSERT INTO words (id) VALUES ('a'), ('b')"});
  const Committed other = node_.DoLarge({"INSERT INTO words (id) VALUES ('c'), ('d')"});
  const LargeChange change = Change(large), foreign = Change(other);
  const ChangeId id{large.actor, large.version};
  EXPECT_EQ(peer_.store->StageLargeChunk(id, 0, *change.chunks[0]).error().code,
            Errc::kFailedPrecondition);
  ASSERT_TRUE(peer_.store->StageLarge(*change.manifest).ok());
  EXPECT_FALSE(peer_.store->StageLargeChunk(id, 0, *foreign.chunks[0]).ok());
  EXPECT_FALSE(peer_.store->StageLargeChunk(id, 0, "garbage").ok());
  EXPECT_FALSE(peer_.store->StageLargeChunk(id, 2, *change.chunks[1]).ok());
  ASSERT_TRUE(peer_.store->StageLargeChunk(id, 0, *change.chunks[1]).ok()) << "well-formed, but";
  ASSERT_TRUE(peer_.store->StageLargeChunk(id, 1, *change.chunks[0]).ok());
  EXPECT_EQ(peer_.store->MergeLarge(id, &peer_.effects).error().code, Errc::kDataLoss);
  EXPECT_TRUE(peer_.Dump().empty());
  EXPECT_EQ(peer_.store->Actors().size(), 0u) << "what is refused leaves no actor behind";
  ASSERT_TRUE(TakeLarge(peer_, change).ok());
  ASSERT_TRUE(TakeLarge(peer_, foreign).ok());
  ExpectEqual(node_, peer_);
}

TEST_F(LargeChunksTest, AManifestAmongChangesetsIsRejected) {
  const Committed large = node_.DoLarge({"INSERT INTO words (id) VALUES ('a')"});
  EXPECT_EQ(peer_.Merge(Change(large).manifest), MergeState::kRejected);
}

TEST_F(LargeChunksTest, StagingHasALimit) {
  std::vector<LargeChange> changes;
  for (const char* sql : {"INSERT INTO words VALUES ('a', zeroblob(500), '')",
                          "INSERT INTO words VALUES ('b', zeroblob(500), '')",
                          "INSERT INTO words VALUES ('c', zeroblob(2000), '')"}) {
    changes.push_back(Change(node_.DoLarge({sql})));
  }
  peer_.options.limits.large_staged_bytes_max = 1000;
  peer_.CloseAndOpen();
  ASSERT_TRUE(peer_.store->StageLarge(*changes[0].manifest).ok());
  ASSERT_TRUE(peer_.store->StageLarge(*changes[1].manifest).ok()) << "the first makes room";
  EXPECT_LT(peer_.store->Stats().large_staged_bytes, 1000u);
  const auto refused = peer_.store->StageLarge(*changes[2].manifest);
  EXPECT_EQ(refused.error().code, Errc::kResourceExhausted);
  EXPECT_NE(refused.error().message.find("large_staged_bytes_max"), std::string::npos);
  EXPECT_EQ(peer_.store->Stats().large_refused, 1u);
  peer_.options.limits.large_transaction_rows_max = 0;
  peer_.CloseAndOpen();
  EXPECT_NE(peer_.store->StageLarge(*changes[0].manifest)
                .error()
                .message.find("large_transaction_rows_max"),
            std::string::npos);
}

TEST_F(LargeChunksTest, AWholeDifferenceBringsItToWhomTheLogNoLongerServes) {
  const Committed large = node_.DoLarge({"INSERT INTO words (id) VALUES ('a'), ('b')"});
  const LargeChange change = Change(large);
  ASSERT_TRUE(peer_.store->StageLarge(*change.manifest).ok());
  ASSERT_TRUE(
      peer_.store->StageLargeChunk({large.actor, large.version}, 0, *change.chunks[0]).ok());
  node_.options.limits.log_bytes_max = 0;
  node_.CloseAndOpen();
  node_.Do("INSERT INTO words (id) VALUES ('c')");
  ASSERT_TRUE(node_.store->Checkpoint().ok());
  EXPECT_EQ(node_.Rows("SELECT count(*) FROM __patina_chunk"), std::vector<std::string>{"0"});
  EXPECT_EQ(node_.store->Stats().log_bytes, 0u);
  EXPECT_EQ(node_.reader->ReadLargeChunk({large.actor, large.version}, 0).error().code,
            Errc::kNotFound);
  ASSERT_TRUE(TakeTransfer(peer_, TransferChunks(node_, peer_.store->applied(), 100)).ok());
  ExpectEqual(node_, peer_);
  EXPECT_EQ(peer_.store->Stats().large_staged_bytes, 0u);
  EXPECT_EQ(peer_.Rows("SELECT count(*) FROM __patina_chunk"), std::vector<std::string>{"0"});
}

TEST_F(LargeChunksTest, TheLogCountsItsChunks) {
  const Committed large = node_.DoLarge({"INSERT INTO words VALUES ('b', zeroblob(5000), '')"});
  ASSERT_NE(large.version, 0u);
  const uint64_t bytes = node_.store->Stats().log_bytes;
  EXPECT_GT(bytes, 5000u);
  node_.CrashAndOpen();
  EXPECT_EQ(node_.store->Stats().log_bytes, bytes);
}

}  // namespace
}  // namespace patina::storage

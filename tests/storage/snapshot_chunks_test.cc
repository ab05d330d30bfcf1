#include "storage/snapshot_chunks.h"

#include <filesystem>

#include "storage/file_check.h"
#include "tests/storage/test_util.h"
#include "tests/support/files.h"
#include "tests/support/temporary_folder.h"

namespace patina::storage {
namespace {

constexpr size_t kChunk = 1'000;  // several, the last one shorter

class SnapshotChunksTest : public ::testing::Test {
 protected:
  SnapshotChunksTest() {
    node_.Do("INSERT INTO t VALUES ('k', randomblob(9000))");
    EXPECT_TRUE(node_.store->Checkpoint().ok());
    auto backup = Backup::Begin(node_.options.path);
    EXPECT_TRUE(backup.ok());
    auto copy = SnapshotCopy::Make(**backup, folder_.File("copy"));
    EXPECT_TRUE(copy.ok());
    copy_ = *copy;
    auto stage = SnapshotStage::Open(folder_.File("stage"));
    EXPECT_TRUE(stage.ok());
    stage_ = *std::move(stage);
  }
  SnapshotCopy::Chunk Chunk(uint64_t number) { return *copy_->Read(number, kChunk); }

  TestNode node_{MustParse("CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a)")};
  const test::TemporaryFolder folder_;
  std::shared_ptr<const SnapshotCopy> copy_;
  std::unique_ptr<SnapshotStage> stage_;
};

TEST_F(SnapshotChunksTest, AFileComesOutAsItWentIn) {
  for (uint64_t number = 0;; ++number) {
    const SnapshotCopy::Chunk chunk = Chunk(number);
    ASSERT_TRUE(stage_->Add(chunk.bytes, chunk.last).ok());
    if (chunk.last) break;
  }
  const auto report = VerifyFile(folder_.File("stage"));
  ASSERT_TRUE(report.ok());
  EXPECT_TRUE(report->problems.empty());
  EXPECT_EQ(test::ReadFile(folder_.File("stage")).size(), copy_->bytes());
}

TEST_F(SnapshotChunksTest, AFlippedBitIsFound) {
  SnapshotCopy::Chunk chunk = Chunk(0);
  chunk.bytes[500] = static_cast<char>(chunk.bytes[500] ^ 1);
  EXPECT_EQ(stage_->Add(chunk.bytes, false).error().code, Errc::kDataLoss);
}

TEST_F(SnapshotChunksTest, OnlyTheNextChunkIsTaken) {
  EXPECT_FALSE(stage_->Add(Chunk(1).bytes, false).ok());
  EXPECT_FALSE(stage_->Add("", false).ok());
  ASSERT_TRUE(stage_->Add(Chunk(0).bytes, false).ok());
  EXPECT_FALSE(stage_->Add(Chunk(0).bytes, false).ok());
  EXPECT_FALSE(stage_->Add(Chunk(1).bytes, true).ok()) << "it says it is the last one";
  EXPECT_TRUE(stage_->Add(Chunk(1).bytes, false).ok());
}

TEST_F(SnapshotChunksTest, AFileThatFindsNoRoomIsRefusedBeforeItComes) {
  std::string chunk = Chunk(0).bytes;
  chunk[6] = '\x7f';  // of the u64 size: some exabytes
  EXPECT_EQ(stage_->Add(chunk, false).error().code, Errc::kResourceExhausted);
}

TEST_F(SnapshotChunksTest, ThereIsNoChunkBehindTheLast) {
  EXPECT_EQ(copy_->Read(1'000, kChunk).error().code, Errc::kOutOfRange);
  EXPECT_EQ(copy_->Read(UINT64_MAX, kChunk).error().code, Errc::kOutOfRange);
}

TEST_F(SnapshotChunksTest, NothingIsLeftOnTheDisk) {
  EXPECT_FALSE(std::filesystem::exists(folder_.File("copy"))) << "it has no name";
  stage_.reset();
  EXPECT_FALSE(std::filesystem::exists(folder_.File("stage")));
}

TEST_F(SnapshotChunksTest, WhatAnEarlierProcessLeftIsRemoved) {
  for (const char* name : {"db.copy.partial", "db.incoming", "db.incoming-wal", "db"}) {
    test::WriteFile(folder_.File(name), "remains");
  }
  RemoveSnapshotRemains(folder_.File("db"));
  EXPECT_FALSE(std::filesystem::exists(folder_.File("db.copy.partial")));
  EXPECT_FALSE(std::filesystem::exists(folder_.File("db.incoming")));
  EXPECT_FALSE(std::filesystem::exists(folder_.File("db.incoming-wal")));
  EXPECT_TRUE(std::filesystem::exists(folder_.File("db")));
}

}  // namespace
}  // namespace patina::storage

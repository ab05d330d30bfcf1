#include "storage/backup.h"

#include <filesystem>

#include "base/log.h"
#include "storage/file_check.h"
#include "tests/storage/fault_vfs.h"
#include "tests/storage/test_util.h"

// Copies of a store's file while it is written.

namespace patina::storage {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSchema = R"sql(
CREATE TABLE t (id INTEGER NOT NULL PRIMARY KEY, a, b TEXT DEFAULT 'd');
CREATE TABLE p (v, x TEXT NOT NULL, y INTEGER NOT NULL, PRIMARY KEY (y, x)) WITHOUT ROWID;
)sql";

/// Rows that fill many pages.
void Fill(TestNode& node, int rows) {
  node.Do("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < " +
          std::to_string(rows) + ") INSERT OR REPLACE INTO t SELECT i, hex(randomblob(100)), 'x' " +
          "FROM n");
}

std::vector<std::string> Names(const test::TemporaryFolder& dir) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(dir.File(""))) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

TEST(BackupTest, TheCopyIsTheStateWhenItBeganAlthoughWritersWentOn) {
  TestNode node(MustParse(kSchema));
  Fill(node, 20'000);
  const auto rows = node.Dump();
  const auto digests = node.Digests();
  const uint64_t seq = node.store->last_seq();
  const Digest128 applied = node.store->applied().digest();
  test::TemporaryFolder elsewhere;
  BackupOptions options;
  std::vector<uint64_t> done;
  options.on_progress = [&](const BackupProgress& progress) {
    done.push_back(progress.bytes_done);
    node.Do("UPDATE t SET b = b || 'y' WHERE id % 97 = " + std::to_string(done.size()));
    if (done.size() % 2 == 0) Fill(node, 100);
    if (done.size() % 3 == 0) {
      ASSERT_TRUE(node.store->Checkpoint().ok());
    }
  };
  const auto result = BackupFile(node.options.path, elsewhere.File("copy.db"), options);
  ASSERT_TRUE(result.ok()) << result.error().ToString();
  EXPECT_GE(done.size(), 4u) << "in pieces";
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end())) << "never started over";
  EXPECT_EQ(result->seq, seq);
  EXPECT_EQ(result->bytes, fs::file_size(elsewhere.File("copy.db")));
  EXPECT_EQ(done.back(), result->bytes);
  EXPECT_EQ(Names(elsewhere), std::vector<std::string>{"copy.db"}) << "no write-ahead log";
  TestNode restored(node.options.schema, elsewhere.File("copy.db"), node.clock.WallMs());
  EXPECT_EQ(restored.Dump(), rows);
  EXPECT_EQ(restored.Digests(), digests);
  EXPECT_EQ(restored.store->last_seq(), seq);
  EXPECT_EQ(restored.store->applied().digest(), applied);
}

TEST(BackupTest, BegunRightAfterACheckpointThereIsNothingToReplay) {
  TestNode node(MustParse(kSchema));
  Fill(node, 10);
  ASSERT_TRUE(node.store->Checkpoint().ok());
  const auto backup = Backup::Begin(node.options.path);
  ASSERT_TRUE(backup.ok()) << backup.error().ToString();
  EXPECT_EQ((*backup)->seq(), 1u);
  node.Do("DELETE FROM t");
  ASSERT_TRUE((*backup)->CopyTo(node.dir.File("copy.db"), {}).ok());
  TestNode restored(node.options.schema, node.dir.File("copy.db"), node.clock.WallMs());
  EXPECT_EQ(restored.store->Stats().replayed, 0u);
  EXPECT_EQ(restored.Rows("SELECT count(*) FROM t"), std::vector<std::string>{"10"});
}

TEST(BackupTest, ACopyIsANewActorAndBothGoOnAsEqualPeers) {
  TestNode node(MustParse(kSchema));
  const Committed first = node.Do("INSERT INTO t (id) VALUES (1)");
  ASSERT_TRUE(BackupFile(node.options.path, node.dir.File("copy.db"), {}).ok());
  TestNode copy(node.options.schema, node.dir.File("copy.db"), node.clock.WallMs());
  const Committed in_node = node.Do("UPDATE t SET a = 'node'");
  copy.clock.AdvanceMs(1);
  const Committed in_copy = copy.Do("UPDATE t SET a = 'copy'");
  EXPECT_EQ(in_node.actor, first.actor);
  EXPECT_NE(in_copy.actor, first.actor);
  EXPECT_EQ(node.Merge(in_copy.changeset), MergeState::kApplied);
  EXPECT_EQ(copy.Merge(in_node.changeset), MergeState::kApplied);
  EXPECT_EQ(node.Digests(), copy.Digests());
  EXPECT_EQ(copy.Rows("SELECT a FROM t"), std::vector<std::string>{"'copy'"});
}

TEST(BackupTest, NothingIsOverwrittenAndErrorsSayWhatToDo) {
  TestNode node(MustParse(kSchema));
  Fill(node, 10);
  const std::string target = node.dir.File("copy.db");
  ASSERT_TRUE(BackupFile(node.options.path, target, {}).ok());
  const auto size = fs::file_size(target);
  const Error again = BackupFile(node.options.path, target, {}).error();
  EXPECT_EQ(again.code, Errc::kAlreadyExists);
  EXPECT_THAT(again.message, testing::HasSubstr(target + " is there already"));
  EXPECT_EQ(fs::file_size(target), size);

  const Error folder = BackupFile(node.options.path, node.dir.File("no/such/copy.db"), {}).error();
  EXPECT_THAT(folder.message, testing::HasSubstr("there is no folder " + node.dir.File("no/such")));
  const Error source = BackupFile(node.dir.File("none.db"), node.dir.File("c.db"), {}).error();
  EXPECT_THAT(source.message, testing::HasSubstr("none.db"));
  const Error other = BackupFile("/dev/null", node.dir.File("c.db"), {}).error();
  EXPECT_THAT(other.message, testing::HasSubstr("/dev/null"));
  EXPECT_FALSE(fs::exists(node.dir.File("c.db")));
}

TEST(BackupTest, OnAFullDiskItFailsSaysSoAndLeavesNothing) {
  TestNode node(MustParse(kSchema));
  Fill(node, 10'000);
  const std::string target = node.dir.File("copy.db");
  const uint64_t bytes = fs::file_size(node.options.path);
  FaultDisk disk(target + ".partial");
  for (const uint64_t quota : {uint64_t{0}, uint64_t{4'096}, bytes / 2, bytes - 1}) {
    SCOPED_TRACE(quota);
    disk.SetQuota(quota);
    const auto full = BackupFile(node.options.path, target, {});
    ASSERT_FALSE(full.ok());
    EXPECT_EQ(full.error().code, Errc::kResourceExhausted) << full.error().ToString();
    EXPECT_THAT(full.error().message, testing::HasSubstr(target));
    EXPECT_FALSE(fs::exists(target) || fs::exists(target + ".partial"));
    node.Do("UPDATE t SET a = 'goes on'");
  }
  disk.Heal();
  ASSERT_TRUE(BackupFile(node.options.path, target, {}).ok());
  EXPECT_EQ(Ask(target, "PRAGMA integrity_check"), "ok");
}

TEST(BackupTest, WhatACopyThatWasCutOffLeftBehindIsInNobodysWay) {
  TestNode node(MustParse(kSchema));
  Fill(node, 10);
  fs::copy_file("/proc/self/exe", node.dir.File("copy.db.partial"));
  ASSERT_TRUE(BackupFile(node.options.path, node.dir.File("copy.db"), {}).ok());
  EXPECT_FALSE(fs::exists(node.dir.File("copy.db.partial")));
}

TEST(BackupTest, ItKeepsToItsRate) {
  TestNode node(MustParse(kSchema));
  Fill(node, 10'000);
  BackupOptions options;
  options.clock = &node.clock;
  options.bytes_per_second = 256 << 10;
  Duration longest{};
  options.pause = [&](Duration pause) {
    longest = std::max(longest, pause);
    node.clock.AdvanceMs(ToMs(pause) + 1);
  };
  const auto result = BackupFile(node.options.path, node.dir.File("copy.db"), options);
  ASSERT_TRUE(result.ok());
  const double seconds = static_cast<double>(ToMs(result->duration)) / 1000,
               due = static_cast<double>(result->bytes) / (256 << 10);
  EXPECT_NEAR(seconds, due, 0.2);
  EXPECT_LE(longest, std::chrono::milliseconds(200)) << "a cancellation is heard soon";
}

TEST(BackupTest, CancelledItLeavesNothing) {
  TestNode node(MustParse(kSchema));
  Fill(node, 10'000);
  test::TemporaryFolder elsewhere;
  std::atomic<bool> cancelled{false};
  BackupOptions options;
  options.cancelled = &cancelled;
  options.on_progress = [&](const BackupProgress&) { cancelled = true; };
  const Error error = BackupFile(node.options.path, elsewhere.File("copy.db"), options).error();
  EXPECT_EQ(error.code, Errc::kCancelled);
  EXPECT_TRUE(Names(elsewhere).empty());
}

TEST(BackupTest, TheWriteAheadLogsGrowthHurriesTheCopy) {
  TestNode node(MustParse(kSchema));
  Fill(node, 20'000);
  BackupOptions options;
  options.clock = &node.clock;
  options.bytes_per_second = 1 << 20;
  options.hurry_after_wal_bytes = 4 << 20;
  int pauses = 0;
  options.pause = [&](Duration pause) {
    ++pauses;
    node.clock.AdvanceMs(ToMs(pause) + 1);
    Fill(node, 2'000);
  };
  const auto hurried = BackupFile(node.options.path, node.dir.File("hurried.db"), options);
  ASSERT_TRUE(hurried.ok()) << hurried.error().ToString();
  EXPECT_TRUE(hurried->hurried);
  EXPECT_GT(pauses, 2);
  EXPECT_LT(hurried->duration, std::chrono::seconds(4)) << "5 MB at 1 MB/s otherwise";
}

TEST(BackupTest, CopiesAtRandomMomentsAreTheOraclesStateAtOneLogEntry) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Rng rng(seed);
    TestNode node(MustParse(kSchema)), peer(node.options.schema);
    Fill(node, 3'000);  // several pieces
    std::vector<OracleState> after = {{}};
    OracleState state;
    for (const SharedBytes& change : node.Log()) {
      JoinInto(state, Says(change));
      after.push_back(state);
    }
    auto write = [&] {
      node.clock.AdvanceMs(1);
      peer.clock.AdvanceMs(1);
      const std::string sql = rng.Chance(0.3)
                                  ? "DELETE FROM t WHERE id % 13 = " + std::to_string(rng.Below(13))
                                  : "REPLACE INTO t (id, a) VALUES (" +
                                        std::to_string(rng.Below(99)) + ", hex(randomblob(3000)))";
      TestNode& writer = rng.Chance(0.5) ? node : peer;
      const SharedBytes change = writer.Do(sql).changeset;
      if (!change) return;
      if (&writer == &peer) node.Merge(change);
      JoinInto(state, Says(change));
      after.push_back(state);
      if (rng.Chance(0.2)) {
        ASSERT_TRUE(node.store->Checkpoint().ok());
      }
    };
    for (int copy = 0; copy < 4; ++copy) {
      for (uint64_t i = rng.Below(6); i > 0; --i) write();
      BackupOptions options;
      options.on_progress = [&](const BackupProgress&) {
        if (rng.Chance(0.7)) write();
      };
      const std::string path = node.dir.File("copy" + std::to_string(copy) + ".db");
      const auto result = BackupFile(node.options.path, path, options);
      ASSERT_TRUE(result.ok()) << result.error().ToString();
      const auto report = VerifyFile(path);
      ASSERT_TRUE(report.ok()) << report.error().ToString();
      EXPECT_THAT(report->problems, testing::IsEmpty());
      EXPECT_EQ(report->seq, result->seq);
      TestNode restored(node.options.schema, path, node.clock.WallMs());
      ASSERT_LT(result->seq, after.size());
      EXPECT_EQ(restored.Dump(), Visible(after[result->seq], node.options.schema));
    }
  }
}

}  // namespace
}  // namespace patina::storage

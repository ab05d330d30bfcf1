#include "storage/wal_limit.h"

#include <sys/stat.h>

#include <atomic>
#include <deque>
#include <thread>

#include "storage/backup.h"
#include "tests/storage/test_util.h"

// The write-ahead log stays small whoever reads.

namespace patina::storage {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kLimit = 4u << 20;

/// Of the rows read, none is kept.
class NoRows final : public RowSink {
 public:
  bool OnColumns(const std::vector<std::string>&) override { return true; }
  bool OnRow(const std::vector<crdt::ValueView>&) override { return true; }
};

class WalLimitTest : public ::testing::Test {
 protected:
  WalLimitTest() {
    node_.Close();
    node_.options.limits.wal_bytes_max = kLimit;
    node_.Open();
    node_.reader.reset();  // not one of the store's
    Write();
  }

  /// A reader as other threads have them.
  std::unique_ptr<Reader> OpenReader() {
    return OpenReader({.page_cache_kib = 256, .snapshots = node_.store->snapshots()});
  }
  std::unique_ptr<Reader> OpenReader(const ReaderOptions& options) {
    return Reader::Open(node_.options.path, options).value();
  }
  /// Twenty rows, some fifteen pages.
  void Write() {
    node_.Do(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20) "
        "INSERT OR REPLACE INTO t SELECT i * 7919 % 501, hex(randomblob(600)) FROM n");
  }
  void WriteUntil(const std::function<bool()>& done) {
    for (int i = 0; i < 5'000 && !done(); ++i) Write();
    EXPECT_TRUE(done());
  }
  uint64_t FileBytes() const {
    struct stat info {};
    ::stat((node_.options.path + "-wal").c_str(), &info);
    return static_cast<uint64_t>(info.st_size);
  }
  StoreStats Stats() const { return node_.store->Stats(); }

  TestNode node_{MustParse("CREATE TABLE t (id INTEGER NOT NULL PRIMARY KEY, a TEXT)")};
};

TEST_F(WalLimitTest, TenLongReadersDoNotMakeItGrowBeyondItsLimit) {
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> ended{0}, other{0};
  std::deque<std::unique_ptr<Reader>> readers;
  std::vector<std::thread> threads;
  for (int i = 0; i < 10; ++i) readers.push_back(OpenReader());
  for (const auto& reader : readers) {
    threads.emplace_back([&, raw = reader.get()] {
      QueryLimits limits;
      limits.deadline = std::chrono::minutes(5);
      limits.cancelled = &stop;
      NoRows sink;
      while (!stop) {
        const Status status =
            raw->Query({"WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) "
                        "SELECT count(*) FROM c JOIN t ON t.id = c.i % 500",
                        {},
                        {}},
                       limits, sink);
        if (!stop)
          ++(!status.ok() && status.error().code == Errc::kResourceExhausted ? ended : other);
      }
    });
  }
  uint64_t largest = 0;
  for (uint64_t written = 0; written < 6 * kLimit || ended < 20;) {
    const uint64_t before = Stats().wal.used_bytes;
    Write();
    const uint64_t after = Stats().wal.used_bytes;
    written += after > before ? after - before : after;
    largest = std::max(largest, FileBytes());
    if (largest > kLimit) break;
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(largest, kLimit);
  EXPECT_GE(ended, 20u);
  EXPECT_EQ(other, 0u);
  EXPECT_LE(Stats().wal.writer_waits, Stats().wal.beginnings + 1) << "they end when told";
  EXPECT_GT(Stats().wal.beginnings, 3u);
  EXPECT_EQ(Stats().wal.held_by_others_ms, 0);
  EXPECT_EQ(Stats().snapshots.open, 0u);
}

TEST_F(WalLimitTest, AReadThatIsEndedIsToldTheLimitAndWhatToDo) {
  const auto reader = OpenReader();
  ASSERT_TRUE(reader->BeginSnapshot().ok());
  WriteUntil([&] { return reader->MustEnd(); });
  EXPECT_LT(FileBytes(), kLimit);
  NoRows sink;
  const Status status = reader->Query({"SELECT * FROM t", {}, {}}, {}, sink);
  reader->EndSnapshot();
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Errc::kResourceExhausted);
  EXPECT_THAT(status.error().message,
              AllOf(HasSubstr("limits.wal_bytes_max = 4194304"), HasSubstr("raise the limit")));
  EXPECT_EQ(Stats().snapshots.ended, 1u);
  const uint64_t beginnings = Stats().wal.beginnings;
  Write();
  Write();
  EXPECT_EQ(Stats().wal.beginnings, beginnings + 1) << "nobody holds it any more";
  EXPECT_TRUE(reader->Query({"SELECT * FROM t", {}, {}}, {}, sink).ok()) << "the next one is fine";
}

TEST_F(WalLimitTest, AReadThatMayNotBeEndedIsNot) {
  const auto live = OpenReader({.snapshots = node_.store->snapshots(), .may_be_ended = false});
  const auto other = OpenReader();
  ASSERT_TRUE(live->BeginSnapshot().ok());
  ASSERT_TRUE(other->BeginSnapshot().ok());
  WriteUntil([&] { return other->MustEnd(); });
  EXPECT_FALSE(live->MustEnd());
  other->EndSnapshot();
  live->EndSnapshot();
  WriteUntil([&] { return Stats().wal.used_bytes < kLimit / 8; });
}

TEST_F(WalLimitTest, ATransferIsEndedToo) {
  const auto reader = OpenReader();
  ASSERT_TRUE(node_.store->Checkpoint().ok());
  ASSERT_TRUE(reader->BeginTransfer(node_.store->schema(), {}).ok());
  ASSERT_TRUE(reader->NextTransferChunk(1).ok());
  WriteUntil([&] { return reader->MustEnd(); });
  const auto chunk = reader->NextTransferChunk(1);
  ASSERT_FALSE(chunk.ok());
  EXPECT_THAT(chunk.error().message, HasSubstr("limits.wal_bytes_max"));
  EXPECT_EQ(Stats().snapshots.open, 0u);
}

TEST_F(WalLimitTest, ACopyIsEndedToo) {
  auto copy = Backup::Begin(node_.options.path, node_.store->snapshots()).value();
  BackupOptions options;
  options.bytes_per_second = 8 << 10;
  options.pause = [this](Duration) { WriteUntil([&] { return Stats().snapshots.ended > 0; }); };
  const auto copied = copy->CopyTo(node_.dir.File("copy.db"), options);
  ASSERT_FALSE(copied.ok());
  EXPECT_THAT(copied.error().message, HasSubstr("limits.wal_bytes_max"));
  copy.reset();
  EXPECT_EQ(Stats().snapshots.open, 0u);
}

TEST_F(WalLimitTest, ReadsThatOverlapButEndInTimeAreNotEnded) {
  const auto one = OpenReader(), other = OpenReader();
  ASSERT_TRUE(one->BeginSnapshot().ok());
  for (int i = 0; i < 3; ++i) {
    const uint64_t from = Stats().wal.used_bytes;
    WriteUntil([&] { return Stats().wal.used_bytes > from + kLimit / 16; });
    ASSERT_TRUE(other->BeginSnapshot().ok());
    one->EndSnapshot();
    WriteUntil([&] { return Stats().wal.used_bytes > from + kLimit / 8; });
    ASSERT_TRUE(one->BeginSnapshot().ok());
    other->EndSnapshot();
  }
  EXPECT_EQ(Stats().wal.beginnings, 0u);
  EXPECT_GT(Stats().wal.held, 0u);
  EXPECT_GE(Stats().wal.used_bytes, kLimit / 4);
  one->EndSnapshot();
  WriteUntil([&] { return Stats().wal.beginnings > 0; });
  EXPECT_LT(Stats().wal.used_bytes, kLimit / 8);
  EXPECT_EQ(Stats().snapshots.ended, 0u);
}

TEST_F(WalLimitTest, AnotherProcessThatHoldsItIsNoticedAndOursAreLeftAlone) {
  const auto stranger = OpenReader(ReaderOptions());  // not among the store's
  ASSERT_TRUE(stranger->BeginSnapshot().ok());
  WriteUntil([&] { return Stats().wal.held_by_others_ms > 0; });
  node_.clock.AdvanceMs(7'000);
  EXPECT_GE(Stats().wal.held_by_others_ms, 7'000);
  EXPECT_GE(Stats().wal.age_ms, 7'000);
  const auto ours = OpenReader();
  ASSERT_TRUE(ours->BeginSnapshot().ok());
  WriteUntil([&] { return FileBytes() > kLimit; });
  EXPECT_FALSE(ours->MustEnd()) << "it would not help";
  stranger->EndSnapshot();
  ours->EndSnapshot();
  WriteUntil([&] { return Stats().wal.age_ms == 0; });
  EXPECT_EQ(Stats().wal.held_by_others_ms, 0);
  EXPECT_LE(FileBytes(), kLimit) << "the file is cut";
}

TEST_F(WalLimitTest, TheWritesOfTheLogAreCounted) {
  const StoreStats before = Stats();
  for (int i = 0; i < 10; ++i) node_.Do("UPDATE t SET a = 'v" + std::to_string(i) + "'");
  const StoreStats after = Stats();
  EXPECT_GE(after.wal_writes, before.wal_writes);
  EXPECT_GT(after.wal_writes_asked - before.wal_writes_asked, after.wal_writes - before.wal_writes)
      << "a commit's frames are gathered";
}

}  // namespace
}  // namespace patina::storage

#include <filesystem>

#include "base/log.h"
#include "storage/db.h"
#include "tests/storage/test_util.h"

// Rows that go and come for an hour of virtual time, 1,000 a second, with collection every 30 s:
// what becomes of the file. The log is not counted: it has a size and an age of its own.

namespace patina::storage {
namespace {

constexpr const char* kTable =
    "CREATE TABLE checks (id TEXT NOT NULL PRIMARY KEY, machine TEXT NOT NULL DEFAULT '', "
    "state TEXT NOT NULL DEFAULT '', port INTEGER, since INTEGER, note TEXT)";
constexpr int kRows = 50'000;    // once there; away of them: kAway
constexpr int kPerSecond = 500;  // deleted, and as many inserted
constexpr int kAway = 10 * kPerSecond;
constexpr int kHourSeconds = 3'600;
constexpr int64_t kHourMs = 3'600'000;
constexpr int kCollectSeconds = 30;
constexpr int kMeasureSeconds = 300;

std::string Id(int64_t number) {
  char text[32];
  std::snprintf(text, sizeof text, "'check-%012lld'", static_cast<long long>(number));
  return text;
}

std::string Insert(int64_t first, int64_t count) {
  return StrCat(
      "INSERT INTO checks WITH RECURSIVE n(i) AS (SELECT ", first,
      " UNION ALL SELECT i + 1 FROM n "
      "WHERE i < ",
      first + count - 1,
      ") SELECT printf('check-%012d', i), printf('machine-%06d', "
      "i / 7), 'passing', 1024 + i % 60000, 1800000000000 + i, 'answers in ' || (i % 40) || ' ms' "
      "FROM n");
}

std::string Delete(int64_t first, int64_t count) {
  return "DELETE FROM checks WHERE id >= " + Id(first) + " AND id < " + Id(first + count);
}

class ChurnTest : public ::testing::Test {
 protected:
  ChurnTest() {
    node_.options.limits.log_bytes_max = 1u << 20;
    node_.CloseAndOpen();
    for (int i = 0; i < kRows - kAway; i += 1'000) node_.Do(Insert(i, 1'000));
  }

  void Second() {
    node_.clock.AdvanceMs(1'000);
    EXPECT_TRUE(node_.store->CheckpointIfDue().ok());
    if (++seconds_ % kCollectSeconds != 0) return;
    const int64_t line = node_.clock.WallMs() - kHourMs;
    for (bool more = true; more;) {
      const auto collected = node_.store->Collect(crdt::HlcTime::FromMs(line));
      ASSERT_TRUE(collected.ok()) << collected.error().ToString();
      more = *collected;
    }
  }

  /// The file without the log, as a multiple of what plain SQLite needs for the same rows.
  double Ratio() {
    EXPECT_TRUE(node_.store->Checkpoint().ok());
    const std::string& path = node_.options.path;
    auto db = Db::Open(path, Db::Mode::kReadOnly);
    EXPECT_TRUE(db.ok());
    const double file = static_cast<double>(*db->QueryInt("PRAGMA page_count")) - LogPages(path);
    const std::string plain = node_.dir.File("plain");
    std::filesystem::remove(plain);
    RunForeign(plain,
               StrCat(kTable, "; ATTACH '", path,
                      "' AS node; INSERT INTO checks SELECT * FROM node.checks ORDER BY id"));
    auto beside = Db::Open(plain, Db::Mode::kReadOnly);
    EXPECT_TRUE(beside.ok());
    return file / static_cast<double>(*beside->QueryInt("PRAGMA page_count"));
  }
  static double LogPages(const std::string& path) {
    return std::stod(Ask(path, "SELECT count(*) FROM dbstat WHERE name LIKE '%patina_log%'"));
  }

  TestNode node_{MustParse(kTable)};
  int seconds_ = 0;
};

TEST_F(ChurnTest, AnHourOfRowsThatGoAndComeBackLeavesAFileBelowTwiceItsLiveData) {
  double largest = 0;
  for (int second = 0; second < kHourSeconds; ++second) {
    const int64_t gone = int64_t{second} * kPerSecond % kRows;
    node_.Do({Insert((gone + kRows - kAway) % kRows, kPerSecond), Delete(gone, kPerSecond)});
    Second();
    if (seconds_ % kMeasureSeconds == 0) largest = std::max(largest, Ratio());
  }
  RecordProperty("largest", std::to_string(largest));
  EXPECT_LE(largest, 2);
}

TEST_F(ChurnTest, AnHourOfRowsThatNeverComeBackLeavesAFileBelowTwiceItsLiveDataOnceCollected) {
  for (int second = 0; second < kHourSeconds; ++second) {
    const int64_t gone = int64_t{second} * kPerSecond;
    node_.Do({Insert(gone + kRows - kAway, kPerSecond), Delete(gone, kPerSecond)});
    Second();
  }
  EXPECT_EQ(node_.store->Stats().tombstones, uint64_t{kHourSeconds} * kPerSecond);
  RecordProperty("before", std::to_string(Ratio()));
  for (int second = 0; second <= kHourSeconds + kCollectSeconds; ++second) Second();
  EXPECT_EQ(node_.store->Stats().tombstones, 0u);
  const double ratio = Ratio();
  RecordProperty("after", std::to_string(ratio));
  EXPECT_LE(ratio, 2);
}

}  // namespace
}  // namespace patina::storage

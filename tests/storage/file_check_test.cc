#include "storage/file_check.h"

#include <filesystem>

#include "base/log.h"
#include "tests/storage/test_util.h"
#include "tests/support/files.h"

// What a file says about itself, and whether it is sound.

namespace patina::storage {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSchema = R"sql(
CREATE TABLE t (id INTEGER NOT NULL PRIMARY KEY, a, b TEXT DEFAULT 'd' CHECK (length(b) < 3));
CREATE TABLE p (v, x TEXT NOT NULL, y INTEGER NOT NULL, PRIMARY KEY (y, x)) WITHOUT ROWID;
)sql";

FileReport MustVerify(const std::string& path) {
  auto report = VerifyFile(path);
  EXPECT_TRUE(report.ok()) << report.error().ToString();
  return report.ok() ? *report : FileReport();
}

class FileCheckTest : public testing::Test {
 protected:
  FileCheckTest() : node_(MustParse(kSchema)) {
    node_.options.cluster = "prod";
    node_.CloseAndOpen();
    node_.Do("INSERT INTO t (id, a) VALUES (1, 'x'), (2, x'00ff'), (3, 1.5)");
    node_.Do("INSERT INTO p VALUES (NULL, 'k', 1), (2, 'l', 2)");
    node_.Do("DELETE FROM t WHERE id = 3");
  }
  const std::string& path() const { return node_.options.path; }
  TestNode node_;
};

TEST_F(FileCheckTest, ASoundFileIsSoundAndIsNotTouched) {
  const auto digests = node_.Digests();
  node_.Close();
  const std::string before = test::ReadFile(path());
  const FileReport report = MustVerify(path());
  EXPECT_THAT(report.problems, testing::IsEmpty());
  EXPECT_EQ(report.tables, digests);
  EXPECT_EQ(report.tail, 0u);
  EXPECT_EQ(report.buckets_not_compared, 0u);
  EXPECT_EQ(report.seq, 3u);
  EXPECT_EQ(report.identity.cluster, "prod");
  EXPECT_EQ(report.identity.format, kFileFormat);
  EXPECT_TRUE(test::ReadFile(path()) == before);
  EXPECT_FALSE(fs::exists(path() + "-wal"));
  EXPECT_FALSE(fs::exists(path() + "-shm"));
}

TEST_F(FileCheckTest, WhatTheLogsTailTouchedIsNotComparedAndTheRestIs) {
  ASSERT_TRUE(node_.store->Checkpoint().ok());
  node_.Do("UPDATE t SET a = 'later' WHERE id = 1");
  node_.Crash();
  const FileReport report = MustVerify(path());
  EXPECT_THAT(report.problems, testing::IsEmpty());
  EXPECT_EQ(report.tail, 1u);
  EXPECT_EQ(report.buckets_not_compared, 1u);
  EXPECT_EQ(report.seq, 4u);
  RunForeign(path(), "UPDATE t SET a = 'edited' WHERE id = 2");
  EXPECT_THAT(MustVerify(path()).problems, testing::ElementsAre(testing::HasSubstr("table t:")));
}

TEST_F(FileCheckTest, AChangedValueALostRowAndANewOneAreSeenInTheirTable) {
  node_.Close();
  for (const char* sql : {"UPDATE p SET v = 3 WHERE y = 2", "DELETE FROM p WHERE y = 1",
                          "DELETE FROM __patina_clock_p"}) {
    const std::string copy = node_.dir.File("copy.db");
    fs::copy_file(path(), copy, fs::copy_options::overwrite_existing);
    RunForeign(copy, sql);
    EXPECT_THAT(MustVerify(copy).problems, testing::ElementsAre(testing::HasSubstr("table p:")))
        << sql;
  }
}

TEST_F(FileCheckTest, ARowThatBreaksACheckIsNoDamage) {
  TestNode lax(MustParse(R"sql(
CREATE TABLE t (id INTEGER NOT NULL PRIMARY KEY, a, b TEXT DEFAULT 'd');
CREATE TABLE p (v, x TEXT NOT NULL, y INTEGER NOT NULL, PRIMARY KEY (y, x)) WITHOUT ROWID;)sql"));
  EXPECT_EQ(node_.Merge(lax.Do("INSERT INTO t (id, b) VALUES (9, 'long')").changeset),
            MergeState::kApplied);
  node_.Close();
  EXPECT_THAT(MustVerify(path()).problems, testing::IsEmpty());
}

TEST_F(FileCheckTest, AColumnOfALaterLifeIsComparedAsThat) {
  TestNode node(MustParse(kSchema, "[t]\ndropped = [\"b\"]\n"));
  node.Do("INSERT INTO t (id, b) VALUES (1, 'x')");
  node.Close();
  EXPECT_THAT(MustVerify(node.options.path).problems, testing::IsEmpty());
}

TEST_F(FileCheckTest, ADamagedPageIsReportedWhereverItIs) {
  node_.Do(
      "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) "
      "INSERT INTO t SELECT i, hex(randomblob(20)), 'x' FROM n");
  node_.Close();
  const std::string whole = test::ReadFile(path());
  const size_t page = 4096;
  for (size_t number = 0; number < whole.size() / page; ++number) {
    Rng rng(number);
    const std::string copy = node_.dir.File("copy.db");
    test::WriteFile(copy, WithDamagedPage(whole, number, rng));
    const auto report = VerifyFile(copy);
    EXPECT_TRUE(!report.ok() || !report->problems.empty()) << "page " << number;
  }
}

TEST_F(FileCheckTest, OtherFilesAreRefusedWithAReason) {
  const std::string text = node_.dir.File("text");
  test::WriteFile(text, std::string(10'000, 'x'));
  RunForeign(node_.dir.File("plain.db"), "CREATE TABLE t (a)");
  EXPECT_THAT(VerifyFile(text).error().message, testing::HasSubstr(text));
  EXPECT_THAT(VerifyFile(node_.dir.File("plain.db")).error().message,
              testing::HasSubstr("not that of a node"));
  EXPECT_THAT(VerifyFile(node_.dir.File("none")).error().message,
              testing::HasSubstr("there is no file"));
}

TEST_F(FileCheckTest, AStoreRefusesAnotherClustersFileAndANewerOne) {
  node_.Close();
  node_.options.cluster = "staging";
  const Status other = node_.TryOpen();
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().code, Errc::kFailedPrecondition);
  EXPECT_THAT(other.error().message, testing::HasSubstr("is of cluster 'prod'"));
  node_.options.cluster = "prod";
  node_.Open();
  node_.Close();
  RunForeign(path(), "UPDATE __patina_state SET value = 1000 WHERE name = 'format'");
  const Status newer = node_.TryOpen();
  ASSERT_FALSE(newer.ok());
  EXPECT_THAT(newer.error().message, testing::HasSubstr("newer release (format 1000"));
}

}  // namespace
}  // namespace patina::storage

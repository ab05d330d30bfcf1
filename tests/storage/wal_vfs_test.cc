#include "storage/wal_vfs.h"

#include <sqlite3.h>

#include <filesystem>

#include "base/log.h"
#include "storage/db.h"
#include "tests/storage/fault_vfs.h"
#include "tests/storage/test_util.h"
#include "tests/support/files.h"

// The write-ahead log gathered into one write per commit is the log that SQLite would have written.

namespace patina::storage {
namespace {

/// Two connections that are told the same: one through the gathering VFS, one without.
class WalVfsTest : public testing::Test {
 protected:
  WalVfsTest() : gathered_(dir_.File("gathered.db")), plain_(dir_.File("plain.db")) {}
  ~WalVfsTest() override {
    for (sqlite3* db : dbs_) sqlite3_close_v2(db);
  }

  void Open() {
    const char* const none = nullptr;
    for (const auto& [path, vfs] : {std::pair(gathered_, WalVfsName()), std::pair(plain_, none)}) {
      sqlite3* db = nullptr;
      ASSERT_EQ(sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, vfs),
                SQLITE_OK);
      dbs_.push_back(db);
    }
    Both("PRAGMA journal_mode = WAL");
  }
  void Both(const std::string& sql) {
    for (sqlite3* db : dbs_) {
      ASSERT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
          << sql << ": " << sqlite3_errmsg(db);
    }
  }
  /// Frames without their salts and checksums, which are random.
  static std::vector<std::string> Frames(const std::string& path) {
    const std::string log = test::ReadFile(path + "-wal");
    std::vector<std::string> frames;
    for (size_t at = 32; at + 24 + 4096 <= log.size(); at += 24 + 4096) {
      frames.push_back(log.substr(at, 8) + log.substr(at + 24, 4096));
    }
    return frames;
  }
  void ExpectSameLog() { EXPECT_EQ(Frames(gathered_), Frames(plain_)); }

  test::TemporaryFolder dir_;
  const std::string gathered_, plain_;
  std::vector<sqlite3*> dbs_;
};

TEST_F(WalVfsTest, TheLogIsTheSameAfterEveryCommit) {
  Open();
  Both("CREATE TABLE t (id INTEGER PRIMARY KEY, v); CREATE INDEX i ON t (v)");
  for (int i = 0; i < 50; ++i) {
    Both("INSERT INTO t (v) VALUES (zeroblob(" + std::to_string(i * 400) + "))");
    ExpectSameLog();
  }
  Both("BEGIN; UPDATE t SET v = 1 WHERE id < 10; SAVEPOINT s; DELETE FROM t; ROLLBACK TO s");
  Both("COMMIT");
  ExpectSameLog();
  Both("BEGIN; DELETE FROM t; ROLLBACK");
  Both("UPDATE t SET v = 2 WHERE id = 3");
  ExpectSameLog();
  Both("PRAGMA wal_checkpoint(RESTART)");
  Both("UPDATE t SET v = 3");
  ExpectSameLog();
  Both("PRAGMA wal_checkpoint(TRUNCATE)");
  Both("UPDATE t SET v = 4");
  ExpectSameLog();
}

TEST_F(WalVfsTest, PagesThatLeaveTheCacheBeforeTheCommitAreFoundAgain) {
  Open();
  Both("PRAGMA cache_size = 10; CREATE TABLE t (id INTEGER PRIMARY KEY, v)");
  const std::string fill =
      "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) "
      "INSERT OR REPLACE INTO t SELECT i * 7919 % 3001, zeroblob(300) FROM n;";
  Both("BEGIN;" + fill + "UPDATE t SET v = zeroblob(301) WHERE id % 3 = 0; COMMIT");
  ExpectSameLog();
  Both("BEGIN;" + fill + "DELETE FROM t WHERE id % 2 = 0; ROLLBACK");
  Both("PRAGMA synchronous = FULL; UPDATE t SET v = 5 WHERE id = 2900");
  Both("PRAGMA integrity_check");
  for (sqlite3* db : dbs_) {
    sqlite3_stmt* sum = nullptr;
    ASSERT_EQ(sqlite3_prepare_v2(db, "SELECT count(*), sum(length(v)) FROM t", -1, &sum, nullptr),
              SQLITE_OK);
    ASSERT_EQ(sqlite3_step(sum), SQLITE_ROW);
    EXPECT_EQ(sqlite3_column_int(sum, 0), 3000);
    EXPECT_EQ(sqlite3_column_int(sum, 1), 3000 * 300 + 1000 - 299);
    sqlite3_finalize(sum);
  }
}

TEST_F(WalVfsTest, AWriteThatFailsOnceIsNeverForgotten) {
  // Gathered frames may be written by a read whose error nobody looks at: they must get there
  // later, or the commit must fail.
  const FaultDisk::Op write = FaultDisk::Op::kWrite;
  for (uint64_t skip = 0; skip < 30; ++skip) {
    const std::string path = dir_.File("once" + std::to_string(skip) + ".db");
    FaultDisk disk(path);
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                              WalVfsName()),
              SQLITE_OK);
    dbs_.push_back(db);
    auto run = [&](const std::string& sql) {
      return sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK;
    };
    ASSERT_TRUE(
        run("PRAGMA journal_mode = WAL; PRAGMA cache_size = 5; CREATE TABLE t (id INTEGER "
            "PRIMARY KEY, v); CREATE INDEX i ON t (v)"));
    disk.Add({write, FaultDisk::File::kWal, skip, 1, 0, skip % 2 == 0});
    int rows = 0;
    for (int commit = 0; commit < 5; ++commit) {
      bool ok = run("BEGIN");
      for (int row = 0; ok && row < 20; ++row)
        ok = run(StrCat("INSERT INTO t VALUES (", rows + row, ", randomblob(1500))"));
      ok = ok && run("COMMIT");
      if (ok) rows += 20;
      if (sqlite3_get_autocommit(db) == 0) {
        run("ROLLBACK");
      }
    }
    EXPECT_EQ(disk.failed(), 1u);
    EXPECT_EQ(rows, 80) << "one commit failed";
    disk.PullPlug();  // what is in the files must do
    sqlite3_close_v2(dbs_.back());
    dbs_.pop_back();
    disk.Heal();
    EXPECT_EQ(Ask(path, "SELECT count(*) FROM t"), "80") << skip;
    EXPECT_EQ(Ask(path, "PRAGMA integrity_check"), "ok") << skip;
  }
}

TEST_F(WalVfsTest, ACommitIsOneWrite) {
  TestNode node(
      MustParse("CREATE TABLE t (id INTEGER NOT NULL PRIMARY KEY, a TEXT);"
                "CREATE INDEX t_a ON t (a);"));
  node.Do("INSERT INTO t (id, a) VALUES (1, 'a')");
  const WalVfsStats before = GetWalVfsStats();
  for (int i = 0; i < 20; ++i) node.Do("UPDATE t SET a = 'v" + std::to_string(i) + "'");
  const WalVfsStats after = GetWalVfsStats();
  EXPECT_LE(after.done - before.done, 22) << "some 20 commits";
  EXPECT_GE(after.asked - before.asked, 20 * 2 * 3) << "of table, index and log";
  EXPECT_EQ(node.Rows("SELECT a FROM t"), std::vector<std::string>{"'v19'"})
      << "another connection sees what is committed";
}

}  // namespace
}  // namespace patina::storage

#include <filesystem>

#include "base/log.h"
#include "storage/db.h"
#include "tests/storage/test_util.h"

// A table that another program made is declared: its rows travel.

namespace patina::storage {
namespace {

constexpr const char* kBefore = "CREATE TABLE z (id TEXT NOT NULL PRIMARY KEY)";
constexpr const char* kAfter =
    "CREATE TABLE z (id TEXT NOT NULL PRIMARY KEY);"
    "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a, late TEXT DEFAULT 'x');"
    "CREATE TABLE w (v, x TEXT NOT NULL, y INTEGER NOT NULL, PRIMARY KEY (y, x)) WITHOUT ROWID";
constexpr const char* kPlain =
    "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a);"
    "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2500) "
    "SELECT 'k' || i, i FROM n;"
    "CREATE TABLE w (v, x TEXT NOT NULL, y INTEGER NOT NULL, PRIMARY KEY (y, x)) WITHOUT ROWID;"
    "INSERT INTO w WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1500) "
    "SELECT i, 'x' || (i % 10), i / 10 FROM n;"
    "CREATE TABLE scratch (anything)";

void WritePlainTables(TestNode& node) {
  auto other = Db::Open(node.options.path, Db::Mode::kReadWriteCreate);
  ASSERT_TRUE(other.ok() && other->Exec(kPlain).ok());
}

void ExpectSame(TestNode& node, TestNode& peer) {
  for (const SharedBytes& change : node.Log()) peer.Merge(change);
  EXPECT_EQ(node.Dump().size(), 4000u);
  EXPECT_EQ(peer.Dump(), node.Dump());
  EXPECT_EQ(peer.Digests(), node.Digests());
}

TEST(SchemaAdoptTest, ARunningStoreAdoptsAndThePeerGetsTheRows) {
  TestNode node(MustParse(kBefore)), peer(MustParse(kAfter));
  WritePlainTables(node);
  const auto outcome = node.Apply(MustParse(kAfter));
  ASSERT_TRUE(outcome.ok()) << outcome.error().ToString();
  EXPECT_EQ(outcome->adopted.size(), 5u) << "parts of 1,000 rows";
  EXPECT_EQ(outcome->changes[0].text, "adopt table t with its rows");
  ExpectSame(node, peer);
  peer.clock.AdvanceMs(10);
  node.Merge(peer.Do("UPDATE t SET a = 'theirs' WHERE id = 'k7'").changeset);
  EXPECT_EQ(node.Rows("SELECT a, late FROM t WHERE id = 'k7'"),
            std::vector<std::string>{"'theirs'|'x'"});
  const auto digests = node.Digests();
  node.CrashAndOpen();
  EXPECT_EQ(node.Digests(), digests);
}

TEST(SchemaAdoptTest, AStartAdoptsTooAndLeavesUndeclaredTablesAlone) {
  TestNode node(MustParse(kBefore)), peer(MustParse(kAfter));
  node.Close();
  WritePlainTables(node);
  node.options.schema = MustParse(kAfter);
  node.Open();
  ExpectSame(node, peer);
  EXPECT_EQ(node.Rows("SELECT count(*) FROM scratch"), std::vector<std::string>{"0"});
  node.CloseAndOpen();
  EXPECT_EQ(node.store->last_seq(), 5u) << "once";
}

TEST(SchemaAdoptTest, WhoDiesInTheMiddleGoesOnWhereItWas) {
  TestNode node(MustParse(kBefore));
  WritePlainTables(node);
  // What the file looks like after each part, as a crash would leave it.
  std::vector<std::string> copies;
  node.store->SetProgress([&](Duration) {
    const std::string copy = node.dir.File(StrCat("copy", copies.size()));
    for (const char* suffix : {"", "-wal"}) {
      std::filesystem::copy_file(node.options.path + suffix, copy + suffix);
    }
    copies.push_back(copy);
  });
  ASSERT_TRUE(node.Apply(MustParse(kAfter)).ok());
  node.store->SetProgress({});
  ASSERT_GE(copies.size(), 5u);
  for (const std::string& copy : copies) {
    SCOPED_TRACE(copy);
    TestNode again(MustParse(kAfter), copy, 1'800'000'001'000);
    TestNode peer(MustParse(kAfter), 1'800'000'001'000);
    ExpectSame(again, peer);
  }
}

TEST(SchemaAdoptTest, WhatCannotBeReplicatedIsNotAdopted) {
  TestNode node(MustParse(kBefore));
  auto other = Db::Open(node.options.path, Db::Mode::kReadWriteCreate);
  ASSERT_TRUE(
      other->Exec("CREATE TABLE t (id TEXT PRIMARY KEY, a); INSERT INTO t VALUES ('k', 1)").ok());
  const auto outcome = node.Apply(MustParse(kAfter));
  EXPECT_THAT(outcome.error().message, ::testing::HasSubstr("may be NULL"));
  EXPECT_EQ(node.Rows("SELECT * FROM t"), std::vector<std::string>{"'k'|1"});
  EXPECT_EQ(node.store->last_seq(), 0u);
}

TEST(SchemaAdoptTest, KeysThatAreRealsAreNamedAndNothingIsAdopted) {
  TestNode node(MustParse(kBefore));
  RunForeign(node.options.path,
             "CREATE TABLE b (x TEXT NOT NULL, y BLOB NOT NULL, PRIMARY KEY (x, y));"
             "INSERT INTO b VALUES ('k', 1), ('l', 1.5)");
  const auto outcome = node.Apply(
      MustParse("CREATE TABLE z (id TEXT NOT NULL PRIMARY KEY);"
                "CREATE TABLE b (x TEXT NOT NULL, y BLOB NOT NULL, PRIMARY KEY (x, y))"));
  ASSERT_FALSE(outcome.ok());
  EXPECT_THAT(outcome.error().message,
              ::testing::HasSubstr("table b, key column y: 1.5 is a real, and no key can be one"));
  EXPECT_EQ(node.store->last_seq(), 0u);
}

}  // namespace
}  // namespace patina::storage

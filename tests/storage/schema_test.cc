#include "storage/schema.h"

#include "tests/storage/test_util.h"

namespace patina::storage {
namespace {

std::string Refusal(std::string_view sql, std::string_view toml = {}) {
  const Result<Schema> schema = ParseSchema(sql, "fleet.sql", toml);
  return schema.ok() ? "accepted" : schema.error().message;
}

TEST(SchemaTest, WhatCannotBeReplicatedIsRefusedWithFileLineAndReason) {
  const std::vector<std::pair<std::string, std::string>> refused = {
      {"CREATE TABLE t (id TEXT PRIMARY KEY)", "may be NULL"},
      {"CREATE TABLE t (a)", "no PRIMARY KEY"},
      {"CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY COLLATE NOCASE)", "COLLATE NOCASE"},
      {"CREATE TABLE t (id REAL NOT NULL PRIMARY KEY)", "REAL"},
      {"CREATE TABLE t (id NOT NULL PRIMARY KEY)", "no type"},
      {"CREATE TABLE t (id NUMERIC NOT NULL PRIMARY KEY)", "NUMERIC"},
      {"CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT)", "AUTOINCREMENT"},
      {"CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a UNIQUE)", "unique"},
      {"CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a NOT NULL)", "NOT NULL needs a DEFAULT"},
      {"CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a DEFAULT (random()))", "not a constant"},
      {"CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a DEFAULT CURRENT_TIMESTAMP)",
       "not a constant"},
      {"CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a AS (id))", "generated"},
      {"CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a REFERENCES t (id))", "foreign keys"},
      {"CREATE TABLE __patina_x (id TEXT NOT NULL PRIMARY KEY)", "reserved"},
      {"CREATE VIEW v AS SELECT 1", "CREATE TABLE and CREATE INDEX only"},
      {"CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY); CREATE UNIQUE INDEX i ON t (id)",
       "unique indexes"},
      {"CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY); INSERT INTO t VALUES (1)", "not INSERT"},
      {"CREATE TABLE t (id TEXT NOT NULL", "incomplete input"},
  };
  for (const auto& [sql, why] : refused) {
    EXPECT_THAT(Refusal("-- first line\n" + sql),
                ::testing::AllOf(::testing::HasSubstr("fleet.sql:2"), ::testing::HasSubstr(why)));
  }
  EXPECT_THAT(Refusal(""), ::testing::HasSubstr("no table"));
}

TEST(SchemaTest, TablesTomlIsChecked) {
  const std::string sql = "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a)";
  EXPECT_THAT(Refusal(sql, "[t]\nmerge = \"sum\""), ::testing::HasSubstr("tables.toml:1"));
  EXPECT_THAT(Refusal(sql, "[none]\nmerge = \"row\""), ::testing::HasSubstr("no such table: none"));
  EXPECT_THAT(Refusal(sql, "[t]\nmerg = \"row\""), ::testing::HasSubstr("unknown key merg"));
  EXPECT_THAT(Refusal(sql, "[t"), ::testing::HasSubstr("tables.toml:1"));
  EXPECT_TRUE(MustParse(sql, "[t]\nmerge = \"row\"").tables[0].merge_row);
  EXPECT_EQ(MustParse(sql, "[t]\ndropped = [\"a\", \"a\"]").tables[0].columns[0].life, 2u);
}

TEST(SchemaTest, DefaultsAreWhatSqliteWouldStore) {
  const Schema schema = MustParse(
      "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a TEXT DEFAULT 5, b INTEGER "
      "DEFAULT '7', "
      "c REAL DEFAULT -1, d DEFAULT x'0a', e DEFAULT 'it''s', f "
      "DEFAULT TRUE, g DEFAULT +1e2)");
  std::vector<std::string> defaults;
  for (const Column& column : schema.tables[0].columns)
    defaults.push_back(column.default_value.ToString());
  EXPECT_EQ(defaults,
            (std::vector<std::string>{"'5'", "7", "-1.0", "x'0a'", "'it''s'", "1", "100.0"}));
}

TEST(SchemaTest, AnyWithoutStrictIsNumericAsSqliteSays) {
  const Schema schema = MustParse(
      "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a ANY);"
      "CREATE TABLE s (id TEXT NOT NULL PRIMARY KEY, a ANY) STRICT;");
  EXPECT_EQ(schema.Find("t")->columns[0].affinity, Affinity::kNumeric);
  EXPECT_EQ(schema.Find("s")->columns[0].affinity, Affinity::kBlob);
}

TEST(SchemaTest, AnIntegerPrimaryKeyIsAcceptedWithAWarning) {
  const Schema schema = MustParse("CREATE TABLE t (id INTEGER PRIMARY KEY)");
  ASSERT_EQ(schema.warnings.size(), 1u);
  EXPECT_THAT(schema.warnings[0].text, ::testing::HasSubstr("schema.sql:1"));
}

TEST(SchemaTest, TheHashDoesNotDependOnTheOrderOfColumns) {
  const Schema one = MustParse("CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a, b TEXT)");
  EXPECT_EQ(one.Hash(),
            MustParse("CREATE TABLE t (b TEXT, a, id TEXT NOT NULL PRIMARY KEY)").Hash());
  for (const char* other : {"CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a, b)",
                            "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a)",
                            "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a, b TEXT DEFAULT "
                            "'x')"}) {
    EXPECT_NE(one.Hash(), MustParse(other).Hash()) << other;
  }
}

TEST(SchemaTest, FoldersAreReadFileByFile) {
  const test::TemporaryFolder dir;
  dir.Write("b.sql", "\nCREATE TABLE b (id TEXT PRIMARY KEY)");
  dir.Write("a.sql", "CREATE TABLE a (id TEXT NOT NULL PRIMARY KEY, v)");
  dir.Write("tables.toml", "[a]\nmerge = \"row\"");
  EXPECT_THAT(LoadSchema({dir.File("")}).error().message, ::testing::HasSubstr("b.sql:2"));
  dir.Write("b.sql", "CREATE TABLE b (id TEXT NOT NULL PRIMARY KEY); CREATE INDEX i ON a (v);");
  const auto schema = LoadSchema({dir.File("")});
  ASSERT_TRUE(schema.ok()) << schema.error().ToString();
  EXPECT_TRUE(schema->Find("a")->merge_row);
  EXPECT_EQ(schema->Find("a")->indexes.size(), 1u);
  EXPECT_EQ(LoadSchema({dir.File("none.sql")}).error().code, Errc::kNotFound);
  EXPECT_EQ(LoadSchema({}).error().code, Errc::kInvalidArgument);
}

// ---- Changing it --------------------------------------------------------------------------------

constexpr const char* kOld = "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a)";
constexpr const char* kNew =
    "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, late TEXT DEFAULT 'it''s', a, n INT NOT NULL "
    "DEFAULT -1);"
    "CREATE TABLE more (id TEXT NOT NULL PRIMARY KEY, v); CREATE INDEX i "
    "ON t (a);";

TEST(SchemaTest, AddingColumnsTablesAndIndexesSendsNothing) {
  TestNode node(MustParse(kOld));
  node.Do("INSERT INTO t VALUES ('k', 1)");
  const auto digests = node.Digests();
  node.options.schema = MustParse(kNew);
  node.CrashAndOpen();
  EXPECT_EQ(node.store->last_seq(), 1u);
  EXPECT_EQ(node.Dump(), std::vector<std::string>{"t: 1|'k'|'it''s'|-1"});
  EXPECT_EQ(node.Digests()[1].digest, digests[0].digest) << "an unstamped default is not in it";
  EXPECT_EQ(node.Rows("SELECT count(*) FROM sqlite_schema WHERE name = 'i'"),
            std::vector<std::string>{"1"});
}

TEST(SchemaTest, ChangesForUnknownColumnsAndTablesWaitForTheSchema) {
  TestNode node(MustParse(kOld)), newer(MustParse(kNew));
  const SharedBytes column = newer.Do("INSERT INTO t VALUES ('k', 'x', 1, 2)").changeset;
  const SharedBytes table =
      newer.Do({"INSERT INTO more VALUES ('m', 1)", "UPDATE t SET a = 7"}).changeset;
  EXPECT_EQ(node.Merge(column), MergeState::kParked);
  EXPECT_EQ(node.Merge(table), MergeState::kParked) << "whole, or not at all";
  EXPECT_TRUE(node.Dump().empty());
  EXPECT_EQ(node.store->received().Size(), 2u);
  node.CrashAndOpen();
  EXPECT_EQ(node.store->Parked().size(), 2u);
  EXPECT_THAT(node.store->Parked()[0].reason, ::testing::HasSubstr("unknown column"));
  node.options.schema = MustParse(kNew);
  node.CloseAndOpen();
  EXPECT_TRUE(node.store->Parked().empty());
  EXPECT_EQ(node.Dump(), newer.Dump());
  EXPECT_EQ(node.Digests(), newer.Digests());
  EXPECT_EQ(node.store->applied(), newer.store->applied());
}

TEST(SchemaTest, TombstonesFromBeforeAColumnWasAddedCanBeMerged) {
  TestNode node(MustParse(kOld)), newer(MustParse(kNew));
  const SharedBytes insert = node.Do("INSERT INTO t VALUES ('k', 1)").changeset;
  newer.Merge(insert);
  const SharedBytes gone = node.Do("DELETE FROM t").changeset;
  node.options.schema = MustParse(kNew);
  node.CloseAndOpen();
  newer.clock.AdvanceMs(10);
  EXPECT_EQ(node.Merge(newer.Do("UPDATE t SET late = 'y', n = 4").changeset), MergeState::kApplied);
  newer.Merge(gone);
  const SharedBytes again = newer.Do("INSERT INTO t (id) VALUES ('k')").changeset;
  EXPECT_EQ(node.Merge(again), MergeState::kApplied);
  EXPECT_EQ(node.Dump(), newer.Dump());
  EXPECT_EQ(node.Digests(), newer.Digests());
}

TEST(SchemaTest, WhatWouldLoseOrChangeDataIsRefusedAndTheFileLeftAlone) {
  TestNode node(MustParse(kNew));
  node.Do("INSERT INTO t VALUES ('k', 'x', 1, 2)");
  const auto rows = node.Dump();
  const Schema good = node.options.schema;
  node.Close();
  for (const char* other :
       {"CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, late TEXT DEFAULT 'it''s', a, n INT NOT "
        "NULL DEFAULT -1)",
        "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a, n INT NOT NULL "
        "DEFAULT -1);"
        "CREATE TABLE more (id TEXT NOT NULL PRIMARY KEY, v)",
        "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, late TEXT DEFAULT "
        "'other', a, n INT NOT NULL DEFAULT -1);"
        "CREATE TABLE more (id TEXT NOT NULL PRIMARY KEY, v)",
        "CREATE TABLE t (id BLOB NOT NULL PRIMARY KEY, late TEXT DEFAULT "
        "'it''s', a, n INT NOT NULL DEFAULT -1);"
        "CREATE TABLE more (id TEXT NOT NULL PRIMARY KEY, v)"}) {
    node.options.schema = MustParse(other);
    const Status status = node.TryOpen();
    ASSERT_FALSE(status.ok()) << other;
    EXPECT_EQ(status.error().code, Errc::kFailedPrecondition);
  }
  node.options.schema = good;
  node.Open();
  EXPECT_EQ(node.Dump(), rows);
}

}  // namespace
}  // namespace patina::storage

#include "tests/storage/test_util.h"

// Another schema for a store that is in use.

namespace patina::storage {
namespace {

constexpr const char* kOne = "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a)";
constexpr const char* kIndexed =
    "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a); CREATE INDEX t_a ON t (a)";

std::vector<std::string> Texts(const std::vector<SchemaChange>& changes) {
  std::vector<std::string> texts;
  for (const SchemaChange& change : changes) texts.push_back(change.text);
  return texts;
}

TEST(SchemaReloadTest, IndexesComeAndGo) {
  TestNode node(MustParse(kOne));
  node.Do("INSERT INTO t VALUES ('k', 1)");
  const auto added = node.Apply(MustParse(kIndexed));
  ASSERT_TRUE(added.ok()) << added.error().ToString();
  EXPECT_EQ(Texts(added->changes), std::vector<std::string>{"add index t_a on t"});
  EXPECT_EQ(node.Rows("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql NOT NULL AND "
                      "tbl_name = 't'"),
            std::vector<std::string>{"'t_a'"});
  node.Do("UPDATE t SET a = 2");
  EXPECT_EQ(Texts(node.Apply(MustParse("CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a);"
                                       " CREATE  INDEX /* as before */ T_A ON t(a)"))
                      ->changes),
            std::vector<std::string>{})
      << "only its layout differs";
  EXPECT_EQ(Texts(node.Apply(MustParse("CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a);"
                                       "CREATE INDEX t_a ON t (a DESC)"))
                      ->changes),
            (std::vector<std::string>{"drop index t_a of t", "add index t_a on t"}));
  EXPECT_EQ(Texts(node.Apply(MustParse(kOne))->changes),
            std::vector<std::string>{"drop index t_a of t"});
  EXPECT_EQ(node.Rows("SELECT * FROM t"), std::vector<std::string>{"'k'|2"});
}

TEST(SchemaReloadTest, AnAddedColumnIsInRowsThatMemoryHolds) {
  TestNode node(MustParse(kOne));
  node.Do("INSERT INTO t VALUES ('dirty', 1)");
  const Schema more = MustParse(
      "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, late TEXT DEFAULT 'x', a, n INT NOT NULL "
      "DEFAULT 7)");
  ASSERT_TRUE(node.Apply(more).ok());
  EXPECT_EQ(node.Dump(), std::vector<std::string>{"t: 1|'dirty'|'x'|7"});
  EXPECT_EQ(Describe(node.Do("UPDATE t SET n = 8, late = 'x'").changeset), "t~('dirty') n=8");
  TestNode peer(more);
  for (const SharedBytes& change : node.Log()) peer.Merge(change);
  EXPECT_EQ(node.Digests(), peer.Digests());
  node.CrashAndOpen();
  EXPECT_EQ(node.Digests(), peer.Digests());
}

TEST(SchemaReloadTest, AColumnAddedSendsNothingAndWritesNoClock) {
  TestNode node(MustParse(kOne));
  node.Do(
      "INSERT INTO t SELECT 'k' || value, value FROM (WITH RECURSIVE n(value) AS (SELECT 1 UNION "
      "ALL SELECT value + 1 FROM n LIMIT 2000) SELECT value FROM n)");
  const StoreStats before = node.store->Stats();
  ASSERT_TRUE(
      node.Apply(MustParse("CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a, b TEXT)")).ok());
  const StoreStats after = node.store->Stats();
  EXPECT_EQ(after.log_bytes, before.log_bytes) << "nothing to send";
  EXPECT_EQ(after.dirty_rows, before.dirty_rows);
  EXPECT_EQ(after.checkpoints, before.checkpoints);
  EXPECT_EQ(node.Rows("SELECT count(*) FROM __patina_clock_t"), std::vector<std::string>{"0"});
  EXPECT_EQ(node.store->received().Size(), 1u);
  EXPECT_EQ(after.schema_changes, 1u);
}

TEST(SchemaReloadTest, TablesAddedInFrontMoveNothingElse) {
  TestNode node(MustParse(kOne));
  node.Do("INSERT INTO t VALUES ('k', 1)");
  const auto digest = node.Digests()[0];
  ASSERT_TRUE(node.Apply(MustParse(std::string(kOne) +
                                   "; CREATE TABLE a (id TEXT NOT NULL PRIMARY KEY, v)"))
                  .ok());
  EXPECT_EQ(node.Digests()[1], digest);
  node.Do({"INSERT INTO a VALUES ('k', 1)", "UPDATE t SET a = 2"});
  EXPECT_EQ(node.Dump(), (std::vector<std::string>{"a: 'k'|1", "t: 2|'k'"}));
  node.CrashAndOpen();
  EXPECT_EQ(node.Dump(), (std::vector<std::string>{"a: 'k'|1", "t: 2|'k'"}));
}

TEST(SchemaReloadTest, EffectsSayThatTheTablesAreOthers) {
  TestNode node(MustParse(kOne));
  ASSERT_TRUE(node.Apply(MustParse(kIndexed)).ok());
  // What a settled change says comes after; the store told of the schema itself.
  CommitEffects effects;
  ASSERT_TRUE(node.store->ApplySchema(MustParse(kOne), false, &effects).ok());
  ASSERT_NE(effects.schema, nullptr);
  EXPECT_EQ(effects.schema->Hash(), node.store->schema().Hash());
  EXPECT_TRUE(effects.rows_unknown);
}

TEST(SchemaReloadTest, CheckAndCollateOfAnAddedColumnAreKept) {
  TestNode node(MustParse(kOne));
  const Schema more = MustParse(
      "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a, name TEXT COLLATE NOCASE, "
      "n INTEGER NOT NULL DEFAULT 1 CHECK (n > 0 AND ')' <> ','))");
  ASSERT_TRUE(node.Apply(more).ok());
  node.Do("INSERT INTO t (id, name) VALUES ('k', 'Anna')");
  EXPECT_EQ(node.Rows("SELECT id FROM t WHERE name = 'ANNA'"), std::vector<std::string>{"'k'"});
  EXPECT_FALSE(node.Try({"UPDATE t SET n = 0"}).ok());
  node.CloseAndOpen();
  EXPECT_FALSE(node.Try({"UPDATE t SET n = 0"}).ok());
}

TEST(SchemaReloadTest, AnotherCheckOrCollateOfWhatIsThereIsRefused) {
  TestNode node(MustParse(kOne));
  for (const char* other : {"CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a CHECK (a > 0))",
                            "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a COLLATE NOCASE)",
                            "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a, CHECK (a <> 'x'))"}) {
    const auto outcome = node.Apply(MustParse(other));
    ASSERT_FALSE(outcome.ok()) << other;
    EXPECT_THAT(outcome.error().message, ::testing::HasSubstr("CHECK"));
  }
}

}  // namespace
}  // namespace patina::storage

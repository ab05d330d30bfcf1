#include "subscribe/plan.h"

#include <gtest/gtest.h>

#include "base/log.h"
#include "subscribe/simple_select.h"
#include "subscribe/sql_tokens.h"
#include "tests/subscribe/test_support.h"

namespace patina::subscribe {
namespace {

std::string Words(std::string_view sql) {
  std::string text;
  for (const Token& token : Tokenize(sql)) {
    if (!text.empty()) text += ' ';
    text += token.kind == TokenKind::kBad ? "BAD" : token.text;
  }
  return text;
}

TEST(SqlTokensTest, SplitsAsSqliteDoes) {
  EXPECT_EQ(Words("SELECT a.\"B c\",[d]]e FROM`x``y`"), "select a . B c , d ] e from x`y");
  EXPECT_EQ(Words("a--c\n+/* x */b/* open"), "a + b");
  EXPECT_EQ(Words("'it''s' X'00ff' 1.5e-3 0x1F .5 5-3"), "it's 00ff 1.5e-3 0x1F .5 5 - 3");
  EXPECT_EQ(Words("a->>'b' <> ?1 == :n || @m >= $p"), "a ->> b <> ?1 == :n || @m >= $p");
  EXPECT_EQ(Words("SELECT 'open"), "select BAD");
  EXPECT_EQ(Words("a = $x::y"), "a = BAD");
}

TEST(SqlTokensTest, DepthIsThatOfTheParenthesesAround) {
  const auto tokens = Tokenize("a(b(c))d");
  std::vector<int> depths;
  for (const Token& token : tokens) depths.push_back(token.depth);
  EXPECT_EQ(depths, (std::vector<int>{0, 0, 1, 1, 2, 1, 0, 0}));
}

TEST(SqlTokensTest, TrimTakesSpaceAndSemicolons) {
  EXPECT_EQ(TrimSql(" \n;SELECT 1 ; ;\t"), "SELECT 1");
  EXPECT_EQ(TrimSql(" ;"), "");
}

class PlanTest : public testing::Test {
 protected:
  PlanTest()
      : store(
            "CREATE TABLE t (k TEXT NOT NULL PRIMARY KEY, a TEXT, i INTEGER, r REAL, b BLOB);"
            "CREATE TABLE u (k1 INTEGER NOT NULL, k2 TEXT NOT NULL, v TEXT, "
            "PRIMARY KEY (k2, k1));"
            "CREATE TABLE n (k TEXT NOT NULL PRIMARY KEY, a TEXT COLLATE NOCASE);") {}
  Plan PlanOf(const storage::Statement& statement) {
    const auto reads = store.reader().Analyze(statement);
    EXPECT_TRUE(reads.ok()) << statement.sql << ": " << (reads.ok() ? "" : reads.error().message);
    if (!reads.ok()) return {};
    auto plan = MakePlan(statement, *reads, store.schema());
    EXPECT_TRUE(plan.ok()) << (plan.ok() ? "" : plan.error().message);
    return plan.ok() ? *plan : Plan{};
  }
  ModelStore store;
};

TEST_F(PlanTest, SimpleSelectsAreIncremental) {
  for (const char* sql :
       {"SELECT * FROM t", "select k from T where a = 'x'", "SELECT t.a || 'x' AS y FROM main.t",
        "SELECT x.k FROM t AS x WHERE x.i > 1 OR x.a LIKE 'b%'", "SELECT k FROM \"t\" x ORDER BY a",
        "SELECT CASE WHEN i IN (1, 2) THEN upper(a) END FROM t WHERE (i BETWEEN 1 AND 2)",
        "SELECT a -- FROM u\n FROM t /* , u */", "SELECT ' FROM u, ' FROM t",
        "SELECT datetime(i, 'unixepoch') FROM t",
        "SELECT json_extract(a, '$.x'), a->>'y' FROM t"}) {
    EXPECT_TRUE(PlanOf(Sql(sql)).incremental) << sql;
  }
}

TEST_F(PlanTest, OthersAreRunAnew) {
  for (const char* sql : {"SELECT DISTINCT a FROM t",
                          "SELECT count(*) FROM t",
                          "SELECT max(a) FROM t",
                          "SELECT a FROM t GROUP BY a",
                          "SELECT a FROM t LIMIT 1",
                          "SELECT a FROM t UNION SELECT v FROM u",
                          "SELECT a FROM t WHERE k IN (SELECT v FROM u)",
                          "SELECT (SELECT max(v) FROM u) FROM t",
                          "SELECT row_number() OVER (ORDER BY k) FROM t",
                          "WITH x AS (SELECT a FROM t) SELECT * FROM x",
                          "SELECT rowid FROM t",
                          "SELECT \"oid\" FROM t",
                          "SELECT * FROM (SELECT a FROM t)",
                          "SELECT 1",
                          "SELECT k FROM t WHERE EXISTS (SELECT 1 FROM u)",
                          "VALUES (1)",
                          "SELECT sum(i) FILTER (WHERE i > 0) FROM t",
                          "SELECT group_concat(a) FROM t",
                          "SELECT k FROM t NOT INDEXED",
                          "SELECT min(i, 3) FROM t"}) {
    const Plan plan = PlanOf(Sql(sql));
    EXPECT_FALSE(plan.incremental) << sql;
    EXPECT_EQ(plan.key_columns, 0u) << sql;
    EXPECT_EQ(plan.sql, sql);
  }
}

TEST_F(PlanTest, JoinsAreRunAnewWithTheKeysOfAllTables) {
  for (const char* sql :
       {"SELECT a, v FROM t, u", "SELECT a FROM t x LEFT JOIN u AS y ON x.k = y.v WHERE i = 1",
        "SELECT a FROM t NATURAL JOIN u", "SELECT x.a FROM t x JOIN t y USING (k) CROSS JOIN u"}) {
    const Plan plan = PlanOf(Sql(sql));
    EXPECT_FALSE(plan.incremental) << sql;
    EXPECT_GE(plan.key_columns, 3u) << sql;
  }
}

TEST_F(PlanTest, KeyColumnsStandBehindTheSelectList) {
  EXPECT_EQ(PlanOf(Sql("SELECT v FROM u AS x WHERE v = ?", {crdt::Value::Text("a")})).sql,
            "SELECT v  , \"x\".\"k2\" , \"x\".\"k1\" FROM u AS x WHERE v = ?");
}

TEST_F(PlanTest, EqualitiesThatMeanEqualBytesAreIndexed) {
  const auto equality = [&](const std::string& sql, std::vector<crdt::Value> values = {}) {
    const auto found = PlanOf(Sql(sql, std::move(values))).equality;
    if (!found) return std::string("none");
    return StrCat(found->column, "=", found->value.ToString());
  };
  EXPECT_EQ(equality("SELECT * FROM t WHERE a = 'x'"), "1='x'");
  EXPECT_EQ(equality("SELECT * FROM t WHERE i > 1 AND t.a == ?", {crdt::Value::Text("y")}),
            "1='y'");
  EXPECT_EQ(equality("SELECT * FROM t WHERE a = ? AND k = ? ORDER BY i",
                     {crdt::Value::Text("y"), crdt::Value::Text("z")}),
            "0='z'");
  EXPECT_EQ(equality("SELECT * FROM t WHERE i = ?2 AND r > ?1",
                     {crdt::Value::Integer(1), crdt::Value::Integer(2)}),
            "2=2");
  EXPECT_EQ(equality("SELECT * FROM t WHERE (i = 1 OR a = 'y') AND a = 'x'"), "1='x'");
  for (const char* sql :
       {"SELECT * FROM t WHERE a = 'x' OR i = 1", "SELECT * FROM t WHERE NOT a = 'x'",
        "SELECT * FROM t WHERE a = 'x' COLLATE NOCASE", "SELECT * FROM t WHERE a = 'x' || k",
        "SELECT * FROM t WHERE i BETWEEN 0 AND a = 'x'", "SELECT * FROM t WHERE a = 1",
        "SELECT * FROM t WHERE i = '1'", "SELECT * FROM t WHERE r = 1",
        "SELECT * FROM t WHERE b = 'x'", "SELECT * FROM t WHERE i = 1.0",
        "SELECT * FROM t WHERE i = 9223372036854775807", "SELECT * FROM t WHERE a = NULL",
        "SELECT * FROM t WHERE 'x' || a = 'x'", "SELECT * FROM t WHERE a = 'x' IS NULL",
        "SELECT * FROM n WHERE a = 'x'", "SELECT * FROM t WHERE a = k", "SELECT a = 'x' FROM t",
        "SELECT * FROM t WHERE i = -1",
        "SELECT * FROM t WHERE CASE WHEN i AND a = 'x' AND i THEN 1 END"}) {
    EXPECT_EQ(equality(sql), "none") << sql;
  }
}

}  // namespace
}  // namespace patina::subscribe

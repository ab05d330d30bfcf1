#include "tests/storage/test_util.h"

namespace patina::storage {
namespace {

class ReaderTest : public ::testing::Test {
 protected:
  ReaderTest() { node_.Do("INSERT INTO t VALUES ('k', 1), ('l', 2)"); }
  Error Refused(const std::string& sql, const QueryLimits& limits = {}) {
    std::vector<std::string> rows;
    const Status status = node_.Query(sql, &rows, limits);
    EXPECT_FALSE(status.ok()) << sql;
    return status.ok() ? Error() : status.error();
  }
  TestNode node_{MustParse("CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a)")};
};

TEST_F(ReaderTest, TableValuedFunctionsWork) {
  EXPECT_EQ(node_.Rows("SELECT value FROM json_each('[1,\"x\"]')"),
            (std::vector<std::string>{"1", "'x'"}));
  EXPECT_EQ(node_.Rows("SELECT count(*) FROM json_tree('{\"a\":[1]}')"),
            std::vector<std::string>{"3"});
  EXPECT_EQ(node_.Rows("SELECT t.id FROM t, json_each('[2]') j WHERE t.a = j.value"),
            std::vector<std::string>{"'l'"});
  EXPECT_EQ(node_.Rows("SELECT name FROM pragma_table_info('t')"),
            (std::vector<std::string>{"'id'", "'a'"}));
}

TEST_F(ReaderTest, NothingCanBeWrittenOrConfigured) {
  for (const char* sql : {"INSERT INTO t VALUES ('m', 1)", "DELETE FROM t", "CREATE TABLE x (a)",
                          "PRAGMA query_only = 0", "ATTACH ':memory:' AS x", "BEGIN", "VACUUM",
                          "SELECT load_extension('x')", "SELECT 1; SELECT 2", "SELECT * FROM none",
                          "", "CREATE VIRTUAL TABLE temp.v USING json_each", "SAVEPOINT a"}) {
    EXPECT_EQ(Refused(sql).code, Errc::kInvalidArgument) << sql;
  }
  EXPECT_EQ(node_.Rows("SELECT count(*) FROM t"), std::vector<std::string>{"2"});
}

TEST_F(ReaderTest, LimitsEndAQuery) {
  QueryLimits limits;
  limits.rows_max = 1;
  EXPECT_EQ(Refused("SELECT * FROM t", limits).code, Errc::kResourceExhausted);
  limits = {};
  limits.deadline = Duration(0);
  const std::string endless =
      "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT count(*) FROM c";
  EXPECT_EQ(Refused(endless, limits).code, Errc::kDeadlineExceeded);
  const std::atomic<bool> cancelled{true};
  limits = {};
  limits.cancelled = &cancelled;
  EXPECT_EQ(Refused(endless, limits).code, Errc::kCancelled);
}

TEST_F(ReaderTest, ASnapshotSeesOneState) {
  const auto seq = node_.reader->BeginSnapshot();
  ASSERT_TRUE(seq.ok());
  EXPECT_EQ(*seq, 1u);
  node_.Do("DELETE FROM t");
  EXPECT_EQ(node_.Rows("SELECT count(*) FROM t"), std::vector<std::string>{"2"});
  node_.reader->EndSnapshot();
  EXPECT_EQ(node_.Rows("SELECT count(*) FROM t"), std::vector<std::string>{"0"});
  EXPECT_EQ(*node_.reader->LastSeq(), 2u);
}

TEST_F(ReaderTest, AnalyzeNamesWhatAQueryReads) {
  const auto reads = node_.reader->Analyze(
      {"SELECT id, UPPER(id) AS u FROM t WHERE a > ?", {crdt::Value::Integer(1)}, {}});
  ASSERT_TRUE(reads.ok()) << reads.error().ToString();
  EXPECT_EQ(reads->reads, (std::vector<QueryReads::Read>{{"t", "a"}, {"t", "id"}}));
  EXPECT_EQ(reads->functions, std::vector<std::string>{"upper"});
  EXPECT_EQ(reads->columns, (std::vector<std::string>{"id", "u"}));
  EXPECT_EQ(reads->parameters, 1u);
  const auto counted = node_.reader->Analyze({"SELECT count(*) FROM t", {}, {}});
  EXPECT_EQ(counted->reads, (std::vector<QueryReads::Read>{{"t", ""}}));
  EXPECT_FALSE(node_.reader->Analyze({"DELETE FROM t", {}, {}}).ok());
}

TEST_F(ReaderTest, LogRangesAreCutBySizeAndSaySo) {
  for (int i = 0; i < 9; ++i) node_.Do("UPDATE t SET a = a + 1");
  const ActorId actor = node_.store->actor();
  ActorId stranger;
  stranger.bytes[0] = 1;
  const auto part = node_.reader->ReadLog({{stranger, {{1, 2}}}, {actor, {{2, 3}, {5, 12}}}}, 150);
  ASSERT_TRUE(part.ok());
  EXPECT_FALSE(part->complete);
  EXPECT_GE(part->changes.size(), 1u);
  EXPECT_EQ(part->changes[0].first, (ChangeId{actor, 2}));
  ASSERT_EQ(part->not_at_hand.size(), 1u);
  EXPECT_EQ(part->not_at_hand[0].actor, stranger);
  const auto all = node_.reader->ReadLog({{actor, {{2, 3}, {5, 12}}}}, 1 << 20);
  EXPECT_TRUE(all->complete);
  EXPECT_EQ(all->changes.size(), 8u);
  EXPECT_EQ(all->not_at_hand[0].ranges, (std::vector<crdt::VersionRange>{{11, 12}}));
}

}  // namespace
}  // namespace patina::storage

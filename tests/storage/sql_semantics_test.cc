#include "tests/storage/test_util.h"

// What SQL becomes: how many rows, and exactly which words travel.

namespace patina::storage {
namespace {

using crdt::Value;

constexpr const char* kSchema = R"sql(
CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a, b TEXT DEFAULT 'd');
CREATE TABLE n (id INTEGER PRIMARY KEY, a);
CREATE TABLE p (v, x TEXT NOT NULL, y INTEGER NOT NULL, PRIMARY KEY (y, x)) WITHOUT ROWID;
CREATE TABLE p2 (v, x TEXT NOT NULL, y INTEGER NOT NULL, PRIMARY KEY (y, x)) WITHOUT ROWID;
CREATE TABLE r (v, x TEXT NOT NULL, y INTEGER NOT NULL, PRIMARY KEY (y, x));
CREATE TABLE blobs (id BLOB NOT NULL PRIMARY KEY, a);
CREATE TABLE s (id TEXT PRIMARY KEY, i INTEGER, o ANY) STRICT;
CREATE TABLE whole (id TEXT NOT NULL PRIMARY KEY, a, b);
CREATE TABLE only_key (id TEXT NOT NULL PRIMARY KEY);
CREATE TABLE "odd ""name" (id TEXT NOT NULL PRIMARY KEY, "order" TEXT, "a""b" TEXT);
)sql";

class SqlTest : public ::testing::Test {
 protected:
  std::string Said(std::initializer_list<std::string> sql) {
    return Describe(node_.Do(sql).changeset);
  }
  TestNode node_{MustParse(kSchema, "[whole]\nmerge = \"row\"\n")};
};

TEST_F(SqlTest, InsertStampsEveryColumnAlsoThoseLeftOut) {
  const Committed done = node_.Do("INSERT INTO t (id) VALUES ('k'), ('l')");
  EXPECT_EQ(done.rows_changed, std::vector<int64_t>{2});
  EXPECT_EQ(done.version, 1u);
  EXPECT_EQ(done.seq, 1u);
  EXPECT_EQ(Describe(done.changeset), "t+('k') a=NULL b='d'; t+('l') a=NULL b='d'");
}

TEST_F(SqlTest, UpdateSaysOnlyWhatReallyChanged) {
  node_.Do("INSERT INTO t VALUES ('k', 1, 'x'), ('l', 2, 'x')");
  const Committed done = node_.Do("UPDATE t SET a = 2, b = 'x'");
  EXPECT_EQ(done.rows_changed, std::vector<int64_t>{2});
  EXPECT_EQ(Describe(done.changeset), "t~('k') a=2");
}

TEST_F(SqlTest, WhatHasNoNetEffectHasNoVersionAndIsNotLogged) {
  node_.Do("INSERT INTO t VALUES ('k', 1, 'x')");
  for (const Transaction& nothing :
       {Tx({"UPDATE t SET a = 1"}), Tx({"UPDATE t SET a = 2", "UPDATE t SET a = 1"}),
        Tx({"DELETE FROM t WHERE id = 'z'"}),
        Tx({"INSERT INTO t VALUES ('z', 1, 1)", "DELETE FROM t WHERE id = 'z'"}),
        Tx({"SELECT * FROM t"}), Tx({"INSERT OR IGNORE INTO t VALUES ('k', 9, 9)"}),
        Tx({"REPLACE INTO t VALUES ('k', 1, 'x')"}),
        Tx({"DELETE FROM t", "INSERT INTO t VALUES ('k', 1, 'x')"}),
        Tx({"UPDATE t SET id = 'q'", "UPDATE t SET id = 'k'"}),
        Tx({"INSERT INTO t VALUES ('k', 5, 5) ON CONFLICT DO NOTHING"}),
        Tx({"INSERT INTO t VALUES ('k', 1, 'x') ON CONFLICT DO UPDATE SET a = excluded.a"})}) {
    const auto result = node_.Run({nothing})[0];
    ASSERT_TRUE(result.ok()) << nothing.statements[0].sql;
    EXPECT_EQ(result->version, 0u) << nothing.statements[0].sql;
    EXPECT_EQ(result->actor, ActorId());
    EXPECT_EQ(result->changeset, nullptr);
    EXPECT_TRUE(node_.effects.rows.empty())
        << DescribeEffects(node_.effects, node_.store->schema());
  }
  EXPECT_EQ(node_.store->last_seq(), 1u);
  EXPECT_EQ(node_.store->applied().Size(), 1u);
}

TEST_F(SqlTest, DeleteSaysDeletedAndNoColumns) {
  node_.Do("INSERT INTO t (id) VALUES ('k'), ('l')");
  const Committed done = node_.Do("DELETE FROM t");
  EXPECT_EQ(done.rows_changed, std::vector<int64_t>{2});
  EXPECT_EQ(Describe(done.changeset), "t-('k'); t-('l')");
}

TEST_F(SqlTest, DeleteAndInsertOfOneKeyIsOneInsert) {
  node_.Do("INSERT INTO t VALUES ('k', 1, 'x')");
  EXPECT_EQ(Said({"DELETE FROM t", "INSERT INTO t VALUES ('k', 2, 'x')"}), "t+('k') a=2 b='x'");
  EXPECT_EQ(Said({"REPLACE INTO t VALUES ('k', 3, 'x')"}), "t+('k') a=3 b='x'");
  EXPECT_EQ(Said({"REPLACE INTO t (id) VALUES ('k')"}), "t+('k') a=NULL b='d'");
}

TEST_F(SqlTest, ReplaceOfAKeyThatIsTheRowidIsOneInsert) {
  node_.Do("INSERT INTO n VALUES (7, 1)");
  EXPECT_EQ(Said({"REPLACE INTO n VALUES (7, 2)"}), "n+(7) a=2");
  EXPECT_EQ(node_.Do("REPLACE INTO n VALUES (7, 2)").version, 0u);
}

TEST_F(SqlTest, UpsertSaysWhatItsUpdateChanged) {
  node_.Do("INSERT INTO t VALUES ('k', 1, 'x')");
  EXPECT_EQ(Said({"INSERT INTO t VALUES ('k', 2, 'x') ON CONFLICT DO UPDATE SET a = excluded.a, b "
                  "= excluded.b"}),
            "t~('k') a=2");
}

TEST_F(SqlTest, AChangedKeyIsADeleteAndAnInsert) {
  node_.Do({"INSERT INTO t VALUES ('k', 1, 'x'), ('l', 2, 'y')",
            "INSERT INTO n VALUES (1, 'a'), (2, 'b')", "INSERT INTO p VALUES (5, 'x', 1)"});
  EXPECT_EQ(Said({"UPDATE t SET id = 'm' WHERE id = 'k'"}), "t-('k'); t+('m') a=1 b='x'");
  EXPECT_EQ(Said({"UPDATE OR REPLACE t SET id = 'l' WHERE id = 'm'"}),
            "t+('l') a=1 b='x'; t-('m')");
  EXPECT_EQ(Said({"UPDATE n SET id = 3 WHERE id = 1"}), "n-(1); n+(3) a='a'");
  EXPECT_EQ(Said({"UPDATE OR REPLACE n SET id = 2 WHERE id = 3"}), "n+(2) a='a'; n-(3)");
  EXPECT_EQ(Said({"UPDATE p SET y = 2"}), "p-(1|'x'); p+(2|'x') v=5");
}

TEST_F(SqlTest, KeysThatChangePlacesAreInsertedBoth) {
  node_.Do("INSERT INTO n VALUES (1, 'a'), (2, 'b')");
  EXPECT_EQ(Said({"UPDATE n SET id = -id", "UPDATE n SET id = 3 + id"}),
            "n+(1) a='b'; n+(2) a='a'");
}

TEST_F(SqlTest, SeveralWritesToOneRowInOneTransactionAreOneWord) {
  EXPECT_EQ(Said({"INSERT INTO t (id) VALUES ('k')", "UPDATE t SET a = 1",
                  "UPDATE t SET a = 2, b = NULL"}),
            "t+('k') a=2 b=NULL");
  EXPECT_EQ(Said({"UPDATE t SET a = 3", "UPDATE t SET b = 'z'", "UPDATE t SET a = 2"}),
            "t~('k') b='z'");
}

TEST_F(SqlTest, InsertFromSelectIsCapturedInEveryKindOfTable) {
  node_.Do({"INSERT INTO t VALUES ('k', 1, 'x')", "INSERT INTO p VALUES (1, 'x', 1), (2, 'x', 2)"});
  EXPECT_EQ(Said({"INSERT INTO n SELECT 10, a FROM t"}), "n+(10) a=1");
  // SQLite copies between tables of one shape by a short cut; the hook must see it all the same.
  EXPECT_EQ(Said({"INSERT INTO p2 SELECT * FROM p"}), "p2+(1|'x') v=1; p2+(2|'x') v=2");
  EXPECT_EQ(Said({"WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 3) "
                  "INSERT INTO n SELECT i, NULL FROM c"}),
            "n+(1) a=NULL; n+(2) a=NULL; n+(3) a=NULL");
}

TEST_F(SqlTest, ReturningAndJsonWorkInWrites) {
  const Committed done =
      node_.Do("INSERT INTO t SELECT value, 1, 'x' FROM json_each('[\"k\",\"l\"]') RETURNING id");
  EXPECT_EQ(done.rows_changed, std::vector<int64_t>{2});
  EXPECT_EQ(node_.Rows("SELECT id FROM t ORDER BY id"), (std::vector<std::string>{"'k'", "'l'"}));
}

TEST_F(SqlTest, NullsBlobsAndTextWithNulKeepTheirTypes) {
  const std::string bytes("a\0b", 3);
  const auto done = node_.TryWith("INSERT INTO t VALUES (?, ?, ?)",
                                  {Value::Text(bytes), Value::Blob(bytes), Value::Null()});
  ASSERT_TRUE(done.ok());
  TestNode other(node_.options.schema);
  EXPECT_EQ(other.Merge(done->changeset), MergeState::kApplied);
  EXPECT_EQ(other.Rows("SELECT typeof(id), length(CAST(id AS BLOB)), hex(a), typeof(b) FROM t"),
            std::vector<std::string>{"'text'|3|'610062'|'null'"});
  EXPECT_EQ(other.Digests(), node_.Digests());
}

TEST_F(SqlTest, AnEmptyBlobIsNotNull) {
  EXPECT_EQ(Said({"INSERT INTO t VALUES ('', x'', '')"}), "t+('') a=x'' b=''");
}

TEST_F(SqlTest, StrictTablesKeepAnyAsItIs) {
  EXPECT_EQ(Said({"INSERT INTO s VALUES ('k', 1.0, '12')"}), "s+('k') i=1 o='12'");
  const auto wrong = node_.Try({"INSERT INTO s VALUES ('l', 'x', 1)"});
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.error().code, Errc::kFailedPrecondition);
}

TEST_F(SqlTest, StrictTablesSayUpdatesAndDeletes) {
  node_.Do("INSERT INTO s VALUES ('k', 1, '12'), ('l', 2, x'00')");
  EXPECT_EQ(Said({"UPDATE s SET i = '3' WHERE id = 'k'"}), "s~('k') i=3");
  EXPECT_EQ(Said({"UPDATE s SET i = 3, o = 12 WHERE id = 'k'"}), "s~('k') o=12");
  const auto wrong = node_.Try({"UPDATE s SET i = 'x'"});
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.error().code, Errc::kFailedPrecondition);
  EXPECT_EQ(Said({"UPDATE s SET id = 'm' WHERE id = 'l'"}), "s-('l'); s+('m') i=2 o=x'00'");
  EXPECT_EQ(Said({"DELETE FROM s WHERE id = 'k'"}), "s-('k')");
  EXPECT_EQ(node_.Rows("SELECT * FROM s"), std::vector<std::string>{"'m'|2|x'00'"});
}

TEST_F(SqlTest, KeyColumnsTravelInKeyOrderWhateverTheirPlace) {
  for (const std::string name : {"p", "r"}) {  // without rowids, and with
    EXPECT_EQ(Said({"INSERT INTO " + name + " (x, v, y) VALUES ('x', 'value', 3)"}),
              name + "+(3|'x') v='value'");
    EXPECT_EQ(Said({"UPDATE " + name + " SET v = 1"}), name + "~(3|'x') v=1");
    EXPECT_EQ(Said({"REPLACE INTO " + name + " VALUES (2, 'x', 3)"}), name + "+(3|'x') v=2");
    EXPECT_EQ(Said({"UPDATE " + name + " SET y = 4"}), name + "-(3|'x'); " + name + "+(4|'x') v=2");
    EXPECT_EQ(Said({"DELETE FROM " + name}), name + "-(4|'x')");
  }
}

TEST_F(SqlTest, AKeyOfSeveralColumnsIsTheKeyAlthoughTheRowHasARowid) {
  node_.Do("INSERT INTO r VALUES (1, 'x', 1), (2, 'x', 2), (3, 'y', 1)");
  EXPECT_EQ(node_.Do("UPDATE r SET rowid = rowid + 50").version, 0u);
  EXPECT_EQ(Said({"UPDATE OR REPLACE r SET y = 2 WHERE v = 1"}), "r-(1|'x'); r+(2|'x') v=1");
  EXPECT_FALSE(node_.Try({"INSERT INTO r VALUES (9, 'x', 2)"}).ok());
  TestNode other(node_.options.schema);
  other.Merge(node_.Log());
  EXPECT_EQ(other.Rows("SELECT y, x, v FROM r ORDER BY v"),
            (std::vector<std::string>{"2|'x'|1", "1|'y'|3"}));
  EXPECT_EQ(other.Digests(), node_.Digests());
}

TEST_F(SqlTest, BlobKeysTravelByteForByte) {
  EXPECT_EQ(Said({"INSERT INTO blobs VALUES (x'00ff', 1)", "INSERT INTO blobs VALUES (x'', 2)"}),
            "blobs+(x'') a=2; blobs+(x'00ff') a=1");
  EXPECT_EQ(Said({"UPDATE blobs SET a = 3 WHERE id = x'00ff'"}), "blobs~(x'00ff') a=3");
  EXPECT_EQ(Said({"UPDATE blobs SET id = x'61' WHERE id = x'00ff'"}),
            "blobs+(x'61') a=3; blobs-(x'00ff')");
  EXPECT_EQ(Said({"INSERT INTO blobs VALUES ('a', 4)"}), "blobs+('a') a=4") << "not x'61'";
  EXPECT_EQ(Said({"DELETE FROM blobs WHERE id = x''"}), "blobs-(x'')");
  TestNode other(node_.options.schema);
  other.Merge(node_.Log());
  for (TestNode* node : {&node_, &other}) {
    node->CrashAndOpen();
    EXPECT_EQ(node->Rows("SELECT * FROM blobs ORDER BY a"),
              (std::vector<std::string>{"x'61'|3", "'a'|4"}));
  }
  EXPECT_EQ(other.Digests(), node_.Digests());
}

TEST_F(SqlTest, ATableMergedByRowSendsAllItsColumns) {
  node_.Do("INSERT INTO whole VALUES ('k', 1, 2)");
  EXPECT_EQ(Said({"UPDATE whole SET a = 3"}), "whole~('k') a=3 b=2");
  EXPECT_EQ(node_.Do("UPDATE whole SET a = 3").version, 0u);
}

// SQLite takes 1.0 for 1 where a column has no numeric type of its own: two rows here would be one
// there.
TEST_F(SqlTest, ARealIsNoKey) {
  TestNode node(
      MustParse("CREATE TABLE b (id BLOB NOT NULL PRIMARY KEY, a);"
                "CREATE TABLE w (id BLOB NOT NULL PRIMARY KEY, a) WITHOUT ROWID;"
                "CREATE TABLE i (x TEXT NOT NULL, n INTEGER NOT NULL, a, PRIMARY KEY (x, n))"));
  node.Do({"INSERT INTO b VALUES (1, 'one')", "INSERT INTO w VALUES (1, 'one')",
           "INSERT INTO i VALUES (1.0, 1.0, 'text and integer by their columns')"});
  const auto rows = node.Dump();
  for (const char* sql :
       {"INSERT INTO b VALUES (2.0, 'two')", "REPLACE INTO b VALUES (1.0, 'real')",
        "UPDATE b SET id = 1.0", "REPLACE INTO w VALUES (1.0, 'real')", "UPDATE w SET id = 1.5",
        "INSERT INTO i VALUES ('k', -9223372036854775808.0, 'equals an integer')"}) {
    for (const bool large : {false, true}) {
      const auto wrong = large ? node.TryLarge({sql}) : node.Try({sql});
      ASSERT_FALSE(wrong.ok()) << sql;
      EXPECT_EQ(wrong.error().code, Errc::kFailedPrecondition);
      EXPECT_THAT(wrong.error().message, ::testing::HasSubstr(" is a real, and no key can be one"));
    }
  }
  EXPECT_EQ(node.Dump(), rows);
  // Where another client made one, a write of it fails, and it may be deleted; nobody hears of it.
  RunForeign(node.options.path, "INSERT INTO b VALUES (2.5, 'foreign')");
  EXPECT_FALSE(node.Try({"UPDATE b SET a = 'x'"}).ok());
  EXPECT_EQ(Describe(node.Do("DELETE FROM b").changeset), "b-(1)");
  EXPECT_EQ(node.Rows("SELECT * FROM b"), std::vector<std::string>());
}

TEST_F(SqlTest, ATableOfKeysOnlyTravels) {
  EXPECT_EQ(Said({"INSERT INTO only_key VALUES ('k')"}), "only_key+('k')");
  EXPECT_EQ(node_.Do("REPLACE INTO only_key VALUES ('k')").version, 0u);
  EXPECT_EQ(Said({"DELETE FROM only_key"}), "only_key-('k')");
}

TEST_F(SqlTest, NamesThatNeedQuotesWork) {
  EXPECT_EQ(Said({R"(INSERT INTO "odd ""name" VALUES ('k', 'x', 'y'))"}),
            R"(odd "name+('k') order='x' a"b='y')");
  EXPECT_EQ(Said({R"(UPDATE "odd ""name" SET "a""b" = 'z')"}), R"(odd "name~('k') a"b='z')");
  node_.CrashAndOpen();
  EXPECT_EQ(node_.Rows(R"(SELECT * FROM "odd ""name")"), std::vector<std::string>{"'k'|'x'|'z'"});
}

TEST_F(SqlTest, RolledBackSavepointsLeaveNothing) {
  node_.Do("INSERT INTO t VALUES ('k', 1, 'x')");
  EXPECT_EQ(Said({"SAVEPOINT one", "UPDATE t SET a = 5", "INSERT INTO t (id) VALUES ('gone')",
                  "ROLLBACK TO one", "UPDATE t SET b = 'y'", "RELEASE one"}),
            "t~('k') b='y'");
  // The DELETE stays, the INSERT was undone and a plain UPDATE remains of it.
  EXPECT_EQ(Said({"SAVEPOINT Two", "DELETE FROM t", "INSERT INTO t VALUES ('k', 9, 'y')",
                  "ROLLBACK TO tWO", "UPDATE t SET a = 9"}),
            "t~('k') a=9");
  EXPECT_EQ(
      Said({"DELETE FROM t", "SAVEPOINT x", "INSERT INTO t VALUES ('k', 9, 'y')", "ROLLBACK TO x"}),
      "t-('k')");
}

TEST_F(SqlTest, NestedSavepointsUndoWhatIsInside) {
  node_.Do("INSERT INTO t VALUES ('k', 1, 'x')");
  EXPECT_EQ(
      Said({"SAVEPOINT a", "DELETE FROM t", "SAVEPOINT b", "INSERT INTO t VALUES ('k', 2, 'x')",
            "RELEASE b", "ROLLBACK TO a", "UPDATE t SET a = 4"}),
      "t~('k') a=4");
}

// ---- Groups -------------------------------------------------------------------------------------

TEST_F(SqlTest, AFailingTransactionDoesNotDisturbTheOthersOfItsGroup) {
  const auto results =
      node_.Run({Tx({"INSERT INTO t (id) VALUES ('a')"}),
                 Tx({"INSERT INTO t (id) VALUES ('b')", "INSERT INTO t (id) VALUES ('a')"}),
                 Tx({"UPDATE t SET a = 1"}), Tx({"SELEC"}), Tx({})});
  EXPECT_EQ(Describe(results[0]->changeset), "t+('a') a=NULL b='d'");
  ASSERT_FALSE(results[1].ok());
  EXPECT_EQ(results[1].error().code, Errc::kFailedPrecondition);
  EXPECT_THAT(results[1].error().message,
              ::testing::HasSubstr("statement 2: UNIQUE constraint failed: t.id"));
  EXPECT_EQ(Describe(results[2]->changeset), "t~('a') a=1");
  EXPECT_EQ(results[3].error().code, Errc::kInvalidArgument);
  EXPECT_EQ(results[4].error().code, Errc::kInvalidArgument);
  EXPECT_EQ(results[0]->version, 1u);
  EXPECT_EQ(results[2]->version, 2u);
  EXPECT_LT(results[0]->time, results[2]->time);
  EXPECT_EQ(DescribeEffects(node_.effects, node_.store->schema()), "t('a'): none -> ('a'|1|'d')");
  EXPECT_EQ(node_.effects.first_seq, 1u);
  EXPECT_EQ(node_.effects.last_seq, 2u);
}

TEST_F(SqlTest, OrRollbackEndsItsGroupAndTheOthersCommitAllTheSame) {
  node_.Do("INSERT INTO t VALUES ('k', 1, 'x')");
  const auto results =
      node_.Run({Tx({"UPDATE t SET a = 2"}), Tx({"INSERT OR ROLLBACK INTO t (id) VALUES ('k')"}),
                 Tx({"INSERT INTO t (id) VALUES ('l')"}),
                 Tx({"INSERT OR ROLLBACK INTO t (id) VALUES ('l')"})});
  EXPECT_TRUE(results[0].ok() && results[2].ok());
  EXPECT_FALSE(results[1].ok() || results[3].ok());
  EXPECT_EQ(results[0]->version, 2u);
  EXPECT_EQ(results[2]->version, 3u);
  EXPECT_EQ(node_.store->applied().Contiguous(node_.store->actor()), 3u);
  EXPECT_EQ(node_.Log().size(), 3u);
  EXPECT_EQ(node_.Rows("SELECT id, a FROM t ORDER BY id"),
            (std::vector<std::string>{"'k'|2", "'l'|NULL"}));
}

TEST_F(SqlTest, AGroupRunsAgainWithoutWhatFailedAndTheNextOnesHaveSavepoints) {
  const auto group = [&] {
    return node_.Run(
        {Tx({"INSERT INTO t VALUES ('a', 1, 'x')"}),
         Tx({"UPDATE t SET a = a + 1 WHERE id = 'a'", "INSERT INTO t (id) VALUES ('a')"}),
         Tx({"UPDATE t SET a = a + 10 WHERE id = 'a'"}), Tx({"INSERT INTO nowhere"}),
         Tx({"DELETE FROM t WHERE a <> 11"})});
  };
  const auto check = [&](const std::vector<Result<Committed>>& results, uint64_t first_version) {
    EXPECT_TRUE(results[0].ok() && results[2].ok() && results[4].ok());
    EXPECT_FALSE(results[1].ok() || results[3].ok());
    EXPECT_EQ(results[0]->version, first_version);
    EXPECT_EQ(results[2]->version, first_version + 1);
    EXPECT_EQ(results[4]->version, 0u);  // nothing had another value
    EXPECT_EQ(node_.Rows("SELECT * FROM t"), std::vector<std::string>{"'a'|11|'x'"});
  };
  const uint64_t again = node_.store->Stats().groups_run_again;
  check(group(), 1);
  EXPECT_EQ(node_.store->Stats().groups_run_again, again + 1) << "the second error is of the rerun";
  node_.Do("DELETE FROM t");
  check(group(), 4);
  EXPECT_EQ(node_.store->Stats().groups_run_again, again + 1) << "savepoints for a while";
}

TEST_F(SqlTest, ASavepointLeftOpenIsNoneOfTheNextTransactions) {
  for (const char* reach : {"ROLLBACK TO a", "RELEASE a", "EXPLAIN RELEASE a"}) {
    const auto results = node_.Run({Tx({"SAVEPOINT a", "INSERT INTO t (id) VALUES ('x')"}),
                                    Tx({reach, "INSERT INTO t (id) VALUES ('z')"}),
                                    Tx({"INSERT INTO t (id) VALUES ('y')"})});
    EXPECT_TRUE(results[0].ok() && results[2].ok()) << reach;
    EXPECT_EQ(results[1].ok(), std::string_view(reach).starts_with("EXPLAIN")) << reach;
    node_.Do("DELETE FROM t WHERE id = 'z'");
    EXPECT_EQ(node_.Rows("SELECT id FROM t ORDER BY id"), (std::vector<std::string>{"'x'", "'y'"}));
    const auto digests = node_.Digests();
    node_.CrashAndOpen();
    EXPECT_EQ(node_.Digests(), digests);
    node_.Do("DELETE FROM t");
  }
}

TEST_F(SqlTest, ATransactionPastItsDeadlineFailsAlone) {
  node_.clock.step = std::chrono::milliseconds(50);
  node_.options.limits.transaction_deadline = std::chrono::milliseconds(500);
  node_.CloseAndOpen();
  const auto results = node_.Run({Tx({"INSERT INTO t (id) VALUES ('a')"}),
                                  Tx({"WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 "
                                      "FROM c) "
                                      "INSERT INTO n SELECT i, 1 FROM c WHERE i < 0"}),
                                  Tx({"INSERT INTO t (id) VALUES ('b')"})});
  EXPECT_TRUE(results[0].ok() && results[2].ok());
  ASSERT_FALSE(results[1].ok());
  EXPECT_EQ(results[1].error().code, Errc::kDeadlineExceeded) << results[1].error().ToString();
  EXPECT_EQ(node_.Rows("SELECT count(*) FROM t"), std::vector<std::string>{"2"});
}

TEST_F(SqlTest, TooManyRowsAreRefusedHoweverTheyAreWritten) {
  node_.options.limits.transaction_rows_max = 5;
  node_.CloseAndOpen();
  const std::string many =
      "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 6) "
      "INSERT INTO n SELECT i, 1 FROM c";
  Transaction singly;
  for (int i = 1; i <= 6; ++i)
    singly.statements.push_back({"INSERT INTO n VALUES (?, 1)", {Value::Integer(i)}, {}});
  for (const Transaction& transaction : {Tx({many}), singly}) {
    const auto result = node_.Run({transaction})[0];
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code, Errc::kResourceExhausted) << result.error().ToString();
    EXPECT_EQ(node_.Rows("SELECT count(*) FROM n"), std::vector<std::string>{"0"});
  }
  singly.statements.pop_back();
  EXPECT_TRUE(node_.Run({singly})[0].ok());
}

TEST_F(SqlTest, OversizeStatementsTransactionsAndChangesetsAreRefused) {
  node_.options.limits.statement_bytes_max = 200;
  node_.options.limits.statements_max = 3;
  node_.options.limits.changeset.bytes_max = 1000;
  node_.CloseAndOpen();
  EXPECT_EQ(node_.Try({"INSERT INTO t (id) VALUES ('" + std::string(300, 'x') + "')"}).error().code,
            Errc::kResourceExhausted);
  EXPECT_EQ(node_.Try({"SELECT 1", "SELECT 1", "SELECT 1", "SELECT 1"}).error().code,
            Errc::kResourceExhausted);
  const auto large =
      node_.TryWith("INSERT INTO t VALUES ('k', ?, 'x')", {Value::Text(std::string(2000, 'x'))});
  ASSERT_FALSE(large.ok());
  EXPECT_EQ(large.error().code, Errc::kResourceExhausted);
  EXPECT_EQ(node_.Do("INSERT INTO t (id) VALUES ('k')").version, 1u) << "versions stay contiguous";
}

TEST_F(SqlTest, AStatementTellsItsProgressAndHowLongItMayBeSilent) {
  std::vector<Duration> silences;
  node_.store->SetProgress([&](Duration silence) { silences.push_back(silence); });
  node_.clock.step = std::chrono::milliseconds(1);
  const Duration deadline = node_.options.limits.transaction_deadline;
  node_.Do(
      "WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 20000) "
      "INSERT INTO t SELECT 'k', max(i), 'x' FROM c");
  ASSERT_GT(silences.size(), 10u);
  EXPECT_EQ(silences.front(), deadline);
  EXPECT_LT(silences[9], deadline) << "until the transaction's deadline, not longer";
  EXPECT_GT(silences[9], Duration::zero());
  EXPECT_EQ(silences.back(), Duration::zero());
}

TEST_F(SqlTest, LaterWritesHaveLaterTimesAlthoughTheClockStands) {
  const Committed one = node_.Do("INSERT INTO t VALUES ('k', 1, 1)");
  node_.clock.AdvanceMs(-1000);
  const Committed two = node_.Do("UPDATE t SET a = 2");
  EXPECT_LT(one.time, two.time);
}

}  // namespace
}  // namespace patina::storage

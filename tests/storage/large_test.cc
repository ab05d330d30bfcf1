#include <algorithm>

#include "tests/storage/large_test_util.h"

// Large transactions: their rows go through a file and their changes through chunks, and all is as
// if they had been small.

namespace patina::storage {
namespace {

// ---- The same as small -------------------------------------------------------------------------

std::string Pick(Rng& rng, std::initializer_list<const char*> choices) {
  return *(choices.begin() + rng.Below(choices.size()));
}

std::string RandomSql(Rng& rng, const Schema& schema) {
  const Table& table = schema.tables[rng.Below(schema.tables.size())];
  const bool pair = table.key.size() == 2, number = table.key_is_rowid;
  const auto key = [&] {
    return number ? Pick(rng, {"1", "2", "3", "9"})
           : pair ? Pick(rng, {"'p', 1", "'p', 2", "'q', 1"})
                  : Pick(rng, {"'k1'", "'k2'", "'k3'", "'k4'"});
  };
  const auto value = [&] { return Pick(rng, {"NULL", "1", "1.0", "'x'", "'late'", "7", "3"}); };
  const std::string keys = pair ? "x, y" : "id";
  const std::string where = rng.Chance(0.3) ? "" : " WHERE (" + keys + ") = (" + key() + ")";
  const std::string column =
      table.columns.empty() ? "" : table.columns[rng.Below(table.columns.size())].name;
  const std::string insert = table.name + " (" + keys + (column.empty() ? "" : ", " + column) +
                             ") VALUES (" + key() + (column.empty() ? "" : ", " + value()) + ")";
  switch (rng.Below(8)) {
    case 0:
      return "DELETE FROM " + table.name + where;
    case 1:
      return "REPLACE INTO " + table.name + " SELECT * FROM " + table.name + where;
    case 2:
      if (pair) return "UPDATE OR REPLACE " + table.name + " SET y = 3 - y WHERE x = 'p'";
      return "UPDATE OR REPLACE " + table.name + " SET id = " + key() + where;
    case 3:
      if (table.without_rowid || number) return "INSERT OR IGNORE INTO " + insert;
      return "UPDATE OR REPLACE " + table.name + " SET rowid = " + Pick(rng, {"1", "2", "50"}) +
             where;
    case 4:
      return "REPLACE INTO " + insert;
    case 5:
      return "INSERT INTO " + insert;  // often fails
    default:
      if (column.empty()) return "INSERT OR IGNORE INTO " + insert;
      return "UPDATE OR IGNORE " + table.name + " SET " + column + " = " + value() + where;
  }
}

Transaction RandomTransaction(Rng& rng, const Schema& schema) {
  Transaction transaction;
  for (uint64_t i = 1 + rng.Below(7); i > 0; --i) {
    transaction.statements.push_back({RandomSql(rng, schema), {}, {}});
  }
  return transaction;
}

TEST_F(LargeTest, AnyTransactionSaysAndDoesTheSameWhetherLargeOrSmall) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Rng rng(seed);
    TestNode small(schema_), large(schema_), third(schema_);
    large.options.limits.large_memory_bytes = rng.Chance(0.5) ? 1 : 600;
    large.options.limits.large_chunk_bytes = rng.Chance(0.5) ? 1 : 200;
    std::string trace;
    for (TestNode* node : {&small, &large}) {
      node->options.seed = seed;
      node->CloseAndOpen();
    }
    for (int step = 0; step < 40 && !HasFailure(); ++step) {
      if (step == 15) {
        for (TestNode* node : {&small, &large, &third}) {
          node->options.schema = MustParse(kNew, kToml);
          node->options.seed = seed + 1000;
          node->CloseAndOpen();
        }
      }
      for (TestNode* node : {&small, &large, &third}) node->clock.AdvanceMs(1);
      Transaction transaction = RandomTransaction(rng, small.store->schema());
      for (const auto& statement : transaction.statements) trace += "\n" + statement.sql + ";";
      trace += "\n";
      const auto one = small.Run({transaction})[0];
      transaction.large = true;
      const auto other = large.Run({transaction})[0];
      ASSERT_EQ(one.ok(), other.ok()) << trace;
      ASSERT_EQ(small.Dump(), large.Dump()) << trace;
      ASSERT_EQ(small.Digests(), large.Digests()) << trace;
      if (!one.ok()) {
        EXPECT_EQ(one.error().ToString(), other.error().ToString());
        continue;
      }
      EXPECT_EQ(one->rows_changed, other->rows_changed);
      ASSERT_EQ(one->version, other->version) << trace;
      if (one->version == 0) continue;
      EXPECT_EQ(one->time, other->time);
      const LargeChange change = ReadLarge(large, {other->actor, other->version});
      ASSERT_EQ(Words(Describe(one->changeset)), Words(change)) << trace;
      const auto taken = TakeLarge(third, change);
      ASSERT_TRUE(taken.ok()) << taken.error().ToString();
      ASSERT_EQ(taken->state, MergeState::kApplied);
      ASSERT_EQ(third.Dump(), small.Dump()) << trace;
      ASSERT_EQ(third.Digests(), small.Digests()) << trace;
      if (rng.Chance(0.1)) {
        large.CrashAndOpen();
        third.CrashAndOpen();
        small.options.seed = large.options.seed = seed * 1000 + static_cast<uint64_t>(step);
        small.CloseAndOpen();
        large.CloseAndOpen();
        ASSERT_EQ(large.Digests(), small.Digests());
        ASSERT_EQ(third.Digests(), small.Digests());
      }
    }
  }
}

TEST_F(LargeTest, ManyRowsAreMergedAsIfTheyHadComeInSmallTransactions) {
  TestNode small(schema_), takes_small(schema_);
  small.options.seed = node_.options.seed = 7;
  node_.options.limits.large_memory_bytes = 10'000;
  node_.options.limits.large_chunk_bytes = 5'000;
  node_.CloseAndOpen();
  small.CloseAndOpen();
  const std::string fill =
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) ";
  const std::string words = fill + "INSERT INTO words SELECT 'k' || i, i, 'b' FROM n";
  const std::string pairs = fill + "INSERT INTO pairs SELECT i, 'k' || (i * 7919), i % 5 FROM n";
  const Committed large = node_.DoLarge({words, pairs});
  takes_small.Merge(small.Do({words, pairs}).changeset);
  const LargeChange change = Change(large);
  EXPECT_GT(change.chunks.size(), 20u);
  ASSERT_TRUE(TakeLarge(peer_, change).ok());
  EXPECT_TRUE(peer_.effects.rows_unknown);
  for (size_t i = 0; i < schema_.tables.size(); ++i) {
    const std::string& name = schema_.tables[i].name;
    EXPECT_EQ(peer_.effects.tables_changed[i], name == "words" || name == "pairs") << name;
  }
  EXPECT_EQ(node_.effects.tables_changed, peer_.effects.tables_changed);
  ExpectEqual(node_, peer_);
  ExpectEqual(peer_, takes_small);
  const std::string update = "UPDATE words SET a = -a WHERE a % 3 = 0";
  for (TestNode* node : {&small, &node_, &peer_, &takes_small}) node->clock.AdvanceMs(5);
  takes_small.Merge(small.Do({update, "DELETE FROM words WHERE a % 7 = 0"}).changeset);
  const Committed again = node_.DoLarge({update, "DELETE FROM words WHERE a % 7 = 0"});
  ASSERT_TRUE(TakeLarge(peer_, Change(again)).ok());
  ExpectEqual(peer_, takes_small);
  ExpectEqual(node_, peer_);
}

TEST_F(LargeTest, ItMergesWithOlderAndNewerWritesOfOthers) {
  node_.Do({"INSERT INTO words VALUES ('k1', 1, 'n'), ('k2', 1, 'n'), ('k3', 1, 'n')"});
  peer_.Merge(node_.Log()[0]);
  node_.clock.AdvanceMs(10);
  const Committed large =
      node_.DoLarge({"UPDATE words SET a = 'large'", "DELETE FROM words WHERE id = 'k2'"});
  peer_.clock.AdvanceMs(5);
  const Committed older = peer_.Do("UPDATE words SET a = 'older', b = 'older'");
  peer_.clock.AdvanceMs(15);
  const Committed newer = peer_.Do("UPDATE words SET a = 'newer' WHERE id = 'k3'");
  ASSERT_TRUE(TakeLarge(peer_, Change(large)).ok());
  node_.clock.AdvanceMs(20);
  node_.Merge({newer.changeset, older.changeset});
  EXPECT_EQ(node_.Rows("SELECT * FROM words ORDER BY id"),
            (std::vector<std::string>{"'k1'|'large'|'older'", "'k3'|'newer'|'older'"}));
  ExpectEqual(node_, peer_);
}

// ---- Limits and failures ----------------------------------------------------------------------

TEST_F(LargeTest, TooManyRowsWithoutItNameTableLimitAndFlag) {
  node_.options.limits.transaction_rows_max = 3;
  node_.options.limits.large_transaction_rows_max = 5;
  node_.CloseAndOpen();
  const std::string insert =
      "INSERT INTO words (id) SELECT value FROM json_each('[\"a\",\"b\",\"c\",\"d\"]')";
  const auto refused = node_.Try({insert});
  EXPECT_EQ(refused.error().code, Errc::kResourceExhausted);
  for (const char* word : {"more than 3 rows", "transaction_rows_max", "words", "--large"}) {
    EXPECT_NE(refused.error().message.find(word), std::string::npos) << refused.error().message;
  }
  EXPECT_EQ(node_.DoLarge({insert}).rows_changed, std::vector<int64_t>{4});
  const auto too_large = node_.TryLarge({"UPDATE words SET a = 1",
                                         "INSERT INTO numbers VALUES (1, "
                                         "1, 1), (2, 2, 2)"});
  for (const char* word : {"more than 5 rows", "large_transaction_rows_max", "numbers"}) {
    EXPECT_NE(too_large.error().message.find(word), std::string::npos) << too_large.error().message;
  }
  EXPECT_EQ(node_.Rows("SELECT count(*) FROM words WHERE a IS NULL"),
            std::vector<std::string>{"4"});
}

TEST_F(LargeTest, TooManyBytesNameTheLimit) {
  node_.options.limits.large_transaction_bytes_max = 1000;
  node_.CloseAndOpen();
  const auto refused =
      node_.TryLarge({"INSERT INTO numbers SELECT value, randomblob(300), 1 FROM "
                      "json_each('[1,2,3,4,5]')"});
  EXPECT_NE(refused.error().message.find("large_transaction_bytes_max"), std::string::npos);
  EXPECT_TRUE(node_.Dump().empty());
}

TEST_F(LargeTest, OneThatFailsLeavesNoTrace) {
  node_.Do({"INSERT INTO words VALUES ('k1', 1, 'n'), ('k2', 1, 'n')",
            "DELETE FROM words WHERE id "
            "= 'k2'"});
  const auto rows = node_.Dump();
  const auto digests = node_.Digests();
  const uint64_t last_seq = node_.store->last_seq();
  for (const char* bad :
       {"INSERT INTO words (id) VALUES ('k1')", "INSERT OR ROLLBACK INTO words (id) VALUES ('k1')",
        "INSERT OR FAIL INTO words (id) VALUES ('k7'), ('k1')", "SELECT nonsense"}) {
    EXPECT_FALSE(
        node_.TryLarge({"UPDATE words SET a = 2", "REPLACE INTO words (id) VALUES ('k2')", bad})
            .ok());
    EXPECT_EQ(node_.Dump(), rows);
    EXPECT_EQ(node_.Digests(), digests);
    EXPECT_EQ(node_.store->last_seq(), last_seq);
    EXPECT_EQ(node_.store->Stats().tombstones, 0u) << "net zero";
  }
  const Committed next = node_.Do("UPDATE words SET a = 3");
  EXPECT_EQ(next.version, 2u);
  EXPECT_EQ(node_.Rows("SELECT count(*) FROM __patina_chunk"), std::vector<std::string>{"0"});
}

TEST_F(LargeTest, ItHasNoSavepoints) {
  const auto refused = node_.TryLarge({"SAVEPOINT a", "INSERT INTO words (id) VALUES ('a')"});
  EXPECT_EQ(refused.error().code, Errc::kPermissionDenied);
  EXPECT_NE(refused.error().message.find("no savepoints"), std::string::npos);
  EXPECT_TRUE(node_.Try({"SAVEPOINT a", "INSERT INTO words (id) VALUES ('a')"}).ok());
}

TEST_F(LargeTest, ADeadlineEndsItBetweenShortStatements) {
  node_.options.limits.large_transaction_deadline = std::chrono::milliseconds(5);
  node_.CloseAndOpen();
  node_.clock.step = std::chrono::milliseconds(2);
  const auto refused = node_.TryLarge(
      {"INSERT INTO words (id) VALUES ('a')", "SELECT 1", "SELECT 2", "SELECT 3", "SELECT 4"});
  node_.clock.step = {};
  EXPECT_EQ(refused.error().code, Errc::kDeadlineExceeded);
  EXPECT_NE(refused.error().message.find("large_transaction_deadline_ms"), std::string::npos);
  EXPECT_TRUE(node_.Dump().empty());
}

TEST_F(LargeTest, WhatChangesNothingInEffectUsesNoVersion) {
  node_.Do({"INSERT INTO words VALUES ('k1', 1, 'n')", "INSERT INTO pairs VALUES (1, 'p', 1)"});
  const uint64_t last_seq = node_.store->last_seq();
  const auto digests = node_.Digests();
  EXPECT_EQ(node_
                .DoLarge({"UPDATE words SET a = 1", "INSERT INTO words VALUES ('k2', 1, 'n')",
                          "DELETE FROM words WHERE id = 'k2'",
                          "REPLACE INTO words SELECT * FROM "
                          "words"})
                .version,
            0u);
  EXPECT_EQ(node_.store->last_seq(), last_seq);
  EXPECT_EQ(node_.Digests(), digests);
  node_.CrashAndOpen();
  EXPECT_EQ(node_.Digests(), digests);
}

TEST_F(LargeTest, WhatChangesNothingDoesNotMoveTheClock) {
  node_.Do("INSERT INTO words VALUES ('k1', 1, 'n')");
  node_.clock.AdvanceMs(10'000);
  EXPECT_EQ(node_.DoLarge({"UPDATE words SET a = 1"}).version, 0u);
  node_.clock.AdvanceMs(-10'000);
  EXPECT_LT(node_.Do("UPDATE words SET a = 2").time.ms(), node_.clock.WallMs() + 10);
}

TEST_F(LargeTest, ItRunsAloneAndTheOthersOfItsGroupAfterwards) {
  Transaction first = Tx({"INSERT INTO words (id) VALUES ('a')"});
  Transaction large = Tx({"INSERT INTO words (id) VALUES ('b')"});
  large.large = true;
  EXPECT_EQ(node_.Run({first, large, first}).size(), 1u);
  EXPECT_EQ(node_.Run({large, first}).size(), 1u);
  EXPECT_TRUE(node_.effects.rows_unknown);
}

TEST_F(LargeTest, ItTellsThatItGetsOn) {
  size_t told = 0;
  uint64_t rows = 0;
  node_.store->SetProgress([&](Duration) {
    ++told;
    rows = std::max(rows, node_.store->LargeRowsSoFar());
  });
  const Committed large = node_.DoLarge(
      {"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
       "INSERT INTO numbers SELECT i, i, i FROM n"});
  EXPECT_GT(told, 5000u) << "each chunk, here each row";
  EXPECT_GT(rows, 4000u);
  EXPECT_EQ(node_.store->LargeRowsSoFar(), 0u);
  told = rows = 0;
  peer_.store->SetProgress([&](Duration) {
    ++told;
    rows = std::max(rows, peer_.store->LargeRowsSoFar());
  });
  ASSERT_TRUE(TakeLarge(peer_, Change(large)).ok());
  EXPECT_GT(told, 5000u);
  EXPECT_EQ(rows, 5000u);
  EXPECT_EQ(peer_.store->LargeRowsSoFar(), 0u);
}

}  // namespace
}  // namespace patina::storage

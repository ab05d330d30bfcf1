#include "subscribe/engine.h"

#include <gtest/gtest.h>

#include "base/log.h"
#include "tests/subscribe/test_support.h"

namespace patina::subscribe {
namespace {

constexpr char kSchema[] =
    "CREATE TABLE machines (id TEXT NOT NULL PRIMARY KEY, app TEXT, cpu INTEGER, note TEXT);"
    "CREATE TABLE regions (name TEXT NOT NULL PRIMARY KEY, full TEXT COLLATE NOCASE, at REAL);";

class EngineTest : public testing::Test {
 protected:
  EngineTest() : store(kSchema) { SetLogLevel(LogLevel::kOff); }

  void Start() {
    engine = std::make_unique<Engine>(
        limits, store.schema(), store.reader(), clock,
        [this](std::vector<bool> wanted) { store.wanted = std::move(wanted); });
  }
  void Commit(const std::vector<std::string>& statements) {
    engine->OnCommit(store.Commit(statements));
  }
  SubscriberId Subscribe(const storage::Statement& statement, Folder& folder,
                         std::optional<uint64_t> from = {}) {
    const auto id = engine->Subscribe({statement, from, false}, &folder);
    EXPECT_TRUE(id.ok()) << id.error().message;
    return id.ok() ? *id : 0;
  }
  std::string Refusal(const storage::Statement& statement) {
    Folder folder;
    const auto id = engine->Subscribe({statement, std::nullopt, false}, &folder);
    EXPECT_FALSE(id.ok()) << statement.sql;
    if (id.ok()) return "taken";
    EXPECT_EQ(id.error().code, Errc::kInvalidArgument);
    EXPECT_TRUE(folder.columns.empty());
    return id.error().message;
  }
  void Pass(Duration time) {
    clock.now += time;
    engine->Tick(clock.now);
  }

  ModelStore store;
  ManualClock clock;
  EngineLimits limits;
  std::unique_ptr<Engine> engine;
};

const storage::Statement kByApp =
    Sql("SELECT id, cpu FROM machines WHERE app = ?", {crdt::Value::Text("web")});

TEST_F(EngineTest, SnapshotThenChanges) {
  Start();
  Commit({"INSERT INTO machines VALUES ('a', 'web', 1, '')"});
  Folder folder;
  Subscribe(kByApp, folder);
  EXPECT_EQ(folder.columns, (std::vector<std::string>{"id", "cpu"}));
  EXPECT_TRUE(folder.complete);
  EXPECT_EQ(folder.position, 1u);
  EXPECT_EQ(folder.Count(EventKind::kRow), 1u);
  Commit({"UPDATE machines SET cpu = 2 WHERE id = 'a'",
          "INSERT INTO machines VALUES ('b', 'web', 1, '')"});
  Commit({"UPDATE machines SET app = 'db' WHERE id = 'a'"});
  EXPECT_EQ(folder.Count(EventKind::kUpdate), 1u);
  EXPECT_EQ(folder.Count(EventKind::kInsert), 1u);
  EXPECT_EQ(folder.Count(EventKind::kDelete), 1u);
  EXPECT_EQ(folder.position, 3u);
  EXPECT_EQ(folder.Rows(), Answer(store.reader(), kByApp));
}

/// As many steps as the largest cpu says.
const storage::Statement kCounting =
    Sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < "
        "(SELECT max(cpu) FROM machines)) SELECT count(*) FROM n");

TEST_F(EngineTest, ARunOverTheDeadlineEndsThatSubscriptionAndNamesTheLimit) {
  limits.query_deadline = std::chrono::milliseconds(20);
  limits.rerun_interval_min = Duration(0);
  Start();
  Commit({"INSERT INTO machines VALUES ('a', 'web', 1, '')"});
  Folder endless, other;
  Subscribe(kCounting, endless);
  Subscribe(kByApp, other);
  Commit({"UPDATE machines SET cpu = 1000000000000 WHERE id = 'a'"});
  EXPECT_NE(endless.last_error.find("20 ms (limits.subscription_query_deadline_ms)"),
            std::string::npos)
      << endless.last_error;
  EXPECT_EQ(other.last_error, "");
  EXPECT_EQ(other.Count(EventKind::kUpdate), 1u);
  EXPECT_EQ(engine->Stats().queries, 1u);
  Folder again;
  const auto refused = engine->Subscribe({kCounting, std::nullopt, false}, &again);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::kDeadlineExceeded);
  EXPECT_EQ(refused.error().message, endless.last_error);
}

TEST_F(EngineTest, WhenCancelledAnEndlessQueryIsNotWaitedFor) {
  const std::atomic<bool> cancelled = true;
  limits.query_deadline = std::chrono::hours(1);
  engine = std::make_unique<Engine>(
      limits, store.schema(), store.reader(), clock, [](const std::vector<bool>&) {}, &cancelled);
  Commit({"INSERT INTO machines VALUES ('a', 'web', 1000000000000, '')"});
  Folder folder;
  const auto refused = engine->Subscribe({kCounting, std::nullopt, false}, &folder);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::kUnavailable);
}

TEST_F(EngineTest, AChangeOfAColumnNotAskedForSaysNothing) {
  Start();
  Commit({"INSERT INTO machines VALUES ('a', 'web', 1, '')"});
  Folder rows, count;
  Subscribe(kByApp, rows);
  Subscribe(Sql("SELECT app, count(*) FROM machines GROUP BY app"), count);
  Pass(std::chrono::milliseconds(10));
  Commit({"UPDATE machines SET note = 'x'"});
  EXPECT_TRUE(rows.changes.empty());
  EXPECT_EQ(engine->Stats().reruns, 0u);
  Commit({"UPDATE machines SET app = 'db'"});
  EXPECT_EQ(engine->Stats().reruns, 1u);
  EXPECT_EQ(count.changes.size(), 2u);
}

TEST_F(EngineTest, RowsKeepTheirIds) {
  Start();
  Commit({"INSERT INTO machines VALUES ('a', 'web', 1, ''), ('b', 'web', 1, '')"});
  Folder first, second, sorted;
  const SubscriberId id = Subscribe(kByApp, first);
  Subscribe(Sql("SELECT cpu FROM machines ORDER BY cpu LIMIT 5"), sorted);
  const auto before = first.rows;
  Commit({"UPDATE machines SET cpu = 7 WHERE id = 'a'"});
  ASSERT_EQ(first.changes.size(), 1u);
  EXPECT_TRUE(before.contains(first.changes[0].row_id));
  // Forgotten and asked anew: the same ids.
  engine->Unsubscribe(id);
  Pass(std::chrono::minutes(2));
  EXPECT_EQ(engine->Stats().queries, 1u);
  Subscribe(kByApp, second);
  EXPECT_EQ(second.rows, first.rows);
}

TEST_F(EngineTest, SameQueryIsEvaluatedOnce) {
  Start();
  Folder one, two, other;
  Subscribe(kByApp, one);
  storage::Statement spaced = kByApp;
  spaced.sql = "\n " + kByApp.sql + " ;\n";
  Subscribe(spaced, two);
  EXPECT_EQ(engine->Stats().queries, 1u);
  Subscribe(Sql(kByApp.sql, {crdt::Value::Text("db")}), other);
  EXPECT_EQ(engine->Stats().queries, 2u);
  Commit({"INSERT INTO machines VALUES ('a', 'web', 1, '')"});
  EXPECT_EQ(engine->Stats().incremental_matches, 1u);
  EXPECT_EQ(one.rows, two.rows);
  EXPECT_EQ(one.rows.size(), 1u);
  EXPECT_TRUE(other.changes.empty());
}

TEST_F(EngineTest, LateSubscriberGetsWhatTheFirstHas) {
  Start();
  for (const std::string sql : {"SELECT id, cpu FROM machines WHERE cpu > 0",
                                "SELECT cpu, count(*) FROM machines GROUP BY cpu"}) {
    Folder first, late;
    const SubscriberId first_id = Subscribe(Sql(sql), first);
    for (int i = 0; i < 20; ++i) {
      Pass(std::chrono::milliseconds(10));
      Commit({StrCat("INSERT OR REPLACE INTO machines VALUES ('m", i % 7, "', 'web', ", i % 3,
                     ", '')")});
    }
    const SubscriberId late_id = Subscribe(Sql(sql), late);
    EXPECT_EQ(late.rows, first.rows);
    EXPECT_TRUE(late.complete);
    EXPECT_EQ(late.position, store.last_seq());
    Pass(std::chrono::milliseconds(10));
    Commit({"DELETE FROM machines WHERE cpu = 1"});
    EXPECT_EQ(late.rows, first.rows);
    engine->Unsubscribe(first_id);
    engine->Unsubscribe(late_id);
  }
}

TEST_F(EngineTest, NothingComesAfterUnsubscribe) {
  Start();
  Folder folder;
  const SubscriberId id = Subscribe(kByApp, folder);
  engine->Unsubscribe(id);
  engine->Unsubscribe(id);
  Commit({"INSERT INTO machines VALUES ('a', 'web', 1, '')"});
  Pass(std::chrono::seconds(2));
  EXPECT_TRUE(folder.changes.empty());
  EXPECT_EQ(folder.Count(EventKind::kHeartbeat), 0u);
}

TEST_F(EngineTest, ResumingAnywhereEqualsNeverHavingStopped) {
  Start();
  limits.rerun_interval_min = Duration(0);
  const storage::Statement grouped = Sql("SELECT app, sum(cpu) FROM machines GROUP BY app");
  for (const auto& statement : {kByApp, grouped}) {
    Start();
    Folder always;
    Subscribe(statement, always);  // Start() ends it before the folder goes
    std::map<uint64_t, std::map<uint64_t, std::string>> states{{store.last_seq(), always.rows}};
    for (int i = 0; i < 40; ++i) {
      Pass(std::chrono::milliseconds(1));
      Commit({StrCat("INSERT OR REPLACE INTO machines VALUES ('m", i % 5, "', '",
                     i % 3 == 0 ? "db" : "web", "', ", i % 4, ", '')")});
      states[store.last_seq()] = always.rows;
    }
    for (const auto& [number, rows] : states) {
      Folder resumed;
      resumed.rows = rows;
      resumed.complete = true;
      Subscribe(statement, resumed, number);
      EXPECT_EQ(resumed.last_reset, "");
      EXPECT_EQ(resumed.Count(EventKind::kRow), 0u);
      EXPECT_EQ(resumed.rows, always.rows) << "from " << number;
      EXPECT_EQ(resumed.position, store.last_seq());
    }
    EXPECT_EQ(engine->Stats().resets, 0u);
  }
}

TEST_F(EngineTest, ResetWhenHistoryDoesNotReachBack) {
  limits.history_bytes_max = 2'000;
  Start();
  Commit({"INSERT INTO machines VALUES ('a', 'web', 1, '')"});
  Folder new_query, always, late, future;
  Subscribe(kByApp, new_query, 0);
  EXPECT_NE(new_query.last_reset.find("not kept"), std::string::npos) << new_query.last_reset;
  Subscribe(kByApp, always);
  EXPECT_EQ(new_query.rows, always.rows);
  for (int i = 0; i < 100; ++i) Commit({StrCat("UPDATE machines SET cpu = ", 100 + i)});
  Subscribe(kByApp, late, 2);
  EXPECT_NE(late.last_reset.find("kept from"), std::string::npos) << late.last_reset;
  EXPECT_EQ(late.rows, always.rows);
  Subscribe(kByApp, future, 1'000'000);
  EXPECT_NE(future.last_reset.find("another history"), std::string::npos) << future.last_reset;
  EXPECT_EQ(future.rows, always.rows);
  EXPECT_EQ(engine->Stats().resets, 3u);
}

TEST_F(EngineTest, SkippedSnapshotGivesChangesOnly) {
  Start();
  Commit({"INSERT INTO machines VALUES ('a', 'web', 1, '')"});
  Folder folder;
  ASSERT_TRUE(engine->Subscribe({kByApp, std::nullopt, true}, &folder).ok());
  EXPECT_TRUE(folder.rows.empty());
  EXPECT_TRUE(folder.complete);
  Commit({"INSERT INTO machines VALUES ('b', 'web', 1, '')"});
  EXPECT_EQ(folder.rows.size(), 1u);
}

TEST_F(EngineTest, TenThousandEqualitySubscriptionsCostOnlyWhatMatches) {
  Start();
  std::vector<std::unique_ptr<Folder>> folders;
  for (int i = 0; i < 10'000; ++i) {
    folders.push_back(std::make_unique<Folder>());
    Subscribe(Sql("SELECT id FROM machines WHERE app = ?", {crdt::Value::Text(StrCat("app", i))}),
              *folders.back());
  }
  Commit({"INSERT INTO machines VALUES ('a', 'app77', 1, '')"});
  Commit({"UPDATE machines SET app = 'app78'"});
  EXPECT_EQ(engine->Stats().incremental_matches, 3u);
  EXPECT_TRUE(folders[77]->rows.empty());
  EXPECT_EQ(folders[78]->rows.size(), 1u);
}

TEST_F(EngineTest, ReplicatedTransferIsReadAnew) {
  Start();
  Folder folder;
  Subscribe(kByApp, folder);
  Pass(std::chrono::milliseconds(10));
  auto effects = store.Commit({"INSERT INTO machines VALUES ('a', 'web', 1, '')"});
  effects.rows.clear();
  effects.rows_unknown = true;
  engine->OnCommit(effects);
  EXPECT_EQ(folder.Rows(), Answer(store.reader(), kByApp));
  Commit({"UPDATE machines SET cpu = 9"});
  EXPECT_EQ(folder.Count(EventKind::kUpdate), 1u);
}

TEST_F(EngineTest, RerunsAreRateLimitedAndComeWithTime) {
  limits.rerun_interval_min = std::chrono::milliseconds(50);
  Start();
  Folder folder;
  Subscribe(Sql("SELECT count(*) FROM machines"), folder);
  Pass(std::chrono::milliseconds(60));
  for (int i = 0; i < 10; ++i) {
    Commit({StrCat("INSERT INTO machines VALUES ('m", i, "', 'web', 1, '')")});
  }
  EXPECT_EQ(engine->Stats().reruns, 1u);
  EXPECT_LE(engine->NextDeadline(), clock.now + std::chrono::milliseconds(50));
  Pass(std::chrono::milliseconds(50));
  EXPECT_EQ(engine->Stats().reruns, 2u);
  EXPECT_EQ(folder.Rows(), Answer(store.reader(), Sql("SELECT count(*) FROM machines")));
  EXPECT_EQ(folder.position, store.last_seq());
}

TEST_F(EngineTest, HeartbeatSaysWhatIsDealtWith) {
  Start();
  Folder folder;
  Subscribe(kByApp, folder);
  Commit({"INSERT INTO machines VALUES ('a', 'other', 1, '')"});
  EXPECT_EQ(folder.position, 0u);
  Pass(std::chrono::seconds(1));
  EXPECT_EQ(folder.position, 1u);
}

TEST_F(EngineTest, TooManyRowsEndTheQuery) {
  limits.result_rows_max = 3;
  Start();
  Folder rows, joined;
  Subscribe(kByApp, rows);
  Subscribe(Sql("SELECT DISTINCT id FROM machines"), joined);
  for (int i = 0; i < 5; ++i) {
    Pass(std::chrono::milliseconds(10));
    Commit({StrCat("INSERT INTO machines VALUES ('m", i, "', 'web', 1, '')")});
  }
  EXPECT_NE(rows.last_error.find("3 rows"), std::string::npos) << rows.last_error;
  EXPECT_NE(joined.last_error.find("3 rows"), std::string::npos) << joined.last_error;
  EXPECT_EQ(engine->Stats().queries, 0u);
  EXPECT_EQ(engine->Stats().subscribers, 0u);
}

TEST_F(EngineTest, EvaluationErrorEndsTheQueryAlone) {
  Start();
  Folder bad, good;
  Subscribe(Sql("SELECT abs(cpu) FROM machines"), bad);
  Subscribe(kByApp, good);
  Pass(std::chrono::milliseconds(10));
  Commit({"INSERT INTO machines VALUES ('a', 'web', -9223372036854775808, '')"});
  EXPECT_NE(bad.last_error.find("overflow"), std::string::npos) << bad.last_error;
  EXPECT_EQ(good.rows.size(), 1u);
}

TEST_F(EngineTest, LimitsOnQueriesAndSubscribers) {
  limits.subscriptions_max = 1;
  limits.subscribers_max = 2;
  Start();
  Folder folder;
  Subscribe(kByApp, folder);
  const auto query = engine->Subscribe({Sql("SELECT id FROM machines"), {}, false}, &folder);
  ASSERT_FALSE(query.ok());
  EXPECT_EQ(query.error().code, Errc::kResourceExhausted);
  Folder second;
  Subscribe(kByApp, second);
  const auto third = engine->Subscribe({kByApp, {}, false}, &folder);
  ASSERT_FALSE(third.ok());
  EXPECT_EQ(third.error().code, Errc::kResourceExhausted);
}

TEST_F(EngineTest, RefusesWhatCannotBeKeptUpToDate) {
  Start();
  const auto says = [](const std::string& message, const char* part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  for (const char* sql :
       {"SELECT random()", "SELECT hex(randomblob(4)) FROM machines", "SELECT current_timestamp",
        "SELECT id, CURRENT_DATE FROM machines", "SELECT changes()", "SELECT last_insert_rowid()",
        "SELECT total_changes()"}) {
    says(Refusal(Sql(sql)), "changes without a change of a table");
  }
  for (const char* sql : {"SELECT datetime('now')", "SELECT date()", "SELECT strftime('%s')",
                          "SELECT id FROM machines WHERE cpu > unixepoch ( 'NOW' , '-1 hour')",
                          "SELECT time(), datetime(cpu) FROM machines", "SELECT julianday()"}) {
    says(Refusal(Sql(sql)), "of the present time");
  }
  says(Refusal(Sql("SELECT date(?)", {crdt::Value::Text("now")})), "of the present time");
  says(Refusal(Sql("SELECT * FROM __patina_log")), "__patina_log: it is not a replicated table");
  says(Refusal(Sql("SELECT count(*) FROM __patina_log")), "__patina_log");
  says(Refusal(Sql("SELECT name FROM sqlite_schema")), "not a replicated table");
  Refusal(Sql("SELECT name FROM pragma_table_info('machines')"));
  says(Refusal(Sql("EXPLAIN SELECT * FROM machines")), "not a SELECT");
  Refusal(Sql("INSERT INTO machines VALUES ('a', 'b', 1, '')"));
  Refusal(Sql("SELECT * FROM nowhere"));
  Refusal(Sql("SELECT * FROM machines WHERE id = ?"));
  Refusal(Sql("SELECT 1", {crdt::Value::Integer(1)}));
  Refusal(Sql("SELECT 1; SELECT 2"));
  Refusal(Sql(""));
  EXPECT_EQ(engine->Stats().queries, 0u);
}

TEST_F(EngineTest, TakesDatesOfStoredTimesAndNamedParameters) {
  Start();
  Folder dates, named, constant;
  Subscribe(Sql("SELECT datetime(cpu, 'unixepoch') FROM machines"), dates);
  storage::Statement statement{"SELECT id FROM machines WHERE app = :app", {}, {}};
  statement.named.emplace_back(":app", crdt::Value::Text("web"));
  Subscribe(statement, named);
  Subscribe(Sql("SELECT 1"), constant);
  Commit({"INSERT INTO machines VALUES ('a', 'web', 0, '[1, 2]')"});
  EXPECT_EQ(dates.rows.size(), 1u);
  EXPECT_EQ(named.rows.size(), 1u);
  EXPECT_EQ(constant.rows.size(), 1u);
}

TEST_F(EngineTest, JoinRowsAreKnownByTheirKeys) {
  limits.rerun_interval_min = Duration(0);
  Start();
  Commit({"INSERT INTO machines VALUES ('a', 'web', 1, '')",
          "INSERT INTO regions VALUES ('web', 'W', 0.0)"});
  Folder folder;
  Subscribe(Sql("SELECT m.cpu, r.full FROM machines m LEFT JOIN regions r ON r.name = m.app"),
            folder);
  Commit({"UPDATE machines SET cpu = 2"});
  EXPECT_EQ(folder.Count(EventKind::kUpdate), 1u);
  EXPECT_EQ(folder.changes.size(), 1u);
  Commit({"DELETE FROM regions"});  // the null side comes
  EXPECT_EQ(folder.Count(EventKind::kDelete), 1u);
  EXPECT_EQ(folder.Count(EventKind::kInsert), 1u);
  EXPECT_EQ(folder.rows.size(), 1u);
}

}  // namespace
}  // namespace patina::subscribe

#include "storage/store.h"

#include <gtest/gtest.h>

#include "base/check.h"
#include "base/log.h"
#include "base/random.h"
#include "tests/subscribe/test_support.h"

// The engine behind the real store: its effects, its readers, changes of peers.

namespace patina::subscribe {
namespace {

constexpr char kSchema[] =
    "CREATE TABLE machines (id TEXT NOT NULL PRIMARY KEY, app TEXT, cpu INTEGER, load REAL);"
    "CREATE TABLE places (zone INTEGER NOT NULL, name TEXT NOT NULL, app TEXT, "
    "PRIMARY KEY (name, zone)) WITHOUT ROWID;";

/// One node: a store, a reader, an engine and some who listen.
class Node {
 public:
  Node(const Clock& clock, uint64_t seed) {
    storage::StoreOptions options;
    options.path = folder_.File("node.db");
    auto schema = storage::ParseSchema(kSchema);
    CHECK(schema.ok());
    options.schema = *schema;
    options.node_name = StrCat("node", seed);
    options.clock = &clock;
    options.seed = seed;
    auto opened = storage::Store::Open(std::move(options));
    CHECK_MSG(opened.ok(), opened.error().message);
    store = std::move(*opened);
    auto reader_or = storage::Reader::Open(folder_.File("node.db"));
    CHECK_MSG(reader_or.ok(), reader_or.error().message);
    reader = std::move(*reader_or);
    EngineLimits limits;
    limits.rerun_interval_min = Duration(0);
    engine = std::make_unique<Engine>(
        limits, store->schema(), *reader, clock,
        [this](std::vector<bool> wanted) { store->SetEffectTables(std::move(wanted)); });
  }

  void Listen(const storage::Statement& statement) {
    queries.push_back({statement, std::make_unique<Folder>()});
    const auto id = engine->Subscribe({statement, {}, false}, queries.back().second.get());
    ASSERT_TRUE(id.ok()) << id.error().message;
  }

  /// The changeset of the transaction, if it had an effect.
  storage::SharedBytes Execute(std::vector<std::string> statements) {
    storage::Transaction transaction;
    for (auto& sql : statements) transaction.statements.push_back({std::move(sql), {}, {}});
    storage::CommitEffects effects;
    const auto done = store->Execute({&transaction, 1}, &effects);
    engine->OnCommit(effects);
    if (!done[0].ok()) return nullptr;
    return done[0]->changeset;
  }

  void Merge(const std::vector<storage::SharedBytes>& changesets) {
    storage::CommitEffects effects;
    const auto outcome = store->Merge(changesets, &effects);
    ASSERT_TRUE(outcome.ok()) << outcome.error().message;
    engine->OnCommit(effects);
  }

  void Apply(const std::string& sql, const std::string& toml = {}) {
    const auto schema = storage::ParseSchema(sql, "new.sql", toml);
    ASSERT_TRUE(schema.ok()) << schema.error().message;
    storage::CommitEffects effects;
    const auto outcome = store->ApplySchema(*schema, true, &effects);
    ASSERT_TRUE(outcome.ok()) << outcome.error().message;
    engine->OnCommit(effects);
  }

  void Compare() {
    for (const auto& [statement, folder] : queries) {
      EXPECT_EQ(folder->last_error, "");
      const auto want = Answer(*reader, statement);
      EXPECT_EQ(folder->Rows(), want)
          << statement.sql << "\nhave " << Show(folder->Rows()) << "\nwant " << Show(want);
    }
  }

  std::unique_ptr<storage::Store> store;
  std::unique_ptr<storage::Reader> reader;
  std::unique_ptr<Engine> engine;
  std::vector<std::pair<storage::Statement, std::unique_ptr<Folder>>> queries;

 private:
  test::TemporaryFolder folder_;
};

std::string RandomWrite(Rng& rng) {
  static constexpr const char* kApps[] = {"'web'", "'db'", "NULL", "'WEB'"};
  const std::string app = kApps[rng.Below(4)];
  const std::string id = StrCat("'m", rng.Below(6), "'");
  const uint64_t number = rng.Below(4);
  switch (rng.Below(8)) {
    case 0:
      return StrCat("DELETE FROM machines WHERE id = ", id);
    case 1:
      return StrCat("UPDATE machines SET cpu = ", number, " WHERE app = ", app);
    case 2:
      return StrCat("UPDATE machines SET load = ", number, " WHERE id = ", id);
    case 3:
      return StrCat("DELETE FROM places WHERE zone = ", number);
    case 4:
      return StrCat("INSERT OR REPLACE INTO places VALUES (", number, ", ", id, ", ", app, ")");
    case 5:
      return StrCat("UPDATE machines SET id = ", id, " WHERE cpu = ", number);
    default:
      return StrCat("INSERT OR REPLACE INTO machines VALUES (", id, ", ", app, ", ", number,
                    ", 0.5)");
  }
}

TEST(SubscribeStoreTest, FollowsLocalWritesAndMerges) {
  SetLogLevel(LogLevel::kOff);
  for (uint64_t seed = 1; seed <= 8 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(StrCat("seed ", seed));
    Rng rng(seed);
    ManualClock clock;
    clock.now += std::chrono::hours(24 * 365 * 50);
    Node a(clock, 2 * seed), b(clock, 2 * seed + 1);
    for (Node* node : {&a, &b}) {
      node->Listen(Sql("SELECT id, cpu FROM machines WHERE app = ?", {crdt::Value::Text("web")}));
      node->Listen(Sql("SELECT * FROM machines WHERE cpu = 2 AND app LIKE 'w%'"));
      node->Listen(Sql("SELECT app, count(*), sum(load) FROM machines GROUP BY app"));
      node->Listen(Sql("SELECT m.id, p.zone FROM machines m LEFT JOIN places p ON p.name = m.id"));
      node->Listen(Sql("SELECT zone FROM places"));
      node->Listen(Sql("SELECT id FROM machines WHERE id IN (SELECT name FROM places)"));
    }
    std::vector<storage::SharedBytes> on_the_way;
    for (int step = 0; step < 60 && !testing::Test::HasFailure(); ++step) {
      clock.now += std::chrono::milliseconds(rng.Below(3));
      std::vector<std::string> statements;
      for (uint64_t i = rng.Below(3); i < 3; ++i) statements.push_back(RandomWrite(rng));
      if (auto bytes = a.Execute(std::move(statements))) on_the_way.push_back(std::move(bytes));
      if (rng.Chance(0.5)) (void)b.Execute({RandomWrite(rng)});
      if (rng.Chance(0.4)) {
        rng.Shuffle(on_the_way);
        b.Merge(on_the_way);
        on_the_way.clear();
      }
      a.Compare();
      b.Compare();
    }
  }
}

TEST(SubscribeStoreTest, AnotherSchemaEndsRestartsOrKeepsEachQuery) {
  ManualClock clock;
  clock.now += std::chrono::hours(24 * 365 * 50);
  Node node(clock, 1);
  (void)node.Execute({"INSERT INTO machines VALUES ('m1', 'web', 1, 0.5), ('m2', 'db', 2, 1)",
                      "INSERT INTO places VALUES (1, 'm1', 'web')"});
  node.Listen(Sql("SELECT load FROM machines"));                  // 0: its column goes
  node.Listen(Sql("SELECT * FROM machines"));                     // 1: has other columns
  node.Listen(Sql("SELECT id FROM machines WHERE app = 'web'"));  // 2, 3: go on
  node.Listen(Sql("SELECT count(*) FROM machines"));
  node.Listen(Sql("SELECT zone FROM places"));  // 4: its table goes
  node.Apply(
      "CREATE TABLE also (id TEXT NOT NULL PRIMARY KEY);"
      "CREATE TABLE machines (id TEXT NOT NULL PRIMARY KEY, app TEXT, cpu INTEGER, new TEXT)",
      "dropped_tables = [\"places\"]\n[machines]\ndropped = [\"load\"]");
  EXPECT_EQ(node.queries[0].second->last_error, "the schema was changed: no such column: load");
  EXPECT_EQ(node.queries[4].second->last_error, "the schema was changed: no such table: places");
  EXPECT_EQ(node.queries[1].second->last_reset,
            "the schema was changed: the answer has other columns");
  EXPECT_EQ(node.queries[1].second->columns, (std::vector<std::string>{"id", "app", "cpu", "new"}));
  EXPECT_EQ(node.queries[2].second->Count(EventKind::kReset), 0u);
  EXPECT_EQ(node.queries[3].second->Count(EventKind::kReset), 0u);
  node.queries.erase(node.queries.begin() + 4);
  node.queries.erase(node.queries.begin());
  node.Compare();
  (void)node.Execute({"INSERT INTO machines VALUES ('m3', 'web', 3, 'n')",
                      "DELETE FROM machines WHERE id = 'm1'"});
  clock.now += std::chrono::seconds(1);
  node.engine->Tick(clock.now);
  node.Compare();
}

}  // namespace
}  // namespace patina::subscribe

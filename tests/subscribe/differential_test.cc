#include <gtest/gtest.h>

#include <array>
#include <deque>

#include "base/log.h"
#include "base/random.h"
#include "tests/subscribe/test_support.h"
#include "tests/support/environment.h"

// Random schemas, rows, queries and histories: folding a subscriber's events gives, after every
// commit, what the query answers when it is run anew.

namespace patina::subscribe {
namespace {

struct RandomTable {
  std::string name;
  std::vector<std::string> keys, columns;
};

/// Writes SQL. Small domains, so that rows meet.
class SqlWriter {
 public:
  explicit SqlWriter(Rng& rng) : rng_(rng) {
    const size_t count = 2 + rng_.Below(2);
    for (size_t i = 0; i < count; ++i) AddTable(i);
  }

  const std::string& schema() const { return schema_; }

  std::string Write() {
    const RandomTable& table = tables_[rng_.Below(tables_.size())];
    switch (rng_.Below(6)) {
      case 0:
        return StrCat("DELETE FROM ", table.name, " WHERE ", Condition(table, "", 1));
      case 1:
      case 2:
        if (table.columns.empty()) return Insert(table);
        return StrCat("UPDATE ", table.name, " SET ", Pick(table.columns), " = ", Literal(),
                      " WHERE ", Condition(table, "", 1));
      case 3:
        return StrCat("UPDATE OR IGNORE ", table.name, " SET ", Pick(table.keys), " = ", Literal(),
                      " WHERE ", Condition(table, "", 1));
      default:
        return Insert(table);
    }
  }

  storage::Statement Query() {
    parameters_.clear();
    std::string sql = QuerySql();
    return {std::move(sql), parameters_, {}};
  }

 private:
  void AddTable(size_t number) {
    static constexpr std::array kTypes = {"TEXT", "INTEGER", "REAL", "BLOB", "NUMERIC", "BOOLEAN"};
    RandomTable table{StrCat("T", number), {}, {}};
    std::string sql = StrCat("CREATE TABLE ", table.name, " (");
    const bool single_integer = rng_.Chance(0.2);
    const size_t keys = single_integer ? 1 : 1 + rng_.Below(2);
    for (size_t i = 0; i < keys; ++i) {
      table.keys.push_back(StrCat("k", i));
      const bool integer = single_integer || rng_.Chance(0.5);
      sql += StrCat(table.keys.back(), integer ? " INTEGER" : " TEXT", " NOT NULL, ");
    }
    const size_t columns = 1 + rng_.Below(4);
    for (size_t i = 0; i < columns; ++i) {
      table.columns.push_back(StrCat("c", i));
      sql += StrCat(table.columns.back(), " ", kTypes[rng_.Below(kTypes.size())],
                    rng_.Chance(0.1) ? " COLLATE NOCASE, " : ", ");
    }
    sql += "PRIMARY KEY (" + table.keys.front();
    for (size_t i = 1; i < keys; ++i) sql += ", " + table.keys[i];
    sql += rng_.Chance(0.3) ? ")) WITHOUT ROWID;\n" : "));\n";
    schema_ += sql;
    tables_.push_back(std::move(table));
  }

  const std::string& Pick(const std::vector<std::string>& names) {
    return names[rng_.Below(names.size())];
  }
  std::string AnyColumn(const RandomTable& table) {
    return rng_.Chance(0.4) || table.columns.empty() ? Pick(table.keys) : Pick(table.columns);
  }

  std::string Literal() {
    static constexpr std::array kLiterals = {"NULL", "0",   "1",     "2",   "3",   "-1",
                                             "1.0",  "0.5", "'a'",   "'b'", "'A'", "'ab'",
                                             "''",   "'1'", "x'61'", "1e3"};
    return kLiterals[rng_.Below(kLiterals.size())];
  }
  crdt::Value ParameterValue() {
    switch (rng_.Below(6)) {
      case 0:
        return crdt::Value::Null();
      case 1:
        return crdt::Value::Real(1.0);
      case 2:
        return crdt::Value::Text(rng_.Chance(0.5) ? "a" : "A");
      case 3:
        return crdt::Value::Text(rng_.Chance(0.5) ? "b" : "1");
      default:
        return crdt::Value::Integer(rng_.Between(0, 3));
    }
  }
  std::string LiteralOrParameter(bool parameters) {
    if (!parameters || rng_.Chance(0.6)) return Literal();
    parameters_.push_back(ParameterValue());
    return "?";
  }

  std::string Insert(const RandomTable& table) {
    std::string sql = StrCat("INSERT OR REPLACE INTO ", table.name, " VALUES (");
    for (size_t i = 0; i < table.keys.size() + table.columns.size(); ++i) {
      sql += StrCat(i == 0 ? "" : ", ", Literal());
    }
    return sql + ")";
  }

  std::string Expression(const RandomTable& table, const std::string& prefix) {
    const std::string column = prefix + AnyColumn(table);
    switch (rng_.Below(9)) {
      case 0:
        return StrCat(column, " || 'x'");
      case 1:
        return StrCat("coalesce(", column, ", ", Literal(), ")");
      case 2:
        return StrCat("CASE WHEN ", Condition(table, prefix, 0), " THEN 1 ELSE ", column, " END");
      case 3:
        return StrCat("typeof(", column, ")");
      case 4:
        return StrCat(column, " + 1 AS plus");
      case 5:
        return StrCat("length(", column, ")");
      default:
        return column;
    }
  }

  std::string Equality(const RandomTable& table, const std::string& prefix) {
    return StrCat(prefix, AnyColumn(table),
                  rng_.Chance(0.8) ? " = " : " == ", LiteralOrParameter(in_query_));
  }

  std::string Condition(const RandomTable& table, const std::string& prefix, int depth) {
    const std::string column = prefix + AnyColumn(table);
    const auto other = [&] { return LiteralOrParameter(in_query_); };
    switch (rng_.Below(depth > 0 ? 15 : 10)) {
      case 0:
        return StrCat(column, " IS ", rng_.Chance(0.5) ? "NULL" : "NOT NULL");
      case 1:
        return StrCat(column, " LIKE ", rng_.Chance(0.5) ? "'a%'" : "'%B'");
      case 2: {
        std::string sql = StrCat(column, rng_.Chance(0.3) ? " NOT IN (" : " IN (", other());
        return StrCat(sql, ", ", other(), ")");
      }
      case 3: {
        std::string sql = StrCat(column, " BETWEEN ", other());
        return StrCat(sql, " AND ", other());
      }
      case 4:
        return StrCat(column, rng_.Chance(0.5) ? " < " : " >= ", other());
      case 5:
        return StrCat(column, " <> ", other());
      case 6:
        return StrCat(column, " = ", prefix, AnyColumn(table));
      case 7:
        return StrCat(column, " = ", other(), " COLLATE NOCASE");
      case 8:
      case 9:
        return Equality(table, prefix);
      case 10:
        return StrCat("NOT ", Condition(table, prefix, depth - 1));
      case 11:
        return StrCat("(", Both(table, prefix, depth, " OR "), ")");
      case 12:
        return Both(table, prefix, depth, " OR ");
      default:
        return Both(table, prefix, depth, " AND ");
    }
  }
  std::string Both(const RandomTable& table, const std::string& prefix, int depth,
                   const char* between) {
    std::string left = Condition(table, prefix, depth - 1);
    return StrCat(left, between, Condition(table, prefix, depth - 1));
  }

  /// Parameters must be written in order, hence one step at a time.
  std::string SingleTable(const RandomTable& table, const std::string& list) {
    std::string alias = rng_.Chance(0.3) ? "x" : "";
    const std::string prefix = alias.empty() ? "" : rng_.Chance(0.5) ? "x." : "";
    std::string sql = StrCat("SELECT ", list.empty() ? Expression(table, prefix) : list);
    if (list.empty() && rng_.Chance(0.5)) sql += ", " + Expression(table, prefix);
    sql += StrCat(rng_.Chance(0.1) ? "\n-- FROM nowhere\nFROM " : " FROM ",
                  rng_.Chance(0.1) ? "main." : "", table.name,
                  alias.empty()      ? ""
                  : rng_.Chance(0.5) ? " AS x"
                                     : " x");
    if (rng_.Chance(0.4)) {
      sql += " WHERE " + Equality(table, prefix);
      return sql + Rest(table, prefix);
    }
    if (rng_.Chance(0.9)) return StrCat(sql, " WHERE ", Condition(table, prefix, 2));
    return sql;
  }
  std::string Rest(const RandomTable& table, const std::string& prefix) {
    if (rng_.Chance(0.5)) return "";
    return (rng_.Chance(0.7) ? " AND " : " OR ") + Condition(table, prefix, 1);
  }

  std::string Join(const RandomTable& a, const RandomTable& b) {
    static constexpr std::array kJoins = {" JOIN ", " LEFT JOIN ", " CROSS JOIN ", " RIGHT JOIN ",
                                          " FULL OUTER JOIN "};
    std::string sql =
        rng_.Chance(0.3) ? "SELECT *" : "SELECT x." + AnyColumn(a) + ", " + Expression(b, "y.");
    if (rng_.Chance(0.2)) {
      sql += StrCat(" FROM ", a.name, " x, ", b.name, " AS y");
    } else {
      sql += StrCat(" FROM ", a.name, " x", kJoins[rng_.Below(kJoins.size())], b.name, " y ON x.",
                    AnyColumn(a), " = y.", AnyColumn(b));
    }
    return rng_.Chance(0.5) ? sql + " WHERE " + Condition(a, "x.", 1) : sql;
  }

  std::string QuerySql() {
    in_query_ = true;
    const RandomTable& a = tables_[rng_.Below(tables_.size())];
    const RandomTable& b = tables_[rng_.Below(tables_.size())];
    switch (rng_.Below(20)) {
      case 0:
        return Join(a, b);
      case 1:
        return Join(a, b);
      case 2:
        return SingleTable(a, "count(*), max(" + AnyColumn(a) + ")");
      case 3:
        return StrCat("SELECT ", a.keys[0], ", count(*) FROM ", a.name, " GROUP BY 1");
      case 4:
        return SingleTable(a, "DISTINCT " + AnyColumn(a));
      case 5:
        return SingleTable(a, "*") + " ORDER BY 1";
      case 6:
        return StrCat("SELECT * FROM ", a.name, " ORDER BY ", AnyColumn(a), ", ", a.keys[0], ", ",
                      a.keys.back(), " LIMIT 2");
      case 7: {
        std::string left = SingleTable(a, AnyColumn(a));
        return StrCat(left, rng_.Chance(0.5) ? " UNION " : " UNION ALL ",
                      SingleTable(b, AnyColumn(b)));
      }
      case 8:
        return StrCat("SELECT * FROM ", a.name, " WHERE ", AnyColumn(a), " IN (SELECT ",
                      AnyColumn(b), " FROM ", b.name, ")");
      case 9:
        return StrCat("SELECT k0 FROM ", a.name, " AS o WHERE EXISTS (SELECT 1 FROM ", b.name,
                      " WHERE k0 = o.", AnyColumn(a), ")");
      case 10:
        return StrCat("WITH c AS (SELECT ", AnyColumn(a), " FROM ", a.name,
                      ") SELECT count(*) FROM c");
      case 11:
        return StrCat("SELECT (SELECT count(*) FROM ", a.name, ")");
      case 12:
        return SingleTable(a, "*") + " ; ";
      default:
        return SingleTable(a, "");
    }
  }

  Rng& rng_;
  bool in_query_ = false;
  std::string schema_;
  std::vector<RandomTable> tables_;
  std::vector<crdt::Value> parameters_;
};

struct Live {
  storage::Statement statement;
  std::unique_ptr<Folder> folder = std::make_unique<Folder>();
  SubscriberId id = 0;
};

class Differential {
 public:
  explicit Differential(uint64_t seed) : rng_(seed), writer_(rng_), store_(writer_.schema()) {
    EngineLimits limits;
    limits.rerun_interval_min = Duration(0);
    engine_ = std::make_unique<Engine>(
        limits, store_.schema(), store_.reader(), clock_,
        [this](std::vector<bool> wanted) { store_.wanted = std::move(wanted); });
  }

  void Run() {
    for (int i = 0; i < 6; ++i) Commit();
    for (int i = 0; i < 12; ++i) Subscribe();
    for (int step = 0; step < 25 && !testing::Test::HasFailure(); ++step) {
      Commit();
      if (rng_.Chance(0.2)) Subscribe();
      if (rng_.Chance(0.1)) Reconnect();
      if (rng_.Chance(0.3)) continue;  // the engine lags behind the store
      Drain();
      Compare();
    }
    Drain();
    Compare();
  }

  static uint64_t incremental_matches, reruns, refused;

 private:
  void Commit() {
    std::vector<std::string> statements;
    for (uint64_t i = rng_.Below(4); i < 4; ++i) statements.push_back(writer_.Write());
    auto effects = store_.Commit(statements, 1 + rng_.Below(3));
    if (rng_.Chance(0.1)) {
      effects.rows.clear();
      effects.rows_unknown = true;
    }
    queue_.push_back(std::move(effects));
  }

  void Drain() {
    for (; !queue_.empty(); queue_.pop_front()) engine_->OnCommit(queue_.front());
    clock_.now += std::chrono::milliseconds(300);
    engine_->Tick(clock_.now);
  }

  void Subscribe() {
    Live live;
    live.statement = writer_.Query();
    const auto id = engine_->Subscribe({live.statement, std::nullopt, false}, live.folder.get());
    if (!id.ok()) {
      ++refused;
      // Ambiguous names and the like; whatever SQLite runs must be taken.
      EXPECT_FALSE(Runs(live.statement)) << live.statement.sql << ": " << id.error().message;
      return;
    }
    live.id = *id;
    lives_.push_back(std::move(live));
  }

  bool Runs(const storage::Statement& statement) {
    class Nothing final : public storage::RowSink {
      bool OnColumns(const std::vector<std::string>&) override { return true; }
      bool OnRow(const std::vector<crdt::ValueView>&) override { return true; }
    } nothing;
    return store_.reader().Query(statement, {}, nothing).ok();
  }

  /// Leaves, misses something, and resumes with what it has.
  void Reconnect() {
    if (lives_.empty()) return;
    Live& live = lives_[rng_.Below(lives_.size())];
    if (!live.folder->last_error.empty()) return;
    engine_->Unsubscribe(live.id);
    Commit();
    if (rng_.Chance(0.5)) Drain();
    const auto id =
        engine_->Subscribe({live.statement, live.folder->position, false}, live.folder.get());
    ASSERT_TRUE(id.ok()) << id.error().message;
    live.id = *id;
  }

  void Compare() {
    for (const Live& live : lives_) {
      if (!live.folder->last_error.empty()) {
        EXPECT_FALSE(Runs(live.statement)) << live.folder->last_error;
        continue;
      }
      if (!Runs(live.statement)) continue;
      const auto want = Answer(store_.reader(), live.statement);
      const auto have = live.folder->Rows();
      ASSERT_EQ(have, want) << writer_.schema() << live.statement.sql << "\nhave " << Show(have)
                            << "\nwant " << Show(want);
    }
    incremental_matches += engine_->Stats().incremental_matches;
    reruns += engine_->Stats().reruns;
  }

  Rng rng_;
  SqlWriter writer_;
  ModelStore store_;
  ManualClock clock_;
  std::unique_ptr<Engine> engine_;
  std::deque<storage::CommitEffects> queue_;
  std::vector<Live> lives_;
};

uint64_t Differential::incremental_matches = 0;
uint64_t Differential::reruns = 0;
uint64_t Differential::refused = 0;

TEST(DifferentialTest, FoldedEventsAreWhatTheQueryAnswersAnew) {
  SetLogLevel(LogLevel::kOff);
  const test::SeedRange seeds("PATINA_MODEL", 200);
  for (uint64_t seed = seeds.first; seed < seeds.end && !HasFailure(); ++seed) {
    SCOPED_TRACE(StrCat("seed ", seed));
    Differential(seed).Run();
  }
  EXPECT_GT(Differential::incremental_matches, 0u);
  EXPECT_GT(Differential::reruns, 0u);
  RecordProperty("incremental_matches", std::to_string(Differential::incremental_matches));
  RecordProperty("reruns", std::to_string(Differential::reruns));
  RecordProperty("refused", std::to_string(Differential::refused));
}

}  // namespace
}  // namespace patina::subscribe

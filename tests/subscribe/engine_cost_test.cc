#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>

#include "base/log.h"
#include "tests/subscribe/test_support.h"

// What a change costs the engine. Not run with the others: --gtest_also_run_disabled_tests
// --gtest_filter='*EngineCost*'.

namespace patina::subscribe {
namespace {

class Ignore final : public Subscriber {
 public:
  void OnEvents(EventBatch batch) override { events += batch->size(); }
  size_t events = 0;
};

class EngineCostTest : public testing::Test {
 protected:
  EngineCostTest()
      : store(
            "CREATE TABLE machines (id TEXT NOT NULL PRIMARY KEY, app TEXT, region TEXT, "
            "state TEXT, cpu INTEGER, seen INTEGER, note TEXT);") {
    engine = std::make_unique<Engine>(EngineLimits{}, store.schema(), store.reader(), clock,
                                      [this](std::vector<bool> wanted) { store.wanted = wanted; });
    store.Commit({"INSERT INTO machines VALUES ('m', 'app0', 'fra', 'started', 1, 1, 'hello')"});
  }

  void Subscribe(const std::string& sql, size_t copies, bool by_app) {
    for (size_t i = 0; i < copies; ++i) {
      subscribers.push_back(std::make_unique<Ignore>());
      std::vector<crdt::Value> values;
      values.push_back(by_app ? crdt::Value::Text(StrCat("app", i))
                              : crdt::Value::Integer(-static_cast<int64_t>(i)));
      ASSERT_TRUE(engine->Subscribe({Sql(sql, values), {}, false}, subscribers.back().get()).ok());
    }
  }

  /// Microseconds for each commit of one changed row of app0.
  double Measure(int commits) {
    auto effects = store.Commit({"UPDATE machines SET seen = seen + 1"});
    const auto row = [](int64_t seen) {
      return crdt::PackValues(std::vector<crdt::Value>{
          crdt::Value::Text("m"), crdt::Value::Text("app0"), crdt::Value::Text("fra"),
          crdt::Value::Text("started"), crdt::Value::Integer(1), crdt::Value::Integer(seen),
          crdt::Value::Text("hello")});
    };
    engine->OnCommit(effects);
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < commits; ++i) {
      effects.first_seq = effects.last_seq = effects.last_seq + 1;
      effects.rows[0].before = row(i + 2);
      effects.rows[0].after = row(i + 3);
      engine->OnCommit(effects);
    }
    const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
    return time.count() / commits;
  }

  ModelStore store;
  ManualClock clock;
  std::unique_ptr<Engine> engine;
  std::vector<std::unique_ptr<Ignore>> subscribers;
};

// Disabled: it measures, for a person to read; it cannot fail.
TEST_F(EngineCostTest, DISABLED_TenThousandByEqualityOneMatches) {
  Subscribe("SELECT id, state, seen FROM machines WHERE app = ?", 10'000, true);
  std::printf("10,000 subscriptions app = ?, one matches: %.2f us per change\n", Measure(20'000));
}

// Disabled: it measures, for a person to read; it cannot fail.
TEST_F(EngineCostTest, DISABLED_ManyMatch) {
  Subscribe("SELECT id, state, seen FROM machines WHERE cpu > ?", 1'000, false);
  std::printf("1,000 subscriptions cpu > ?, all match: %.2f us per (change, subscription)\n",
              Measure(500) / 1'000);
}

// Disabled: it measures, for a person to read; it cannot fail.
TEST_F(EngineCostTest, DISABLED_NoneMatches) {
  Subscribe("SELECT id, state, seen FROM machines WHERE region = 'lhr' AND app = ?", 10'000, true);
  Subscribe("SELECT id FROM machines WHERE app = 'other' AND cpu = ?", 1, false);
  std::printf("app matches one, region does not: %.2f us per change\n", Measure(20'000));
}

// Disabled: it measures, for a person to read; it cannot fail.
TEST_F(EngineCostTest, DISABLED_AggregateThatDoesNotReadTheColumn) {
  Subscribe("SELECT app, count(*) FROM machines WHERE cpu > ? GROUP BY app", 1'000, false);
  std::printf("1,000 aggregates over other columns: %.2f us per change\n", Measure(20'000));
}

}  // namespace
}  // namespace patina::subscribe

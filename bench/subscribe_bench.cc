#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "storage/reader.h"
#include "storage/schema.h"
#include "storage/store.h"
#include "subscribe/engine.h"

// usage: subscribe_bench FOLDER CHANGES RUNS
//
// What a commit of one changed row costs the engine of live queries, beside many of them. Prints
// one JSON object per line and run: what was measured, the unit, and the figure. It fails when the
// subscribers are not told what they must be.

namespace patina::bench {
namespace {

namespace fs = std::filesystem;
using crdt::Value;

constexpr char kSchema[] =
    "CREATE TABLE machines (id TEXT NOT NULL PRIMARY KEY, app TEXT, region TEXT, state TEXT, "
    "cpu INTEGER, seen INTEGER, note TEXT);";

/// One case: so many live queries of this SQL, and how many of them each change is an update of.
struct Case {
  std::string figure, unit;
  const char* sql;
  size_t subscriptions = 0;
  /// Of the query with this number, from 0.
  std::function<Value(size_t)> parameter;
  size_t updates_per_change = 0;
  /// Of the CHANGES asked for.
  size_t changes_divisor = 1;
};

class CountUpdates final : public subscribe::Subscriber {
 public:
  explicit CountUpdates(size_t* updates) : updates_(*updates) {}
  void OnEvents(subscribe::EventBatch batch) override {
    for (const subscribe::Event& event : *batch) {
      CHECK_MSG(event.kind != subscribe::EventKind::kError, event.reason);
      if (event.kind == subscribe::EventKind::kUpdate) ++updates_;
    }
  }

 private:
  size_t& updates_;
};

template <class T>
T Must(Result<T> result) {
  CHECK_MSG(result.ok(), result.error().message);
  return *std::move(result);
}

/// A table of one row and the engine over it. Nothing is written while it is measured: the engine
/// is told what the store told it of one update, with other numbers.
class Bench {
 public:
  /// The folder is made anew.
  explicit Bench(const fs::path& folder) {
    fs::remove_all(folder);
    fs::create_directories(folder);
    storage::StoreOptions options;
    options.path = folder / "node.db";
    options.schema = Must(storage::ParseSchema(kSchema));
    options.clock = &clock_;
    store_ = Must(storage::Store::Open(std::move(options)));
    reader_ = Must(storage::Reader::Open((folder / "node.db").string()));
    engine_ = std::make_unique<subscribe::Engine>(
        subscribe::EngineLimits(), store_->schema(), *reader_, clock_,
        [this](std::vector<bool> wanted) { store_->SetEffectTables(std::move(wanted)); });
    Execute("INSERT INTO machines VALUES ('m', 'app0', 'fra', 'started', 1, 0, 'hello')");
  }

  void Subscribe(const Case& one) {
    subscribers_.reserve(one.subscriptions);
    for (size_t i = 0; i < one.subscriptions; ++i) {
      subscribers_.push_back(std::make_unique<CountUpdates>(&updates_));
      const storage::Statement statement = {one.sql, {one.parameter(i)}, {}};
      Must(engine_->Subscribe({statement, {}, false}, subscribers_.back().get()));
    }
  }

  /// Microseconds per change of the column `seen`.
  double Measure(size_t changes, size_t updates_per_change) {
    storage::CommitEffects effects = Execute("UPDATE machines SET seen = 1");
    CHECK(effects.rows.size() == 1);
    updates_ = 0;
    const Instant start = clock_.Now();
    for (size_t i = 0; i < changes; ++i) {
      effects.first_seq = effects.last_seq = effects.last_seq + 1;
      effects.rows[0].seq = effects.last_seq;
      effects.rows[0].before = Row(i + 1);
      effects.rows[0].after = Row(i + 2);
      engine_->OnCommit(effects);
    }
    const std::chrono::duration<double, std::micro> time = clock_.Now() - start;
    CHECK(updates_ == changes * updates_per_change);
    return time.count() / static_cast<double>(changes);
  }

 private:
  storage::CommitEffects Execute(const char* sql) {
    storage::Transaction transaction;
    transaction.statements.push_back({sql, {}, {}});
    storage::CommitEffects effects;
    Must(store_->Execute({&transaction, 1}, &effects).at(0));
    engine_->OnCommit(effects);
    return effects;
  }
  static std::string Row(size_t seen) {
    return crdt::PackValues(std::vector<Value>{
        Value::Text("m"), Value::Text("app0"), Value::Text("fra"), Value::Text("started"),
        Value::Integer(1), Value::Integer(static_cast<int64_t>(seen)), Value::Text("hello")});
  }

  const SystemClock clock_;
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<storage::Reader> reader_;
  std::unique_ptr<subscribe::Engine> engine_;
  std::vector<std::unique_ptr<CountUpdates>> subscribers_;
  size_t updates_ = 0;
};

std::vector<Case> Cases() {
  const auto app = [](size_t i) { return Value::Text("app" + std::to_string(i)); };
  const auto below = [](size_t i) { return Value::Integer(-static_cast<int64_t>(i)); };
  return {
      {"10,000 queries app = ?, one matches", "us/change",
       "SELECT id, state, seen FROM machines WHERE app = ?", 10'000, app, 1, 1},
      {"10,000 queries region = 'lhr' AND app = ?, none matches", "us/change",
       "SELECT id, state, seen FROM machines WHERE region = 'lhr' AND app = ?", 10'000, app, 0, 1},
      {"1,000 queries cpu > ?, all match", "us/(change, query)",
       "SELECT id, state, seen FROM machines WHERE cpu > ?", 1'000, below, 1'000, 40},
      {"1,000 aggregates that do not read the column", "us/change",
       "SELECT app, count(*) FROM machines WHERE cpu > ? GROUP BY app", 1'000, below, 0, 1},
  };
}

void Run(const fs::path& folder, size_t changes, size_t runs) {
  for (size_t run = 0; run < runs; ++run) {
    for (const Case& one : Cases()) {
      Bench bench(folder / "engine");
      bench.Subscribe(one);
      const size_t per_run = std::max<size_t>(changes / one.changes_divisor, 1);
      const double us = bench.Measure(per_run, one.updates_per_change);
      const auto queries = static_cast<double>(std::max<size_t>(one.updates_per_change, 1));
      std::cout << "{\"figure\": \"" << one.figure << "\", \"unit\": \"" << one.unit
                << "\", \"value\": " << us / queries << "}" << std::endl;
    }
  }
}

}  // namespace
}  // namespace patina::bench

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: subscribe_bench FOLDER CHANGES RUNS\n";
    return 2;
  }
  patina::SetLogLevel(patina::LogLevel::kWarning);
  patina::bench::Run(argv[1], std::stoul(argv[2]), std::stoul(argv[3]));
  return 0;
}

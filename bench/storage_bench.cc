#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "bench/plain.h"
#include "storage/schema.h"
#include "storage/store.h"

// usage: storage_bench SCHEMA.sql FOLDER ROWS PAIRS
//
// Patina's storage beside plain SQLite doing the same work, in pairs that take turns in who goes
// first. Prints one JSON object per line: what was measured, the unit, and both sides' figures pair
// by pair.

namespace patina::bench {
namespace {

namespace fs = std::filesystem;
using crdt::Value;

const char* const kInsert =
    "INSERT INTO machines (id, app, host, region, address, state, memory_mib, updated_ms) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const char* const kUpsert =
    "INSERT INTO machines (id, app, host, region, address, state, memory_mib, updated_ms) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO UPDATE SET app = excluded.app, "
    "host = excluded.host, region = excluded.region, address = excluded.address, "
    "state = excluded.state, memory_mib = excluded.memory_mib, updated_ms = excluded.updated_ms";
const char* const kUpdate =
    "UPDATE machines SET state = ?2, memory_mib = ?3, updated_ms = ?4 WHERE id = ?1";
const char* const kUpsertThree =
    "INSERT INTO machines (id, state, memory_mib, updated_ms) VALUES (?1, ?2, ?3, ?4) ON CONFLICT "
    "(id) DO UPDATE SET state = excluded.state, memory_mib = excluded.memory_mib, "
    "updated_ms = excluded.updated_ms";
const char* const kHeartbeat = "UPDATE machines SET updated_ms = ?2 WHERE id = ?1";
const char* const kUpsertOne =
    "INSERT INTO machines (id, updated_ms) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET "
    "updated_ms = excluded.updated_ms";

using Row = std::vector<Value>;
/// Rows of one transaction, all for one statement.
using Batch = std::vector<Row>;

struct Settings {
  std::string schema_sql;
  storage::Schema schema;
  fs::path folder;
  size_t rows = 100'000, pairs = 5;
};

std::string MachineId(size_t number) { return "machine-" + std::to_string(number); }

Row MachineRow(size_t number) {
  const std::string host = std::to_string(number % 997);
  return {Value::Text(MachineId(number)),
          Value::Text("app-" + std::to_string(number % 5003)),
          Value::Text("host-" + host),
          Value::Text(number % 2 == 0 ? "ams" : "fra"),
          Value::Text("fdaa:0:" + host + ":a7b:1:" + std::to_string(number % 65521) + "::2"),
          Value::Text("started"),
          Value::Integer(static_cast<int64_t>(256 << (number % 4))),
          Value::Integer(1'795'000'000'000 + static_cast<int64_t>(number))};
}

std::vector<Batch> MachineBatches(size_t rows, size_t per_batch) {
  std::vector<Batch> batches((rows + per_batch - 1) / per_batch);
  for (size_t i = 0; i < rows; ++i) batches[i / per_batch].push_back(MachineRow(i));
  return batches;
}

/// New values for random machines; `columns` of them after the key: 3 or 1.
std::vector<Batch> UpdateBatches(Rng& random, const Settings& settings, size_t rows,
                                 size_t per_batch, size_t columns) {
  static int64_t tick = 0;
  std::vector<Batch> batches((rows + per_batch - 1) / per_batch);
  for (size_t i = 0; i < rows; ++i) {
    Row row = {Value::Text(MachineId(random.Below(settings.rows)))};
    if (columns == 3) {
      row.push_back(Value::Text(tick % 2 == 0 ? "stopped" : "suspended"));
      row.push_back(Value::Integer(static_cast<int64_t>(random.Below(1 << 20))));
    }
    row.push_back(Value::Integer(1'796'000'000'000 + ++tick));
    batches[i / per_batch].push_back(std::move(row));
  }
  return batches;
}

/// A store in a folder of its own.
class PatinaSide {
 public:
  PatinaSide(const Settings& settings, const std::string& name) : settings_(settings) {
    folder_ = settings.folder / ("patina-" + name);
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    Open(name);
  }
  ~PatinaSide() {
    if (store_ != nullptr) Close();
    fs::remove_all(folder_);
  }
  PatinaSide(const PatinaSide&) = delete;
  PatinaSide& operator=(const PatinaSide&) = delete;

  /// Runs each batch as one transaction and commit; returns the changesets.
  std::vector<storage::SharedBytes> Execute(const char* sql, const std::vector<Batch>& batches) {
    std::vector<storage::SharedBytes> changesets;
    for (const Batch& batch : batches) {
      storage::Transaction transaction;
      for (const Row& row : batch) transaction.statements.push_back({sql, row, {}});
      storage::CommitEffects effects;
      auto results = store_->Execute(std::span(&transaction, 1), &effects);
      CHECK_MSG(results[0].ok(), results[0].ok() ? "" : results[0].error().message);
      changesets.push_back(results[0]->changeset);
      Behind();
    }
    return changesets;
  }

  /// per_commit changesets at a time.
  void Merge(std::span<const storage::SharedBytes> changesets, size_t per_commit) {
    while (!changesets.empty()) {
      const size_t count = std::min(per_commit, changesets.size());
      storage::CommitEffects effects;
      const auto outcomes = store_->Merge(changesets.first(count), &effects);
      CHECK_MSG(outcomes.ok(), outcomes.ok() ? "" : outcomes.error().message);
      for (const storage::MergeOutcome& outcome : *outcomes) {
        CHECK_MSG(outcome.state == storage::MergeState::kApplied, outcome.reason);
      }
      changesets = changesets.subspan(count);
      Behind();
    }
  }

  void Checkpoint() { CHECK(store_->Checkpoint().ok()); }
  void Close() {
    CHECK(store_->Close().ok());
    store_.reset();
  }

  uint64_t Bytes() const {
    uint64_t bytes = 0;
    for (const auto& entry : fs::directory_iterator(folder_)) bytes += entry.file_size();
    return bytes;
  }

 private:
  void Open(const std::string& name) {
    storage::StoreOptions options;
    options.path = folder_ / "patina.db";
    options.schema = settings_.schema;
    options.node_name = name;
    options.clock = &clock_;
    auto store = storage::Store::Open(std::move(options));
    CHECK_MSG(store.ok(), store.ok() ? "" : store.error().message);
    store_ = *std::move(store);
  }

  /// What an agent's writer does between two commits.
  void Behind() { CHECK(store_->CheckpointIfDue().ok()); }

  const Settings& settings_;
  const SystemClock clock_;
  fs::path folder_;
  std::unique_ptr<storage::Store> store_;
};

class PlainSide {
 public:
  PlainSide(const Settings& settings, const std::string& name) {
    folder_ = settings.folder / ("plain-" + name);
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    db_ = std::make_unique<PlainDatabase>(folder_ / "plain.db", settings.schema_sql,
                                          storage::StoreLimits().page_cache_kib);
  }
  ~PlainSide() {
    Close();
    fs::remove_all(folder_);
  }
  PlainSide(const PlainSide&) = delete;
  PlainSide& operator=(const PlainSide&) = delete;

  void Execute(const char* sql, const std::vector<Batch>& batches) {
    const std::string text = sql;
    for (const Batch& batch : batches) {
      db_->Begin();
      for (const Row& row : batch) db_->Run(text, row);
      db_->Commit();
    }
  }

  void Close() { db_.reset(); }

  uint64_t Bytes() const {
    uint64_t bytes = 0;
    for (const auto& entry : fs::directory_iterator(folder_)) bytes += entry.file_size();
    return bytes;
  }

 private:
  fs::path folder_;
  std::unique_ptr<PlainDatabase> db_;
};

double RowsPerSecond(size_t rows, const std::function<void()>& work) {
  const SystemClock clock;
  const Instant start = clock.Now();
  work();
  return static_cast<double>(rows) / std::chrono::duration<double>(clock.Now() - start).count();
}

std::string JsonList(const std::vector<double>& values) {
  std::string text = "[";
  for (double value : values) text += (text.size() > 1 ? ", " : "") + std::to_string(value);
  return text + "]";
}

struct Figures {
  std::vector<double> plain, patina;

  void Print(const std::string& figure, const std::string& unit) const {
    std::cout << "{\"figure\": \"" << figure << "\", \"unit\": \"" << unit
              << "\", \"plain\": " << JsonList(plain) << ", \"patina\": " << JsonList(patina) << "}"
              << std::endl;
  }
};

/// Runs both sides `pairs` times, each going first every other time.
Figures Pairs(size_t pairs, const std::function<double()>& plain,
              const std::function<double()>& patina) {
  Figures figures;
  for (size_t pair = 0; pair < pairs; ++pair) {
    if (pair % 2 == 0) figures.plain.push_back(plain());
    figures.patina.push_back(patina());
    if (pair % 2 == 1) figures.plain.push_back(plain());
  }
  return figures;
}

std::string PerTransaction(size_t rows) {
  return rows == 1 ? "1 row per transaction" : std::to_string(rows) + " rows per transaction";
}

/// Enough rows that a run takes some tenths of a second.
size_t RowsFor(const Settings& settings, size_t per_batch) {
  const size_t rows = per_batch == 1 ? 5'000 : per_batch == 100 ? 30'000 : 50'000;
  return std::max(per_batch, std::min(rows, settings.rows));
}

void MeasureInserts(const Settings& settings) {
  for (const size_t per_batch : {1, 100, 1'000}) {
    const auto batches = MachineBatches(RowsFor(settings, per_batch), per_batch);
    const size_t rows = RowsFor(settings, per_batch);
    Pairs(
        settings.pairs,
        [&] {
          PlainSide side(settings, "insert");
          return RowsPerSecond(rows, [&] { side.Execute(kInsert, batches); });
        },
        [&] {
          PatinaSide side(settings, "insert");
          return RowsPerSecond(rows, [&] { side.Execute(kInsert, batches); });
        })
        .Print("local insert, " + PerTransaction(per_batch), "rows/s");
  }
}

/// Updates and heartbeats on tables that hold all machines.
void MeasureUpdates(const Settings& settings, PlainSide& plain, PatinaSide& patina) {
  Rng random(1);
  const auto measure = [&](const char* sql, size_t per_batch, size_t columns,
                           const std::string& figure) {
    const size_t rows = RowsFor(settings, per_batch);
    Pairs(
        settings.pairs,
        [&] {
          const auto batches = UpdateBatches(random, settings, rows, per_batch, columns);
          return RowsPerSecond(rows, [&] { plain.Execute(sql, batches); });
        },
        [&] {
          const auto batches = UpdateBatches(random, settings, rows, per_batch, columns);
          return RowsPerSecond(rows, [&] { patina.Execute(sql, batches); });
        })
        .Print(figure, "rows/s");
  };
  for (const size_t per_batch : {1, 100, 1'000}) {
    measure(kUpdate, per_batch, 3, "local update of 3 columns, " + PerTransaction(per_batch));
  }
  measure(kHeartbeat, 20, 1, "local heartbeat of 1 column, " + PerTransaction(20));
}

void MeasureMergeIntoEmpty(const Settings& settings,
                           const std::vector<storage::SharedBytes>& changesets,
                           const std::vector<Batch>& batches) {
  Pairs(
      settings.pairs,
      [&] {
        PlainSide side(settings, "merge");
        return RowsPerSecond(settings.rows, [&] { side.Execute(kUpsert, batches); });
      },
      [&] {
        PatinaSide side(settings, "merge");
        return RowsPerSecond(settings.rows, [&] { side.Merge(changesets, 1); });
      })
      .Print("merge into an empty table, 1000 rows per commit", "rows/s");
}

/// source writes, receiver merges; the plain twin upserts the same rows, as many per commit.
void MeasureMergeIntoFilled(const Settings& settings, PatinaSide& source, PatinaSide& receiver,
                            PlainSide& plain) {
  Rng random(2);
  const size_t rows = RowsFor(settings, 1'000);
  const auto measure = [&](size_t per_changeset, size_t columns, const std::string& figure) {
    const char* const update = columns == 3 ? kUpdate : kHeartbeat;
    const char* const upsert = columns == 3 ? kUpsertThree : kUpsertOne;
    Pairs(
        settings.pairs,
        [&] {
          const auto batches = UpdateBatches(random, settings, rows, 1'000, columns);
          return RowsPerSecond(rows, [&] { plain.Execute(upsert, batches); });
        },
        [&] {
          const auto changesets =
              source.Execute(update, UpdateBatches(random, settings, rows, per_changeset, columns));
          return RowsPerSecond(rows, [&] { receiver.Merge(changesets, 1'000 / per_changeset); });
        })
        .Print(figure, "rows/s");
  };
  measure(1'000, 3, "merge of 3 columns into a filled table, 1000 rows per commit");
  measure(20, 3, "merge of 3 columns, changesets of 20 rows, 1000 rows per commit");
  measure(20, 1, "merge of 1-column heartbeats, changesets of 20 rows, 1000 rows per commit");
}

void MeasureDisk(const Settings& settings, const std::vector<storage::SharedBytes>& changesets,
                 const std::vector<Batch>& batches) {
  PlainSide plain(settings, "disk");
  plain.Execute(kInsert, batches);
  plain.Close();
  const auto rows = static_cast<double>(settings.rows);
  const double plain_bytes = static_cast<double>(plain.Bytes()) / rows;
  const auto bytes_after = [&](const std::function<void(PatinaSide&)>& work) {
    PatinaSide side(settings, "disk");
    work(side);
    side.Close();
    return static_cast<double>(side.Bytes()) / rows;
  };
  const Figures written{{plain_bytes},
                        {bytes_after([&](PatinaSide& side) { side.Execute(kInsert, batches); })}};
  written.Print("disk at the writer, log included", "bytes/row");
  const Figures merged{{plain_bytes},
                       {bytes_after([&](PatinaSide& side) { side.Merge(changesets, 1); })}};
  merged.Print("disk at a receiver, log included", "bytes/row");
}

void Run(const Settings& settings) {
  MeasureInserts(settings);
  const auto batches = MachineBatches(settings.rows, 1'000);
  PatinaSide source(settings, "source");
  PatinaSide receiver(settings, "receiver");
  PlainSide plain(settings, "filled");
  const auto changesets = source.Execute(kInsert, batches);
  receiver.Merge(changesets, 1);
  plain.Execute(kInsert, batches);
  MeasureMergeIntoEmpty(settings, changesets, batches);
  MeasureMergeIntoFilled(settings, source, receiver, plain);
  MeasureUpdates(settings, plain, source);
  MeasureDisk(settings, changesets, batches);
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  CHECK_MSG(in.good(), path);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

}  // namespace
}  // namespace patina::bench

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: storage_bench SCHEMA.sql FOLDER ROWS PAIRS\n";
    return 2;
  }
  patina::SetLogLevel(patina::LogLevel::kWarning);  // every run declares its tables anew
  patina::bench::Settings settings;
  settings.schema_sql = patina::bench::ReadFile(argv[1]);
  auto schema = patina::storage::ParseSchema(settings.schema_sql, argv[1]);
  if (!schema.ok()) {
    std::cerr << schema.error().ToString() << "\n";
    return 1;
  }
  settings.schema = *std::move(schema);
  settings.folder = argv[2];
  settings.rows = std::stoul(argv[3]);
  settings.pairs = std::stoul(argv[4]);
  patina::bench::Run(settings);
  return 0;
}

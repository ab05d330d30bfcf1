#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "base/random.h"
#include "bench/sides.h"
#include "storage/backup.h"
#include "storage/reader.h"
#include "storage/snapshot_chunks.h"

// usage: storage_bench SCHEMA.sql FOLDER ROWS MANY_ROWS PAIRS [WORD]
//
// Patina's storage beside plain SQLite doing the same work, in pairs that take turns in who goes
// first. Prints one JSON object per line: what was measured, the unit, and both sides' figures pair
// by pair. With a WORD only the figures whose group has that name: insert, update, merge, many,
// disk.

namespace patina::bench {
namespace {

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

std::string Rows(size_t rows) {
  return rows >= 1'000'000 ? std::to_string(rows / 1'000'000) + "M rows"
                           : std::to_string(rows / 1'000) + "k rows";
}

std::string PerTransaction(size_t rows) {
  return rows == 1 ? "1 row per transaction" : std::to_string(rows) + " rows per transaction";
}

/// Enough rows that a run takes some tenths of a second.
size_t RowsFor(const Settings& settings, size_t per_batch) {
  const size_t rows = per_batch == 1 ? 6'400 : per_batch < 1'000 ? 30'000 : 50'000;
  return std::max(per_batch, std::min(rows, settings.rows));
}

void MeasureInserts(const Settings& settings) {
  const auto measure = [&](size_t per_batch, size_t per_commit, const std::string& figure) {
    const size_t rows = RowsFor(settings, per_batch);
    const auto batches = MachineBatches(rows, per_batch);
    Pairs(
        settings.pairs,
        [&] {
          PlainSide side(settings, "insert");
          return RowsPerSecond(rows, [&] { side.Execute(kInsert, batches); });
        },
        [&] {
          PatinaSide side(settings, "insert");
          return RowsPerSecond(rows, [&] { side.Execute(kInsert, batches, per_commit); });
        })
        .Print(figure, "rows/s");
  };
  for (const size_t per_batch : {1, 1'000, 10'000}) {
    measure(per_batch, 1, "local insert into an empty table, " + PerTransaction(per_batch));
  }
  measure(1, 16,
          "local insert into an empty table, 1 row per transaction, 16 transactions per commit");
}

/// Both sides hold all machines already.
void MeasureUpdates(const Settings& settings, PlainSide& plain, PatinaSide& patina) {
  Rng random(1);
  const auto measure = [&](size_t per_batch, size_t columns, size_t per_commit,
                           const std::string& figure) {
    const char* const sql = columns == 3 ? kUpdate : kHeartbeat;
    const size_t rows = RowsFor(settings, per_batch);
    const auto batches = [&] {
      return UpdateBatches(random, settings.rows, rows, per_batch, columns);
    };
    Pairs(
        settings.pairs,
        [&] {
          const auto work = batches();
          return RowsPerSecond(rows, [&] { plain.Execute(sql, work); });
        },
        [&] {
          const auto work = batches();
          return RowsPerSecond(rows, [&] { patina.Execute(sql, work, per_commit); });
        })
        .Print(figure, "rows/s");
  };
  const std::string of = " among " + Rows(settings.rows) + ", ";
  for (const size_t per_batch : {1, 1'000, 10'000}) {
    measure(per_batch, 3, 1, "local update of 3 columns" + of + PerTransaction(per_batch));
  }
  measure(1, 3, 16,
          "local update of 3 columns" + of + "1 row per transaction, 16 transactions per commit");
  measure(1, 1, 1, "local update of 1 column" + of + PerTransaction(1));
}

void MeasureMergeIntoEmpty(const Settings& settings, size_t per_batch) {
  const auto batches = MachineBatches(settings.rows, per_batch);
  PatinaSide source(settings, "source-" + std::to_string(per_batch));
  const auto changesets = source.Execute(kInsert, batches);
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
      .Print("merge of inserts into an empty table, " + PerTransaction(per_batch), "rows/s");
}

/// source writes, receiver merges, each changeset in a commit of its own; the plain twin does the
/// same UPDATEs.
void MeasureMergeOfUpdates(const Settings& settings, size_t machines, size_t per_batch,
                           size_t columns, PatinaSide& source, PatinaSide& receiver,
                           PlainSide& plain) {
  Rng random(2);
  const size_t rows = RowsFor(settings, per_batch);
  const char* const sql = columns == 3 ? kUpdate : kHeartbeat;
  const auto batches = [&] { return UpdateBatches(random, machines, rows, per_batch, columns); };
  Pairs(
      settings.pairs,
      [&] {
        const auto work = batches();
        return RowsPerSecond(rows, [&] { plain.Execute(sql, work); });
      },
      [&] {
        const auto changesets = source.Execute(sql, batches());
        return RowsPerSecond(rows, [&] { receiver.Merge(changesets, 1); });
      })
      .Print("merge of " + std::to_string(columns) + "-column updates, random among " +
                 Rows(machines) + ", " + PerTransaction(per_batch),
             "rows/s");
}

/// What the receiver holds already, beside plain SQLite writing the same again.
void MeasureDuplicates(const Settings& settings, PatinaSide& source, PatinaSide& receiver,
                       PlainSide& plain) {
  Rng random(3);
  const auto batches =
      UpdateBatches(random, settings.rows, RowsFor(settings, 1'000), 1'000, size_t{3});
  const auto changesets = source.Execute(kUpdate, batches);
  receiver.Merge(changesets, 1);
  plain.Execute(kUpdate, batches);
  const size_t rows = RowsFor(settings, 1'000);
  Pairs(
      settings.pairs, [&] { return RowsPerSecond(rows, [&] { plain.Execute(kUpdate, batches); }); },
      [&] {
        return RowsPerSecond(
            rows, [&] { receiver.Merge(changesets, 1, storage::MergeState::kDuplicate); });
      })
      .Print("merge of what is held, " + Rows(settings.rows) + ", " + PerTransaction(1'000),
             "rows/s");
}

void MeasureDisk(const Settings& settings) {
  const auto batches = MachineBatches(settings.rows, 1'000);
  PlainSide plain(settings, "disk");
  plain.Execute(kInsert, batches);
  plain.Close();
  const auto per_row = [&](uint64_t bytes) {
    return static_cast<double>(bytes) / static_cast<double>(settings.rows);
  };
  PatinaSide writer(settings, "disk"), reader(settings, "disk-receiver");
  reader.Merge(writer.Execute(kInsert, batches), 1);
  for (PatinaSide* side : {&writer, &reader}) {
    side->Close();
    const std::string where = side == &writer ? "file at the writer" : "file at a receiver";
    const std::vector<double> beside = {per_row(plain.Bytes())};
    Figures{beside, {per_row(side->Bytes() - side->LogBytes())}}.Print(
        where + ", log not counted, " + Rows(settings.rows), "bytes/row");
    Figures{beside, {per_row(side->Bytes())}}.Print(
        where + ", log at default retention, " + Rows(settings.rows), "bytes/row");
  }
}

/// Both sides filled with so many machines.
struct Filled {
  Filled(const Settings& settings, size_t machines)
      : source(settings, "filled-source"),
        receiver(settings, "filled-receiver"),
        plain(settings, "filled") {
    const auto batches = MachineBatches(machines, 1'000);
    receiver.Merge(source.Execute(kInsert, batches), 1);
    plain.Execute(kInsert, batches);
  }
  PatinaSide source, receiver;
  PlainSide plain;
};

/// The sender's side of a transfer to a node that has nothing.
double ServeTransfer(PatinaSide& side, const Settings& settings) {
  CHECK(side.store().Checkpoint().ok());
  auto reader = storage::Reader::Open(side.path());
  CHECK(reader.ok());
  return RowsPerSecond(settings.many_rows, [&] {
    CHECK((*reader)->BeginTransfer(settings.schema, crdt::VersionSet()).ok());
    for (bool last = false; !last;) {
      const auto chunk = (*reader)->NextTransferChunk();
      CHECK(chunk.ok());
      last = chunk->last;
    }
    (*reader)->EndTransfer();
  });
}

/// A pass over all rows and clock rows, in the slices in which the agent does it.
double Scrub(PatinaSide& side, const Settings& settings) {
  CHECK(side.store().Checkpoint().ok());
  return RowsPerSecond(settings.many_rows, [&] {
    for (bool ended = false; !ended;) {
      const auto slice = side.store().Scrub(250);
      CHECK(slice.ok());
      ended = *slice;
    }
    CHECK(side.store().ForeignRows().empty());
  });
}

/// The same by a snapshot: a copy of the file is made, and read in chunks.
double ServeSnapshot(PatinaSide& side, const Settings& settings) {
  CHECK(side.store().Checkpoint().ok());
  return RowsPerSecond(settings.many_rows, [&] {
    const auto backup = storage::Backup::Begin(side.path(), side.store().snapshots());
    CHECK(backup.ok());
    const auto copy = storage::SnapshotCopy::Make(**backup, storage::ServedCopyPath(side.path()));
    CHECK(copy.ok());
    for (uint64_t number = 0;; ++number) {
      const auto chunk = (*copy)->Read(number);
      CHECK(chunk.ok());
      if (chunk->last) return;
    }
  });
}

/// A store dies with as much to be written behind as there may be: how long until it is open again.
double Replay(PatinaSide& side, const Settings& settings) {
  CHECK(side.store().Checkpoint().ok());
  Rng random(4);
  const size_t most = storage::StoreLimits().dirty_rows_max;
  while (true) {
    const uint64_t before = side.store().Stats().checkpoints;
    storage::CommitEffects effects;
    side.Execute(kUpdate, UpdateBatches(random, settings.many_rows, 200, 20, 3));
    const storage::StoreStats stats = side.store().Stats();
    CHECK_MSG(stats.checkpoints == before, "a checkpoint came before the last row");
    if (stats.dirty_rows + 400 > most) break;
  }
  side.Crash();
  return SecondsOf([&] { side.Open(); });
}

void MeasureMany(const Settings& settings) {
  Filled filled(settings, settings.many_rows);
  for (const size_t columns : {3, 1}) {
    MeasureMergeOfUpdates(settings, settings.many_rows, 1'000, columns, filled.source,
                          filled.receiver, filled.plain);
  }
  Figures serve, snapshot, scrub, replay;
  for (size_t i = 0; i < settings.pairs; ++i) {
    serve.patina.push_back(ServeTransfer(filled.receiver, settings));
    snapshot.patina.push_back(ServeSnapshot(filled.receiver, settings));
    scrub.patina.push_back(Scrub(filled.receiver, settings));
    replay.patina.push_back(Replay(filled.receiver, settings));
  }
  serve.Print("serving " + Rows(settings.many_rows) + " by transfer, sender's side", "rows/s");
  snapshot.Print("serving " + Rows(settings.many_rows) + " by snapshot, sender's side", "rows/s");
  scrub.Print("scrubbing " + Rows(settings.many_rows), "rows/s");
  replay.Print(
      "opening after a kill, a full checkpoint interval to replay, " + Rows(settings.many_rows),
      "s");
}

void Run(const Settings& settings, const std::string& word) {
  const auto wanted = [&](const char* group) { return word.empty() || word == group; };
  if (wanted("insert")) MeasureInserts(settings);
  if (wanted("merge")) {
    for (const size_t per_batch : {1'000, 10'000}) MeasureMergeIntoEmpty(settings, per_batch);
  }
  if (wanted("merge") || wanted("update")) {
    Filled filled(settings, settings.rows);
    if (wanted("merge")) {
      for (const size_t per_batch : {20, 1'000, 10'000}) {
        for (const size_t columns : {3, 1}) {
          MeasureMergeOfUpdates(settings, settings.rows, per_batch, columns, filled.source,
                                filled.receiver, filled.plain);
        }
      }
      MeasureDuplicates(settings, filled.source, filled.receiver, filled.plain);
    }
    if (wanted("update")) MeasureUpdates(settings, filled.plain, filled.source);
  }
  if (wanted("many")) MeasureMany(settings);
  if (wanted("disk")) MeasureDisk(settings);
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  CHECK_MSG(in.good(), path);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

}  // namespace
}  // namespace patina::bench

int main(int argc, char** argv) {
  if (argc < 6 || argc > 7) {
    std::cerr << "usage: storage_bench SCHEMA.sql FOLDER ROWS MANY_ROWS PAIRS [WORD]\n";
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
  settings.many_rows = std::stoul(argv[4]);
  settings.pairs = std::stoul(argv[5]);
  patina::bench::Run(settings, argc > 6 ? argv[6] : "");
  return 0;
}

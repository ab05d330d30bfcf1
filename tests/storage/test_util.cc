#include "tests/storage/test_util.h"

#include <sqlite3.h>

#include <algorithm>

#include "base/log.h"
#include "storage/db.h"
#include "tests/support/environment.h"

namespace patina::storage {

std::string WithDamagedPage(std::string bytes, size_t page, Rng& rng) {
  constexpr size_t kPageBytes = 4096;
  for (size_t i = 0; i < kPageBytes; ++i) {
    bytes.at(page * kPageBytes + i) = static_cast<char>(rng.Below(256));
  }
  return bytes;
}

void RunForeign(const std::string& path, const std::string& sql) {
  auto db = Db::Open(path, Db::Mode::kReadWriteCreate);
  ASSERT_TRUE(db.ok()) << db.error().ToString();
  const Status status = db->Exec(sql);
  ASSERT_TRUE(status.ok()) << sql << ": " << status.error().ToString();
}

Schema MustParse(std::string_view sql, std::string_view toml) {
  Result<Schema> schema = ParseSchema(sql, "schema.sql", toml);
  EXPECT_TRUE(schema.ok()) << schema.error().ToString();
  return schema.ok() ? *schema : Schema();
}

SharedBytes Share(std::string bytes) {
  return std::make_shared<const std::string>(std::move(bytes));
}

Transaction Tx(std::initializer_list<std::string> sql) {
  Transaction transaction;
  for (const std::string& text : sql) transaction.statements.push_back({text, {}, {}});
  return transaction;
}

std::string Ask(const std::string& path, const std::string& sql) {
  sqlite3* db = nullptr;
  std::string answer;
  if (sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE, nullptr) == SQLITE_OK) {
    const auto take = [](void* to, int, char** values, char**) {
      *static_cast<std::string*>(to) = values[0] == nullptr ? "" : values[0];
      return 0;
    };
    if (sqlite3_exec(db, sql.c_str(), take, &answer, nullptr) != SQLITE_OK)
      answer = sqlite3_errmsg(db);
  }
  sqlite3_close_v2(db);
  return answer;
}

TestNode::TestNode(Schema schema, int64_t wall_ms) : clock(wall_ms) {
  options.path = dir.File("node.db");
  options.schema = std::move(schema);
  options.clock = &clock;
  Open();
}

TestNode::TestNode(Schema schema, const std::string& path, int64_t wall_ms) : clock(wall_ms) {
  options.path = path;
  options.schema = std::move(schema);
  options.clock = &clock;
  Open();
}

Status TestNode::TryOpen() {
  ASSIGN_OR_RETURN(store, Store::Open(options));
  ASSIGN_OR_RETURN(reader, Reader::Open(options.path));
  store->SetEffectTables(std::vector<bool>(store->schema().tables.size(), true));
  return OkStatus();
}

void TestNode::Open() {
  const Status status = TryOpen();
  ASSERT_TRUE(status.ok()) << status.error().ToString();
}

void TestNode::Crash() {
  reader.reset();
  store.reset();
}

void TestNode::Close() {
  reader.reset();
  EXPECT_TRUE(store->Close().ok());
  store.reset();
}

void TestNode::CrashAndOpen() {
  Crash();
  Open();
}

void TestNode::CloseAndOpen() {
  Close();
  Open();
}

std::vector<Result<Committed>> TestNode::Run(const std::vector<Transaction>& group) {
  return store->Execute(group, &effects);
}

Result<Committed> TestNode::Try(std::initializer_list<std::string> sql) {
  return Run({Tx(sql)})[0];
}

Result<Committed> TestNode::TryWith(const std::string& sql, std::vector<crdt::Value> values) {
  Transaction transaction;
  transaction.statements.push_back({sql, std::move(values), {}});
  return Run({transaction})[0];
}

Committed TestNode::Do(std::initializer_list<std::string> sql) {
  Result<Committed> result = Try(sql);
  EXPECT_TRUE(result.ok()) << *sql.begin() << ": " << result.error().ToString();
  return result.ok() ? *result : Committed();
}

Result<Committed> TestNode::TryLarge(std::initializer_list<std::string> sql) {
  Transaction transaction = Tx(sql);
  transaction.large = true;
  return Run({transaction})[0];
}

Committed TestNode::DoLarge(std::initializer_list<std::string> sql) {
  Result<Committed> result = TryLarge(sql);
  EXPECT_TRUE(result.ok()) << *sql.begin() << ": " << result.error().ToString();
  return result.ok() ? *result : Committed();
}

std::vector<MergeOutcome> TestNode::Merge(const std::vector<SharedBytes>& changesets) {
  auto outcomes = store->Merge(changesets, &effects);
  EXPECT_TRUE(outcomes.ok()) << outcomes.error().ToString();
  return outcomes.ok() ? *outcomes : std::vector<MergeOutcome>(changesets.size());
}

Result<SchemaOutcome> TestNode::Apply(const Schema& schema, bool allow_destructive) {
  Result<SchemaOutcome> outcome = store->ApplySchema(schema, allow_destructive, &effects);
  if (!outcome.ok()) return outcome;
  options.schema = schema;
  store->SetEffectTables(std::vector<bool>(store->schema().tables.size(), true));
  while (!Settle().empty()) {
  }
  return outcome;
}

std::vector<ChangeId> TestNode::Settle() {
  auto settled = store->SettleParked(&effects);
  EXPECT_TRUE(settled.ok()) << settled.error().ToString();
  return settled.ok() ? *settled : std::vector<ChangeId>();
}

namespace {

std::string Joined(const std::vector<crdt::ValueView>& values) {
  std::string text;
  for (const crdt::ValueView& value : values) text += (text.empty() ? "" : "|") + value.ToString();
  return text;
}

class Collect final : public RowSink {
 public:
  explicit Collect(std::vector<std::string>* rows) : rows_(rows) {}
  bool OnColumns(const std::vector<std::string>&) override { return true; }
  bool OnRow(const std::vector<crdt::ValueView>& values) override {
    rows_->push_back(Joined(values));
    return true;
  }

 private:
  std::vector<std::string>* rows_;
};

}  // namespace

Status TestNode::Query(const std::string& sql, std::vector<std::string>* rows,
                       const QueryLimits& limits) {
  Collect collect(rows);
  return reader->Query({sql, {}, {}}, limits, collect);
}

std::vector<std::string> TestNode::Rows(const std::string& sql) {
  std::vector<std::string> rows;
  const Status status = Query(sql, &rows);
  EXPECT_TRUE(status.ok()) << sql << ": " << status.error().ToString();
  return rows;
}

std::vector<std::string> TestNode::Dump() {
  std::vector<std::string> all;
  for (const Table& table : options.schema.tables) {
    // Names in order: a column added later stands elsewhere in another node's file.
    std::vector<std::string> names = table.AllColumnNames();
    std::sort(names.begin(), names.end());
    std::string list;
    for (const std::string& name : names) list += (list.empty() ? "" : ", ") + QuoteName(name);
    for (const std::string& row : Rows("SELECT " + list + " FROM " + QuoteName(table.name))) {
      all.push_back(table.name + ": " + row);
    }
  }
  std::sort(all.begin(), all.end());
  return all;
}

std::vector<SharedBytes> TestNode::Log() {
  std::vector<SharedBytes> bytes;
  auto entries = reader->ReadLogAfter(0, UINT64_MAX);
  EXPECT_TRUE(entries.ok()) << entries.error().ToString();
  if (!entries.ok()) return bytes;
  for (const LogEntry& entry : *entries) {
    if (!entry.rows_unknown) bytes.push_back(entry.bytes);
  }
  return bytes;
}

std::vector<std::string> ForeignRowsOf(Store& store, int passes) {
  while (passes > 0) {
    const Result<bool> ended = store.Scrub(7);
    if (!ended.ok()) return {ended.error().ToString()};
    if (*ended) --passes;
  }
  std::vector<std::string> found;
  for (const ForeignRow& row : store.ForeignRows()) {
    found.push_back(
        StrCat(row.table, row.key.empty() ? "(?)" : DescribeKey(row.key), " ", NameOf(row.kind)));
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<std::string> TransferChunks(TestNode& from, const crdt::VersionSet& receiver_applied,
                                        size_t chunk_bytes) {
  std::vector<std::string> chunks;
  EXPECT_TRUE(from.store->Checkpoint().ok());
  const Status begun = from.reader->BeginTransfer(from.store->schema(), receiver_applied);
  EXPECT_TRUE(begun.ok()) << begun.error().ToString();
  while (true) {
    auto chunk = from.reader->NextTransferChunk(chunk_bytes);
    EXPECT_TRUE(chunk.ok()) << chunk.error().ToString();
    if (!chunk.ok()) break;
    chunks.push_back(chunk->bytes);
    if (chunk->last) break;
  }
  from.reader->EndTransfer();
  return chunks;
}

Status TakeTransfer(TestNode& to, const std::vector<std::string>& chunks, uint64_t number) {
  for (size_t i = 0; i < chunks.size(); ++i) {
    RETURN_IF_ERROR(to.store->StageTransferChunk(number, i, chunks[i]));
  }
  return to.store->MergeTransfer(number, &to.effects);
}

LargeChange ReadLarge(TestNode& from, const ChangeId& id) { return ReadLarge(*from.reader, id); }

LargeChange ReadLarge(Reader& from, const ChangeId& id) {
  LargeChange change;
  const auto log = from.ReadLog({{id.actor, {{id.version, id.version}}}}, UINT64_MAX);
  EXPECT_TRUE(log.ok() && log->changes.size() == 1);
  if (log.ok() && log->changes.size() == 1) change.manifest = log->changes[0].second;
  for (bool last = false; !last;) {
    auto chunk = from.ReadLargeChunk(id, change.chunks.size());
    EXPECT_TRUE(chunk.ok()) << chunk.error().ToString();
    last = !chunk.ok() || chunk->last;
    if (chunk.ok()) change.chunks.push_back(Share(std::move(chunk->bytes)));
  }
  return change;
}

Result<MergeOutcome> TakeLarge(TestNode& to, const LargeChange& change) {
  ASSIGN_OR_RETURN(const crdt::ChangesetHeader header, crdt::PeekChangesetHeader(*change.manifest));
  const ChangeId id = header.id;
  ASSIGN_OR_RETURN(const uint64_t first, to.store->StageLarge(*change.manifest));
  for (uint64_t i = first; i < change.chunks.size(); ++i) {
    RETURN_IF_ERROR(to.store->StageLargeChunk(id, i, *change.chunks[i]));
  }
  return to.store->MergeLarge(id, &to.effects);
}

std::string DescribeKey(std::string_view packed) {
  std::vector<crdt::ValueView> values;
  if (!crdt::UnpackValues(packed, 64, &values)) return "(malformed)";
  return "(" + Joined(values) + ")";
}

std::string Describe(const SharedBytes& changeset) {
  if (changeset == nullptr) return "nothing";
  auto reader = crdt::ChangesetReader::Open(*changeset);
  EXPECT_TRUE(reader.ok()) << reader.error().ToString();
  std::string text;
  crdt::TableChange table;
  crdt::RowOp row;
  while (*reader->NextTable(&table)) {
    while (*reader->NextRow(&row)) {
      const char* sign = row.says == crdt::Says::kAlive     ? "+"
                         : row.says == crdt::Says::kDeleted ? "-"
                                                            : "~";
      text += (text.empty() ? "" : "; ") + std::string(table.name) + sign + DescribeKey(row.key);
      for (size_t i = 0; i < row.positions.size(); ++i) {
        text += " " + std::string(table.columns[row.positions[i]].name) + "=" +
                row.values[i].ToString();
      }
    }
  }
  return text;
}

std::string DescribeEffects(const CommitEffects& effects, const Schema& schema) {
  std::vector<std::string> all;
  auto row = [](const std::optional<std::string>& packed) {
    return packed ? DescribeKey(*packed) : std::string("none");
  };
  for (const RowEffect& effect : effects.rows) {
    all.push_back(schema.tables[effect.table].name + DescribeKey(effect.key) + ": " +
                  row(effect.before) + " -> " + row(effect.after));
  }
  std::sort(all.begin(), all.end());
  std::string text;
  for (const std::string& one : all) text += (text.empty() ? "" : "; ") + one;
  return text;
}

void ForEachSeed(const std::string& prefix, uint64_t seeds_otherwise,
                 const std::function<void(uint64_t)>& run) {
  const test::SeedRange seeds(prefix, seeds_otherwise);
  for (uint64_t seed = seeds.first; seed < seeds.end && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    run(seed);
  }
}

// ---- The oracle ---------------------------------------------------------------------------------

OracleRow Join(const OracleRow& one, const OracleRow& other) {
  OracleRow joined;
  const OracleRow& later =
      std::pair(one.exists, one.alive) < std::pair(other.exists, other.alive) ? other : one;
  joined.exists = later.exists;
  joined.alive = later.alive;
  for (const OracleRow* row : {&one, &other}) {
    for (const auto& [column, cell] : row->cells) {
      if (cell.first < joined.exists) continue;
      auto [found, is_new] = joined.cells.try_emplace(column, cell);
      if (!is_new && found->second.first < cell.first) found->second = cell;
    }
  }
  return joined;
}

void JoinInto(OracleState& state, const OracleState& more) {
  for (const auto& [key, row] : more) state[key] = Join(state[key], row);
}

std::string NameOfLife(std::string_view name, uint32_t life) {
  return life == 0 ? std::string(name) : StrCat(name, "#", life);
}

namespace {

std::string NameInOracle(const Table& table) { return NameOfLife(table.name, table.life); }

const Table* FindInSchema(const Schema& schema, const std::string& name) {
  for (const Table& table : schema.tables) {
    if (NameInOracle(table) == name) return &table;
  }
  return nullptr;
}

}  // namespace

OracleState Says(const SharedBytes& changeset) {
  OracleState state;
  auto reader = crdt::ChangesetReader::Open(*changeset);
  EXPECT_TRUE(reader.ok());
  const OracleStamp stamp{reader->header().time.bits, reader->header().id.actor,
                          reader->header().id.version};
  crdt::TableChange table;
  crdt::RowOp op;
  while (*reader->NextTable(&table)) {
    while (*reader->NextRow(&op)) {
      const auto [name, life] = ReadTravelName(table.name);
      OracleRow& row = state[{NameOfLife(name, life), std::string(op.key)}];
      if (op.says != crdt::Says::kNothing) row.exists = stamp;
      row.alive = op.says == crdt::Says::kAlive;
      for (size_t i = 0; i < op.positions.size(); ++i) {
        const crdt::ColumnName& column = table.columns[op.positions[i]];
        row.cells[NameOfLife(column.name, column.life)] = {stamp, crdt::Value(op.values[i])};
      }
    }
  }
  return state;
}

OracleState Says(const LargeChange& change) {
  OracleState all;
  for (const SharedBytes& chunk : change.chunks) JoinInto(all, Says(chunk));
  return all;
}

Rows VisibleRows(const OracleState& state, const Schema& schema) {
  Rows rows;
  for (const auto& [name, row] : state) {
    const Table* table = FindInSchema(schema, name.first);
    if (!row.alive || table == nullptr) continue;
    std::vector<crdt::ValueView> key, values;
    EXPECT_TRUE(crdt::UnpackValues(name.second, table->key.size(), &key));
    for (const Table::Place& place : table->order) {
      if (place.in_key) {
        values.push_back(key[place.index]);
        continue;
      }
      const Column& column = table->columns[place.index];
      const auto cell = row.cells.find(NameOfLife(column.name, column.life));
      values.push_back(cell == row.cells.end() ? column.default_value.view()
                                               : cell->second.second.view());
    }
    rows[{table->name, name.second}] = crdt::PackValues(values);
  }
  return rows;
}

std::vector<std::string> Visible(const OracleState& state, const Schema& schema) {
  std::vector<std::string> all;
  for (const auto& [name, row] : VisibleRows(state, schema)) {
    const auto columns = schema.Find(name.first)->AllColumnNames();
    std::vector<crdt::ValueView> values;
    EXPECT_TRUE(crdt::UnpackValues(row, columns.size(), &values));
    std::map<std::string, crdt::ValueView> by_name;
    for (size_t i = 0; i < values.size(); ++i) by_name[columns[i]] = values[i];
    values.clear();
    for (const auto& [column, value] : by_name) values.push_back(value);
    all.push_back(name.first + ": " + Joined(values));
  }
  std::sort(all.begin(), all.end());
  return all;
}

namespace {

std::string CellLine(const std::string& table, std::string_view key, const std::string& column,
                     const std::string& value, uint64_t time, const ActorId& actor,
                     uint64_t version) {
  return StrCat(table, DescribeKey(key), " ", column, " ", value, " ", time, " ", actor.ToString(),
                " ", version);
}

}  // namespace

std::vector<std::string> LiveCells(const OracleState& state, const Schema& schema) {
  std::vector<std::string> all;
  for (const auto& [name, row] : state) {
    const Table* table = FindInSchema(schema, name.first);
    if (!row.alive || table == nullptr) continue;
    all.push_back(CellLine(name.first, name.second, "", "alive", row.exists.time, row.exists.actor,
                           row.exists.version));
    for (const Column& column : table->columns) {
      const auto cell = row.cells.find(NameOfLife(column.name, column.life));
      if (cell == row.cells.end()) continue;
      const auto& [stamp, value] = cell->second;
      all.push_back(CellLine(name.first, name.second, column.name, value.ToString(), stamp.time,
                             stamp.actor, stamp.version));
    }
  }
  std::sort(all.begin(), all.end());
  return all;
}

std::vector<std::string> LiveCells(TestNode& node, const OracleState& keys_of) {
  std::vector<std::string> all;
  for (const auto& [name, unused] : keys_of) {
    const Table* table = FindInSchema(node.options.schema, name.first);
    if (table == nullptr) continue;
    auto rows = node.store->RowsInBucket(table->name, BucketOfKey(name.second));
    EXPECT_TRUE(rows.ok()) << rows.error().ToString();
    if (!rows.ok()) continue;
    for (const RowDigest& row : *rows) {
      if (row.key != name.second) continue;
      for (const RowDigest::Cell& cell : row.cells) {
        all.push_back(CellLine(name.first, row.key, cell.column, cell.value, cell.time.bits,
                               cell.actor, cell.version));
      }
    }
  }
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace patina::storage

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "storage/introspect.h"
#include "storage/store_impl.h"

// Another schema while the agent serves: one turn of the writer, in which the others wait.

namespace patina::storage {
namespace {

/// Whether tables come, go or lose columns: then rows in memory no longer fit, and the file must
/// have all that memory knows. Else they only grow defaults at their ends.
bool Reshapes(const std::vector<SchemaChange>& changes) {
  using Kind = SchemaChange::Kind;
  return std::any_of(changes.begin(), changes.end(), [](const SchemaChange& change) {
    return change.destructive() || change.kind == Kind::kAddTable ||
           change.kind == Kind::kAdoptTable;
  });
}

bool LosesCells(const std::vector<SchemaChange>& changes, const std::string& table) {
  return std::any_of(changes.begin(), changes.end(), [&](const SchemaChange& change) {
    return change.kind == SchemaChange::Kind::kDropColumn && change.table == table;
  });
}

bool IsNew(const std::vector<SchemaChange>& changes, const std::string& table) {
  using Kind = SchemaChange::Kind;
  return std::any_of(changes.begin(), changes.end(), [&](const SchemaChange& change) {
    return change.table == table &&
           (change.kind == Kind::kAddTable || change.kind == Kind::kAdoptTable);
  });
}

}  // namespace

/// What the tables are now, and those of other programs that are to be adopted.
Result<Schema> Store::Impl::CurrentSchema(const Schema& wanted) {
  Schema current = schema;
  for (const Table& table : wanted.tables) {
    if (schema.Find(table.name) != nullptr) continue;
    ASSIGN_OR_RETURN(const bool there, db->HasTable(table.name));
    if (!there) continue;
    Result<Table> plain = IntrospectTable(*db, table.name);
    if (!plain.ok()) return FailedPrecondition(options.path + ": " + plain.error().message);
    plain->plain = true;
    current.tables.push_back(std::move(*plain));
  }
  return current;
}

Result<std::vector<SchemaChange>> Store::Impl::PlanSchema(const Schema& wanted) {
  ASSIGN_OR_RETURN(const Schema current, CurrentSchema(wanted));
  return DiffSchemas(current, wanted);
}

void Store::Impl::UseTables(Schema next) {
  schema = std::move(next);
  tables.clear();
  hashers.clear();
  by_name.clear();
  scrub_cursor.Restart();
  for (size_t i = 0; i < schema.tables.size(); ++i) {
    tables.push_back(
        std::make_unique<TableIo>(db.get(), &schema.tables[i], static_cast<uint32_t>(i)));
    hashers.emplace_back(schema.tables[i]);
    by_name[schema.tables[i].name] = tables.back().get();
  }
  effect_tables.assign(tables.size(), false);
}

void Store::Impl::ExtendCachedRows(const Schema& before) {
  std::vector<size_t> columns_before;
  for (const Table& table : before.tables) columns_before.push_back(table.columns.size());
  cache.ForEach([&](CachedRow& row) {
    const Table& table = schema.tables[row.table];
    const size_t had = columns_before[row.table];
    if (had == table.columns.size()) return;
    const size_t bytes_before = RowCache::BytesOf(row);
    ByteReader in(row.values);
    in.Varint();
    std::string values;
    ByteWriter out(&values);
    out.Varint(table.columns.size());
    out.Raw(in.Raw(in.remaining()));
    for (size_t i = had; i < table.columns.size(); ++i)
      crdt::EncodeValue(table.columns[i].default_value, out);
    row.values = std::move(values);
    cache.Resized(bytes_before, row);
  });
}

/// In the transaction that changed the tables: what memory knows of them, without a look at the
/// rows of those that keep their cells.
Status Store::Impl::CarryTables(const std::vector<SchemaChange>& changes,
                                std::vector<std::unique_ptr<TableIo>>& before) {
  for (const auto& table : tables) {
    const auto old = std::find_if(before.begin(), before.end(), [&](const auto& candidate) {
      return candidate->table().name == table->table().name;
    });
    if (old == before.end() || IsNew(changes, table->table().name)) {
      RETURN_IF_ERROR(table->CreateOwnTables());
    } else if (LosesCells(changes, table->table().name)) {
      RETURN_IF_ERROR(table->CreateOwnTables());
      RETURN_IF_ERROR(
          table->RecomputeDigest(&hashers[table->number()], actors, [this] { NoteProgress(); }));
      table->digest_dirty = true;
    } else {
      table->digest = (*old)->digest;
      table->digest_dirty = (*old)->digest_dirty;
      table->tombstones = (*old)->tombstones;
    }
  }
  return Reshapes(changes) ? SaveDigests() : OkStatus();
}

Status Store::Impl::ChangeTables(const std::vector<SchemaChange>& changes, const Schema& from,
                                 const Schema& wanted) {
  Schema schema_before;
  std::vector<std::unique_ptr<TableIo>> tables_before;
  std::vector<RowHasher> hashers_before;
  std::unordered_map<std::string_view, TableIo*> by_name_before;
  std::vector<bool> effects_before = effect_tables;
  auto swap = [&] {
    std::swap(schema, schema_before);
    std::swap(tables, tables_before);
    std::swap(hashers, hashers_before);
    std::swap(by_name, by_name_before);
  };
  const Spilling spilling(*db);
  auto run = [&]() -> Status {
    RETURN_IF_ERROR(begin.Run());
    RETURN_IF_ERROR(RunChanges(changes, wanted, from));
    ASSIGN_OR_RETURN(Schema next, DeclaredInFile(wanted));
    swap();
    UseTables(std::move(next));
    RETURN_IF_ERROR(CarryTables(changes, tables_before));
    return Commit("changing the schema");
  };
  changing_schema = true;
  const Status status = run();
  changing_schema = false;
  if (!status.ok()) {
    NoteFailure(status.error());
    RollBack();
    if (!tables_before.empty()) swap();
    effect_tables = std::move(effects_before);
    return status;
  }
  if (Reshapes(changes)) {
    for (const auto& table : tables) table->digest_dirty = false;
  } else {
    ExtendCachedRows(schema_before);
  }
  return status;
}

Result<SchemaOutcome> Store::Impl::ApplySchema(const Schema& wanted, bool allow_destructive,
                                               CommitEffects* effects) {
  BeginEffects(effects);
  RETURN_IF_ERROR(MayWrite());
  const Instant started = options.clock->Now();
  SchemaOutcome outcome;
  ASSIGN_OR_RETURN(const Schema from, CurrentSchema(wanted));
  outcome.changes = DiffSchemas(from, wanted);
  RETURN_IF_ERROR(CheckAllowed(outcome.changes, allow_destructive));
  if (Reshapes(outcome.changes)) {
    RETURN_IF_ERROR(Checkpoint());
    cache.Clear();
  }
  client_index.clear();
  client_statements.clear();
  capture.reset();  // it knows the tables as they are
  const Status changed = ChangeTables(outcome.changes, from, wanted);
  StartCapture();
  RETURN_IF_ERROR(changed);
  options.schema = wanted;
  for (auto& [id, change] : parked) change.future = true;  // each may be understood now
  RETURN_IF_ERROR(AdoptTables(&outcome.adopted));
  ++stats.schema_changes;
  outcome.took = options.clock->Now() - started;
  stats.last_schema_change_ms = static_cast<double>(ToUs(outcome.took)) / 1000;
  LogInfo("storage", "the schema was changed in ", stats.last_schema_change_ms,
          " ms; writes waited meanwhile");
  effects->last_seq = last_seq;
  effects->rows_unknown = true;
  effects->tables_changed.assign(tables.size(), true);
  effects->schema = std::make_shared<const Schema>(schema);
  return outcome;
}

}  // namespace patina::storage

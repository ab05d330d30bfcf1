#include <algorithm>
#include <utility>

#include "base/log.h"
#include "storage/introspect.h"
#include "storage/lives.h"
#include "storage/store_impl.h"

// Bringing the file's tables to a declared schema: at start, and while the agent serves.

namespace patina::storage {
namespace {

constexpr size_t kRowsAtOnce = 1'000;  // rewritten between two looks at the cursor

}  // namespace

Status CheckAllowed(const std::vector<SchemaChange>& changes, bool allow_destructive) {
  std::string refused, destructive;
  for (const SchemaChange& change : changes) {
    if (change.kind == SchemaChange::Kind::kRefused)
      refused += (refused.empty() ? "" : "; ") + change.text;
    if (change.destructive()) destructive += (destructive.empty() ? "" : ", ") + change.text;
  }
  if (!refused.empty()) return FailedPrecondition("the schema does not fit the file: " + refused);
  if (!destructive.empty() && !allow_destructive) {
    return FailedPrecondition("the schema would lose data (" + destructive +
                              "): say --allow-destructive if that is meant");
  }
  return OkStatus();
}

Result<Schema> SchemaInFile(Db& db, const Schema& wanted) {
  Schema current;
  ASSIGN_OR_RETURN(const DroppedInFile dropped, ReadDropped(db));
  ASSIGN_OR_RETURN(const std::vector<std::string> names, UserTables(db));
  for (const std::string& name : names) {
    ASSIGN_OR_RETURN(const bool replicated, db.HasTable("__patina_clock_" + name));
    const Table* declared = wanted.Find(name);
    if (!replicated && declared == nullptr) continue;  // another program's: left alone
    Result<Table> table = IntrospectTable(db, name);
    if (!table.ok()) {
      const char* const path = sqlite3_db_filename(db.get(), "main");
      return FailedPrecondition(StrCat(path, ": ", table.error().message));
    }
    table->plain = !replicated;
    if (declared != nullptr) table->merge_row = declared->merge_row;
    SetLives(dropped, &*table);
    current.tables.push_back(std::move(*table));
  }
  current.dropped_tables = dropped.tables;
  return current;
}

/// As the file has them now: columns added later stand last, wherever they are declared.
Result<Schema> Store::Impl::DeclaredInFile(const Schema& wanted) {
  Schema result;
  for (const Table& declared : wanted.tables) {
    ASSIGN_OR_RETURN(Table table, IntrospectTable(*db, declared.name));
    table.merge_row = declared.merge_row;
    table.life = declared.life;
    table.dropped = declared.dropped;
    for (Column& column : table.columns) {
      if (const auto index = declared.FindColumn(column.name))
        column.life = declared.columns[*index].life;
    }
    result.tables.push_back(std::move(table));
  }
  result.dropped_tables = wanted.dropped_tables;
  result.warnings = wanted.warnings;
  return result;
}

Status Store::Impl::EraseCells(const Table& table, crdt::ColumnIndex column) {
  const TableIo io(db.get(), &table, 0);
  for (const bool dead : {false, true}) {
    const std::string name = dead ? io.dead_table() : io.clock_table();
    const std::string key = dead || table.without_rowid ? "key" : "id";
    ASSIGN_OR_RETURN(Stmt scan,
                     db->Prepare("SELECT " + key + ", clock" + (dead ? ", cells" : "") + " FROM " +
                                     name + " WHERE " + key + " > ?1 ORDER BY " + key + " LIMIT ?2",
                                 false));
    ASSIGN_OR_RETURN(Stmt update,
                     db->Prepare("UPDATE " + name + " SET clock = ?2" +
                                     (dead ? ", cells = ?3" : "") + " WHERE " + key + " = ?1",
                                 false));
    ASSIGN_OR_RETURN(Stmt remove,
                     db->Prepare("DELETE FROM " + name + " WHERE " + key + " = ?1", false));
    crdt::Value last = key == "id" ? crdt::Value::Real(-1e19) : crdt::Value::Blob("");
    for (bool more = true; more;) {
      const crdt::Value after = last;
      std::vector<ErasedRow> rows;
      {
        StmtScope scope(scan);
        scan.Bind(1, after);
        scan.BindInt(2, kRowsAtOnce);
        while (true) {
          ASSIGN_OR_RETURN(const bool found, scan.Step());
          if (!found) break;
          last = crdt::Value(scan.Column(0));
          ErasedRow row{last, std::string(scan.ColumnBytes(1)),
                        dead ? std::string(scan.ColumnBytes(2)) : std::string()};
          RETURN_IF_ERROR(EraseCell(table, column, dead, &row));
          rows.push_back(std::move(row));
        }
      }
      more = rows.size() == kRowsAtOnce;
      for (const ErasedRow& row : rows) {
        Stmt& write = row.clock.empty() ? remove : update;
        write.Bind(1, row.key);
        if (!row.clock.empty()) write.BindBlob(2, row.clock);
        if (!row.clock.empty() && dead) write.BindBlob(3, row.cells);
        RETURN_IF_ERROR(write.Run());
      }
      NoteProgress();
    }
  }
  return OkStatus();
}

Status Store::Impl::EraseCell(const Table& table, crdt::ColumnIndex column, bool dead,
                              ErasedRow* row) {
  ByteReader in(row->clock);
  const uint32_t key_hash = dead ? 0 : in.U32();
  crdt::RowClock clock;
  std::vector<crdt::ValueView> values;
  if (!crdt::RowClock::Decode(in, actors.size(), &clock) ||
      (!row->cells.empty() && !crdt::UnpackValues(row->cells, crdt::kMaxColumns, &values))) {
    return DataLoss("a clock of table " + table.name +
                    " is damaged; rebuild this node from a peer");
  }
  // Where the column had a value, what is left of the row has no seal until the scrub has seen it.
  const std::string_view seal = clock.HasCell(column) ? std::string_view() : in.Raw(in.remaining());
  clock.EraseColumn(column);
  std::string bytes;
  ByteWriter out(&bytes);
  if (!dead) out.U32(key_hash);
  clock.Encode(out);
  out.Raw(seal);
  row->clock = std::move(bytes);
  if (!dead) return OkStatus();
  if (clock.existence().IsNever() && clock.CellCount() == 0) row->clock.clear();  // says nothing
  if (column < values.size()) {
    values.erase(values.begin() + column);
    row->cells = crdt::PackValues(values);
  }
  return OkStatus();
}

Status Store::Impl::RunChange(const SchemaChange& change, const Schema& wanted, Schema* from) {
  using Kind = SchemaChange::Kind;
  const auto old = std::find_if(from->tables.begin(), from->tables.end(),
                                [&](const Table& table) { return table.name == change.table; });
  if (change.kind == Kind::kDropColumn) {
    const auto index = old->FindColumn(change.column);
    if (!old->plain) RETURN_IF_ERROR(EraseCells(*old, *index));
    old->columns.erase(old->columns.begin() + *index);
  }
  if (change.kind == Kind::kDropTable) {
    const TableIo io(db.get(), &*old, 0);
    RETURN_IF_ERROR(db->Exec("DROP TABLE " + io.clock_table() + "; DROP TABLE " + io.dead_table()));
    RETURN_IF_ERROR(ForgetState("digest:" + change.table));
  }
  if (!change.sql.empty()) RETURN_IF_ERROR(db->Exec(change.sql));
  if (change.kind == Kind::kAddTable || change.kind == Kind::kAdoptTable) {
    TableIo io(db.get(), wanted.Find(change.table), 0);
    RETURN_IF_ERROR(io.CreateOwnTables());
    if (change.kind == Kind::kAdoptTable) RETURN_IF_ERROR(NoteAdopting(io));
  }
  LogInfo("storage", "schema: ", change.text);
  NoteProgress();
  return OkStatus();
}

Status Store::Impl::RunChanges(const std::vector<SchemaChange>& changes, const Schema& wanted,
                               Schema from) {
  for (const SchemaChange& change : changes) {
    if (Status status = RunChange(change, wanted, &from); !status.ok()) {
      Error error = status.error();
      // What SQLite finds wrong with a declaration is for whoever wrote it.
      if (error.code == Errc::kInvalidArgument) error.code = Errc::kFailedPrecondition;
      error.message = change.text + ": " + error.message;
      return error;
    }
  }
  const std::string dropped = EncodeDropped(wanted);
  return SaveState("dropped", crdt::ValueView::Blob(dropped));
}

Status Store::Impl::MigrateFile() {
  const Result<Schema> current = SchemaInFile(*db, options.schema);
  if (!current.ok()) return FailedPrecondition(options.path + ": " + current.error().message);
  const Schema& from = *current;
  const std::vector<SchemaChange> changes = DiffSchemas(from, options.schema);
  if (Status allowed = CheckAllowed(changes, options.allow_destructive); !allowed.ok()) {
    return FailedPrecondition(options.path + ": " + allowed.error().message);
  }
  const Spilling spilling(*db);
  auto run = [&]() -> Status {
    RETURN_IF_ERROR(begin.Run());
    RETURN_IF_ERROR(RunChanges(changes, options.schema, from));
    const bool lost = std::any_of(changes.begin(), changes.end(),
                                  [](const SchemaChange& change) { return change.destructive(); });
    if (lost) RETURN_IF_ERROR(SaveState("digests_valid", crdt::ValueView::Integer(0)));
    ASSIGN_OR_RETURN(schema, DeclaredInFile(options.schema));
    return Commit("changing the schema");
  };
  Status status = run();
  if (!status.ok()) RollBack();
  return status;
}

}  // namespace patina::storage

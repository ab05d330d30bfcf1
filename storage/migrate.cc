#include <algorithm>
#include <utility>

#include "base/log.h"
#include "storage/introspect.h"
#include "storage/store_impl.h"

// Bringing the file's tables to a declared schema: at start, and while the agent serves.
//
// __patina_state 'dropped' is what tables.toml said when the file was last brought up to it: names
// dropped earlier must stay listed. Format: u8 format = 1 | tables dropped | number of tables |
// per table: name | columns dropped; each list: number of names | per name: name, how often.

namespace patina::storage {
namespace {

constexpr uint8_t kDroppedFormat = 1;
constexpr size_t kRowsAtOnce = 1'000;  // rewritten between two looks at the cursor

void EncodeDropped(const Dropped& dropped, ByteWriter& out) {
  out.Varint(dropped.size());
  for (const auto& [name, times] : dropped) {
    out.String(name);
    out.Varint(times);
  }
}

void DecodeDropped(ByteReader& in, Dropped* dropped) {
  const uint64_t count = in.Varint();
  for (uint64_t i = 0; i < count && in.ok(); ++i) {
    const std::string name(in.String());
    (*dropped)[name] = static_cast<uint32_t>(in.Varint());
  }
}

struct DroppedInFile {
  Dropped tables;
  std::map<std::string, Dropped> columns;
};

Result<DroppedInFile> ReadDropped(Db& db) {
  DroppedInFile dropped;
  ASSIGN_OR_RETURN(Stmt select,
                   db.Prepare("SELECT value FROM __patina_state WHERE name = 'dropped'", false));
  ASSIGN_OR_RETURN(const bool row, select.Step());
  if (!row) return dropped;
  ByteReader in(select.ColumnBytes(0));
  const bool known = in.U8() == kDroppedFormat;
  DecodeDropped(in, &dropped.tables);
  const uint64_t tables = in.Varint();
  for (uint64_t i = 0; i < tables && in.ok(); ++i) {
    const std::string name(in.String());
    DecodeDropped(in, &dropped.columns[name]);
  }
  if (!known || !in.ok()) return DataLoss("the list of dropped names is damaged");
  return dropped;
}

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
    ASSIGN_OR_RETURN(Table table, IntrospectTable(db, name));
    table.plain = !replicated;
    if (declared != nullptr) table.merge_row = declared->merge_row;
    if (const auto life = dropped.tables.find(name); life != dropped.tables.end())
      table.life = life->second;
    if (const auto lives = dropped.columns.find(name); lives != dropped.columns.end())
      table.dropped = lives->second;
    for (Column& column : table.columns) {
      const auto life = table.dropped.find(column.name);
      if (life != table.dropped.end()) column.life = life->second;
    }
    current.tables.push_back(std::move(table));
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

Status Store::Impl::SaveDropped(const Schema& wanted) {
  std::string bytes;
  ByteWriter out(&bytes);
  out.U8(kDroppedFormat);
  EncodeDropped(wanted.dropped_tables, out);
  out.Varint(wanted.tables.size());
  for (const Table& table : wanted.tables) {
    out.String(table.name);
    EncodeDropped(table.dropped, out);
  }
  return SaveState("dropped", crdt::ValueView::Blob(bytes));
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
  clock.EraseColumn(column);
  std::string bytes;
  ByteWriter out(&bytes);
  if (!dead) out.U32(key_hash);
  clock.Encode(out);
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
    ASSIGN_OR_RETURN(Stmt forget, db->Prepare("DELETE FROM __patina_state WHERE name = ?", false));
    forget.BindText(1, "digest:" + change.table);
    RETURN_IF_ERROR(forget.Run());
  }
  if (!change.sql.empty()) RETURN_IF_ERROR(db->Exec(change.sql));
  if (change.kind == Kind::kAddTable || change.kind == Kind::kAdoptTable) {
    RETURN_IF_ERROR(TableIo(db.get(), wanted.Find(change.table), 0).CreateOwnTables());
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
  return SaveDropped(wanted);
}

Status Store::Impl::MigrateFile() {
  const Result<Schema> current = SchemaInFile(*db, options.schema);
  if (!current.ok()) return FailedPrecondition(options.path + ": " + current.error().message);
  const Schema& from = *current;
  const std::vector<SchemaChange> changes = DiffSchemas(from, options.schema);
  if (Status allowed = CheckAllowed(changes, options.allow_destructive); !allowed.ok()) {
    return FailedPrecondition(options.path + ": " + allowed.error().message);
  }
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

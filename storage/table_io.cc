#include "storage/table_io.h"

#include <algorithm>

#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"

namespace patina::storage {

using crdt::ColumnIndex;
using crdt::ColumnMask;
using crdt::ValueView;

namespace {

uint32_t ShortHash(uint64_t key_hash) { return static_cast<uint32_t>(key_hash); }

std::string Parameters(size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text += i == 0 ? "?" : ",?";
  return text;
}

bool ContainsWord(std::string_view sql, std::string_view upper_word) {
  for (size_t i = 0; i + upper_word.size() <= sql.size(); ++i) {
    size_t j = 0;
    while (j < upper_word.size() &&
           std::toupper(static_cast<unsigned char>(sql[i + j])) == upper_word[j])
      ++j;
    if (j == upper_word.size()) return true;
  }
  return false;
}

}  // namespace

TableIo::TableIo(Db* db, const Table* table, uint32_t number)
    : db_(db), table_(table), number_(number) {
  digest.Reset();
  // Only costs time when it is wrong: merges of such tables switch CHECK off around them.
  has_check_ = ContainsWord(table->create_sql, "CHECK");
  std::vector<ValueView> defaults;
  for (size_t i = 0; i < table->columns.size(); ++i) {
    const Column& column = table->columns[i];
    defaults.push_back(column.default_value);
    if (!column.not_null && !column.default_value.view().IsNull()) late_default_.set(i);
  }
  default_values_ = crdt::PackValues(defaults);
  key_may_be_real_ =
      !table->key_is_rowid &&
      std::any_of(table->key.begin(), table->key.end(), [&](const Column& column) {
        return column.affinity == Affinity::kBlob || column.affinity == Affinity::kInteger;
      });
  if (table->key_is_rowid) {
    rowid_name_ = QuoteName(table->key[0].name);
  } else {
    const auto names = table->AllColumnNames();
    for (const char* candidate : {"rowid", "_rowid_", "oid"}) {
      const bool taken = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
        return sqlite3_stricmp(name.c_str(), candidate) == 0;
      });
      if (!taken) rowid_name_ = candidate;
    }
  }
}

Status TableIo::CreateOwnTables() {
  if (table_->without_rowid) {
    RETURN_IF_ERROR(
        db_->Exec("CREATE TABLE IF NOT EXISTS " + clock_table() +
                  " (key BLOB NOT NULL PRIMARY KEY, clock BLOB NOT NULL) WITHOUT ROWID"));
  } else {
    RETURN_IF_ERROR(db_->Exec("CREATE TABLE IF NOT EXISTS " + clock_table() +
                              " (id INTEGER NOT NULL PRIMARY KEY, clock BLOB NOT NULL)"));
  }
  RETURN_IF_ERROR(db_->Exec(
      "CREATE TABLE IF NOT EXISTS " + dead_table() +
      " (key BLOB NOT NULL PRIMARY KEY, clock BLOB NOT NULL, cells BLOB NOT NULL) WITHOUT ROWID"));
  // The earliest stamp, for collection. Files of 0.1.0 have none: 0, looked at soon.
  ASSIGN_OR_RETURN(Stmt has_time,
                   db_->Prepare("SELECT 1 FROM pragma_table_info(?) WHERE name = 'time'", false));
  const std::string dead_name = "__patina_dead_" + table_->name;
  has_time.BindText(1, dead_name);
  ASSIGN_OR_RETURN(const bool found, has_time.Step());
  has_time = Stmt();
  if (!found) {
    RETURN_IF_ERROR(
        db_->Exec("ALTER TABLE " + dead_table() + " ADD COLUMN time INTEGER NOT NULL DEFAULT 0"));
  }
  RETURN_IF_ERROR(db_->Exec("CREATE INDEX IF NOT EXISTS " +
                            QuoteName("__patina_older_" + table_->name) + " ON " + dead_table() +
                            " (time)"));
  ASSIGN_OR_RETURN(const int64_t count, db_->QueryInt("SELECT count(*) FROM " + dead_table()));
  tombstones = static_cast<uint64_t>(count);
  return OkStatus();
}

std::string TableIo::KeyWhere(int first) const {
  std::string text = " WHERE ";
  for (size_t i = 0; i < table_->key.size(); ++i) {
    text += StrCat(i == 0 ? "" : " AND ", QuoteName(table_->key[i].name), " = ?",
                   first + static_cast<int>(i));
  }
  return text;
}

std::string TableIo::KeyList() const {
  std::string text;
  for (const Column& column : table_->key)
    text += (text.empty() ? "" : ", ") + QuoteName(column.name);
  return text;
}

std::string TableIo::ColumnList() const {
  std::string text;
  for (const Column& column : table_->columns) text += ", " + QuoteName(column.name);
  return text;
}

template <class MakeSql>
Status TableIo::Prepare(Stmt* statement, MakeSql make_sql) {
  if (*statement) return OkStatus();
  ASSIGN_OR_RETURN(*statement, db_->Prepare(std::string(make_sql())));
  return OkStatus();
}

void TableIo::BindKey(Stmt& statement, int first, std::string_view key) {
  CHECK(crdt::UnpackValues(key, table_->key.size(), &scratch_));
  for (size_t i = 0; i < scratch_.size(); ++i)
    statement.Bind(first + static_cast<int>(i), scratch_[i]);
}

Status TableIo::ReadClockRow(CachedRow* row, int64_t rowid, const crdt::ActorTable& actors) {
  RETURN_IF_ERROR(Prepare(&read_clock_, [&] {
    return "SELECT clock FROM " + clock_table() +
           (table_->without_rowid ? " WHERE key = ?" : " WHERE id = ?");
  }));
  StmtScope scope(read_clock_);
  if (table_->without_rowid) {
    read_clock_.BindBlob(1, row->key);
  } else {
    read_clock_.BindInt(1, rowid);
  }
  ASSIGN_OR_RETURN(const bool found, read_clock_.Step());
  if (!found) return OkStatus();
  row->clock_rowid = table_->without_rowid ? 1 : rowid;
  return DecodeClock(read_clock_.ColumnBytes(0), actors, row);
}

Status TableIo::DecodeClock(std::string_view bytes, const crdt::ActorTable& actors,
                            CachedRow* row) const {
  ByteReader in(bytes);
  const uint32_t hash = in.U32();
  // Another row's: left behind by a crash, or rowids were renumbered by a foreign VACUUM.
  row->others_clock = !in.ok() || hash != ShortHash(row->key_hash);
  if (row->others_clock) return OkStatus();
  if (!crdt::RowClock::Decode(in, actors.size(), &row->clock)) {
    return DataLoss("the clock of a row of table " + table_->name +
                    " is damaged; rebuild this node from a peer");
  }
  row->sealed = in.remaining() >= sizeof row->seal;
  if (row->sealed) row->seal = in.U32();
  return OkStatus();
}

Status TableIo::ReadDead(CachedRow* row, const crdt::ActorTable& actors, bool join) {
  RETURN_IF_ERROR(Prepare(
      &read_dead_, [&] { return "SELECT clock, cells FROM " + dead_table() + " WHERE key = ?"; }));
  StmtScope scope(read_dead_);
  read_dead_.BindBlob(1, row->key);
  ASSIGN_OR_RETURN(const bool found, read_dead_.Step());
  if (!found) return OkStatus();
  return DecodeDead(read_dead_.ColumnBytes(0), read_dead_.ColumnBytes(1), actors, join, row);
}

Status TableIo::DecodeDead(std::string_view clock_bytes, std::string_view cells,
                           const crdt::ActorTable& actors, bool join, CachedRow* row) {
  row->dead_in_file = true;
  crdt::RowClock clock;
  ByteReader in(clock_bytes);
  if (!crdt::RowClock::Decode(in, actors.size(), &clock)) {
    return DataLoss("a tombstone of table " + table_->name +
                    " is damaged; rebuild this node from a peer");
  }
  if (join) {
    row->clock.Join(clock, actors);
  } else {
    row->clock = std::move(clock);
    scratch_.clear();
    if (!cells.empty() && !crdt::UnpackValues(cells, table_->columns.size(), &scratch_)) {
      return DataLoss("a tombstone of table " + table_->name +
                      " is damaged; rebuild this node from a peer");
    }
    // Columns added since hold their defaults.
    for (size_t i = scratch_.size(); i < table_->columns.size(); ++i)
      scratch_.push_back(table_->columns[i].default_value);
    row->values = crdt::PackValues(scratch_);
  }
  return OkStatus();
}

Status TableIo::LoadClock(CachedRow* row, bool had_row, int64_t old_rowid,
                          const crdt::ActorTable& actors, bool join_dead) {
  if (had_row) RETURN_IF_ERROR(ReadClockRow(row, old_rowid, actors));
  if ((!had_row || join_dead) && tombstones > 0) RETURN_IF_ERROR(ReadDead(row, actors, had_row));
  return OkStatus();
}

Result<bool> TableIo::AnyOlderDead(crdt::HlcTime line) {
  RETURN_IF_ERROR(Prepare(&any_older_dead_, [&] {
    return "SELECT 1 FROM " + dead_table() + " WHERE time < ? LIMIT 1";
  }));
  StmtScope scope(any_older_dead_);
  any_older_dead_.BindInt(1, static_cast<int64_t>(line.bits));
  return any_older_dead_.Step();
}

Result<std::vector<CachedRow>> TableIo::OlderDead(crdt::HlcTime line, size_t rows_max,
                                                  const crdt::ActorTable& actors) {
  RETURN_IF_ERROR(Prepare(&older_dead_, [&] {
    return "SELECT key, clock, cells FROM " + dead_table() +
           " WHERE time < ? ORDER BY time LIMIT ?";
  }));
  StmtScope scope(older_dead_);
  older_dead_.BindInt(1, static_cast<int64_t>(line.bits));
  older_dead_.BindInt(2, static_cast<int64_t>(rows_max));
  std::vector<CachedRow> rows;
  while (true) {
    ASSIGN_OR_RETURN(const bool found, older_dead_.Step());
    if (!found) return rows;
    CachedRow& row = rows.emplace_back();
    row.table = number_;
    row.key = older_dead_.ColumnBytes(0);
    row.key_hash = RowCache::KeyHash(row.key);
    RETURN_IF_ERROR(
        DecodeDead(older_dead_.ColumnBytes(1), older_dead_.ColumnBytes(2), actors, false, &row));
  }
}

CachedRow TableIo::Absent(std::string_view key, uint64_t key_hash) const {
  CachedRow row;
  row.table = number_;
  row.key_hash = key_hash;
  row.key = key;
  row.values = default_values_;
  return row;
}

Result<CachedRow> TableIo::Load(std::string_view key, uint64_t key_hash,
                                const crdt::ActorTable& actors, bool join_dead) {
  // With the clock's row in one statement. Names of the user's columns may be those of ours.
  RETURN_IF_ERROR(Prepare(&load_, [&] {
    std::string columns, where;
    for (const Column& column : table_->columns) columns += ", data." + QuoteName(column.name);
    for (size_t i = 0; i < table_->key.size(); ++i) {
      where += StrCat(i == 0 ? " WHERE data." : " AND data.", QuoteName(table_->key[i].name),
                      " = ?", i + 1);
    }
    const std::string rowid = "data." + rowid_name_;
    return StrCat("SELECT ", table_->without_rowid ? "1" : rowid, ", stamps.clock", columns,
                  " FROM ", QuoteName(table_->name), " AS data LEFT JOIN ", clock_table(),
                  " AS stamps ON ",
                  table_->without_rowid ? StrCat("stamps.key = ?", table_->key.size() + 1)
                                        : "stamps.id = " + rowid,
                  where);
  }));
  CachedRow row = Absent(key, key_hash);
  {
    StmtScope scope(load_);
    BindKey(load_, 1, row.key);
    if (table_->without_rowid) load_.BindBlob(static_cast<int>(table_->key.size()) + 1, row.key);
    ASSIGN_OR_RETURN(row.present, load_.Step());
    if (row.present) {
      const int64_t rowid = load_.ColumnInt(0);
      if (!table_->without_rowid) row.rowid = rowid;
      if (!load_.Column(1).IsNull()) {
        row.clock_rowid = rowid;
        RETURN_IF_ERROR(DecodeClock(load_.ColumnBytes(1), actors, &row));
      }
      row.values.clear();
      ByteWriter out(&row.values);
      out.Varint(table_->columns.size());
      for (size_t i = 0; i < table_->columns.size(); ++i) {
        crdt::EncodeValue(load_.Column(static_cast<int>(i) + 2), out);
      }
    }
  }
  if ((!row.present || join_dead) && tombstones > 0) {
    RETURN_IF_ERROR(ReadDead(&row, actors, row.present));
  }
  return row;
}

Result<bool> TableIo::ReadRow(int64_t rowid, std::string* key, std::string* values) {
  RETURN_IF_ERROR(Prepare(&read_row_, [&] {
    return "SELECT " + KeyList() + ColumnList() + " FROM " + QuoteName(table_->name) + " WHERE " +
           rowid_name_ + " = ?";
  }));
  StmtScope scope(read_row_);
  read_row_.BindInt(1, rowid);
  ASSIGN_OR_RETURN(const bool found, read_row_.Step());
  if (!found) return false;
  PackScanned(read_row_, key, values);
  return true;
}

void TableIo::PackScanned(const Stmt& statement, std::string* key, std::string* values) const {
  key->clear();
  values->clear();
  ByteWriter key_out(key), values_out(values);
  int position = 0;
  key_out.Varint(table_->key.size());
  for (size_t i = 0; i < table_->key.size(); ++i)
    crdt::EncodeValue(statement.Column(position++), key_out);
  values_out.Varint(table_->columns.size());
  for (size_t i = 0; i < table_->columns.size(); ++i)
    crdt::EncodeValue(statement.Column(position++), values_out);
}

Result<bool> TableIo::ReadRowByKey(std::string_view key, std::string* values) {
  RETURN_IF_ERROR(Prepare(&read_keyed_, [&] {
    return "SELECT 0" + ColumnList() + " FROM " + QuoteName(table_->name) + KeyWhere(1);
  }));
  StmtScope scope(read_keyed_);
  BindKey(read_keyed_, 1, key);
  ASSIGN_OR_RETURN(const bool found, read_keyed_.Step());
  if (!found) return false;
  values->clear();
  ByteWriter out(values);
  out.Varint(table_->columns.size());
  for (size_t i = 0; i < table_->columns.size(); ++i) {
    crdt::EncodeValue(read_keyed_.Column(static_cast<int>(i) + 1), out);
  }
  return true;
}

Status TableIo::Insert(CachedRow* row, std::span<const ValueView> values) {
  RETURN_IF_ERROR(Prepare(&insert_, [&] {
    // OR ABORT: a key may be declared ON CONFLICT REPLACE, which is for clients.
    return "INSERT OR ABORT INTO " + QuoteName(table_->name) + " (" + KeyList() + ColumnList() +
           ") VALUES (" + Parameters(table_->key.size() + table_->columns.size()) + ")";
  }));
  BindKey(insert_, 1, row->key);
  const int first = static_cast<int>(table_->key.size()) + 1;
  for (size_t i = 0; i < values.size(); ++i) insert_.Bind(first + static_cast<int>(i), values[i]);
  RETURN_IF_ERROR(insert_.Run());
  row->rowid = table_->without_rowid ? 0 : sqlite3_last_insert_rowid(db_->get());
  return OkStatus();
}

Result<Stmt*> TableIo::UpdateShape(const ColumnMask& columns, size_t count) {
  Stmt& statement = updates_[columns];
  if (statement) return &statement;
  std::string sql = "UPDATE OR ABORT " + QuoteName(table_->name) + " SET ";
  int parameter = 0;
  for (size_t i = 0; i < table_->columns.size(); ++i) {
    if (!columns.test(i)) continue;
    sql += StrCat(parameter == 0 ? "" : ", ", QuoteName(table_->columns[i].name), " = ?",
                  parameter + 1);
    ++parameter;
  }
  sql += table_->without_rowid ? KeyWhere(static_cast<int>(count) + 1)
                               : StrCat(" WHERE ", rowid_name_, " = ?", count + 1);
  ASSIGN_OR_RETURN(statement, db_->Prepare(sql));
  return &statement;
}

Status TableIo::Update(const CachedRow& row, const ColumnMask& columns,
                       std::span<const ValueView> values) {
  const size_t count = columns.count();
  if (count == 0) return OkStatus();
  ASSIGN_OR_RETURN(Stmt * statement, UpdateShape(columns, count));
  int parameter = 1;
  for (size_t i = 0; i < table_->columns.size(); ++i) {
    if (columns.test(i)) statement->Bind(parameter++, values[i]);
  }
  if (table_->without_rowid) {
    BindKey(*statement, parameter, row.key);
  } else {
    statement->BindInt(parameter, row.rowid);
  }
  return statement->Run();
}

Status TableIo::Delete(const CachedRow& row) {
  RETURN_IF_ERROR(Prepare(&delete_, [&] {
    return "DELETE FROM " + QuoteName(table_->name) +
           (table_->without_rowid ? KeyWhere(1) : " WHERE " + rowid_name_ + " = ?");
  }));
  if (table_->without_rowid) {
    BindKey(delete_, 1, row.key);
  } else {
    delete_.BindInt(1, row.rowid);
  }
  return delete_.Run();
}

Status TableIo::DeleteClock(const CachedRow& row) {
  if (!row.clock_rowid) return OkStatus();
  RETURN_IF_ERROR(Prepare(&delete_clock_, [&] {
    return "DELETE FROM " + clock_table() +
           (table_->without_rowid ? " WHERE key = ?" : " WHERE id = ?");
  }));
  if (table_->without_rowid) {
    delete_clock_.BindBlob(1, row.key);
  } else {
    delete_clock_.BindInt(1, *row.clock_rowid);
  }
  return delete_clock_.Run();
}

Status TableIo::DeleteOwnClock(const CachedRow& row) {
  RETURN_IF_ERROR(Prepare(&delete_own_clock_, [&] {
    return "DELETE FROM " + clock_table() + " WHERE id = ? AND substr(clock, 1, 4) = ?";
  }));
  std::string short_hash;
  ByteWriter(&short_hash).U32(ShortHash(row.key_hash));
  delete_own_clock_.BindInt(1, *row.clock_rowid);
  delete_own_clock_.BindBlob(2, short_hash);
  return delete_own_clock_.Run();
}

Status TableIo::DeleteDead(const CachedRow& row) {
  if (!row.dead_in_file) return OkStatus();
  RETURN_IF_ERROR(
      Prepare(&delete_dead_, [&] { return "DELETE FROM " + dead_table() + " WHERE key = ?"; }));
  delete_dead_.BindBlob(1, row.key);
  return delete_dead_.Run();
}

Status TableIo::WriteClock(CachedRow* row) {
  std::string bytes;
  ByteWriter out(&bytes);
  if (row->present) {
    RETURN_IF_ERROR(Prepare(&write_clock_, [&] {
      return "INSERT OR REPLACE INTO " + clock_table() + " VALUES (?, ?)";
    }));
    out.U32(ShortHash(row->key_hash));
    row->clock.Encode(out);
    if (row->sealed) out.U32(row->seal);
    if (table_->without_rowid) {
      write_clock_.BindBlob(1, row->key);
    } else {
      write_clock_.BindInt(1, row->rowid);
    }
    write_clock_.BindBlob(2, bytes);
    RETURN_IF_ERROR(write_clock_.Run());
    row->clock_rowid = table_->without_rowid ? 1 : row->rowid;
    return OkStatus();
  }
  RETURN_IF_ERROR(Prepare(&write_dead_, [&] {
    return "INSERT OR REPLACE INTO " + dead_table() +
           " (key, clock, cells, time) VALUES (?, ?, ?, ?)";
  }));
  row->clock.Encode(out);
  write_dead_.BindBlob(1, row->key);
  write_dead_.BindBlob(2, bytes);
  write_dead_.BindBlob(3, row->values);
  write_dead_.BindInt(4, static_cast<int64_t>(row->clock.EarliestTime().bits));
  RETURN_IF_ERROR(write_dead_.Run());
  row->dead_in_file = true;
  row->clock_rowid.reset();
  return OkStatus();
}

std::string TableIo::FullRow(std::string_view key, std::string_view values) const {
  std::vector<ValueView> keys, cells;
  CHECK(crdt::UnpackValues(key, table_->key.size(), &keys));
  CHECK(crdt::UnpackValues(values, crdt::kMaxColumns, &cells));
  std::string packed;
  ByteWriter out(&packed);
  out.Varint(table_->order.size());
  for (const Table::Place& place : table_->order) {
    crdt::EncodeValue(place.in_key ? keys[place.index] : cells[place.index], out);
  }
  return packed;
}

}  // namespace patina::storage

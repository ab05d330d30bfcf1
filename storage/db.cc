#include "storage/db.h"

#include <sys/stat.h>

#include <algorithm>

#include "base/bytes.h"
#include "storage/wal_vfs.h"

namespace patina::storage {

using crdt::ValueType;
using crdt::ValueView;

namespace {

int Length(std::string_view bytes) { return static_cast<int>(bytes.size()); }

bool HasWriteAheadLog(const std::string& path) {
  struct stat info {};
  return ::stat((path + "-wal").c_str(), &info) == 0 && info.st_size > 0;
}

/// SQLite then looks for nothing beside the file. Every byte escaped that means something in a URI.
std::string ImmutableUri(const std::string& path) {
  std::string uri = "file:";
  for (const char byte : path) {
    if (byte == '%' || byte == '?' || byte == '#') {
      uri += '%' + ToHex({&byte, 1});
    } else {
      uri += byte;
    }
  }
  return uri + "?immutable=1";
}

}  // namespace

Errc ErrcOfSqlite(int code) {
  switch (code & 0xff) {
    case SQLITE_CONSTRAINT:
      return Errc::kFailedPrecondition;
    case SQLITE_FULL:
    case SQLITE_TOOBIG:
    case SQLITE_NOMEM:
      return Errc::kResourceExhausted;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return Errc::kUnavailable;
    case SQLITE_INTERRUPT:
      return Errc::kCancelled;
    case SQLITE_AUTH:
    case SQLITE_PERM:
    case SQLITE_READONLY:
      return Errc::kPermissionDenied;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return Errc::kDataLoss;
    case SQLITE_ERROR:
    case SQLITE_MISMATCH:
    case SQLITE_RANGE:
      return Errc::kInvalidArgument;
    default:
      return Errc::kInternal;
  }
}

namespace {

/// What an operator is to do about a disk that fails.
std::string WhatToDo(sqlite3* db, int code) {
  const char* const file = sqlite3_db_filename(db, "main");
  const std::string path = file == nullptr ? "" : file;
  switch (code & 0xff) {
    case SQLITE_FULL:
      return " (" + path + "): free space on that disk; writes go on by themselves then";
    case SQLITE_IOERR:
      return " (" + path + "): look at the disk and at the kernel's messages";
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return " (" + path + "): the file is damaged; `patina reseed` rebuilds it from a peer";
    default:
      return {};
  }
}

}  // namespace

Error SqliteError(sqlite3* db, std::string_view what) {
  return SqliteError(db, sqlite3_extended_errcode(db), what);
}

Error SqliteError(sqlite3* db, int code, std::string_view what) {
  std::string message(what);
  if (!message.empty()) message += ": ";
  message += code == sqlite3_extended_errcode(db) ? sqlite3_errmsg(db) : sqlite3_errstr(code);
  return {ErrcOfSqlite(code), message + WhatToDo(db, code)};
}

ValueView ViewOfSqliteValue(sqlite3_value* value) {
  switch (sqlite3_value_type(value)) {
    case SQLITE_INTEGER:
      return ValueView::Integer(sqlite3_value_int64(value));
    case SQLITE_FLOAT:
      return ValueView::Real(sqlite3_value_double(value));
    case SQLITE_TEXT: {
      const auto* text = reinterpret_cast<const char*>(sqlite3_value_text(value));
      return ValueView::Text({text, static_cast<size_t>(sqlite3_value_bytes(value))});
    }
    case SQLITE_BLOB: {
      const auto* blob = static_cast<const char*>(sqlite3_value_blob(value));
      return ValueView::Blob(
          {blob == nullptr ? "" : blob, static_cast<size_t>(sqlite3_value_bytes(value))});
    }
    default:
      return ValueView::Null();
  }
}

void Stmt::Bind(int index, const ValueView& value) {
  switch (value.type()) {
    case ValueType::kNull:
      sqlite3_bind_null(get(), index);
      break;
    case ValueType::kInteger:
      sqlite3_bind_int64(get(), index, value.integer());
      break;
    case ValueType::kReal:
      sqlite3_bind_double(get(), index, value.real());
      break;
    case ValueType::kText:
      BindText(index, value.bytes());
      break;
    case ValueType::kBlob:
      BindBlob(index, value.bytes());
      break;
  }
}

void Stmt::BindBlob(int index, std::string_view bytes) {
  // A null pointer would bind NULL.
  sqlite3_bind_blob(get(), index, bytes.data() == nullptr ? "" : bytes.data(), Length(bytes),
                    SQLITE_STATIC);
}

void Stmt::BindText(int index, std::string_view text) {
  sqlite3_bind_text(get(), index, text.data() == nullptr ? "" : text.data(), Length(text),
                    SQLITE_STATIC);
}

void Stmt::BindChange(const ChangeId& id) {
  BindBlob(1, id.actor.AsBytes());
  BindInt(2, static_cast<int64_t>(id.version));
}

Result<bool> Stmt::Step() {
  const int code = StepRaw();
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return SqliteError(sqlite3_db_handle(get()));
}

Status Stmt::Run() {
  int code = SQLITE_ROW;
  while (code == SQLITE_ROW) code = StepRaw();
  if (code == SQLITE_DONE) {
    Reset();
    return OkStatus();
  }
  Error error = SqliteError(sqlite3_db_handle(get()));
  Reset();
  return error;
}

ValueView Stmt::Column(int index) const {
  // One call into SQLite per value less than by sqlite3_column_*, which look the column up each
  // time. Such a value may be looked at because no other thread uses the connection.
  return ViewOfSqliteValue(sqlite3_column_value(get(), index));
}

std::string_view Stmt::ColumnBytes(int index) const {
  const auto* blob = static_cast<const char*>(sqlite3_column_blob(get(), index));
  if (blob == nullptr) return {};
  return {blob, static_cast<size_t>(sqlite3_column_bytes(get(), index))};
}

Result<Db> Db::Open(const std::string& path, Mode mode) {
  int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  if (mode == Mode::kReadWriteCreate) flags |= SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  if (mode == Mode::kReadOnly) flags |= SQLITE_OPEN_READONLY;
  if (mode == Mode::kMemory)
    flags |= SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_MEMORY;
  if (mode == Mode::kInspect || mode == Mode::kFileAlone)
    flags |= SQLITE_OPEN_READONLY | SQLITE_OPEN_URI;
  const bool immutable =
      mode == Mode::kFileAlone || (mode == Mode::kInspect && !HasWriteAheadLog(path));
  const std::string name = immutable ? ImmutableUri(path) : path;
  sqlite3* raw = nullptr;
  const char* vfs = mode == Mode::kReadWriteCreate ? WalVfsName() : nullptr;
  const int code = sqlite3_open_v2(name.c_str(), &raw, flags, vfs);
  Db db(raw);
  if (code != SQLITE_OK) {
    return Error{ErrcOfSqlite(code),
                 "cannot open the SQLite file " + path + ": " + sqlite3_errstr(code)};
  }
  sqlite3_busy_timeout(raw, 5'000);
  // One step of SQLite's machine is not interrupted: no value or pattern may make it a long one.
  sqlite3_limit(raw, SQLITE_LIMIT_LENGTH, 128 << 20);
  sqlite3_limit(raw, SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 256);
  sqlite3_limit(raw, SQLITE_LIMIT_EXPR_DEPTH, 200);
  sqlite3_limit(raw, SQLITE_LIMIT_COMPOUND_SELECT, 100);
  // Off for everybody: SQL from clients must never load code, nor write where it may not.
  sqlite3_db_config(raw, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, nullptr);
  sqlite3_db_config(raw, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(raw, SQLITE_DBCONFIG_DQS_DML, 0, nullptr);
  return db;
}

Status Db::Exec(const std::string& sql) {
  if (sqlite3_exec(get(), sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK) return OkStatus();
  return LastError();
}

Result<Stmt> Db::Prepare(std::string_view sql, bool persistent, size_t* used) {
  sqlite3_stmt* raw = nullptr;
  const char* tail = nullptr;
  const unsigned flags = persistent ? SQLITE_PREPARE_PERSISTENT : 0;
  const int code = sqlite3_prepare_v3(get(), sql.data(), Length(sql), flags, &raw, &tail);
  Stmt statement(raw);
  if (code != SQLITE_OK) return LastError();
  if (used != nullptr) *used = static_cast<size_t>(tail - sql.data());
  return statement;
}

Result<int64_t> Db::QueryInt(const std::string& sql) {
  ASSIGN_OR_RETURN(Stmt statement, Prepare(sql, false));
  ASSIGN_OR_RETURN(const bool row, statement.Step());
  return row ? statement.ColumnInt(0) : 0;
}

Result<std::vector<std::string>> Db::Problems(const std::string& pragma) {
  RETURN_IF_ERROR(Exec("PRAGMA ignore_check_constraints = 1"));
  const auto check = [&]() -> Result<std::vector<std::string>> {
    std::vector<std::string> problems;
    ASSIGN_OR_RETURN(Stmt lines, Prepare("PRAGMA " + pragma, false));
    while (true) {
      const auto row = lines.Step();
      if (!row.ok() && problems.empty()) return row.error();
      if (!row.ok()) problems.push_back(row.error().message);
      if (!row.ok() || !*row) return problems;
      if (lines.ColumnBytes(0) != "ok") problems.emplace_back(lines.ColumnBytes(0));
    }
  };
  auto problems = check();
  RETURN_IF_ERROR(Exec("PRAGMA ignore_check_constraints = 0"));
  return problems;
}

Result<bool> Db::HasTable(const std::string& name) {
  ASSIGN_OR_RETURN(Stmt find,
                   Prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", false));
  find.BindText(1, name);
  return find.Step();
}

Status Db::ConnectTableFunctions() {
  for (const char* name :
       {"json_each('[]')", "json_tree('[]')", "pragma_table_info('')", "pragma_table_xinfo('')",
        "pragma_table_list('')", "pragma_index_list('')", "pragma_index_info('')",
        "pragma_index_xinfo('')"}) {
    RETURN_IF_ERROR(Prepare(std::string("SELECT 1 FROM ") + name, false));
  }
  return OkStatus();
}

Error Db::LastError(std::string_view what) const { return SqliteError(get(), what); }

}  // namespace patina::storage

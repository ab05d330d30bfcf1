#pragma once

#ifndef SQLITE_ENABLE_PREUPDATE_HOOK
#define SQLITE_ENABLE_PREUPDATE_HOOK  // Debian builds the library with it; else the header hides it
#endif
// Light (0.02 s), and this is the header that wraps it for all of storage/.
#include <sqlite3.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "crdt/value.h"

// The one place that wraps sqlite3.h: connections and statements that clean up after themselves.
// A connection and its statements belong to one thread at a time (SQLITE_OPEN_NOMUTEX).

namespace patina::storage {

/// A prepared statement. Values bound by view must live until the statement is reset.
class Stmt {
 public:
  Stmt() = default;
  explicit Stmt(sqlite3_stmt* statement) : statement_(statement) {}
  explicit operator bool() const { return statement_ != nullptr; }

  void Bind(int index, const crdt::ValueView& value);
  void BindInt(int index, int64_t value) { sqlite3_bind_int64(get(), index, value); }
  void BindBlob(int index, std::string_view bytes);
  void BindText(int index, std::string_view text);
  /// As parameters 1 and 2: the actor's bytes and the version.
  void BindChange(const ChangeId& id);

  /// SQLITE_ROW, SQLITE_DONE or an error code.
  int StepRaw() { return sqlite3_step(get()); }
  /// True: there is a row.
  Result<bool> Step();
  /// Steps to the end, and resets.
  Status Run();
  void Reset() { sqlite3_reset(get()); }

  crdt::ValueView Column(int index) const;
  int64_t ColumnInt(int index) const { return sqlite3_column_int64(get(), index); }
  /// Bytes of a blob or text; valid until the next step or reset.
  std::string_view ColumnBytes(int index) const;
  int column_count() const { return sqlite3_column_count(get()); }

  sqlite3_stmt* get() const { return statement_.get(); }

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

/// Resets the statement at the end of the scope: one left un-reset pins the WAL.
class StmtScope {
 public:
  explicit StmtScope(Stmt& statement) : statement_(statement) {}
  ~StmtScope() { statement_.Reset(); }
  StmtScope(const StmtScope&) = delete;
  StmtScope& operator=(const StmtScope&) = delete;

 private:
  Stmt& statement_;
};

class Db {
 public:
  /// kInspect: read-only, of a file that nobody writes; nothing is made beside it.
  /// kFileAlone: the same, as if there were no write-ahead log.
  enum class Mode { kReadWriteCreate, kReadOnly, kInspect, kFileAlone, kMemory };

  static Result<Db> Open(const std::string& path, Mode mode);
  Db(Db&&) = default;
  Db& operator=(Db&&) = default;

  /// Any number of statements; answers are dropped.
  Status Exec(const std::string& sql);
  /// The first statement of the text. INVALID_ARGUMENT with SQLite's words when it is wrong.
  Result<Stmt> Prepare(std::string_view sql, bool persistent = true, size_t* used = nullptr);
  /// What SQLite's integrity_check or quick_check (pragma: with its argument) says is wrong; empty:
  /// nothing. A row that breaks a CHECK is no damage: merges do not look at CHECK.
  Result<std::vector<std::string>> Problems(const std::string& pragma);
  /// The single integer a query answers; 0 when it answers nothing.
  Result<int64_t> QueryInt(const std::string& sql);
  /// Whether the file has a table of exactly this name.
  Result<bool> HasTable(const std::string& name);

  /// Connects SQLite's table-valued functions (json_each, pragma_table_info and the like) once: an
  /// authorizer would refuse the declaration that each makes of itself at its first use.
  Status ConnectTableFunctions();

  /// The connection's last error, in our words and code. what names the work, for example "commit".
  Error LastError(std::string_view what = {}) const;
  bool InTransaction() const { return sqlite3_get_autocommit(get()) == 0; }
  sqlite3* get() const { return db_.get(); }

 private:
  struct Close {
    void operator()(sqlite3* db) const { sqlite3_close_v2(db); }
  };
  explicit Db(sqlite3* db) : db_(db) {}
  std::unique_ptr<sqlite3, Close> db_;
};

/// SQLite's (extended) result code as one of ours.
Errc ErrcOfSqlite(int code);
/// The connection's last error, or one of its codes; a disk that fails is named, with what to do.
Error SqliteError(sqlite3* db, std::string_view what = {});
Error SqliteError(sqlite3* db, int code, std::string_view what);

/// A hook's or row's sqlite3_value as a view; valid as long as the value.
crdt::ValueView ViewOfSqliteValue(sqlite3_value* value);

}  // namespace patina::storage

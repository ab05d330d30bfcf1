#include "storage/spill.h"

#include <unistd.h>

#include <utility>

#include "base/log.h"

namespace patina::storage {
namespace {

constexpr const char* kTables =
    // A rollback journal keeps pages from before the transaction: there are none.
    "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;"
    "PRAGMA cache_size = -8192; BEGIN EXCLUSIVE;"
    "CREATE TABLE touched (tab INTEGER NOT NULL, id NOT NULL, had INTEGER NOT NULL, inserted "
    "INTEGER NOT NULL, key BLOB NOT NULL, vals BLOB NOT NULL, PRIMARY KEY (tab, id)) WITHOUT "
    "ROWID;"
    "CREATE TABLE gone (key BLOB NOT NULL PRIMARY KEY, id INTEGER NOT NULL, vals BLOB NOT NULL, "
    "clock BLOB NOT NULL) WITHOUT ROWID";

}  // namespace

Result<std::unique_ptr<Spill>> Spill::Open(const std::string& path) {
  (void)::unlink(path.c_str());
  ASSIGN_OR_RETURN(Db db, Db::Open(path, Db::Mode::kReadWriteCreate));
  std::unique_ptr<Spill> spill(new Spill(std::move(db)));
  Status made = spill->db_.Exec(kTables);
  (void)::unlink(path.c_str());
  RETURN_IF_ERROR(made);
  RETURN_IF_ERROR(spill->Prepare());
  return spill;
}

Status Spill::Prepare() {
  ASSIGN_OR_RETURN(add_, db_.Prepare("INSERT OR IGNORE INTO touched VALUES (?, ?, ?, ?, ?, ?)"));
  ASSIGN_OR_RETURN(
      set_inserted_,
      db_.Prepare("UPDATE touched SET inserted = ? WHERE tab = ? AND id = ? AND inserted = 0"));
  ASSIGN_OR_RETURN(scan_, db_.Prepare("SELECT id, had, inserted, key, vals FROM touched WHERE tab "
                                      "= ? ORDER BY id"));
  ASSIGN_OR_RETURN(add_left_, db_.Prepare("INSERT INTO gone VALUES (?, ?, ?, ?)"));
  ASSIGN_OR_RETURN(find_left_, db_.Prepare("SELECT id, vals, clock FROM gone WHERE key = ?"));
  ASSIGN_OR_RETURN(delete_left_, db_.Prepare("DELETE FROM gone WHERE key = ?"));
  return OkStatus();
}

Status Spill::Add(uint32_t table, const crdt::ValueView& id, const Touched& touched) {
  add_.BindInt(1, table);
  add_.Bind(2, id);
  add_.BindInt(3, touched.had_row ? 1 : 0);
  add_.BindInt(4, static_cast<int64_t>(touched.inserted));
  add_.BindBlob(5, touched.old_key);
  add_.BindBlob(6, touched.old_values);
  RETURN_IF_ERROR(add_.Run());
  if (sqlite3_changes64(db_.get()) != 0) {
    ++rows_;
    return OkStatus();
  }
  if (touched.inserted == 0) return OkStatus();
  set_inserted_.BindInt(1, static_cast<int64_t>(touched.inserted));
  set_inserted_.BindInt(2, table);
  set_inserted_.Bind(3, id);
  return set_inserted_.Run();
}

Status Spill::ForEach(uint32_t table, const Visit& visit) {
  StmtScope scope(scan_);
  scan_.BindInt(1, table);
  while (true) {
    ASSIGN_OR_RETURN(const bool row, scan_.Step());
    if (!row) return OkStatus();
    Touched touched;
    touched.had_row = scan_.ColumnInt(1) != 0;
    touched.inserted = static_cast<uint64_t>(scan_.ColumnInt(2));
    touched.old_key = scan_.ColumnBytes(3);
    touched.old_values = scan_.ColumnBytes(4);
    RETURN_IF_ERROR(visit(scan_.Column(0), std::move(touched)));
  }
}

Status Spill::AddLeft(std::string_view key, const Left& left) {
  add_left_.BindBlob(1, key);
  add_left_.BindInt(2, left.rowid);
  add_left_.BindBlob(3, left.values);
  add_left_.BindBlob(4, left.clock);
  any_left_ = true;
  return add_left_.Run();
}

Result<bool> Spill::TakeLeft(std::string_view key, Left* left) {
  if (!any_left_) return false;
  {
    StmtScope scope(find_left_);
    find_left_.BindBlob(1, key);
    ASSIGN_OR_RETURN(const bool found, find_left_.Step());
    if (!found) return false;
    left->rowid = find_left_.ColumnInt(0);
    left->values = find_left_.ColumnBytes(1);
    left->clock = find_left_.ColumnBytes(2);
  }
  delete_left_.BindBlob(1, key);
  RETURN_IF_ERROR(delete_left_.Run());
  return true;
}

Status Spill::TakeAllLeft(const VisitLeft& visit) {
  if (!any_left_) return OkStatus();
  {
    ASSIGN_OR_RETURN(Stmt scan,
                     db_.Prepare("SELECT key, id, vals, clock FROM gone ORDER BY key", false));
    while (true) {
      ASSIGN_OR_RETURN(const bool row, scan.Step());
      if (!row) break;
      Left left;
      const std::string key(scan.ColumnBytes(0));
      left.rowid = scan.ColumnInt(1);
      left.values = scan.ColumnBytes(2);
      left.clock = scan.ColumnBytes(3);
      RETURN_IF_ERROR(visit(key, std::move(left)));
    }
  }
  any_left_ = false;
  return db_.Exec("DELETE FROM gone");
}

}  // namespace patina::storage

#include "base/log.h"
#include "storage/table_io.h"

// Reading a table from end to end: for its digest, and part by part for the scrub.

namespace patina::storage {

Status TableIo::RecomputeDigest(RowHasher* hasher, const crdt::ActorTable& actors,
                                const std::function<void()>& on_row) {
  ASSIGN_OR_RETURN(Stmt scan, db_->Prepare(ScanSql(), false));
  return DigestOfScan(scan, hasher, actors, on_row);
}

Status TableIo::DigestOfRange(int64_t first, int64_t last, RowHasher* hasher,
                              const crdt::ActorTable& actors) {
  ASSIGN_OR_RETURN(Stmt scan,
                   db_->Prepare(ScanSql() + " WHERE " + rowid_name_ + " BETWEEN ? AND ?", false));
  scan.BindInt(1, first);
  scan.BindInt(2, last);
  return DigestOfScan(scan, hasher, actors, {});
}

Status TableIo::DigestOfScan(Stmt& scan, RowHasher* hasher, const crdt::ActorTable& actors,
                             const std::function<void()>& on_row) {
  digest.Reset();
  while (true) {
    ASSIGN_OR_RETURN(const bool found, scan.Step());
    if (!found) return OkStatus();
    CachedRow row = ScannedRow(scan);
    RETURN_IF_ERROR(ReadScannedClock(scan, actors, &row));
    ++digest.rows;
    digest.Add(row.key_hash, hasher->Hash(row.key_hash, row.clock, row.values, actors));
    if (on_row) on_row();
  }
}

/// Key, columns, rowid, and the clock beside it: a statement of its own per row would cost as much
/// as all the rest. A table WITHOUT ROWID has it by the packed key, which SQL cannot make.
std::string TableIo::ScanSql() const {
  const std::string clock = StrCat("(SELECT stamps.clock FROM ", clock_table(),
                                   " AS stamps WHERE stamps.id = data.", rowid_name_, ")");
  return StrCat("SELECT ", KeyList(), ColumnList(), ", ",
                table_->without_rowid ? "0, NULL" : rowid_name_ + ", " + clock, " FROM ",
                QuoteName(table_->name), " AS data");
}

Status TableIo::ReadScannedClock(const Stmt& scan, const crdt::ActorTable& actors, CachedRow* row) {
  if (table_->without_rowid) return LoadClock(row, true, 0, actors);
  const int position = static_cast<int>(table_->key.size() + table_->columns.size()) + 1;
  if (scan.Column(position).IsNull()) return OkStatus();
  row->clock_rowid = row->rowid;
  return DecodeClock(scan.ColumnBytes(position), actors, row);
}

CachedRow TableIo::ScannedRow(const Stmt& scan) const {
  CachedRow row;
  row.table = number_;
  row.present = true;
  PackScanned(scan, &row.key, &row.values);
  row.rowid = scan.ColumnInt(static_cast<int>(table_->key.size() + table_->columns.size()));
  row.key_hash = RowCache::KeyHash(row.key);
  return row;
}

Result<Stmt> TableIo::ScanFrom(int64_t rowid, std::string_view key, size_t rows_max) {
  const bool keyed = table_->without_rowid;
  std::string places;
  for (size_t i = 0; i < table_->key.size(); ++i) places += i == 0 ? "?" : ", ?";
  std::string sql = ScanSql();
  if (!keyed) {
    sql += " WHERE " + rowid_name_ + " >= ?";
  } else if (!key.empty()) {
    sql += " WHERE (" + KeyList() + ") > (" + places + ")";
  }
  sql += " ORDER BY " + (keyed ? KeyList() : rowid_name_) + StrCat(" LIMIT ", rows_max);
  ASSIGN_OR_RETURN(Stmt scan, db_->Prepare(sql, false));
  if (!keyed) {
    scan.BindInt(1, rowid);
  } else if (!key.empty()) {
    BindKey(scan, 1, key);
  }
  return scan;
}

Result<Stmt> TableIo::ScanClocksFrom(int64_t rowid, std::string_view key, size_t rows_max) {
  if (table_->without_rowid) {
    ASSIGN_OR_RETURN(Stmt scan,
                     db_->Prepare("SELECT key, clock FROM " + clock_table() +
                                      StrCat(" WHERE key > ? ORDER BY key LIMIT ", rows_max),
                                  false));
    scan.BindBlob(1, key);
    return scan;
  }
  ASSIGN_OR_RETURN(
      Stmt scan,
      db_->Prepare("SELECT c.patina_id, c.patina_clock, u." + rowid_name_ +
                       " IS NULL FROM (SELECT id AS patina_id, clock AS patina_clock FROM " +
                       clock_table() + StrCat(" WHERE id >= ? ORDER BY id LIMIT ", rows_max) +
                       ") c LEFT JOIN " + QuoteName(table_->name) + " u ON u." + rowid_name_ +
                       " = c.patina_id",
                   false));
  scan.BindInt(1, rowid);
  return scan;
}

Result<std::string> TableIo::ClockBytes(int64_t clock_rowid) {
  ASSIGN_OR_RETURN(Stmt read,
                   db_->Prepare("SELECT clock FROM " + clock_table() + " WHERE id = ?", false));
  read.BindInt(1, clock_rowid);
  ASSIGN_OR_RETURN(const bool found, read.Step());
  return found ? std::string(read.ColumnBytes(0)) : std::string();
}

}  // namespace patina::storage

#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "crdt/actor_table.h"
#include "crdt/row_clock.h"
#include "storage/db.h"
#include "storage/digest.h"
#include "storage/row_cache.h"
#include "storage/schema.h"

namespace patina::storage {

/// One replicated table in the file: its prepared statements, its clock and tombstone tables, its
/// digest. The writer's thread.
class TableIo {
 public:
  TableIo(Db* db, const Table* table, uint32_t number);

  /// Makes the clock and tombstone tables if they are missing.
  Status CreateOwnTables();

  const Table& table() const { return *table_; }
  uint32_t number() const { return number_; }

  /// What Load answers when there is neither a row nor a tombstone.
  CachedRow Absent(std::string_view key, uint64_t key_hash) const;
  /// What the file says about a key. With join_dead the tombstone is looked at even when there is a
  /// row (only a replay finds both).
  Result<CachedRow> Load(std::string_view key, uint64_t key_hash, const crdt::ActorTable& actors,
                         bool join_dead = false);
  /// The clock row and tombstone of a row that is known already (a local write has its values):
  /// fills clock, clock_rowid and dead_in_file.
  Status LoadClock(CachedRow* row, bool had_row, int64_t old_rowid, const crdt::ActorTable& actors,
                   bool join_dead = false);

  /// Packs what a statement's first columns say: KeyList() ColumnList().
  void PackScanned(const Stmt& statement, std::string* key, std::string* values) const;
  /// The row now at a rowid (or key): packed key and packed values; false if there is none.
  Result<bool> ReadRow(int64_t rowid, std::string* key, std::string* values);
  Result<bool> ReadRowByKey(std::string_view key, std::string* values);

  // The user's row. Values are views of all non-key columns, in order. SQLite's error code is kept.
  Status Insert(CachedRow* row, std::span<const crdt::ValueView> values);
  Status Update(const CachedRow& row, const crdt::ColumnMask& columns,
                std::span<const crdt::ValueView> values);
  Status Delete(const CachedRow& row);

  // The scrub: the next rows, or rows of clocks, from a rowid on (WITHOUT ROWID: after a key, from
  // the start if it is empty), at most rows_max.
  Result<Stmt> ScanFrom(int64_t rowid, std::string_view key, size_t rows_max);
  /// The row that a scan is at: everything but its clock.
  CachedRow ScannedRow(const Stmt& scan) const;
  /// And that.
  Status ReadScannedClock(const Stmt& scan, const crdt::ActorTable& actors, CachedRow* row);
  /// id, clock, whether there is no such row; of a table WITHOUT ROWID packed key and clock.
  Result<Stmt> ScanClocksFrom(int64_t rowid, std::string_view key, size_t rows_max);
  /// Of the clock row at a rowid.
  Result<std::string> ClockBytes(int64_t clock_rowid);

  // Written behind.
  Status DeleteClock(const CachedRow& row);  // where the file has one
  /// Unless it is another row's that took the rowid since. Not for WITHOUT ROWID.
  Status DeleteOwnClock(const CachedRow& row);
  Status WriteClock(CachedRow* row);  // clock row or tombstone, as the row now is
  Status DeleteDead(const CachedRow& row);

  /// Makes `digest` anew from the rows and clocks in the file. on_row after each row; may be empty.
  Status RecomputeDigest(RowHasher* hasher, const crdt::ActorTable& actors,
                         const std::function<void()>& on_row);
  /// The same of the rows between two rowids, both included.
  Status DigestOfRange(int64_t first, int64_t last, RowHasher* hasher,
                       const crdt::ActorTable& actors);

  // Tombstones with a stamp from before a line, the oldest first.
  Result<std::vector<CachedRow>> OlderDead(crdt::HlcTime line, size_t rows_max,
                                           const crdt::ActorTable& actors);
  Result<bool> AnyOlderDead(crdt::HlcTime line);

  /// All columns, keys included, in declaration order, packed: what effects carry.
  std::string FullRow(std::string_view key, std::string_view values) const;
  /// Values of an absent or default row.
  const std::string& default_values() const { return default_values_; }
  /// Whether a row of these values can be stored as it is; else the reason, for parking.
  std::string WhyNotStorable(crdt::ColumnIndex column, const crdt::ValueView& value) const;
  std::string WhyNotKey(std::string_view packed_key) const;
  /// The part of WhyNotKey that SQLite itself would store: a real (of a BLOB column, or one that an
  /// INTEGER column keeps). It equals an integer there, or rounds to one elsewhere.
  std::string WhyNotLocalKey(std::string_view packed_key) const;
  bool key_may_be_real() const { return key_may_be_real_; }
  bool has_check() const { return has_check_; }
  /// A column whose default is not NULL but may hold NULL: the hook's old NULL may be a missing
  /// default.
  bool HasLateDefault(crdt::ColumnIndex column) const { return late_default_.test(column); }
  bool has_late_defaults() const { return late_default_.any(); }

  TableDigestState digest;
  uint64_t tombstones = 0;  // rows in the file's tombstone table; 0 spares the look
  bool digest_dirty = false;

  const std::string& rowid_name() const { return rowid_name_; }
  std::string clock_table() const { return QuoteName("__patina_clock_" + table_->name); }
  std::string dead_table() const { return QuoteName("__patina_dead_" + table_->name); }
  /// "WHERE k1 = ?1 AND k2 = ?2"
  std::string KeyWhere(int first_parameter) const;
  std::string KeyList() const;
  std::string ScanSql() const;
  std::string ColumnList() const;

 private:
  Status DigestOfScan(Stmt& scan, RowHasher* hasher, const crdt::ActorTable& actors,
                      const std::function<void()>& on_row);
  /// make_sql is called once: making the text costs more than running the statement.
  template <class MakeSql>
  Status Prepare(Stmt* statement, MakeSql make_sql);
  Result<Stmt*> UpdateShape(const crdt::ColumnMask& columns, size_t count);
  void BindKey(Stmt& statement, int first, std::string_view key);
  Status ReadClockRow(CachedRow* row, int64_t rowid, const crdt::ActorTable& actors);
  Status DecodeClock(std::string_view bytes, const crdt::ActorTable& actors, CachedRow* row) const;
  Status ReadDead(CachedRow* row, const crdt::ActorTable& actors, bool join);
  Status DecodeDead(std::string_view clock, std::string_view cells, const crdt::ActorTable& actors,
                    bool join, CachedRow* row);

  Db* db_;
  const Table* table_;
  uint32_t number_;
  std::string rowid_name_, default_values_;
  bool has_check_ = false;
  crdt::ColumnMask late_default_;
  bool key_may_be_real_ = false;
  Stmt load_, read_keyed_, read_row_, insert_, delete_, read_clock_, read_dead_, write_clock_,
      delete_clock_, delete_own_clock_, write_dead_, delete_dead_, older_dead_, any_older_dead_;
  std::unordered_map<crdt::ColumnMask, Stmt> updates_;  // by the columns written
  std::vector<crdt::ValueView> scratch_;
};

}  // namespace patina::storage

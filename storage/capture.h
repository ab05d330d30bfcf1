#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "crdt/row_clock.h"
#include "storage/db.h"
#include "storage/table_io.h"

namespace patina::storage {

/// What one transaction did to one row, net.
struct NetChange {
  TableIo* table = nullptr;
  std::string key;  // packed
  uint64_t key_hash = 0;
  crdt::Says says = crdt::Says::kNothing;
  std::vector<crdt::ColumnIndex> columns;  // written in effect
  bool had_row = false, has_row = false;
  std::string old_values, new_values;  // packed non-key columns; empty without a row
  int64_t old_rowid = 0, new_rowid = 0;
  /// The same row in effect, but at another rowid: its clock row must move in the same commit.
  bool moved() const { return had_row && has_row && old_rowid != new_rowid; }
};

/// Notes which rows SQL touches, by SQLite's preupdate hook on the writer's connection, and says
/// before the commit what came of it. The hook's values alone mislead (see docs/capture.md), so
/// touched rows are read again and compared with their first old image.
class Capture {
 public:
  /// Installs the hook. tables outlive it.
  Capture(Db* db, std::vector<TableIo*> tables);
  ~Capture();
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  /// Between Begin and Finish or Discard the hook notes; otherwise it looks away (merges).
  void Begin(size_t rows_max);
  void Discard();
  /// Net changes by table and key. resolve_default is asked for the stamped columns of a row when
  /// an old NULL may be a default that the row never stored. Touched rows that did not change are
  /// left out, unless moved().
  Result<std::vector<NetChange>> Finish();

  bool too_many() const { return too_many_; }
  /// Why an old image could not be read (SQLite's code, 0: all could): what was noted is not to be
  /// used, and the transaction fails. SQLite itself may go on: it only needed the row's place.
  int read_error() const { return read_error_; }
  size_t touched() const { return touched_count_; }

  // Statements and savepoints: what an aborted one inserted was not inserted.
  size_t Mark() const { return insert_journal_.size(); }
  void RollBackTo(size_t mark);

  using LoadClock =
      std::function<Result<crdt::RowClock>(TableIo&, const std::string& key, int64_t rowid)>;
  void SetClockLoader(LoadClock loader) { load_clock_ = std::move(loader); }

 private:
  struct Touched {
    bool had_row = false;
    bool inserted = false;
    std::string old_key, old_values;
  };
  struct TouchedTable {
    std::unordered_map<int64_t, Touched> by_rowid;
    std::unordered_map<std::string, Touched> by_key;  // WITHOUT ROWID
  };
  struct Image {
    bool had_row = false, has_row = false, inserted = false;
    int64_t old_rowid = 0, new_rowid = 0;
    std::string old_values, new_values;
  };

  static void Hook(void* self, sqlite3* db, int op, const char* database, const char* table,
                   sqlite3_int64 old_rowid, sqlite3_int64 new_rowid);
  void OnRow(sqlite3* db, int op, TableIo& table, int64_t old_rowid, int64_t new_rowid);
  void OnKeyedRow(sqlite3* db, int op, TableIo& table);
  Touched& TouchRowid(TableIo& table, int64_t rowid, bool* is_new);
  Touched& TouchKey(TableIo& table, const std::string& key, bool* is_new);
  void ReadOld(sqlite3* db, const TableIo& table, Touched* touched);
  std::string HookKey(sqlite3* db, const TableIo& table, bool old_image);
  crdt::ValueView HookValue(sqlite3* db, int position, bool old_image);
  Status ImagesOf(TableIo& table, TouchedTable& touched,
                  std::unordered_map<std::string, Image>* images);
  Status AddNet(TableIo& table, const std::string& key, Image& image, std::vector<NetChange>* out);
  Status FixDefaults(TableIo& table, const std::string& key, Image* image);

  struct Inserted {
    uint32_t table;
    int64_t rowid;
    std::string key;
  };
  Db* db_;
  std::vector<TableIo*> tables_;
  std::unordered_map<std::string_view, TableIo*> by_name_;
  TableIo* last_table_ = nullptr;
  std::vector<TouchedTable> touched_;
  std::vector<Inserted> insert_journal_;
  size_t touched_count_ = 0, rows_max_ = 0;
  bool active_ = false, too_many_ = false;
  int read_error_ = 0;
  LoadClock load_clock_;
};

}  // namespace patina::storage

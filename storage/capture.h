#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "crdt/row_clock.h"
#include "storage/db.h"
#include "storage/spill.h"
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
  CachedRow* cached = nullptr;  // once it is logged, until the commit is made known to memory
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
  /// The same for a large transaction, which ends by FinishLarge: what takes more memory than
  /// memory_bytes goes to the spill (not owned; lives until FinishLarge or Discard).
  void BeginLarge(size_t rows_max, size_t memory_bytes, Spill* spill);
  void Discard();
  /// Net changes by table and key. resolve_default is asked for the stamped columns of a row when
  /// an old NULL may be a default that the row never stored. Touched rows that did not change are
  /// left out, unless moved().
  Result<std::vector<NetChange>> Finish();

  /// How a large transaction's rows are handed over, one by one, so that not all are in memory.
  class LargeSink {
   public:
    virtual ~LargeSink() = default;
    /// A row leaves its rowid: its clock there, encoded, which has to go from the file now, because
    /// another row may take the rowid.
    virtual Result<std::string> Leave(TableIo& table, const std::string& key, int64_t rowid) = 0;
    /// As Finish, but within a table in no order. clock: what Leave answered for this row, else
    /// null.
    virtual Status OnNet(NetChange& net, const crdt::RowClock* clock) = 0;
  };
  /// actor_limit: of the clocks that Leave answers.
  Status FinishLarge(crdt::ActorIndex actor_limit, LargeSink& sink);

  bool too_many() const { return too_many_; }
  size_t rows_max() const { return rows_max_; }
  /// Why an old image could not be read (SQLite's code, 0: all could): what was noted is not to be
  /// used, and the transaction fails. SQLite itself may go on: it only needed the row's place.
  int read_error() const { return read_error_; }
  /// The table whose row was one too many.
  const std::string& too_many_table() const { return last_table_->table().name; }
  /// Whether the spill took what it was given (a full disk).
  const Status& spill_status() const { return spill_status_; }
  /// Rows touched. Of a large transaction a little more, until all is in the spill.
  size_t touched() const { return touched_count_; }

  // Savepoints: what was inserted since is not inserted after a rollback to the mark. A large
  // transaction has none.
  uint64_t Mark() { return epoch_++; }
  void RollBackTo(uint64_t mark);

  using LoadClock =
      std::function<Result<crdt::RowClock>(TableIo&, const std::string& key, int64_t rowid)>;
  void SetClockLoader(LoadClock loader) { load_clock_ = std::move(loader); }

 private:
  struct TouchedRow {
    int64_t rowid = 0;
    Touched touched;
  };
  struct TouchedTable {
    std::vector<TouchedRow> rows;
    boost::unordered_flat_map<int64_t, uint32_t> by_rowid;  // where in rows
    std::unordered_map<std::string, Touched> by_key;        // WITHOUT ROWID
    bool empty() const { return rows.empty() && by_key.empty(); }
    void Clear();
    /// Those of rows, by rowid: SQLite reads and writes neighbours faster. by_rowid is wrong then.
    void Sort();
  };
  /// What a row was and is. key: of both.
  struct Image {
    std::string key;
    bool had_row = false, has_row = false, inserted = false;
    int64_t old_rowid = 0, new_rowid = 0;
    std::string old_values, new_values;
    const crdt::RowClock* clock = nullptr;  // null: it is where the clock loader finds it
  };

  static void Hook(void* self, sqlite3* db, int op, const char* database, const char* table,
                   sqlite3_int64 old_rowid, sqlite3_int64 new_rowid);
  void OnRow(sqlite3* db, int op, TableIo& table, int64_t old_rowid, int64_t new_rowid);
  void OnKeyedRow(sqlite3* db, int op, TableIo& table);
  /// Good until the next call.
  Touched& TouchRowid(TableIo& table, int64_t rowid, bool* is_new);
  Touched& TouchKey(TableIo& table, const std::string& key, bool* is_new);
  void NoteTouched(size_t key_bytes) {
    ++touched_count_;
    memory_bytes_ += kTouchedBytes + key_bytes;
  }
  void NoteInserted(Touched* touched) const {
    if (touched->inserted == 0) touched->inserted = epoch_;
  }
  void ReadOld(sqlite3* db, const TableIo& table, Touched* touched);
  /// Good until the next call.
  const std::string& HookKey(sqlite3* db, const TableIo& table, bool old_image);
  crdt::ValueView HookValue(sqlite3* db, int position, bool old_image);
  /// Of all touched rows, by key.
  Status ImagesOf(TableIo& table, TouchedTable& touched, std::vector<Image>* images);
  static void SortByKey(std::vector<Image>* images);
  static Status JoinHalves(const TableIo& table, std::vector<Image>* images);
  Status AddNet(TableIo& table, Image& image, std::vector<NetChange>* out);
  Status FixDefaults(TableIo& table, Image* image);
  Status HandOver(TableIo& table, Image& image, LargeSink& sink);
  Status SpillAll();
  Status FindLeft(TableIo& table, LargeSink& sink);
  Status HandOverRows(TableIo& table, crdt::ActorIndex actor_limit, LargeSink& sink);
  Status HandOverKeyed(TableIo& table, LargeSink& sink);

  // With its place in the map; twice, because a vector grows by doubling.
  static constexpr size_t kTouchedBytes = 2 * (sizeof(TouchedRow) + 24);

  Db* db_;
  std::vector<TableIo*> tables_;
  std::unordered_map<std::string_view, TableIo*> by_name_;
  TableIo* last_table_ = nullptr;
  std::vector<TouchedTable> touched_;
  uint64_t epoch_ = 1;  // raised by each savepoint
  size_t touched_count_ = 0, rows_max_ = 0;
  Spill* spill_ = nullptr;
  size_t memory_bytes_ = 0, memory_bytes_max_ = 0;  // of touched_; counted for the spill only
  Status spill_status_ = OkStatus();
  std::vector<NetChange> handed_over_;  // reused: one at a time
  std::string hook_key_, hook_values_;  // reused
  bool active_ = false, too_many_ = false;
  int read_error_ = 0;
  LoadClock load_clock_;
};

}  // namespace patina::storage

#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "crdt/hlc.h"

// Rows that another SQLite client wrote in the node's file, past Patina. Every clock row ends with
// a seal, 32 bits of the hash of its row as Patina wrote it (digest.h); a scrub walks through the
// tables (scrub.cc) and lists the rows that are not as sealed. Values, the writer's thread.

namespace patina::storage {

struct ForeignRow {
  enum class Kind : uint8_t { kInserted, kChanged, kDeleted };
  std::string table;
  std::string key;  // packed; empty: of a deleted row, and the log no longer has its insert
  Kind kind = Kind::kChanged;
  /// Where it has clocks: one, if it was there for Patina; more, if Patina wrote to what another
  /// client had put in its place.
  std::set<int64_t> clock_rowids;
  int64_t found_ms = 0;  // cluster time
  uint64_t pass = 0;     // of the scrub that last saw it
};

/// "inserted", "changed", "deleted"
std::string_view NameOf(ForeignRow::Kind kind);

enum class ForeignAction : uint8_t {
  kAdopt,    // what the file has becomes a write of this node, now
  kDiscard,  // what Patina wrote is put back
};

/// A row that could not be settled, and why.
struct ForeignRowLeft {
  ForeignRow row;
  std::string why;
};

/// The foreign rows that are known, at most a given number; what is beyond is counted, and found
/// again by the next pass when there is room.
class ForeignRowList {
 public:
  explicit ForeignRowList(size_t rows_max) : rows_max_(rows_max) {}

  /// True: it was not known. A row that was inserted and deleted in one (REPLACE gives it another
  /// rowid) is one that was changed.
  bool Note(ForeignRow row);
  /// It is as Patina wrote it.
  void Forget(const std::string& table, const std::string& key);
  /// At the end of a pass: rows that it has not seen are as Patina wrote them again, or gone.
  void ForgetBefore(uint64_t pass);
  void Clear() { rows_.clear(); }
  /// Of an inserted row of which a clock row names the key by its hash; empty: none.
  std::string InsertedKey(const std::string& table, uint32_t short_hash) const;

  bool empty() const { return rows_.empty(); }
  size_t size() const { return rows_.size(); }
  uint64_t unlisted() const { return unlisted_; }
  /// By table and key, the first of them.
  std::vector<ForeignRow> List(size_t rows_max = SIZE_MAX) const;

 private:
  using Place = std::tuple<std::string, std::string, int64_t>;  // table, key, rowid without a key
  static Place PlaceOf(const ForeignRow& row) {
    return {row.table, row.key, row.key.empty() ? *row.clock_rowids.begin() : 0};
  }

  size_t rows_max_;
  uint64_t unlisted_ = 0;
  std::map<Place, ForeignRow> rows_;
};

/// How far the scrub has come: rows of a table by rowid (or key), then its clock rows.
struct ScrubCursor {
  size_t table = 0;
  bool clocks = false;
  int64_t rowid = INT64_MIN;  // the next
  std::string key;            // the last; empty: from the start
  uint64_t pass = 1;

  void NextPart() {
    if (clocks) ++table;
    clocks = !clocks;
    rowid = INT64_MIN;
    key.clear();
  }
  void Restart() { *this = {0, false, INT64_MIN, {}, pass}; }
};

}  // namespace patina::storage

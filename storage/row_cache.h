#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "crdt/row_clock.h"

namespace patina::storage {

/// What memory knows of one row: its values and its clock, and whether the file's clock row is
/// behind.
struct CachedRow {
  uint32_t table = 0;
  uint64_t key_hash = 0;  // Hash64 of the packed key
  std::string key;        // packed
  bool present = false;   // there is a row in the user's table
  int64_t rowid = 0;      // of that row, unless the table is WITHOUT ROWID
  std::string
      values;  // packed non-key columns; of a row that is not there: null but for late cells
  crdt::RowClock clock;

  bool dirty = false;                  // the file's clock (or tombstone) is older than this
  std::optional<int64_t> clock_rowid;  // where the file has a clock row for it
  bool others_clock = false;           // as read, that clock row was another key's
  bool dead_in_file = false;           // the file has a tombstone for it
  bool used = false;                   // lately, for eviction
  bool free = false;                   // slot not in use
  bool sealed = true;                  // `seal` is known
  uint32_t seal = 0;                   // of the row as Patina wrote it, see SealOf

  /// After a write of ours, with what it added to the row's hash.
  void AddToSeal(uint64_t change) {
    seal = present ? seal + static_cast<uint32_t>(change) : 0;
    sealed = sealed || !present;
  }
};

/// Rows touched lately and all rows whose clock is to be written behind, in one flat hash table by
/// (table, key). Bounded by bytes, but rows that are dirty are never given up. One thread at a
/// time.
class RowCache {
 public:
  explicit RowCache(size_t bytes_max) : bytes_max_(bytes_max) { Rehash(1024); }

  static uint64_t KeyHash(std::string_view key) { return Hash64(key); }

  /// Null if it is not there. The pointer is good until EvictIfNeeded, Forget or Clear.
  CachedRow* Find(uint32_t table, std::string_view key, uint64_t key_hash);
  /// The row must not be there.
  CachedRow* Insert(CachedRow row);
  /// Call when values, key or clock of a row in the cache have changed, with its bytes before.
  void Resized(size_t bytes_before, const CachedRow& row);
  static size_t BytesOf(const CachedRow& row);

  /// One row that is not dirty: what it says is not certain.
  void Forget(const CachedRow* row);
  void MarkDirty(CachedRow* row);
  void MarkAllClean();
  /// Forgets rows that are not dirty until the rest fits the budget. Pointers go bad.
  void EvictIfNeeded();
  void Clear();

  template <class Visit>
  void ForEach(Visit visit) {
    for (CachedRow& row : rows_) {
      if (!row.free) visit(row);
    }
  }
  template <class Visit>
  void ForEachDirty(Visit visit) {
    for (CachedRow& row : rows_) {
      if (!row.free && row.dirty) visit(row);
    }
  }

  size_t size() const { return size_; }
  size_t dirty() const { return dirty_; }
  size_t bytes() const { return bytes_; }
  uint64_t hits = 0, misses = 0;

 private:
  static constexpr uint32_t kEmpty = 0xffffffff;
  struct Slot {
    uint32_t row = kEmpty;
    uint32_t tag = 0;
  };
  static uint64_t Mix(uint32_t table, uint64_t key_hash) { return CombineHash(key_hash, table); }
  void Rehash(size_t slots);
  void Place(uint32_t row);
  void Remove(uint32_t row);

  size_t bytes_max_;
  std::deque<CachedRow> rows_;
  std::vector<uint32_t> free_;
  std::vector<Slot> slots_;
  size_t size_ = 0, dirty_ = 0, bytes_ = 0, hand_ = 0;
};

}  // namespace patina::storage

#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "crdt/row_clock.h"
#include "crdt/value.h"
#include "storage/row_cache.h"

namespace patina::storage {

/// A row's word in a changeset or transfer, decoded and understood: positions are this node's
/// columns.
struct MergeOp {
  uint32_t table = 0;
  uint32_t changeset = 0;  // position in the batch
  crdt::Says says = crdt::Says::kNothing;
  crdt::Stamp stamp;
  std::string_view key;
  uint64_t key_hash = 0;
  uint32_t first = 0, count = 0;  // in MergeBatch::columns and values
  uint32_t work = 0;
};

/// One row as a batch changes it: loaded once, merged in memory, written once.
struct MergeWork {
  uint32_t table = 0;
  std::string_view key;  // in the changeset's bytes
  uint64_t key_hash = 0;
  uint32_t first_cell = 0;  // in MergeBatch::cells: its columns, as they are now
  /// As it is committed; good until the cache evicts.
  CachedRow* cached = nullptr;
  CachedRow next;
  crdt::ColumnMask touched;   // cells that got another stamp
  crdt::ColumnMask written;   // cells whose value differs
  crdt::ColumnMask stored;    // cells to store although the value is the same, see MergeOpIntoWork
  bool begins_alive = false;  // the first word is an INSERT's
  bool assumed = false;       // `cached` is nothing but the assumption that there is no such row
  bool changed = false;
  bool tombstone_is_new = false;  // written through, see WriteWork
};

/// What is merged in one go. Used again and again: its memory stays, within bounds.
class MergeBatch {
 public:
  std::vector<MergeOp> ops;
  std::vector<crdt::ColumnIndex> columns;  // of ops
  std::vector<crdt::ValueView> values;     // of ops
  std::vector<crdt::ValueView> cells;      // of works
  std::vector<uint32_t> discarding;  // changesets with words for dropped columns or tables; sorted

  /// Gives each op its work, one for all that name the same row, and puts the works in the order of
  /// tables and keys. Once more, all begins anew.
  void FoldByRow();
  size_t work_count() const { return order_.size(); }
  /// The i-th in that order.
  MergeWork& work(size_t i) { return works_[order_[i]]; }
  MergeWork& work_of(const MergeOp& op) { return works_[op.work]; }
  const MergeWork& work_of(const MergeOp& op) const { return works_[op.work]; }
  void Clear();

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr size_t kWorksKept = 4096;

  uint32_t FindOrAddWork(const MergeOp& op);

  std::vector<MergeWork> works_;  // those past work_count() are there for their memory
  std::vector<uint32_t> order_;   // of works in use
  std::vector<uint32_t> slots_;   // hash table of works
};

}  // namespace patina::storage

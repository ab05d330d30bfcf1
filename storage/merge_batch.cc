#include "storage/merge_batch.h"

#include <algorithm>
#include <bit>

#include "base/hash.h"

namespace patina::storage {

uint32_t MergeBatch::FindOrAddWork(const MergeOp& op) {
  const size_t mask = slots_.size() - 1;
  for (size_t i = CombineHash(op.key_hash, op.table) & mask;; i = (i + 1) & mask) {
    if (slots_[i] == kNone) {
      slots_[i] = static_cast<uint32_t>(order_.size());
      break;
    }
    const MergeWork& work = works_[slots_[i]];
    if (work.table == op.table && work.key == op.key) return slots_[i];
  }
  const auto number = static_cast<uint32_t>(order_.size());
  order_.push_back(number);
  if (number == works_.size()) works_.emplace_back();
  MergeWork& work = works_[number];
  work.table = op.table;
  work.key = op.key;
  work.key_hash = op.key_hash;
  work.cached = nullptr;
  work.touched.reset();
  work.written.reset();
  work.stored.reset();
  work.begins_alive = op.says == crdt::Says::kAlive;
  work.assumed = work.changed = work.tombstone_is_new = false;
  return number;
}

void MergeBatch::FoldByRow() {
  cells.clear();
  order_.clear();
  slots_.assign(std::bit_ceil(ops.size() * 2 + 1), kNone);
  for (MergeOp& op : ops) op.work = FindOrAddWork(op);
  std::sort(order_.begin(), order_.end(), [&](uint32_t a, uint32_t b) {
    const MergeWork &one = works_[a], &other = works_[b];
    return one.table != other.table ? one.table < other.table : one.key < other.key;
  });
}

void MergeBatch::Clear() {
  if (works_.size() > kWorksKept) {
    *this = MergeBatch();
    return;
  }
  ops.clear();
  columns.clear();
  values.clear();
  cells.clear();
  discarding.clear();
  order_.clear();
}

}  // namespace patina::storage

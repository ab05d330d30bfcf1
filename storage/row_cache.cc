#include "storage/row_cache.h"

#include "base/check.h"

namespace patina::storage {

size_t RowCache::BytesOf(const CachedRow& row) {
  return sizeof(CachedRow) + 2 * sizeof(Slot) + (row.key.capacity() > 15 ? row.key.capacity() : 0) +
         (row.values.capacity() > 15 ? row.values.capacity() : 0) + row.clock.HeapBytes();
}

CachedRow* RowCache::Find(uint32_t table, std::string_view key, uint64_t key_hash) {
  const uint64_t hash = Mix(table, key_hash);
  const size_t mask = slots_.size() - 1;
  const auto tag = static_cast<uint32_t>(hash >> 32);
  for (size_t i = hash & mask; slots_[i].row != kEmpty; i = (i + 1) & mask) {
    if (slots_[i].tag != tag) continue;
    CachedRow& row = rows_[slots_[i].row];
    if (row.table == table && row.key == key) {
      row.used = true;
      return &row;
    }
  }
  return nullptr;
}

CachedRow* RowCache::Insert(CachedRow row) {
  if ((size_ + 1) * 2 > slots_.size()) Rehash(slots_.size() * 2);
  uint32_t index;
  if (!free_.empty()) {
    index = free_.back();
    free_.pop_back();
  } else {
    index = static_cast<uint32_t>(rows_.size());
    rows_.emplace_back();
  }
  CachedRow& placed = rows_[index];
  placed = std::move(row);
  placed.free = false;
  placed.used = true;
  if (placed.dirty) ++dirty_;
  ++size_;
  bytes_ += BytesOf(placed);
  Place(index);
  return &placed;
}

void RowCache::Resized(size_t bytes_before, const CachedRow& row) {
  bytes_ += BytesOf(row);
  bytes_ -= bytes_before;
}

void RowCache::Forget(const CachedRow* row) {
  CHECK(!row->dirty);
  const size_t mask = slots_.size() - 1;
  size_t i = Mix(row->table, row->key_hash) & mask;
  for (; slots_[i].row == kEmpty || &rows_[slots_[i].row] != row; i = (i + 1) & mask)
    CHECK(slots_[i].row != kEmpty);
  Remove(slots_[i].row);
}

void RowCache::MarkDirty(CachedRow* row) {
  if (!row->dirty) ++dirty_;
  row->dirty = true;
}

void RowCache::MarkAllClean() {
  for (CachedRow& row : rows_) row.dirty = false;
  dirty_ = 0;
}

void RowCache::EvictIfNeeded() {
  // Second chance: a row used since the hand came by stays once more.
  size_t looked = 0;
  const size_t look_max = rows_.size() * 2;
  while (bytes_ > bytes_max_ && size_ > dirty_ && looked++ < look_max) {
    if (hand_ >= rows_.size()) hand_ = 0;
    CachedRow& row = rows_[hand_];
    if (!row.free && !row.dirty) {
      if (row.used) {
        row.used = false;
      } else {
        Remove(static_cast<uint32_t>(hand_));
      }
    }
    ++hand_;
  }
}

void RowCache::Clear() {
  rows_.clear();
  free_.clear();
  size_ = dirty_ = bytes_ = hand_ = 0;
  Rehash(1024);
}

void RowCache::Rehash(size_t slots) {
  slots_.assign(slots, Slot());
  for (size_t i = 0; i < rows_.size(); ++i) {
    if (!rows_[i].free) Place(static_cast<uint32_t>(i));
  }
}

void RowCache::Place(uint32_t index) {
  const uint64_t hash = Mix(rows_[index].table, rows_[index].key_hash);
  const size_t mask = slots_.size() - 1;
  size_t i = hash & mask;
  while (slots_[i].row != kEmpty) i = (i + 1) & mask;
  slots_[i] = {index, static_cast<uint32_t>(hash >> 32)};
}

void RowCache::Remove(uint32_t index) {
  CachedRow& row = rows_[index];
  const size_t mask = slots_.size() - 1;
  size_t i = Mix(row.table, row.key_hash) & mask;
  while (slots_[i].row != index) {
    CHECK(slots_[i].row != kEmpty);
    i = (i + 1) & mask;
  }
  // Close the gap: move back what was pushed past this slot.
  for (size_t j = (i + 1) & mask; slots_[j].row != kEmpty; j = (j + 1) & mask) {
    const CachedRow& other = rows_[slots_[j].row];
    const size_t home = Mix(other.table, other.key_hash) & mask;
    if (((j - home) & mask) >= ((j - i) & mask)) {
      slots_[i] = slots_[j];
      i = j;
    }
  }
  slots_[i] = Slot();
  bytes_ -= BytesOf(row);
  --size_;
  row = CachedRow();
  row.free = true;
  free_.push_back(index);
}

}  // namespace patina::storage

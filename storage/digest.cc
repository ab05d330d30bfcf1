#include "storage/digest.h"

#include "storage/store.h"

namespace patina::storage {

RowHasher::RowHasher(const Table& table) {
  for (const Column& column : table.columns) {
    column_seeds_.push_back(CombineHash(Hash64(column.name, 0x636f6c), column.life));
  }
}

uint64_t RowHasher::ActorHash(crdt::ActorIndex index, const crdt::ActorTable& actors) {
  while (actor_hashes_.size() <= index) {
    const auto next = static_cast<crdt::ActorIndex>(actor_hashes_.size());
    actor_hashes_.push_back(Hash64(actors.Get(next).AsBytes(), 0x616374));
  }
  return actor_hashes_[index];
}

uint64_t RowHasher::HashCell(uint64_t key_hash, crdt::ColumnIndex column,
                             const crdt::ValueView& value, const crdt::Stamp& stamp,
                             const crdt::ActorTable& actors) {
  buffer_.clear();
  ByteWriter out(&buffer_);
  crdt::EncodeValue(value, out);
  const uint64_t content = Hash64(buffer_, CombineHash(key_hash, column_seeds_[column]));
  return CombineHash(content, CombineHash(stamp.time.bits, ActorHash(stamp.actor, actors)));
}

uint64_t RowHasher::HashExistence(uint64_t key_hash, const crdt::Stamp& stamp,
                                  const crdt::ActorTable& actors) {
  return CombineHash(key_hash ^ 0x657869737473u,
                     CombineHash(stamp.time.bits, ActorHash(stamp.actor, actors)));
}

uint64_t RowHasher::HashOfCells(uint64_t key_hash, const crdt::RowClock& clock,
                                std::string_view packed_values, const crdt::ColumnMask& columns,
                                const crdt::ActorTable& actors) {
  uint64_t sum = 0;
  ByteReader in(packed_values);
  const uint64_t count = in.Varint();
  for (uint64_t i = 0; i < count && i < column_seeds_.size(); ++i) {
    const crdt::ValueView value = crdt::DecodeValue(in);
    const auto column = static_cast<crdt::ColumnIndex>(i);
    if (!columns.test(column) || !clock.HasCell(column)) continue;
    sum += HashCell(key_hash, column, value, clock.Cell(column), actors);
  }
  return sum;
}

uint64_t RowHasher::Hash(uint64_t key_hash, const crdt::RowClock& clock,
                         std::string_view packed_values, const crdt::ActorTable& actors) {
  if (!clock.alive()) return 0;
  const uint64_t existence =
      clock.existence().IsNever() ? 0 : HashExistence(key_hash, clock.existence(), actors);
  return existence + HashOfCells(key_hash, clock, packed_values, ~crdt::ColumnMask(), actors);
}

void TableDigestState::Reset() {
  buckets.assign(kDigestBuckets, 0);
  rows = 0;
}

void TableDigestState::Add(const TableDigestState& other) {
  for (size_t i = 0; i < buckets.size(); ++i) buckets[i] += other.buckets[i];
  rows += other.rows;
}

uint32_t TableDigestState::Bucket(uint64_t key_hash) {
  return static_cast<uint32_t>(key_hash >> 32) % static_cast<uint32_t>(kDigestBuckets);
}

Digest128 TableDigestState::Fold() const {
  return Hash128({reinterpret_cast<const char*>(buckets.data()), buckets.size() * sizeof(uint64_t)},
                 rows);
}

uint32_t BucketOfKey(std::string_view packed_key) {
  return TableDigestState::Bucket(Hash64(packed_key));
}

}  // namespace patina::storage

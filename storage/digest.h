#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "crdt/actor_table.h"
#include "crdt/row_clock.h"
#include "crdt/value.h"
#include "storage/schema.h"

// Digests of tables: per bucket of keys the sum of a hash per cell of live rows that has a stamp.
// Sums do not depend on the order in which rows came; a cell's hash depends on key, column, value,
// time and writer, never on numbers that only this node knows.

namespace patina::storage {

/// Hash of one row, the sum over its existence and its stamped cells; 0 for a row that is not
/// alive.
class RowHasher {
 public:
  explicit RowHasher(const Table& table);

  uint64_t Hash(uint64_t key_hash, const crdt::RowClock& clock, std::string_view packed_values,
                const crdt::ActorTable& actors);
  /// The numbers from this one on may be given to other actors.
  void ForgetActors(crdt::ActorIndex from) {
    if (actor_hashes_.size() > from) actor_hashes_.resize(from);
  }
  /// The stamped ones of the given cells alone, whether the row is alive or not.
  uint64_t HashOfCells(uint64_t key_hash, const crdt::RowClock& clock,
                       std::string_view packed_values, const crdt::ColumnMask& columns,
                       const crdt::ActorTable& actors);
  /// One cell (or, with no value, the existence) alone.
  uint64_t HashCell(uint64_t key_hash, crdt::ColumnIndex column, const crdt::ValueView& value,
                    const crdt::Stamp& stamp, const crdt::ActorTable& actors);
  uint64_t HashExistence(uint64_t key_hash, const crdt::Stamp& stamp,
                         const crdt::ActorTable& actors);

 private:
  uint64_t ActorHash(crdt::ActorIndex index, const crdt::ActorTable& actors);

  std::vector<uint64_t> column_seeds_;
  std::vector<uint64_t> actor_hashes_;
  std::string buffer_;
};

/// What a clock row keeps of its row's hash, to tell whether the row is as Patina wrote it. Like
/// the hash it is a sum, kept up by what each write adds to it: what another client has changed is
/// never added, so such a row does not fit its seal until it is settled.
inline uint32_t SealOf(uint64_t row_hash) { return static_cast<uint32_t>(row_hash); }

/// One table's 4,096 bucket sums.
struct TableDigestState {
  std::vector<uint64_t> buckets;
  uint64_t rows = 0;

  void Reset();
  void Add(uint64_t key_hash, uint64_t row_hash) { buckets[Bucket(key_hash)] += row_hash; }
  void Add(const TableDigestState& other);  // of other rows
  static uint32_t Bucket(uint64_t key_hash);
  Digest128 Fold() const;
};

}  // namespace patina::storage

#pragma once

#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "crdt/actor_table.h"
#include "crdt/hlc.h"

// Who wrote a row's existence and each of its cells, and how another's change merges into it: the
// merge rules of the project, on stamps alone. Values stay with the caller, who is told which of
// them win.
//
//   1. Existence takes the larger stamp: INSERT says alive, DELETE says deleted, UPDATE says
//   nothing.
//   2. Each cell takes the larger stamp.
//   3. A cell older than the row's existence counts as the default: it belongs to an earlier life.
//   4. A deleted row keeps its stamp and only the cells later than it.

namespace patina::crdt {

/// Columns of one table are numbered in declaration order, keys left out. More columns than this
/// are refused in a schema.
inline constexpr size_t kMaxColumns = 250;
using ColumnMask = std::bitset<kMaxColumns>;
using ColumnIndex = uint16_t;

/// Who wrote: ordered by (time, actor id). All cells and the existence written by one transaction
/// have the same stamp, and an actor uses no time twice, so equal stamps mean the same write.
struct Stamp {
  HlcTime time;
  uint64_t version = 0;
  ActorIndex actor = 0;

  bool IsNever() const { return actor == 0; }
  bool operator==(const Stamp& other) const {
    return time == other.time && actor == other.actor && version == other.version;
  }
};

/// a later than b? Actor ids are looked at only when the times are equal.
bool Later(const Stamp& a, const Stamp& b, const ActorTable& actors);

enum class Says : uint8_t { kNothing = 0, kAlive = 1, kDeleted = 2 };

/// What one changeset says about one row.
struct RowChange {
  Stamp stamp;
  Says says = Says::kNothing;
  /// Columns it writes, none when it says deleted. In any order: another node may number them
  /// otherwise.
  const ColumnIndex* columns = nullptr;
  size_t column_count = 0;
};

/// What a merge did.
struct MergeEffect {
  bool existence = false;  // the change's word on existence now counts
  bool any_cell = false;
  ColumnMask taken;  // cells that take the change's value
  ColumnMask reset;  // cells that had a stamp and now hold the default (an earlier life)
  bool Nothing() const { return !existence && !any_cell && reset.none(); }
};

/// The stamps of one row. A value; one thread at a time.
///
/// Invariant: no cell stamp is earlier than the existence stamp. A cell without a stamp holds its
/// column's default (in a row that is alive) or nothing (in one that is not).
class RowClock {
 public:
  /// Never heard of.
  RowClock() = default;

  bool alive() const { return alive_; }
  const Stamp& existence() const { return existence_; }
  /// Never() if the cell has no stamp. Any column number may be asked, also one added later.
  Stamp Cell(ColumnIndex column) const;
  bool HasCell(ColumnIndex column) const;
  /// Number of columns that have a stamp.
  size_t CellCount() const;
  /// One past the highest column number that has a stamp.
  size_t ColumnLimit() const { return index_.size(); }
  /// The earliest of all stamps' times; 0 if none.
  HlcTime EarliestTime() const;
  /// Knows nothing: as if never heard of.
  bool Empty() const { return existence_.IsNever() && index_.empty(); }

  /// Merges one change. Applying changes in any order, any number of times, gives the same clock.
  MergeEffect Merge(const RowChange& change, const ActorTable& actors);
  /// Merges all of another clock of the same row (a transfer, a replay): returns which of the
  /// other's cells win here.
  MergeEffect Join(const RowClock& other, const ActorTable& actors);

  /// Of a row that is not alive: forgets its existence and its cells, each if it is from before the
  /// line. *forgotten gets the stamps that are gone; returns the columns.
  ColumnMask ForgetBefore(HlcTime line, std::vector<Stamp>* forgotten);

  /// Forgets the cell of a dropped column and closes the gap, so that later columns move down by
  /// one.
  void EraseColumn(ColumnIndex column);

  bool operator==(const RowClock& other) const;

  /// Packed: distinct stamps once, a small index per column; a row all of whose given columns carry
  /// the existence stamp is a few bytes. Reads back equal.
  void Encode(ByteWriter& out) const;
  /// False when malformed (actor numbers are checked against actor_limit, columns against
  /// kMaxColumns).
  static bool Decode(ByteReader& in, ActorIndex actor_limit, RowClock* clock);

  /// Bytes on the heap, for cache budgets.
  size_t HeapBytes() const;

 private:
  static constexpr uint8_t kNone = 0xff;    // the cell has no stamp
  static constexpr uint8_t kExistence = 0;  // the cell has the existence stamp

  bool RaiseExistence(const Stamp& stamp, bool alive, const ActorTable& actors, ColumnMask* reset);
  bool DecodeCells(ByteReader& in, size_t columns, ActorIndex actor_limit);
  void SetCell(ColumnIndex column, const Stamp& stamp);
  uint8_t SlotOf(const Stamp& stamp);
  void DropUnusedStamps();

  bool alive_ = false;
  Stamp existence_;
  std::vector<Stamp> others_;  // slot n (from 1) is others_[n - 1]
  std::string index_;          // per column: kNone, kExistence or a slot
};

}  // namespace patina::crdt

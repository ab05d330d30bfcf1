#include "crdt/row_clock.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

// In memory a row is always in one normal form, which Encode relies on: index_ has no kNone at its
// end, others_ are all used, distinct, not the existence stamp, and numbered by the first column
// that has them. Every mutation ends with DropUnusedStamps(), which restores it.

namespace patina::crdt {
namespace {

constexpr uint8_t kFlagAlive = 1;
constexpr uint8_t kFlagExistence = 2;
constexpr uint8_t kFlagUniform = 4;  // all columns have the existence stamp
constexpr uint8_t kFlagsKnown = 7;
constexpr size_t kOthersMax = 254;  // slots 1 to 254

uint8_t Byte(char c) { return static_cast<uint8_t>(c); }

void EncodeStamp(const Stamp& stamp, uint64_t base, ByteWriter& out) {
  out.Varint(stamp.time.bits - base);
  out.Varint(stamp.version);
  out.Varint(stamp.actor);
}

/// Cells are never earlier than the existence, so their times are written from there.
bool DecodeStamp(ByteReader& in, uint64_t base, ActorIndex actor_limit, Stamp* stamp) {
  const uint64_t since = in.Varint();
  stamp->version = in.Varint();
  const uint64_t actor = in.Varint();
  if (!in.ok() || actor == 0 || actor >= actor_limit || since > UINT64_MAX - base) return false;
  stamp->time.bits = base + since;
  stamp->actor = static_cast<ActorIndex>(actor);
  return true;
}

}  // namespace

bool Later(const Stamp& a, const Stamp& b, const ActorTable& actors) {
  if (a.IsNever() || b.IsNever()) return !a.IsNever() && b.IsNever();
  if (a.time != b.time) return a.time > b.time;
  if (a.actor != b.actor) return actors.Get(a.actor) > actors.Get(b.actor);
  // An honest actor uses no time twice; with others there still has to be one order.
  return a.version > b.version;
}

Stamp RowClock::Cell(ColumnIndex column) const {
  if (!HasCell(column)) return {};
  const uint8_t slot = Byte(index_[column]);
  return slot == kExistence ? existence_ : others_[slot - 1u];
}

bool RowClock::HasCell(ColumnIndex column) const {
  return column < index_.size() && Byte(index_[column]) != kNone;
}

size_t RowClock::CellCount() const {
  return index_.size() -
         static_cast<size_t>(std::count(index_.begin(), index_.end(), static_cast<char>(kNone)));
}

HlcTime RowClock::EarliestTime() const {
  // No cell is earlier than the existence.
  if (!existence_.IsNever() || others_.empty()) return existence_.time;
  HlcTime earliest = others_[0].time;
  for (const Stamp& stamp : others_) earliest = std::min(earliest, stamp.time);
  return earliest;
}

ColumnMask RowClock::ForgetBefore(HlcTime line, std::vector<Stamp>* forgotten) {
  CHECK(!alive_);
  ColumnMask columns;
  std::vector<bool> goes(others_.size() + 1, false);
  goes[kExistence] = !existence_.IsNever() && existence_.time < line;
  for (size_t i = 0; i < others_.size(); ++i) goes[i + 1] = others_[i].time < line;
  for (size_t slot = 0; slot < goes.size(); ++slot) {
    if (goes[slot]) forgotten->push_back(slot == kExistence ? existence_ : others_[slot - 1]);
  }
  for (size_t column = 0; column < index_.size(); ++column) {
    const uint8_t slot = Byte(index_[column]);
    if (slot == kNone || !goes[slot]) continue;
    index_[column] = static_cast<char>(kNone);
    columns.set(column);
  }
  if (goes[kExistence]) existence_ = Stamp();
  DropUnusedStamps();
  return columns;
}

bool RowClock::RaiseExistence(const Stamp& stamp, bool alive, const ActorTable& actors,
                              ColumnMask* reset) {
  if (stamp == existence_) {
    // The same write: it says the same, unless somebody lies; then alive wins, in any order.
    if (!alive || alive_) return false;
    alive_ = true;
    return true;
  }
  if (!Later(stamp, existence_, actors)) return false;
  uint8_t becomes[256];
  becomes[kExistence] = kNone;
  becomes[kNone] = kNone;
  for (size_t i = 0; i < others_.size(); ++i) {
    const auto slot = static_cast<uint8_t>(i + 1);
    becomes[slot] = slot;
    if (others_[i] == stamp) {
      becomes[slot] = kExistence;
    } else if (Later(stamp, others_[i], actors)) {
      becomes[slot] = kNone;
    }
  }
  for (size_t column = 0; column < index_.size(); ++column) {
    const uint8_t slot = Byte(index_[column]);
    if (slot == kNone) continue;
    index_[column] = static_cast<char>(becomes[slot]);
    if (becomes[slot] == kNone) reset->set(column);
  }
  existence_ = stamp;
  alive_ = alive;
  return true;
}

MergeEffect RowClock::Merge(const RowChange& change, const ActorTable& actors) {
  CHECK(!change.stamp.IsNever());
  MergeEffect effect;
  if (change.says != Says::kNothing) {
    effect.existence =
        RaiseExistence(change.stamp, change.says == Says::kAlive, actors, &effect.reset);
  }
  if (change.column_count > 0 && !Later(existence_, change.stamp, actors)) {
    uint8_t slot = kNone;
    const size_t limit =
        size_t{*std::max_element(change.columns, change.columns + change.column_count)} + 1;
    CHECK(limit <= kMaxColumns);
    if (limit > index_.size()) index_.resize(limit, static_cast<char>(kNone));
    for (size_t i = 0; i < change.column_count; ++i) {
      const ColumnIndex column = change.columns[i];
      CHECK(column < limit);
      const uint8_t held = Byte(index_[column]);
      if (held != kNone) {
        const Stamp& stamp = held == kExistence ? existence_ : others_[held - 1u];
        if (!Later(change.stamp, stamp, actors)) continue;
      }
      if (slot == kNone) {  // only now: a change that loses takes no memory
        slot = SlotOf(change.stamp);
        if (limit > index_.size()) index_.resize(limit, static_cast<char>(kNone));
      }
      index_[column] = static_cast<char>(slot);
      effect.any_cell = true;
      effect.taken.set(column);
      effect.reset.reset(column);
    }
  }
  DropUnusedStamps();
  return effect;
}

MergeEffect RowClock::Join(const RowClock& other, const ActorTable& actors) {
  MergeEffect effect;
  if (this == &other) return effect;
  if (!other.existence_.IsNever()) {
    effect.existence = RaiseExistence(other.existence_, other.alive_, actors, &effect.reset);
  }
  for (size_t i = 0; i < other.index_.size(); ++i) {
    const auto column = static_cast<ColumnIndex>(i);
    if (!other.HasCell(column)) continue;
    const Stamp stamp = other.Cell(column);
    if (Later(existence_, stamp, actors) || !Later(stamp, Cell(column), actors)) continue;
    SetCell(column, stamp);
    effect.any_cell = true;
    effect.taken.set(column);
    effect.reset.reset(column);
  }
  DropUnusedStamps();
  return effect;
}

void RowClock::EraseColumn(ColumnIndex column) {
  if (column >= index_.size()) return;
  index_.erase(column, 1);
  DropUnusedStamps();
}

bool RowClock::operator==(const RowClock& other) const {
  return alive_ == other.alive_ && existence_ == other.existence_ && index_ == other.index_ &&
         others_ == other.others_;  // both are in normal form
}

void RowClock::SetCell(ColumnIndex column, const Stamp& stamp) {
  CHECK(column < kMaxColumns);
  const uint8_t slot = SlotOf(stamp);  // first: it may shorten index_
  if (column >= index_.size()) index_.resize(column + 1u, static_cast<char>(kNone));
  index_[column] = static_cast<char>(slot);
}

uint8_t RowClock::SlotOf(const Stamp& stamp) {
  if (stamp == existence_) return kExistence;
  for (size_t i = 0; i < others_.size(); ++i) {
    if (others_[i] == stamp) return static_cast<uint8_t>(i + 1);
  }
  if (others_.size() >= kOthersMax) DropUnusedStamps();  // at most kMaxColumns are used
  CHECK(others_.size() < kOthersMax);
  others_.push_back(stamp);
  return static_cast<uint8_t>(others_.size());
}

void RowClock::DropUnusedStamps() {
  while (!index_.empty() && Byte(index_.back()) == kNone) index_.pop_back();
  if (others_.empty()) return;
  uint8_t used = 0;
  for (size_t column = 0; column < index_.size(); ++column) {
    const uint8_t slot = Byte(index_[column]);
    if (slot == kNone || slot <= used) continue;
    ++used;
    if (slot == used) continue;
    std::swap(others_[slot - 1u], others_[used - 1u]);
    for (size_t later = column; later < index_.size(); ++later) {
      if (Byte(index_[later]) == slot) {
        index_[later] = static_cast<char>(used);
      } else if (Byte(index_[later]) == used) {
        index_[later] = static_cast<char>(slot);
      }
    }
  }
  others_.resize(used);
}

void RowClock::Encode(ByteWriter& out) const {
  const bool exists = !existence_.IsNever();
  const bool uniform = exists && std::all_of(index_.begin(), index_.end(),
                                             [](char slot) { return Byte(slot) == kExistence; });
  out.U8(static_cast<uint8_t>((alive_ ? kFlagAlive : 0) | (exists ? kFlagExistence : 0) |
                              (uniform ? kFlagUniform : 0)));
  if (exists) {
    out.U64(existence_.time.bits);
    out.Varint(existence_.version);
    out.Varint(existence_.actor);
  }
  out.Varint(index_.size());
  if (uniform) return;
  out.Raw(index_);
  out.Varint(others_.size());
  for (const Stamp& stamp : others_) EncodeStamp(stamp, existence_.time.bits, out);
}

bool RowClock::Decode(ByteReader& in, ActorIndex actor_limit, RowClock* clock) {
  clock->alive_ = false;
  clock->existence_ = {};
  clock->others_.clear();
  clock->index_.clear();
  const uint8_t flags = in.U8();
  const bool exists = (flags & kFlagExistence) != 0;
  if (!in.ok() || (flags & ~kFlagsKnown) != 0) return false;
  if (!exists && (flags & (kFlagAlive | kFlagUniform)) != 0) return false;
  clock->alive_ = (flags & kFlagAlive) != 0;
  if (exists) {
    clock->existence_.time.bits = in.U64();
    clock->existence_.version = in.Varint();
    const uint64_t actor = in.Varint();
    if (!in.ok() || actor == 0 || actor >= actor_limit) return false;
    clock->existence_.actor = static_cast<ActorIndex>(actor);
  }
  const uint64_t columns = in.Varint();
  if (!in.ok() || columns > kMaxColumns) return false;
  if ((flags & kFlagUniform) != 0) {
    clock->index_.assign(static_cast<size_t>(columns), static_cast<char>(kExistence));
    return true;
  }
  return clock->DecodeCells(in, static_cast<size_t>(columns), actor_limit);
}

bool RowClock::DecodeCells(ByteReader& in, size_t columns, ActorIndex actor_limit) {
  const std::string_view index = in.Raw(columns);
  const uint64_t count = in.Varint();
  if (!in.ok() || count > columns) return false;
  // One clock, one spelling: digests and equality rely on it.
  const bool exists = !existence_.IsNever();
  size_t used = 0;
  bool uniform = exists;
  for (char c : index) {
    const uint8_t slot = Byte(c);
    uniform = uniform && slot == kExistence;
    if (slot == kNone || (slot == kExistence && exists)) continue;
    if (slot == kExistence || slot > used + 1) return false;
    used = std::max<size_t>(used, slot);
  }
  if (uniform || used != count) return false;
  if (!index.empty() && Byte(index.back()) == kNone) return false;
  index_.assign(index);
  others_.reserve(used);
  for (size_t i = 0; i < used; ++i) {
    Stamp stamp;
    if (!DecodeStamp(in, existence_.time.bits, actor_limit, &stamp)) return false;
    if (stamp == existence_ || std::find(others_.begin(), others_.end(), stamp) != others_.end()) {
      return false;
    }
    others_.push_back(stamp);
  }
  return true;
}

size_t RowClock::HeapBytes() const {
  const size_t inline_bytes = std::string().capacity();
  return others_.capacity() * sizeof(Stamp) +
         (index_.capacity() > inline_bytes ? index_.capacity() + 1 : 0);
}

}  // namespace patina::crdt

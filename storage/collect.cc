#include <algorithm>
#include <utility>

#include "base/log.h"
#include "storage/store_impl.h"

// Forgetting: the horizon, the clock that is published, tombstones that go, pages given back.

namespace patina::storage {
namespace {

constexpr size_t kSweptAtOnce = 2'000;  // rows, one commit: some ten milliseconds
constexpr int64_t kPagesAtOnce = 256;   // given back to the file system in one commit
constexpr int64_t kFreePagesKept = 64;  // and an eighth of the file: they are used again soon

}  // namespace

Result<crdt::HlcTime> Store::Impl::PublishClock() {
  RETURN_IF_ERROR(MayWrite());
  const crdt::HlcTime now = std::max(hlc.last(), crdt::HlcTime::FromMs(ClusterMs()));
  auto write = [&]() -> Status {
    RETURN_IF_ERROR(begin.Run());
    if (options.mutant != Mutant::kPublishedNotInFile) {
      RETURN_IF_ERROR(
          SaveState("published", crdt::ValueView::Integer(static_cast<int64_t>(now.bits))));
    }
    return Commit("publishing the clock");
  };
  if (Status status = write(); !status.ok()) {
    RollBack();
    return status.error();
  }
  hlc.Observe(now);
  published = now;
  return now;
}

Status Store::Impl::SaveMembers(std::string_view members) {
  RETURN_IF_ERROR(MayWrite());
  const Status status = [&]() -> Status {
    RETURN_IF_ERROR(begin.Run());
    RETURN_IF_ERROR(SaveState("members", crdt::ValueView::Blob(members)));
    return Commit("saving the members");
  }();
  if (!status.ok()) RollBack();
  return status;
}

Result<std::string> Store::Impl::SavedMembers() {
  ASSIGN_OR_RETURN(Stmt select,
                   db->Prepare("SELECT value FROM __patina_state WHERE name = 'members'", false));
  ASSIGN_OR_RETURN(const bool row, select.Step());
  return row ? std::string(select.ColumnBytes(0)) : std::string();
}

std::optional<crdt::HlcTime> Store::Impl::OldestParked() const {
  std::optional<crdt::HlcTime> oldest;
  for (const auto& [id, change] : parked) {
    if (!oldest || change.time < *oldest) oldest = change.time;
  }
  return oldest;
}

std::string Store::Impl::EncodeCollected() const {
  std::string bytes;
  ByteWriter out(&bytes);
  out.Varint(collected.size());
  for (const auto& [id, newest] : collected) {
    out.Raw(id.AsBytes());
    out.Varint(newest);
  }
  return bytes;
}

bool DecodeCollected(ByteReader& in, Collected* collected) {
  const uint64_t count = in.Varint();
  if (!in.ok() || count > in.remaining() / sizeof(ActorId::bytes)) return false;
  for (uint64_t i = 0; i < count; ++i) {
    const auto id = ActorId::FromBytes(in.Raw(sizeof(ActorId::bytes)));
    const uint64_t version = in.Varint();
    if (!in.ok() || !id || version == 0 || version > crdt::kMaxVersion) return false;
    (*collected)[*id] = version;
  }
  return true;
}

bool HasAllCollected(const Collected& collected, const crdt::VersionSet& sender_applied,
                     const crdt::VersionSet& receiver_applied) {
  crdt::VersionSet wanted;
  for (const auto& [id, newest] : collected) {
    if (receiver_applied.Contiguous(id) >= newest) continue;
    for (crdt::VersionRange range : sender_applied.Ranges(id)) {
      if (range.first > newest) break;
      wanted.AddRange(id, {range.first, std::min(range.last, newest)});
    }
  }
  return wanted.IsSubsetOf(receiver_applied);
}

Status Store::Impl::RaiseHorizon(crdt::HlcTime line) {
  if (line <= horizon) return OkStatus();
  // Before anything goes: what is older is merged no more, however the sweep fares.
  auto write = [&]() -> Status {
    RETURN_IF_ERROR(begin.Run());
    RETURN_IF_ERROR(
        SaveState("horizon", crdt::ValueView::Integer(static_cast<int64_t>(line.bits))));
    return Commit("raising the horizon");
  };
  if (Status status = write(); !status.ok()) {
    RollBack();
    return status;
  }
  horizon = line;
  hlc.Observe(line);
  return OkStatus();
}

Status Store::Impl::ForgetOlder(TableIo& table, CachedRow* row) {
  std::vector<crdt::Stamp> forgotten;
  const crdt::ColumnMask columns = row->clock.ForgetBefore(sweep_line, &forgotten);
  if (options.mutant == Mutant::kTombstoneTakesCells) row->clock = crdt::RowClock();
  for (const crdt::Stamp& stamp : forgotten) {
    uint64_t& newest = collected[actors.Get(stamp.actor)];
    newest = std::max(newest, stamp.version);
  }
  if (row->clock.Empty()) {
    RETURN_IF_ERROR(table.DeleteDead(*row));
    row->dead_in_file = false;
    return OkStatus();
  }
  if (columns.any()) {
    std::vector<crdt::ValueView> values;
    if (!crdt::UnpackValues(row->values, crdt::kMaxColumns, &values))
      return DataLoss("a tombstone of table " + table.table().name + " is damaged");
    for (size_t i = 0; i < values.size(); ++i) {
      if (columns.test(i)) values[i] = table.table().columns[i].default_value;
    }
    std::string packed = crdt::PackValues(values);
    row->values = std::move(packed);
  }
  return table.WriteClock(row);
}

Result<bool> Store::Impl::Sweep() {
  std::vector<CachedRow> swept;
  const Collected before = collected;
  auto write = [&]() -> Status {
    RETURN_IF_ERROR(begin.Run());
    for (const auto& table : tables) {
      ASSIGN_OR_RETURN(std::vector<CachedRow> older,
                       table->OlderDead(sweep_line, kSweptAtOnce - swept.size(), actors));
      for (CachedRow& row : older) {
        RETURN_IF_ERROR(ForgetOlder(*table, &row));
        swept.push_back(std::move(row));
      }
    }
    RETURN_IF_ERROR(SaveState("collected", crdt::ValueView::Blob(EncodeCollected())));
    return Commit("collecting tombstones");
  };
  if (Status status = write(); !status.ok()) {
    RollBack();
    collected = before;
    return status.error();
  }
  for (CachedRow& row : swept) {
    if (!row.dead_in_file) --tables[row.table]->tombstones;
    CachedRow* cached = cache.Find(row.table, row.key, row.key_hash);
    if (cached == nullptr) continue;
    const size_t bytes_before = RowCache::BytesOf(*cached);
    cached->clock = std::move(row.clock);
    cached->values = std::move(row.values);
    cached->dead_in_file = row.dead_in_file;
    cache.Resized(bytes_before, *cached);
  }
  stats.tombstones_collected += swept.size();
  return swept.size() == kSweptAtOnce;
}

Result<bool> Store::Impl::GiveBackPages() {
  ASSIGN_OR_RETURN(const int64_t pages, db->QueryInt("PRAGMA page_count"));
  const int64_t kept = kFreePagesKept + pages / 8;
  ASSIGN_OR_RETURN(const int64_t free_pages, db->QueryInt("PRAGMA freelist_count"));
  if (free_pages <= kept) return false;
  const int64_t some = std::min(kPagesAtOnce, free_pages - kept);
  RETURN_IF_ERROR(db->Exec(StrCat("PRAGMA incremental_vacuum(", some, ")")));
  return free_pages - some > kept;
}

Result<bool> Store::Impl::AnyToCollect(crdt::HlcTime line) {
  for (const auto& table : tables) {
    if (table->tombstones == 0) continue;
    ASSIGN_OR_RETURN(const bool any, table->AnyOlderDead(line));
    if (any) return true;
  }
  return false;
}

Result<bool> Store::Impl::Collect(crdt::HlcTime line) {
  RETURN_IF_ERROR(MayWrite());
  sweep_line = std::max(horizon, line);
  if (options.mutant != Mutant::kCollectWithoutHorizon) RETURN_IF_ERROR(RaiseHorizon(line));
  ASSIGN_OR_RETURN(const bool any, AnyToCollect(sweep_line));
  bool more = false;
  if (any) {
    // A replay would merge what the log's tail says with the tombstones that hold it down gone: so
    // nothing goes before the tail is in the checkpoint.
    if (last_seq != checkpoint_seq || cache.dirty() > 0) RETURN_IF_ERROR(Checkpoint());
    ASSIGN_OR_RETURN(more, Sweep());
  }
  ASSIGN_OR_RETURN(const bool more_pages, GiveBackPages());
  return more || more_pages;
}

}  // namespace patina::storage

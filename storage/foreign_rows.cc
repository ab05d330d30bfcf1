#include "storage/foreign_rows.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "storage/store_impl.h"

// Settling what another client wrote: its rows become writes of this node, or what Patina wrote is
// put back. What that was is in the log, cell by cell, as long as the log goes back; a row whose
// only unknown cells fit its seal is known, too.

namespace patina::storage {
namespace {

constexpr size_t kRowsPerSlice = 10'000;
constexpr size_t kBytesPerPart = 1u << 20;    // one changeset
constexpr size_t kBytesPerRound = 16u << 20;  // in memory, more than once

/// The value that a logged changeset gave to a cell.
Result<std::optional<crdt::Value>> ValueInChangeset(const std::string& bytes, const Table& table,
                                                    crdt::ColumnIndex column,
                                                    const std::string& key) {
  ASSIGN_OR_RETURN(crdt::ChangesetReader reader, crdt::ChangesetReader::Open(bytes));
  const crdt::ColumnName wanted{table.columns[column].name, table.columns[column].life};
  crdt::TableChange change;
  crdt::RowOp row;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, reader.NextTable(&change));
    if (!more) return std::optional<crdt::Value>();
    while (true) {
      ASSIGN_OR_RETURN(const bool another, reader.NextRow(&row));
      if (!another) break;
      if (row.key != key || change.name != TravelName(table)) continue;
      for (size_t i = 0; i < row.positions.size(); ++i) {
        if (change.columns[row.positions[i]] == wanted)
          return std::optional(crdt::Value(row.values[i]));
      }
    }
  }
}

std::string WhyUnknown(const TrueRow& row) {
  std::string columns;
  for (size_t i = 0; i < row.truth.size(); ++i) {
    if (!row.truth[i])
      columns += (columns.empty() ? "" : ", ") + row.table->table().columns[i].name;
  }
  return "the log no longer has what was written to " + columns +
         ": compare with the other members (`patina verify`), then write it or adopt the row";
}

std::string WhyNotAdopted(const TrueRow& row, uint64_t bytes_max) {
  const TableIo& table = *row.table;
  if (std::string why = table.WhyNotKey(row.found.key); !why.empty()) return why;
  if (row.found.key.size() + row.row.values.size() > bytes_max / 2)
    return StrCat("it is too large for a change (limit changeset_bytes_max: ", bytes_max, ")");
  std::vector<crdt::ValueView> values;
  if (!row.row.present || !crdt::UnpackValues(row.row.values, crdt::kMaxColumns, &values))
    return {};
  for (size_t i = 0; i < values.size(); ++i) {
    const auto column = static_cast<crdt::ColumnIndex>(i);
    if (std::string why = table.WhyNotStorable(column, values[i]); !why.empty()) return why;
  }
  return {};
}

}  // namespace

Status Store::Impl::ReadTrueValue(const TableIo& table, const crdt::Stamp& stamp,
                                  crdt::ColumnIndex column, const std::string& key,
                                  std::optional<crdt::Value>* value) {
  const auto short_hash = static_cast<uint32_t>(RowCache::KeyHash(key));
  ASSIGN_OR_RETURN(const std::string bytes, LoggedChangeset(stamp, short_hash));
  if (bytes.empty()) return OkStatus();
  ASSIGN_OR_RETURN(*value, ValueInChangeset(bytes, table.table(), column, key));
  return OkStatus();
}

std::string Store::Impl::WhyLeft(const TrueRow& row, ForeignAction action) const {
  if (row.table == nullptr || row.found.key.empty())
    return "the log no longer has the insert of this deleted row: bring it back from a peer";
  if (action == ForeignAction::kAdopt)
    return WhyNotAdopted(row, options.limits.changeset.bytes_max);
  return row.proven || !row.row.clock.alive() ? "" : WhyUnknown(row);
}

Result<TrueRow> Store::Impl::ReadTrueRow(const ForeignRow& found) {
  TrueRow row;
  row.found = found;
  row.table = FindTable(found.table);
  if (row.table == nullptr || found.key.empty()) return row;
  const TableIo& table = *row.table;
  const uint64_t key_hash = RowCache::KeyHash(found.key);
  ASSIGN_OR_RETURN(row.row, row.table->Load(found.key, key_hash, actors));
  for (const int64_t id : found.clock_rowids) {
    if (row.row.present && (table.table().without_rowid || id == row.row.rowid)) continue;
    // It stands where the row was before; what peers wrote since then is in a tombstone.
    CachedRow before;
    before.key = found.key;
    before.key_hash = key_hash;
    RETURN_IF_ERROR(row.table->LoadClock(&before, true, id, actors));
    if (before.clock.alive()) {
      row.row.seal = before.seal;
      row.row.sealed = before.sealed;
    }
    row.row.clock.Join(before.clock, actors);
  }
  std::vector<crdt::ValueView> values;
  if (!crdt::UnpackValues(row.row.values, crdt::kMaxColumns, &values))
    return DataLoss("a row of table " + found.table + " cannot be read");
  row.truth.resize(values.size());
  std::vector<crdt::ValueView> whole = values;
  for (size_t i = 0; i < values.size(); ++i) {
    const auto column = static_cast<crdt::ColumnIndex>(i);
    if (row.row.clock.HasCell(column)) {
      RETURN_IF_ERROR(
          ReadTrueValue(table, row.row.clock.Cell(column), column, found.key, &row.truth[i]));
    } else {
      row.truth[i] = table.table().columns[i].default_value;
    }
    if (row.truth[i]) whole[i] = row.truth[i]->view();
    if (!row.truth[i] || !(*row.truth[i] == crdt::Value(values[i]))) row.differs.set(i);
  }
  const bool known = std::all_of(row.truth.begin(), row.truth.end(),
                                 [](const auto& value) { return value.has_value(); });
  const uint64_t hash =
      hashers[table.number()].Hash(key_hash, row.row.clock, crdt::PackValues(whole), actors);
  const bool fits = row.row.present && row.row.sealed && row.row.seal == SealOf(hash);
  row.proven = known || fits;
  if (fits) {
    for (size_t i = 0; i < values.size(); ++i) {
      if (row.truth[i]) continue;
      row.truth[i] = crdt::Value(values[i]);
      row.differs.reset(i);
    }
  }
  return row;
}

NetChange Store::Impl::AdoptedRow(const TrueRow& row) {
  NetChange net;
  net.table = row.table;
  net.key = row.found.key;
  net.key_hash = row.row.key_hash;
  net.has_row = row.row.present;
  net.had_row = !row.found.clock_rowids.empty();
  if (net.had_row) net.old_rowid = *row.found.clock_rowids.begin();
  net.new_rowid = row.row.rowid;
  net.old_values = row.row.values;  // no earlier image: live queries may have seen either
  if (net.has_row) net.new_values = row.row.values;
  if (!row.row.clock.alive()) net.says = crdt::Says::kAlive;
  if (!net.has_row) net.says = crdt::Says::kDeleted;
  const Table& table = row.table->table();
  const bool all = net.says == crdt::Says::kAlive || (table.merge_row && row.differs.any());
  for (size_t i = 0; i < table.columns.size() && net.has_row; ++i) {
    if (all || row.differs.test(i)) net.columns.push_back(static_cast<crdt::ColumnIndex>(i));
  }
  return net;
}

/// As it now is, that is as Patina wrote it.
Status Store::Impl::SealAnew(const TrueRow& row) {
  CachedRow* cached = cache.Find(row.table->number(), row.found.key, row.row.key_hash);
  if (cached == nullptr) {
    ASSIGN_OR_RETURN(CachedRow loaded, row.table->Load(row.found.key, row.row.key_hash, actors));
    cached = cache.Insert(std::move(loaded));
  }
  if (!cached->present) return OkStatus();
  cached->seal =
      SealOf(hashers[cached->table].Hash(cached->key_hash, cached->clock, cached->values, actors));
  cached->sealed = true;
  cache.MarkDirty(cached);
  return OkStatus();
}

/// One clock is left, where LogLocal looks for it, and the cache has what all of them say.
Status Store::Impl::GatherClocks(const TrueRow& row) {
  if (row.found.clock_rowids.size() < 2) return OkStatus();
  CachedRow gathered = row.row;
  gathered.present = true;
  gathered.rowid = *row.found.clock_rowids.begin();
  for (const int64_t id : row.found.clock_rowids) {
    gathered.clock_rowid = id;
    if (id != gathered.rowid) RETURN_IF_ERROR(row.table->DeleteClock(gathered));
  }
  gathered.clock_rowid = gathered.rowid;
  if (cache.Find(gathered.table, gathered.key, gathered.key_hash) == nullptr)
    cache.Insert(std::move(gathered));
  return OkStatus();
}

/// In parts, each of them one commit.
Status Store::Impl::AdoptRows(const std::vector<TrueRow>& rows, ForeignOutcome* outcome) {
  for (size_t first = 0; first < rows.size();) {
    std::vector<NetChange> part;
    size_t end = first;
    for (size_t bytes = 0; end < rows.size() && bytes < kBytesPerPart; ++end) {
      part.push_back(AdoptedRow(rows[end]));
      bytes += part.back().key.size() + part.back().new_values.size();
    }
    RETURN_IF_ERROR(begin.Run());
    Status adopted;
    for (size_t i = first; i < end && adopted.ok(); ++i) adopted = GatherClocks(rows[i]);
    if (adopted.ok())
      adopted = AdoptPart(std::move(part), "rows of another client", &outcome->adopted);
    if (!adopted.ok()) {
      RollBack();
      cache.Clear();
      return adopted;
    }
    outcome->settled += end - first;
    for (; first < end; ++first) RETURN_IF_ERROR(SealAnew(rows[first]));
    RETURN_IF_ERROR(Checkpoint());  // the next part may have to forget the cache
    NoteProgress();
  }
  return OkStatus();
}

Status Store::Impl::PutBack(TrueRow* row) {
  TableIo& table = *row->table;
  CachedRow& now = row->row;
  std::vector<crdt::ValueView> truth;
  for (const auto& value : row->truth) truth.push_back(value->view());
  now.values = crdt::PackValues(truth);
  if (now.present) {
    RETURN_IF_ERROR(table.Update(now, row->differs, truth));
  } else {
    RETURN_IF_ERROR(table.Insert(&now, truth));
    now.present = true;
    RETURN_IF_ERROR(table.DeleteDead(now));
    if (std::exchange(now.dead_in_file, false)) --table.tombstones;
  }
  now.seal = SealOf(hashers[table.number()].Hash(now.key_hash, now.clock, now.values, actors));
  now.sealed = true;
  // In this commit: no replay would find the clock of a row that has another rowid now.
  return table.WriteClock(&now);
}

/// A row that is not there for Patina, but may have cells, or a tombstone.
Status Store::Impl::TakeAway(TrueRow* row) {
  TableIo& table = *row->table;
  CachedRow& now = row->row;
  RETURN_IF_ERROR(table.DeleteClock(now));
  if (now.present) {
    now.clock_rowid = table.table().without_rowid ? 1 : now.rowid;
    RETURN_IF_ERROR(table.DeleteClock(now));
    RETURN_IF_ERROR(table.Delete(now));
    now.present = false;
  }
  if (now.clock.existence().IsNever() && now.clock.CellCount() == 0) return OkStatus();
  if (!now.dead_in_file) ++table.tombstones;
  return table.WriteClock(&now);
}

Status Store::Impl::DiscardRows(std::vector<TrueRow>* rows) {
  if (rows->empty()) return OkStatus();
  DigestsBefore before;
  RETURN_IF_ERROR(BeginPastCache(&before));
  auto write = [&]() -> Status {
    RETURN_IF_ERROR(begin.Run());
    // First what goes: a key or a rowid may be wanted again.
    for (TrueRow& row : *rows) {
      if (!row.row.clock.alive()) RETURN_IF_ERROR(TakeAway(&row));
      for (const int64_t id : row.found.clock_rowids) {
        row.row.clock_rowid = id;
        RETURN_IF_ERROR(row.table->DeleteClock(row.row));
      }
    }
    for (TrueRow& row : *rows) {
      if (row.row.clock.alive()) RETURN_IF_ERROR(PutBack(&row));
    }
    return Commit("discarding what another client wrote");
  };
  Status status = write();
  if (!status.ok()) UndoPastCache(status.error(), before);
  return status;
}

Result<std::vector<TrueRow>> Store::Impl::FindForeignRows(ForeignAction action,
                                                          ForeignOutcome* outcome) {
  scrub_cursor.Restart();
  foreign_rows.Clear();
  const uint64_t unlisted = foreign_rows.unlisted();
  for (bool ended = false; !ended;) {
    ASSIGN_OR_RETURN(ended, Scrub(kRowsPerSlice));
    RETURN_IF_ERROR(CheckpointIfDue());
    NoteProgress();
  }
  outcome->more = foreign_rows.unlisted() > unlisted;
  std::vector<TrueRow> rows;
  size_t bytes = 0;
  for (const ForeignRow& found : foreign_rows.List()) {
    if (bytes > kBytesPerRound) {
      outcome->more = true;
      break;
    }
    NoteStep(rows.size() + outcome->left.size());
    ASSIGN_OR_RETURN(TrueRow row, ReadTrueRow(found));
    bytes += row.row.values.size();
    std::string why = WhyLeft(row, action);
    if (why.empty()) {
      rows.push_back(std::move(row));
    } else {
      outcome->left.push_back({found, std::move(why)});
    }
  }
  return rows;
}

/// From the file: what Patina wrote over foreign rows took them for its own.
Status Store::Impl::RenewDigests() {
  RETURN_IF_ERROR(Checkpoint());
  size_t step = 0;
  for (const auto& table : tables) {
    RETURN_IF_ERROR(table->RecomputeDigest(&hashers[table->number()], actors,
                                           [this, &step] { NoteStep(step++); }));
    table->digest_dirty = true;
  }
  digests_suspect = false;
  digests_renewed = options.clock->Now();
  return Checkpoint();
}

Result<ForeignOutcome> Store::Impl::SettleForeignRows(ForeignAction action,
                                                      CommitEffects* effects) {
  BeginEffects(effects);
  RETURN_IF_ERROR(MayWrite());
  RETURN_IF_ERROR(Checkpoint());
  cache.Clear();  // from here on the file is what counts
  ForeignOutcome outcome;
  ASSIGN_OR_RETURN(std::vector<TrueRow> rows, FindForeignRows(action, &outcome));
  large_keys.clear();
  RETURN_IF_ERROR(Checkpoint());  // rows without seals have got one
  IgnoreChecks(true);
  Status status;
  if (action == ForeignAction::kAdopt) {
    status = AdoptRows(rows, &outcome);
  } else {
    status = DiscardRows(&rows);
    if (status.ok()) outcome.settled = rows.size();
  }
  IgnoreChecks(false);
  effects->last_seq = last_seq;
  effects->rows_unknown = outcome.settled > 0;
  for (size_t i = 0; i < outcome.settled; ++i) {
    NoteTable(effects, rows[i].table->number());
    foreign_rows.Forget(rows[i].found.table, rows[i].found.key);
  }
  if (!status.ok()) {
    NoteFailure(status.error());
    // What was adopted before is told as settled, the rest stays named.
    if (outcome.settled == 0) return status.error();
    LogError("storage", "settling rows of another client: ", status.error().ToString());
    return outcome;
  }
  if (Status renewed = RenewDigests(); !renewed.ok()) {
    // They are settled all the same; `patina verify` may find digests that differ without a row.
    LogError("storage", "after settling rows of another client: ", renewed.error().ToString());
  }
  return outcome;
}

}  // namespace patina::storage

#include <algorithm>
#include <optional>
#include <unordered_set>
#include <utility>

#include "base/log.h"
#include "crdt/manifest.h"
#include "storage/store_impl.h"

// The scrub: every row against its seal, slice by slice between commits. It needs no snapshot and
// no pause in writing: a row whose clock is not yet written behind is compared with the cache.

namespace patina::storage {
namespace {

constexpr uint64_t kLoggedPerPass = 20;
constexpr size_t kLargeKeysKept = 4;  // large transactions, 8 MB per million rows
constexpr Duration kRenewInterval = std::chrono::minutes(10);  // other writes wait meanwhile

}  // namespace

std::string_view NameOf(ForeignRow::Kind kind) {
  switch (kind) {
    case ForeignRow::Kind::kInserted:
      return "inserted";
    case ForeignRow::Kind::kChanged:
      return "changed";
    case ForeignRow::Kind::kDeleted:
      return "deleted";
  }
  return "?";
}

bool ForeignRowList::Note(ForeignRow row) {
  const auto known = rows_.find(PlaceOf(row));
  if (known == rows_.end()) {
    if (rows_.size() >= rows_max_) {
      ++unlisted_;
      return false;
    }
    rows_.emplace(PlaceOf(row), std::move(row));
    return true;
  }
  ForeignRow& now = known->second;
  using Kind = ForeignRow::Kind;
  // A pass sees the row first and its clock later, or several clocks of what was there by turns.
  const bool is_back = now.kind == Kind::kDeleted && row.kind == Kind::kInserted;
  if (is_back || (now.pass == row.pass && now.kind != row.kind)) row.kind = Kind::kChanged;
  if (is_back || now.pass == row.pass) row.clock_rowids.merge(now.clock_rowids);
  row.found_ms = now.found_ms;
  now = std::move(row);
  return false;
}

void ForeignRowList::Forget(const std::string& table, const std::string& key) {
  if (!rows_.empty()) rows_.erase({table, key, 0});
}

void ForeignRowList::ForgetBefore(uint64_t pass) {
  std::erase_if(rows_, [pass](const auto& entry) { return entry.second.pass < pass; });
}

std::string ForeignRowList::InsertedKey(const std::string& table, uint32_t short_hash) const {
  for (auto row = rows_.lower_bound({table, "", INT64_MIN}); row != rows_.end(); ++row) {
    const ForeignRow& known = row->second;
    if (known.table != table) break;
    if (known.kind == ForeignRow::Kind::kInserted &&
        static_cast<uint32_t>(RowCache::KeyHash(known.key)) == short_hash) {
      return known.key;
    }
  }
  return {};
}

std::vector<ForeignRow> ForeignRowList::List(size_t rows_max) const {
  std::vector<ForeignRow> rows;
  for (const auto& [place, row] : rows_) {
    if (rows.size() >= rows_max) break;
    rows.push_back(row);
  }
  return rows;
}

void Store::Impl::NoteForeign(ForeignRow::Kind kind, const CachedRow& row,
                              std::optional<int64_t> clock_rowid) {
  ForeignRow found;
  found.table = schema.tables[row.table].name;
  found.key = row.key;
  found.kind = kind;
  if (clock_rowid) found.clock_rowids.insert(*clock_rowid);
  found.found_ms = ClusterMs();
  found.pass = scrub_cursor.pass;
  const std::string table = found.table;
  digests_suspect = true;
  if (!foreign_rows.Note(std::move(found))) return;
  ++stats.foreign_rows_found;
  if (stats.foreign_rows_found - logged_before_pass > kLoggedPerPass) return;
  std::string key = "(not in the log any more)";
  if (std::vector<crdt::ValueView> values;
      !row.key.empty() && crdt::UnpackValues(row.key, crdt::kMaxColumns, &values)) {
    key.clear();
    for (const crdt::ValueView& value : values) key += (key.empty() ? "" : ", ") + value.ToString();
  }
  LogWarning("storage", "another SQLite client ", NameOf(kind), " the row ", key, " of table ",
             table, " in the file: `patina verify --adopt` or `patina verify --discard`");
}

Result<std::string> Store::Impl::LoggedChangeset(const crdt::Stamp& stamp, uint32_t short_hash) {
  // The index does not know what came after the checkpoint.
  for (const std::string& places :
       {std::string("SELECT seq FROM __patina_log_index WHERE actor = ?1 AND version = ?2"),
        StrCat("SELECT seq FROM __patina_log WHERE seq > ", checkpoint_seq,
               " AND kind <> 1 AND actor = ?1 AND version = ?2")}) {
    ASSIGN_OR_RETURN(
        Stmt read,
        db->Prepare("SELECT bytes FROM __patina_log WHERE seq = (" + places + ")", false));
    read.BindInt(1, stamp.actor);
    read.BindInt(2, static_cast<int64_t>(stamp.version));
    ASSIGN_OR_RETURN(const bool found, read.Step());
    if (!found) continue;
    std::string bytes(read.ColumnBytes(0));
    if (!crdt::IsManifest(bytes)) return bytes;
    return LoggedChunk({actors.Get(stamp.actor), stamp.version}, short_hash);
  }
  return std::string();
}

/// Of a large transaction, the first chunk that has a row whose key has this hash.
Result<std::string> Store::Impl::LoggedChunk(const ChangeId& id, uint32_t short_hash) {
  auto known = large_keys.find(id);
  if (known == large_keys.end()) {
    if (large_keys.size() >= kLargeKeysKept) large_keys.clear();
    LargeKeys keys;
    uint32_t chunk = 0;
    RETURN_IF_ERROR(ForEachChunk(id, [&](const std::string& bytes) -> Status {
      ASSIGN_OR_RETURN(crdt::ChangesetReader reader, crdt::ChangesetReader::Open(bytes));
      crdt::TableChange change;
      crdt::RowOp row;
      while (true) {
        ASSIGN_OR_RETURN(const bool more, reader.NextTable(&change));
        if (!more) break;
        while (true) {
          ASSIGN_OR_RETURN(const bool another, reader.NextRow(&row));
          if (!another) break;
          keys.emplace_back(static_cast<uint32_t>(RowCache::KeyHash(row.key)), chunk);
        }
      }
      ++chunk;
      return OkStatus();
    }));
    std::sort(keys.begin(), keys.end());
    known = large_keys.emplace(id, std::move(keys)).first;
  }
  const auto key =
      std::lower_bound(known->second.begin(), known->second.end(), std::pair(short_hash, 0u));
  if (key == known->second.end() || key->first != short_hash) return std::string();
  ASSIGN_OR_RETURN(std::optional<std::string> bytes, ReadChunk(*db, id, key->second));
  return std::move(bytes).value_or(std::string());
}

Result<std::string> Store::Impl::KeyInLog(const TableIo& table, const crdt::Stamp& stamp,
                                          uint32_t short_hash) {
  ASSIGN_OR_RETURN(const std::string bytes, LoggedChangeset(stamp, short_hash));
  if (bytes.empty()) return bytes;
  ASSIGN_OR_RETURN(crdt::ChangesetReader reader, crdt::ChangesetReader::Open(bytes));
  crdt::TableChange change;
  crdt::RowOp row;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, reader.NextTable(&change));
    if (!more) return std::string();
    while (true) {
      ASSIGN_OR_RETURN(const bool another, reader.NextRow(&row));
      if (!another) break;
      if (change.name == TravelName(table.table()) &&
          static_cast<uint32_t>(RowCache::KeyHash(row.key)) == short_hash) {
        return std::string(row.key);
      }
    }
  }
}

Status Store::Impl::SaveReplayedKeys() {
  std::string bytes;
  ByteWriter out(&bytes);
  for (const auto& [table, hashes] : replayed_keys) {
    out.String(table);
    out.Varint(hashes.size());
    for (const uint32_t hash : hashes) out.U32(hash);
  }
  return SaveState(kReplayedKeys, crdt::ValueView::Blob(bytes));
}

void Store::Impl::LoadReplayedKeys(std::string_view bytes) {
  ByteReader in(bytes);
  while (in.ok() && !in.AtEnd()) {
    std::set<uint32_t>& hashes = replayed_keys[std::string(in.String())];
    for (uint64_t left = in.Varint(); left > 0 && in.ok(); --left) hashes.insert(in.U32());
  }
}

/// Does the row that is meant know better than a clock row without a row? Its own has another place
/// by now; the old one stays behind when the process is killed before a checkpoint.
Result<bool> Store::Impl::IsLeftBehind(TableIo& table, const Orphan& orphan,
                                       const crdt::Stamp& existence) {
  const auto replayed = replayed_keys.find(table.table().name);
  if (replayed != replayed_keys.end() && replayed->second.contains(orphan.short_hash)) return true;
  if (orphan.key.empty()) return false;
  const uint64_t key_hash = RowCache::KeyHash(orphan.key);
  if (const CachedRow* cached = cache.Find(table.number(), orphan.key, key_hash))
    return crdt::Later(cached->clock.existence(), existence, actors);
  ASSIGN_OR_RETURN(const CachedRow known, table.Load(orphan.key, key_hash, actors));
  return crdt::Later(known.clock.existence(), existence, actors);
}

/// A clock row without its row.
Status Store::Impl::NoteOrphan(TableIo& table, Orphan orphan) {
  ByteReader in(orphan.clock);
  orphan.short_hash = in.U32();
  CachedRow row;
  row.table = table.number();
  if (!crdt::RowClock::Decode(in, actors.size(), &row.clock)) {
    return DataLoss("the clock of a row of table " + table.table().name +
                    " is damaged; rebuild this node from a peer");
  }
  const crdt::Stamp& existence = row.clock.existence();
  if (orphan.key.empty()) {
    ASSIGN_OR_RETURN(orphan.key, KeyInLog(table, existence, orphan.short_hash));
  }
  for (size_t i = 0; i < table.table().columns.size() && orphan.key.empty(); ++i) {
    const auto column = static_cast<crdt::ColumnIndex>(i);
    if (!row.clock.HasCell(column)) continue;
    ASSIGN_OR_RETURN(orphan.key, KeyInLog(table, row.clock.Cell(column), orphan.short_hash));
  }
  // REPLACE: the row may be there, under another rowid.
  if (orphan.key.empty())
    orphan.key = foreign_rows.InsertedKey(table.table().name, orphan.short_hash);
  row.key = orphan.key;
  ASSIGN_OR_RETURN(const bool left_behind, IsLeftBehind(table, orphan, existence));
  if (!left_behind) {
    NoteForeign(ForeignRow::Kind::kDeleted, row, orphan.id);
    return OkStatus();
  }
  row.clock_rowid = orphan.id;
  return table.DeleteClock(row);
}

Status Store::Impl::CheckRow(TableIo& table, CachedRow row) {
  using Kind = ForeignRow::Kind;
  CachedRow* cached = cache.Find(row.table, row.key, row.key_hash);
  bool moved = false;
  if (cached != nullptr && cached->dirty) {  // the file's clock is behind
    // Nobody knew of it, after a crash: it goes when the row goes.
    if (cached->present && cached->rowid == row.rowid && !cached->clock_rowid)
      cached->clock_rowid = row.clock_rowid;
    row.clock = cached->clock;
    row.clock_rowid = cached->clock_rowid;
    row.seal = cached->seal;
    row.sealed = cached->sealed;
    moved = cached->rowid != row.rowid;
  } else if (!row.clock.alive() && row.clock_rowid && !table.table().without_rowid) {
    // The clock here is another key's: this row had that key.
    ASSIGN_OR_RETURN(std::string clock, table.ClockBytes(*row.clock_rowid));
    RETURN_IF_ERROR(NoteOrphan(table, {*row.clock_rowid, {}, std::move(clock)}));
    row.clock_rowid.reset();
  }
  const uint64_t hash = hashers[row.table].Hash(row.key_hash, row.clock, row.values, actors);
  if (!row.clock.alive()) {
    NoteForeign(Kind::kInserted, row, {});
  } else if (!row.sealed) {  // of a release without seals, or a column was dropped
    row.seal = SealOf(hash);
    row.sealed = true;
    if (cached == nullptr) cached = cache.Insert(std::move(row));
    cached->seal = SealOf(hash);
    cached->sealed = true;
    cache.MarkDirty(cached);
  } else if (row.seal != SealOf(hash) || moved || !UnstampedAreDefaults(table, row)) {
    NoteForeign(Kind::kChanged, row, row.clock_rowid);
  } else {
    foreign_rows.Forget(table.table().name, row.key);
  }
  return OkStatus();
}

bool Store::Impl::UnstampedAreDefaults(const TableIo& table, const CachedRow& row) {
  ByteReader in(row.values);
  const uint64_t count = in.Varint();
  for (uint64_t i = 0; i < count; ++i) {
    const crdt::ValueView value = crdt::DecodeValue(in);
    if (row.clock.HasCell(static_cast<crdt::ColumnIndex>(i))) continue;
    if (!(value == table.table().columns[i].default_value.view())) return false;
  }
  return true;
}

Result<size_t> Store::Impl::ScrubRows(TableIo& table, size_t rows_max) {
  ASSIGN_OR_RETURN(Stmt scan, table.ScanFrom(scrub_cursor.rowid, scrub_cursor.key, rows_max));
  size_t looked = 0;
  while (true) {
    ASSIGN_OR_RETURN(const bool found, scan.Step());
    if (!found) return looked;
    ++looked;
    CachedRow row = table.ScannedRow(scan);
    if (table.table().without_rowid) {
      scrub_cursor.key = row.key;
    } else if (row.rowid == INT64_MAX) {
      looked = 0;  // the last there can be
    } else {
      scrub_cursor.rowid = row.rowid + 1;
    }
    RETURN_IF_ERROR(table.ReadScannedClock(scan, actors, &row));
    RETURN_IF_ERROR(CheckRow(table, std::move(row)));
  }
}

Result<size_t> Store::Impl::ScrubClocks(TableIo& table, size_t rows_max) {
  ASSIGN_OR_RETURN(Stmt scan, table.ScanClocksFrom(scrub_cursor.rowid, scrub_cursor.key, rows_max));
  size_t looked = 0;
  std::vector<Orphan> orphans;
  while (true) {
    ASSIGN_OR_RETURN(const bool found, scan.Step());
    if (!found) break;
    ++looked;
    if (table.table().without_rowid) {
      CachedRow row;
      row.table = table.number();
      row.key = scrub_cursor.key = scan.ColumnBytes(0);
      row.key_hash = RowCache::KeyHash(row.key);
      ASSIGN_OR_RETURN(const bool there, table.ReadRowByKey(row.key, &row.values));
      const CachedRow* cached = cache.Find(row.table, row.key, row.key_hash);
      const bool ours = cached != nullptr && cached->dirty && !cached->present;
      if (!there && !ours) orphans.push_back({1, row.key, std::string(scan.ColumnBytes(1))});
      continue;
    }
    const int64_t id = scan.ColumnInt(0);
    if (id == INT64_MAX) {
      looked = 0;
    } else {
      scrub_cursor.rowid = id + 1;
    }
    if (scan.ColumnInt(2) != 0) orphans.push_back({id, {}, std::string(scan.ColumnBytes(1))});
  }
  scan.Reset();
  if (orphans.empty()) return looked;
  // Rows that Patina deleted or moved keep their clock row until the checkpoint.
  std::unordered_set<int64_t> ours;
  cache.ForEachDirty([&](const CachedRow& row) {
    const bool stays = row.present && row.clock_rowid == row.rowid;
    const bool by_rowid = row.table == table.number() && !table.table().without_rowid;
    if (by_rowid && row.clock_rowid && !stays) ours.insert(*row.clock_rowid);
  });
  for (Orphan& orphan : orphans) {
    if (!ours.contains(orphan.id)) RETURN_IF_ERROR(NoteOrphan(table, std::move(orphan)));
  }
  return looked;
}

Result<bool> Store::Impl::Scrub(size_t rows_max) {
  if (broken) return Unavailable("the store is broken; the agent must restart");
  if (!damage.empty()) return DataLoss(damage);
  while (scrub_cursor.table < tables.size()) {
    TableIo& table = *tables[scrub_cursor.table];
    const Result<size_t> looked =
        scrub_cursor.clocks ? ScrubClocks(table, rows_max) : ScrubRows(table, rows_max);
    if (!looked.ok()) {
      NoteFailure(looked.error());
      scrub_cursor.NextPart();  // the next parts may be read
      return looked.error();
    }
    if (!scrub_cursor.clocks) stats.scrub_rows += *looked;
    if (*looked < rows_max) scrub_cursor.NextPart();
    rows_max -= std::min(rows_max, *looked);
    if (rows_max == 0) return false;
  }
  foreign_rows.ForgetBefore(scrub_cursor.pass);
  large_keys.clear();
  if (!replayed_keys.empty()) {
    RETURN_IF_ERROR(ForgetState(kReplayedKeys));
    replayed_keys.clear();
  }
  logged_before_pass = stats.foreign_rows_found;
  ++scrub_cursor.pass;
  scrub_cursor.Restart();
  ++stats.scrub_passes;
  stats.last_scrub_ms = ClusterMs();
  const bool renew =
      digests_suspect && foreign_rows.empty() &&
      (!digests_renewed || options.clock->Now() - *digests_renewed >= kRenewInterval);
  if (renew) RETURN_IF_ERROR(RenewDigests());
  return true;
}

bool Store::Impl::OtherClientWrote() {
  const auto now = db->QueryInt("PRAGMA data_version");
  if (!now.ok()) return false;  // whoever writes next hears of it
  const bool changed = data_version && *data_version != *now;
  data_version = *now;
  if (changed) {
    ++stats.foreign_commits;
    digests_suspect = true;
    ++scrub_cursor.pass;
    scrub_cursor.Restart();
  }
  return changed;
}

}  // namespace patina::storage

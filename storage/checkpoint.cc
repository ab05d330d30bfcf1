#include <algorithm>
#include <chrono>
#include <utility>

#include "base/log.h"
#include "storage/store_impl.h"

// What is shared by all ways of writing, and the checkpoint: clocks, sets and digests written
// behind.

namespace patina::storage {

TableIo* Store::Impl::FindTable(std::string_view name) {
  const auto found = by_name.find(name);
  return found == by_name.end() ? nullptr : found->second;
}

Status Store::Impl::AppendLog(const crdt::Stamp& stamp, LogKind kind, std::string_view bytes,
                              std::string_view effect) {
  ++next_seq;
  insert_log.BindInt(1, static_cast<int64_t>(next_seq));
  insert_log.BindInt(2, stamp.actor);
  insert_log.BindInt(3, static_cast<int64_t>(stamp.version));
  insert_log.BindInt(4, static_cast<int64_t>(stamp.time.bits));
  insert_log.BindInt(5, static_cast<int64_t>(kind));
  insert_log.BindBlob(6, bytes);
  insert_log.BindBlob(7, effect);
  log_bytes_uncommitted += bytes.size();
  return insert_log.Run();
}

Status Store::Impl::Commit(std::string_view what) {
  Status status = commit.Run();
  if (status.ok()) {
    ++stats.commits;
    log_bytes += std::exchange(log_bytes_uncommitted, 0);
    return status;
  }
  Error error = status.error();
  error.message = std::string(what) + ": " + error.message;
  // After an I/O error nobody knows whether the commit is in the file.
  if (error.code == Errc::kInternal || error.code == Errc::kDataLoss) Broken(error);
  return error;
}

void Store::Impl::RollBack() {
  log_bytes_uncommitted = 0;
  if (db->InTransaction()) (void)db->Exec("ROLLBACK");
}

void Store::Impl::BeginEffects(CommitEffects* effects) {
  *effects = CommitEffects();
  effects->first_seq = last_seq + 1;
  effects->last_seq = last_seq;
  effects->tables_changed.assign(tables.size(), false);
  effect_index.clear();
}

void Store::Impl::NoteTable(CommitEffects* effects, uint32_t table) {
  effects->tables_changed[table] = true;
}

void Store::Impl::AddEffect(CommitEffects* effects, uint32_t table, uint64_t seq,
                            const std::string& key, uint64_t key_hash, bool had_row,
                            std::string_view before, bool has_row, std::string_view after) {
  if (!effect_tables[table]) return;
  const std::string name = std::string(reinterpret_cast<const char*>(&key_hash), sizeof key_hash) +
                           std::string(reinterpret_cast<const char*>(&table), sizeof table) + key;
  const auto [found, is_new] = effect_index.try_emplace(name, effects->rows.size());
  if (is_new) {
    RowEffect effect;
    effect.table = table;
    effect.key = key;
    if (had_row) effect.before = tables[table]->FullRow(key, before);
    effects->rows.push_back(std::move(effect));
  }
  // A row touched again in the same commit: the first image before, the last after.
  RowEffect& effect = effects->rows[found->second];
  effect.seq = seq;
  effect.after.reset();
  if (has_row) effect.after = tables[table]->FullRow(key, after);
}

void Store::Impl::AddDigest(TableIo& table, uint64_t key_hash, uint64_t change, bool alive_before,
                            bool alive_after) {
  table.digest.Add(key_hash, change);
  if (alive_before) --table.digest.rows;
  if (alive_after) ++table.digest.rows;
  table.digest_dirty = true;
}

Status Store::Impl::SaveState(std::string_view name, const crdt::ValueView& value) {
  save_state.BindText(1, name);
  save_state.Bind(2, value);
  return save_state.Run();
}

Status Store::Impl::SaveDigests() {
  for (const auto& table : tables) {
    if (!table->digest_dirty) continue;
    std::string bytes;
    ByteWriter out(&bytes);
    for (uint64_t bucket : table->digest.buckets) out.U64(bucket);
    out.U64(table->digest.rows);
    RETURN_IF_ERROR(SaveState("digest:" + table->table().name, crdt::ValueView::Blob(bytes)));
  }
  return OkStatus();
}

Status Store::Impl::WriteDirtyRows() {
  std::vector<CachedRow*> rows;
  rows.reserve(cache.dirty());
  cache.ForEachDirty([&](CachedRow& row) { rows.push_back(&row); });
  std::sort(rows.begin(), rows.end(), [](const CachedRow* a, const CachedRow* b) {
    if (a->table != b->table) return a->table < b->table;
    return a->rowid != b->rowid ? a->rowid < b->rowid : a->key < b->key;
  });
  // First what goes: a rowid may have been given to another row since.
  for (CachedRow* row : rows) {
    TableIo& table = *tables[row->table];
    if (row->clock_rowid != 0 &&
        (!row->present || (!table.table().without_rowid && row->clock_rowid != row->rowid))) {
      RETURN_IF_ERROR(table.DeleteClock(*row));
    }
    if (row->present && row->dead_in_file) RETURN_IF_ERROR(table.DeleteDead(*row));
  }
  size_t written = 0;
  for (CachedRow* row : rows) {
    NoteStep(written++);
    CachedRow copy_of_marks;  // what the file holds is noted only when the commit is certain
    copy_of_marks.clock_rowid = row->clock_rowid;
    copy_of_marks.dead_in_file = row->dead_in_file;
    Status status = tables[row->table]->WriteClock(row);
    row->clock_rowid = copy_of_marks.clock_rowid;
    row->dead_in_file = copy_of_marks.dead_in_file;
    RETURN_IF_ERROR(status);
  }
  return OkStatus();
}

/// A commit costs the less the fewer pages it touches: the log's index waits for the checkpoint.
Status Store::Impl::IndexLogTail() {
  return db->Exec(
      StrCat("INSERT INTO __patina_log_index SELECT actor, version, seq FROM __patina_log WHERE "
             "seq > ",
             checkpoint_seq, " AND kind = 0 ORDER BY actor, version"));
}

Status Store::Impl::CheckpointIfDue() {
  const Instant now = options.clock->Now();
  const bool due =
      cache.dirty() >= options.limits.dirty_rows_max ||
      last_seq - checkpoint_seq >= options.limits.log_tail_max ||
      (last_seq > checkpoint_seq && now - last_checkpoint >= options.limits.checkpoint_interval);
  return due ? Checkpoint() : OkStatus();
}

Status Store::Impl::Checkpoint() {
  if (broken) return Unavailable("the store is broken; the agent must restart");
  const Instant started = options.clock->Now();
  last_checkpoint = started;
  std::string set;
  ByteWriter out(&set);
  applied.Encode(out);
  auto write = [&]() -> Status {
    RETURN_IF_ERROR(begin.Run());
    RETURN_IF_ERROR(WriteDirtyRows());
    RETURN_IF_ERROR(SaveActors());
    RETURN_IF_ERROR(SaveState("applied", crdt::ValueView::Blob(set)));
    RETURN_IF_ERROR(
        SaveState("last_seq", crdt::ValueView::Integer(static_cast<int64_t>(last_seq))));
    RETURN_IF_ERROR(
        SaveState("hlc", crdt::ValueView::Integer(static_cast<int64_t>(newest_applied.bits))));
    RETURN_IF_ERROR(
        SaveState("schema_hash", crdt::ValueView::Integer(static_cast<int64_t>(schema.Hash()))));
    // During a replay the digests do not count yet: they are made anew right after.
    RETURN_IF_ERROR(
        SaveState("digests_valid", crdt::ValueView::Integer(capture == nullptr ? 0 : 1)));
    RETURN_IF_ERROR(SaveDigests());
    RETURN_IF_ERROR(IndexLogTail());
    RETURN_IF_ERROR(TrimLog());
    return Commit("checkpoint");
  };
  if (Status status = write(); !status.ok()) {
    RollBack();
    return status;
  }
  actors_saved = actors.size();
  cache.ForEachDirty([&](CachedRow& row) {
    TableIo& table = *tables[row.table];
    if (row.present) {
      if (row.dead_in_file) --table.tombstones;
      row.dead_in_file = false;
      row.clock_rowid = table.table().without_rowid ? 1 : row.rowid;
    } else {
      if (!row.dead_in_file) ++table.tombstones;
      row.dead_in_file = true;
      row.clock_rowid = 0;
    }
  });
  cache.MarkAllClean();
  if (capture != nullptr) {
    for (const auto& table : tables) table->digest_dirty = false;
  }
  checkpoint_seq = last_seq;
  cache.EvictIfNeeded();
  ++stats.checkpoints;
  stats.last_checkpoint_ms = static_cast<double>(ToUs(options.clock->Now() - started)) / 1000;
  return OkStatus();
}

Status Store::Impl::TrimLog() {
  const auto oldest_ms = ClusterMs() - ToMs(options.limits.log_age_max);
  const bool may_be_old = log_bytes > options.limits.log_bytes_max || oldest_ms > 0;
  if (!may_be_old) return OkStatus();
  ASSIGN_OR_RETURN(
      Stmt scan,
      db->Prepare("SELECT seq, time, length(bytes) FROM __patina_log WHERE seq <= ? ORDER BY seq",
                  false));
  scan.BindInt(1, static_cast<int64_t>(last_seq));
  uint64_t trim_to = 0, left = log_bytes;
  for (size_t entry = 0;; ++entry) {
    NoteStep(entry);
    ASSIGN_OR_RETURN(const bool row, scan.Step());
    if (!row) break;
    const crdt::HlcTime time{static_cast<uint64_t>(scan.ColumnInt(1))};
    if (left <= options.limits.log_bytes_max && time.ms() >= oldest_ms) break;
    trim_to = static_cast<uint64_t>(scan.ColumnInt(0));
    left -= std::min(left, static_cast<uint64_t>(scan.ColumnInt(2)));
  }
  scan.Reset();
  if (trim_to == 0) return OkStatus();
  const std::string trimmed = StrCat("FROM __patina_log WHERE seq <= ", trim_to);
  RETURN_IF_ERROR(db->Exec(
      StrCat("DELETE FROM __patina_log_index WHERE (actor, version) IN (SELECT actor, version ",
             trimmed, " AND kind = 0)")));
  RETURN_IF_ERROR(db->Exec("DELETE " + trimmed));
  log_bytes = left;
  log_first_seq = trim_to + 1;
  return OkStatus();
}

Status Store::Impl::Close() {
  if (closed || broken) return OkStatus();
  closed = true;
  RETURN_IF_ERROR(Checkpoint());
  (void)db->Exec("PRAGMA incremental_vacuum(2000)");
  return OkStatus();
}

}  // namespace patina::storage

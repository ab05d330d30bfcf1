#include <algorithm>
#include <chrono>
#include <utility>

#include "base/log.h"
#include "storage/store_impl.h"

// What is shared by all ways of writing, and the checkpoint: clocks, sets and digests written
// behind.

namespace patina::storage {
namespace {

constexpr Duration kCheckpointRetryMin = std::chrono::seconds(1);
constexpr Duration kCheckpointRetryMax = std::chrono::seconds(30);
/// So many times the rows that make a checkpoint due may wait when it fails; then writes are
/// refused.
constexpr size_t kDirtyRowsFactor = 4;

}  // namespace

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
    disk_trouble.clear();
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
  if (!db->InTransaction()) return;
  Status status = db->Exec("ROLLBACK");
  if (db->InTransaction()) Broken(status.ok() ? Internal("ROLLBACK did nothing") : status.error());
}

void Store::Impl::NoteFailure(const Error& error) {
  if (error.code == Errc::kDataLoss) {
    if (damage.empty()) LogError("storage", error.message);
    if (damage.empty()) damage = error.message;
    return;
  }
  const int code = sqlite3_errcode(db->get()) & 0xff;
  if (code != SQLITE_FULL && code != SQLITE_IOERR) return;
  if (disk_trouble.empty()) LogError("storage", error.message);
  disk_trouble = error.message;
  ++stats.disk_failures;
}

Status Store::Impl::MayWrite() const {
  if (broken) return Unavailable("the store is broken; the agent must restart");
  if (!damage.empty()) return DataLoss(damage);
  if (checkpoint_delay > Duration::zero() &&
      cache.dirty() >= kDirtyRowsFactor * options.limits.dirty_rows_max) {
    return ResourceExhausted(StrCat(cache.dirty(), " rows wait for a checkpoint, which fails: ",
                                    disk_trouble.empty() ? "see the agent's log" : disk_trouble));
  }
  return OkStatus();
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

Status Store::Impl::ForgetState(const std::string& name) {
  ASSIGN_OR_RETURN(Stmt forget, db->Prepare("DELETE FROM __patina_state WHERE name = ?", false));
  forget.BindText(1, name);
  return forget.Run();
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
    if (row->clock_rowid &&
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

Status Store::Impl::SaveCheckpoint(const crdt::VersionSet& applied_then, crdt::HlcTime newest,
                                   uint64_t seq) {
  const auto save = [this](std::string_view name, uint64_t number) {
    return SaveState(name, crdt::ValueView::Integer(static_cast<int64_t>(number)));
  };
  std::string set;
  ByteWriter out(&set);
  applied_then.Encode(out);
  RETURN_IF_ERROR(SaveActors());
  RETURN_IF_ERROR(SaveState("applied", crdt::ValueView::Blob(set)));
  RETURN_IF_ERROR(save("last_seq", seq));
  RETURN_IF_ERROR(save("hlc", newest.bits));
  RETURN_IF_ERROR(save("schema_hash", schema.Hash()));
  // During a replay the digests do not count yet: they are made anew right after.
  RETURN_IF_ERROR(save("digests_valid", capture == nullptr ? 0 : 1));
  if (capture == nullptr && !replayed_keys.empty()) RETURN_IF_ERROR(SaveReplayedKeys());
  return SaveDigests();
}

/// A commit costs the less the fewer pages it touches: the log's index waits for the checkpoint.
Status Store::Impl::IndexLogTail() {
  return db->Exec(
      StrCat("INSERT INTO __patina_log_index SELECT actor, version, seq FROM __patina_log WHERE "
             "seq > ",
             checkpoint_seq, " AND kind <> 1 ORDER BY actor, version"));
}

Status Store::Impl::CheckpointIfDue() {
  const Instant now = options.clock->Now();
  const bool due =
      cache.dirty() >= options.limits.dirty_rows_max ||
      last_seq - checkpoint_seq >= options.limits.log_tail_max ||
      (last_seq > checkpoint_seq && now - last_checkpoint >= options.limits.checkpoint_interval);
  const bool may = now >= checkpoint_not_before && damage.empty();
  return due && may ? Checkpoint() : OkStatus();
}

Status Store::Impl::Checkpoint() {
  if (broken) return Unavailable("the store is broken; the agent must restart");
  if (!damage.empty()) return DataLoss(damage);
  const Instant started = options.clock->Now();
  last_checkpoint = started;
  uint64_t bytes_left = log_bytes, first_left = log_first_seq;
  const Spilling spilling(*db);
  auto write = [&]() -> Status {
    RETURN_IF_ERROR(begin.Run());
    RETURN_IF_ERROR(WriteDirtyRows());
    RETURN_IF_ERROR(SaveCheckpoint(applied, newest_applied, last_seq));
    RETURN_IF_ERROR(IndexLogTail());
    RETURN_IF_ERROR(TrimLog(&bytes_left, &first_left));
    return Commit("checkpoint");
  };
  if (Status status = write(); !status.ok()) {
    NoteFailure(status.error());
    RollBack();
    ++stats.checkpoints_failed;
    checkpoint_delay = std::clamp(2 * checkpoint_delay, kCheckpointRetryMin, kCheckpointRetryMax);
    checkpoint_not_before = started + checkpoint_delay;
    return status;
  }
  checkpoint_delay = {};
  checkpoint_not_before = {};
  log_bytes = bytes_left;
  log_first_seq = first_left;
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
      row.clock_rowid.reset();
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

Status Store::Impl::TrimLog(uint64_t* bytes_left, uint64_t* first_left) {
  const auto oldest_ms = ClusterMs() - ToMs(options.limits.log_age_max);
  const bool may_be_old = log_bytes > options.limits.log_bytes_max || oldest_ms > 0;
  if (!may_be_old) return OkStatus();
  ASSIGN_OR_RETURN(
      Stmt scan,
      db->Prepare("SELECT seq, time, length(bytes), iif(kind = 2, bytes, NULL) FROM __patina_log "
                  "WHERE seq <= ? ORDER BY seq",
                  false));
  scan.BindInt(1, static_cast<int64_t>(last_seq));
  uint64_t trim_to = 0, left = log_bytes;
  bool any_large = false;
  for (size_t entry = 0;; ++entry) {
    NoteStep(entry);
    ASSIGN_OR_RETURN(const bool row, scan.Step());
    if (!row) break;
    const crdt::HlcTime time{static_cast<uint64_t>(scan.ColumnInt(1))};
    if (left <= options.limits.log_bytes_max && time.ms() >= oldest_ms) break;
    trim_to = static_cast<uint64_t>(scan.ColumnInt(0));
    auto bytes = static_cast<uint64_t>(scan.ColumnInt(2));
    if (const std::string_view large = scan.ColumnBytes(3); crdt::IsManifest(large)) {
      ASSIGN_OR_RETURN(const crdt::Manifest manifest, crdt::DecodeManifest(large));
      bytes += manifest.bytes;
      any_large = true;
    }
    left -= std::min(left, bytes);
  }
  scan.Reset();
  if (trim_to == 0) return OkStatus();
  const std::string trimmed = StrCat("FROM __patina_log WHERE seq <= ", trim_to);
  RETURN_IF_ERROR(db->Exec(
      StrCat("DELETE FROM __patina_log_index WHERE (actor, version) IN (SELECT actor, version ",
             trimmed, " AND kind <> 1)")));
  if (any_large) RETURN_IF_ERROR(DropLooseChunks());
  RETURN_IF_ERROR(db->Exec("DELETE " + trimmed));
  *bytes_left = left;
  *first_left = trim_to + 1;
  return OkStatus();
}

Status Store::Impl::Close() {
  if (closed || broken || !damage.empty()) return OkStatus();
  closed = true;
  RETURN_IF_ERROR(Checkpoint());
  (void)db->Exec("PRAGMA incremental_vacuum(2000)");
  return OkStatus();
}

}  // namespace patina::storage

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "storage/file_check.h"
#include "storage/peer_snapshot.h"
#include "storage/store_impl.h"
#include "storage/wal_check.h"

// Opening: connection, own tables, schema, checkpoint, and the replay of the log's tail.

namespace patina::storage {

Store::Impl::Impl(StoreOptions given)
    : options(std::move(given)),
      snapshots(std::make_shared<Snapshots>(options.limits.wal_bytes_max)),
      cache(options.limits.row_cache_bytes),
      foreign_rows(options.limits.foreign_rows_max),
      rng(options.seed == 0 ? SystemEntropy() : options.seed) {}

Store::Impl::~Impl() = default;

void Store::Impl::Broken(const Error& error) {
  broken = true;
  LogError("storage",
           "the file can no longer be trusted, this process must start anew: ", error.ToString());
}

Status Store::Impl::Open() {
  CHECK(options.clock != nullptr);
  RETURN_IF_ERROR(AdoptPreparedSnapshot(options.path));
  ASSIGN_OR_RETURN(const bool log_damaged, SetDamagedWalAside(options.path));
  RETURN_IF_ERROR(OpenConnection());
  RETURN_IF_ERROR(CompareWithAcked());
  if (log_damaged) RETURN_IF_ERROR(CheckSound(*db, options.path));
  RETURN_IF_ERROR(NoteIdentity());
  RETURN_IF_ERROR(CreateInternalTables());
  ASSIGN_OR_RETURN(begin, db->Prepare("BEGIN IMMEDIATE"));
  ASSIGN_OR_RETURN(commit, db->Prepare("COMMIT"));
  ASSIGN_OR_RETURN(savepoint, db->Prepare("SAVEPOINT __patina_tx"));
  ASSIGN_OR_RETURN(release, db->Prepare("RELEASE __patina_tx"));
  ASSIGN_OR_RETURN(rollback_to, db->Prepare("ROLLBACK TO __patina_tx"));
  ASSIGN_OR_RETURN(insert_log,
                   db->Prepare("INSERT INTO __patina_log VALUES (?, ?, ?, ?, ?, ?, ?)"));
  ASSIGN_OR_RETURN(insert_actor, db->Prepare("INSERT INTO __patina_actor VALUES (?, ?, ?)"));
  ASSIGN_OR_RETURN(save_state, db->Prepare("INSERT OR REPLACE INTO __patina_state VALUES (?, ?)"));
  ASSIGN_OR_RETURN(insert_parked,
                   db->Prepare("INSERT OR REPLACE INTO __patina_parked VALUES (?, ?, ?, ?, ?, ?)"));
  ASSIGN_OR_RETURN(delete_parked,
                   db->Prepare("DELETE FROM __patina_parked WHERE actor = ? AND version = ?"));
  RETURN_IF_ERROR(LoadActors());
  RETURN_IF_ERROR(MigrateFile());
  UseTables(std::move(schema));
  for (const auto& table : tables) RETURN_IF_ERROR(table->CreateOwnTables());
  GuardClientSql();
  RETURN_IF_ERROR(LoadState());
  RETURN_IF_ERROR(LoadParked());
  RETURN_IF_ERROR(LoadSetAside());
  RETURN_IF_ERROR(ReplayLog());
  ASSIGN_OR_RETURN(insert_chunk,
                   db->Prepare("INSERT OR REPLACE INTO __patina_chunk VALUES (?, ?, ?, ?)"));
  RETURN_IF_ERROR(LoadStaged());
  received = applied;
  for (const auto& [id, change] : parked) received.Add(id);
  if (const std::string lost = DescribeLostCommits(); !lost.empty()) LogError("storage", lost);
  NoteAcked();
  if (options.mutant == Mutant::kReuseActor) ReuseActor();
  StartCapture();
  last_checkpoint = options.clock->Now();
  (void)OtherClientWrote();  // from here on
  if (!settles_at_open) return OkStatus();
  std::vector<ChangeId> adopted;  // in received() like all others
  RETURN_IF_ERROR(AdoptTables(&adopted));
  // The schema may be another than when these were parked.
  CommitEffects effects;
  for (auto& [id, change] : parked) change.future = true;
  RETURN_IF_ERROR(SettleParked(&effects));
  return OkStatus();
}

/// A broken rule.
void Store::Impl::ReuseActor() {
  for (crdt::ActorIndex i = 1; i < actors.size(); ++i) {
    const auto name = node_names.find(actors.Get(i));
    if (name == node_names.end() || name->second != options.node_name) continue;
    actor = actors.Get(i);
    actor_index = i;
    version = received.Head(actor);
  }
}

void Store::Impl::StartCapture() {
  std::vector<TableIo*> all;
  for (const auto& table : tables) all.push_back(table.get());
  capture = std::make_unique<Capture>(db.get(), std::move(all));
  capture->SetClockLoader(
      [this](TableIo& table, const std::string& key, int64_t rowid) -> Result<crdt::RowClock> {
        const uint64_t hash = RowCache::KeyHash(key);
        if (const CachedRow* cached = cache.Find(table.number(), key, hash))
          return ClockInGroup(*cached);
        CachedRow row;
        row.key = key;
        row.key_hash = hash;
        RETURN_IF_ERROR(table.LoadClock(&row, true, rowid, actors));
        return row.clock;
      });
}

Status Store::Impl::OpenConnection() {
  ASSIGN_OR_RETURN(Db opened, Db::Open(options.path, Db::Mode::kReadWriteCreate));
  db = std::make_unique<Db>(std::move(opened));
  RETURN_IF_ERROR(db->ConnectTableFunctions());
  // auto_vacuum only takes hold in a new file; the order matters.
  RETURN_IF_ERROR(db->Exec("PRAGMA auto_vacuum = INCREMENTAL"));
  if (Status wal = db->Exec("PRAGMA journal_mode = WAL"); !wal.ok()) {
    return Error{wal.error().code, "cannot use " + options.path + ": " + wal.error().message +
                                       " (is it a SQLite file, and does no other agent use it?)"};
  }
  wal_limit =
      std::make_unique<WalLimit>(db.get(), options.limits.wal_bytes_max, options.clock, snapshots);
  return db->Exec(StrCat("PRAGMA synchronous = ", options.full_sync ? "FULL" : "NORMAL",
                         "; PRAGMA cache_size = -", options.limits.page_cache_kib,
                         "; PRAGMA temp_store = MEMORY"
                         "; PRAGMA journal_size_limit = 4194304; PRAGMA recursive_triggers = ON"
                         "; PRAGMA foreign_keys = OFF; PRAGMA trusted_schema = OFF"
                         "; PRAGMA cache_spill = OFF"));  // Store::Impl::Spilling says why
}

/// Before anything else is read or written: it may be the file of a newer release.
Status Store::Impl::NoteIdentity() {
  RETURN_IF_ERROR(
      db->Exec("CREATE TABLE IF NOT EXISTS __patina_state (name TEXT NOT NULL PRIMARY KEY, value) "
               "WITHOUT ROWID"));
  ASSIGN_OR_RETURN(const FileIdentity identity, ReadIdentity(*db));
  RETURN_IF_ERROR(CheckIdentity(identity, options.cluster, options.path));
  return SaveIdentity(*db, identity, options.cluster);
}

Status Store::Impl::CreateInternalTables() {
  return db->Exec(
      "CREATE TABLE IF NOT EXISTS __patina_log (seq INTEGER NOT NULL PRIMARY KEY, actor INTEGER "
      "NOT NULL, "
      "version INTEGER NOT NULL, time INTEGER NOT NULL, kind INTEGER NOT NULL, bytes BLOB NOT "
      "NULL, "
      "effect BLOB NOT NULL);"
      // Where a version stands in the log; entries after the checkpoint are not in it yet.
      "CREATE TABLE IF NOT EXISTS __patina_log_index (actor INTEGER NOT NULL, version INTEGER NOT "
      "NULL, seq INTEGER NOT NULL, PRIMARY KEY (actor, version)) WITHOUT ROWID;"
      "CREATE TABLE IF NOT EXISTS __patina_actor (id INTEGER NOT NULL PRIMARY KEY, actor BLOB NOT "
      "NULL, "
      "node TEXT NOT NULL);"
      "CREATE UNIQUE INDEX IF NOT EXISTS __patina_actor_id ON __patina_actor (actor);"
      "CREATE TABLE IF NOT EXISTS __patina_parked (actor INTEGER NOT NULL, version INTEGER NOT "
      "NULL, "
      "time INTEGER NOT NULL, reason TEXT NOT NULL, future INTEGER NOT NULL, bytes BLOB NOT NULL, "
      "PRIMARY KEY (actor, version)) WITHOUT ROWID;"
      "CREATE TABLE IF NOT EXISTS __patina_staged (transfer INTEGER NOT NULL, number INTEGER NOT "
      "NULL, "
      "bytes BLOB NOT NULL, PRIMARY KEY (transfer, number));"
      "CREATE TABLE IF NOT EXISTS __patina_set_aside (n INTEGER NOT NULL PRIMARY KEY, actor BLOB "
      "NOT NULL, version INTEGER NOT NULL, time INTEGER NOT NULL, reason TEXT NOT NULL, bytes BLOB "
      "NOT NULL, UNIQUE (actor, version));"
      // Of large transactions: those of the log, and of peers' that are parked or being fetched.
      "CREATE TABLE IF NOT EXISTS __patina_chunk (actor BLOB NOT NULL, version INTEGER NOT NULL, "
      "number INTEGER NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (actor, version, number));"
      // Which are being fetched.
      "CREATE TABLE IF NOT EXISTS __patina_large (actor BLOB NOT NULL, version INTEGER NOT NULL, "
      "manifest BLOB NOT NULL, PRIMARY KEY (actor, version)) WITHOUT ROWID;"
      "DELETE FROM __patina_staged;");  // of a process that is gone
}

Status Store::Impl::LoadActors() {
  ASSIGN_OR_RETURN(Stmt select,
                   db->Prepare("SELECT id, actor, node FROM __patina_actor ORDER BY id", false));
  while (true) {
    ASSIGN_OR_RETURN(const bool row, select.Step());
    if (!row) break;
    const auto id = ActorId::FromBytes(select.ColumnBytes(1));
    if (!id || select.ColumnInt(0) != actors.size())
      return DataLoss("table __patina_actor is damaged");
    actors.Restore(static_cast<crdt::ActorIndex>(select.ColumnInt(0)), *id);
    if (const auto node = select.ColumnBytes(2); !node.empty()) node_names[*id] = node;
  }
  actors_saved = actors.size();
  return OkStatus();
}

Status Store::Impl::LoadState() {
  ASSIGN_OR_RETURN(Stmt select, db->Prepare("SELECT name, value FROM __patina_state", false));
  bool digests_valid = false;
  while (true) {
    ASSIGN_OR_RETURN(const bool row, select.Step());
    if (!row) break;
    const std::string name(select.ColumnBytes(0));
    const auto number = static_cast<uint64_t>(select.ColumnInt(1));
    if (name == "last_seq") last_seq = checkpoint_seq = number;
    if (name == "hlc") newest_applied.bits = number;
    if (name == "horizon") horizon.bits = number;
    if (name == "set_aside_dropped") stats.set_aside_dropped = number;
    if (name == "published") published.bits = number;
    if (name == "digests_valid") digests_valid = number == 1;
    if (name == "applied") {
      ByteReader in(select.ColumnBytes(1));
      if (!crdt::VersionSet::Decode(in, {}, &applied))
        return DataLoss("the set of applied versions is damaged");
    }
    if (name == kReplayedKeys) LoadReplayedKeys(select.ColumnBytes(1));
    if (name == "collected") {
      ByteReader in(select.ColumnBytes(1));
      if (!DecodeCollected(in, &collected))
        return DataLoss("the record of what was collected is damaged");
    }
    if (name.starts_with("digest:")) {
      TableIo* table = FindTable(std::string_view(name).substr(7));
      ByteReader in(select.ColumnBytes(1));
      if (table == nullptr || in.remaining() != (kDigestBuckets + 1) * sizeof(uint64_t)) continue;
      for (uint64_t& bucket : table->digest.buckets) bucket = in.U64();
      table->digest.rows = in.U64();
    }
  }
  ASSIGN_OR_RETURN(const int64_t newest,
                   db->QueryInt("SELECT coalesce(max(time), 0) FROM __patina_log"));
  newest_applied = std::max(newest_applied, crdt::HlcTime{static_cast<uint64_t>(newest)});
  // Not parked changes: they may be from the future.
  for (const crdt::HlcTime time : {newest_applied, published, horizon}) hlc.Observe(time);
  ASSIGN_OR_RETURN(const int64_t bytes,
                   db->QueryInt("SELECT coalesce(sum(length(bytes)), 0) FROM __patina_log"));
  RETURN_IF_ERROR(DropLooseChunks());
  ASSIGN_OR_RETURN(
      const int64_t chunk_bytes,
      db->QueryInt(StrCat("SELECT coalesce(sum(length(bytes)), 0) FROM __patina_chunk c WHERE ",
                          kChunkIsLogged)));
  log_bytes = static_cast<uint64_t>(bytes + chunk_bytes);
  ASSIGN_OR_RETURN(const int64_t first,
                   db->QueryInt("SELECT coalesce(min(seq), 0) FROM __patina_log"));
  log_first_seq = first > 0 ? static_cast<uint64_t>(first) : last_seq + 1;
  if (digests_valid) return OkStatus();
  for (const auto& table : tables) table->digest_dirty = true;
  return OkStatus();
}

Status Store::Impl::LoadParked() {
  ASSIGN_OR_RETURN(
      Stmt select,
      db->Prepare("SELECT a.actor, p.version, p.time, p.reason, p.future, length(p.bytes) FROM "
                  "__patina_parked p JOIN __patina_actor a ON a.id = p.actor",
                  false));
  while (true) {
    ASSIGN_OR_RETURN(const bool row, select.Step());
    if (!row) return OkStatus();
    const auto id = ActorId::FromBytes(select.ColumnBytes(0));
    if (!id) return DataLoss("table __patina_actor is damaged");
    WaitingChange change;
    change.time.bits = static_cast<uint64_t>(select.ColumnInt(2));
    change.reason = select.ColumnBytes(3);
    change.future = select.ColumnInt(4) != 0;
    change.bytes = static_cast<uint64_t>(select.ColumnInt(5));
    parked_bytes += change.bytes;
    if (options.mutant == Mutant::kClockFromParked) hlc.Observe(change.time);
    parked[{*id, static_cast<uint64_t>(select.ColumnInt(1))}] = std::move(change);
  }
}

Status Store::Impl::ReplayChangeset(std::string_view bytes) {
  MergeBatch batch;
  std::string park_reason;
  crdt::ChangesetHeader header;
  RETURN_IF_ERROR(Decode(bytes, 0, &batch, &park_reason, &header));
  if (!park_reason.empty()) {
    LogError("storage", "a change of this node's log is not understood any more: ", park_reason);
  }
  RETURN_IF_ERROR(MergeInMemory(&batch, Loading::kWithDead));
  for (size_t i = 0; i < batch.work_count(); ++i) {
    MergeWork& work = batch.work(i);
    // The user's tables are newer than this entry: presence is theirs.
    CachedRow* row = work.cached;
    const size_t before = RowCache::BytesOf(*row);
    work.next.dirty = row->dirty;
    std::swap(*row, work.next);
    cache.Resized(before, *row);
    cache.MarkDirty(row);
    tables[row->table]->digest_dirty = true;
  }
  applied.Add(header.id);
  return OkStatus();
}

Status Store::Impl::ReplayLog() {
  ASSIGN_OR_RETURN(
      Stmt tail,
      db->Prepare("SELECT seq, kind, bytes FROM __patina_log WHERE seq > ? ORDER BY seq", false));
  tail.BindInt(1, static_cast<int64_t>(checkpoint_seq));
  while (true) {
    ASSIGN_OR_RETURN(const bool row, tail.Step());
    if (!row) break;
    if (tail.ColumnInt(1) == static_cast<int64_t>(LogKind::kChangeset)) {
      const std::string bytes(tail.ColumnBytes(2));
      RETURN_IF_ERROR(ReplayChangeset(bytes));
    }
    last_seq = static_cast<uint64_t>(tail.ColumnInt(0));
    ++stats.replayed;
  }
  tail.Reset();
  bool stale = false;
  for (const auto& table : tables) stale |= table->digest_dirty;
  if (stats.replayed == 0 && !stale) return OkStatus();
  cache.ForEachDirty([&](CachedRow& row) {
    // What another client wrote since the checkpoint cannot be told from what is replayed.
    row.seal = SealOf(hashers[row.table].Hash(row.key_hash, row.clock, row.values, actors));
    row.sealed = true;
    if (!row.clock_rowid || row.clock_rowid != row.rowid || row.others_clock)
      replayed_keys[schema.tables[row.table].name].insert(static_cast<uint32_t>(row.key_hash));
    if (row.present == row.clock.alive()) return;
    LogError("storage", "table ", schema.tables[row.table].name, ": a row ",
             row.present ? "is" : "is not",
             " there, and its clock says otherwise; `patina verify` will name it");
  });
  RETURN_IF_ERROR(Checkpoint());
  RETURN_IF_ERROR(RecomputeDigests());
  if (stats.replayed > 0)
    LogInfo("storage", "replayed ", stats.replayed, " log entries after an unclean stop");
  return OkStatus();
}

}  // namespace patina::storage

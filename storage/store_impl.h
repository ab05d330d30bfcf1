#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/random.h"
#include "crdt/actor_table.h"
#include "crdt/manifest.h"
#include "storage/acked_file.h"
#include "storage/capture.h"
#include "storage/collected.h"
#include "storage/db.h"
#include "storage/digest.h"
#include "storage/foreign_rows.h"
#include "storage/log.h"
#include "storage/merge_batch.h"
#include "storage/row_cache.h"
#include "storage/store.h"
#include "storage/store_parts.h"
#include "storage/table_io.h"

namespace patina::storage {

/// An error that names all changes that cannot be done, or may not.
Status CheckAllowed(const std::vector<SchemaChange>& changes, bool allow_destructive);

class Store::Impl {
 public:
  explicit Impl(StoreOptions options);
  ~Impl();

  // open.cc
  Status Open();
  Status Close();

  // execute.cc
  std::vector<Result<Committed>> Execute(std::span<const Transaction> transactions,
                                         CommitEffects* effects);
  // merge.cc
  Result<std::vector<MergeOutcome>> Merge(std::span<const SharedBytes> changesets,
                                          CommitEffects* effects);
  Result<std::vector<ChangeId>> SettleParked(CommitEffects* effects);
  // checkpoint.cc
  Status CheckpointIfDue();
  Status Checkpoint();
  // collect.cc
  Result<crdt::HlcTime> PublishClock();
  Status SaveMembers(std::string_view members);
  Result<std::string> SavedMembers();
  std::optional<crdt::HlcTime> OldestParked() const;
  Result<bool> AnyToCollect(crdt::HlcTime line);
  Result<bool> Collect(crdt::HlcTime line);
  // peer_snapshot.cc
  Result<SnapshotOutcome> PrepareSnapshot(const std::string& staged_path);
  // set_aside.cc
  Result<std::vector<SetAsideChange>> SetAside();
  Result<std::string> SetAsideBytes(const ChangeId& id);
  Result<Committed> ApplySetAside(const ChangeId& id, CommitEffects* effects);
  Status DropSetAside(const ChangeId& id);
  // transfer.cc
  Status StageTransferChunk(uint64_t transfer, uint64_t number, std::string_view bytes);
  Status MergeTransfer(uint64_t transfer, CommitEffects* effects);
  Status AbandonTransfers();
  // execute_large.cc
  Result<Committed> ExecuteLarge(const Transaction& transaction, CommitEffects* effects);
  // merge_large.cc
  Result<uint64_t> StageLarge(std::string_view manifest);
  Status StageLargeChunk(const ChangeId& id, uint64_t number, std::string_view bytes);
  Result<MergeOutcome> MergeLarge(const ChangeId& id, CommitEffects* effects);
  // scrub.cc
  Result<bool> Scrub(size_t rows_max);
  bool OtherClientWrote();
  // foreign_rows.cc
  Result<ForeignOutcome> SettleForeignRows(ForeignAction action, CommitEffects* effects);
  // store.cc
  Result<std::vector<RowDigest>> RowsInBucket(std::string_view table, uint32_t bucket);
  StoreStats Stats() const;
  /// With what makes each bucket of a foreign row differ from that of a node that has none, so that
  /// a comparison of members looks at its rows.
  TableDigestState DigestWithForeignRows(const TableIo& table) const;

  // What a transaction did, until its commit is certain.
  struct Pending {
    Committed committed;
    crdt::Stamp stamp;
    std::vector<NetChange> net;
  };

  // open.cc
  Status OpenConnection();
  Status NoteIdentity();
  Status CreateInternalTables();
  Status LoadState();
  Status LoadActors();
  Status LoadParked();
  Status ReplayLog();
  Status ReplayChangeset(std::string_view bytes);
  Status RecomputeDigests();  // recompute.cc
  void ReuseActor();
  void StartCapture();
  void Broken(const Error& error);

  // migrate.cc
  Status MigrateFile();
  Result<Schema> DeclaredInFile(const Schema& wanted);
  Status RunChanges(const std::vector<SchemaChange>& changes, const Schema& wanted, Schema from);
  Status RunChange(const SchemaChange& change, const Schema& wanted, Schema* from);
  Status EraseCells(const Table& table, crdt::ColumnIndex column);
  Status EraseCell(const Table& table, crdt::ColumnIndex column, bool dead, ErasedRow* row);

  // adopt.cc
  Status NoteAdopting(const TableIo& table);
  Status CheckKeys(const TableIo& table);
  Status AdoptTables(std::vector<ChangeId>* adopted);
  Status AdoptTable(TableIo& table, std::string after, std::vector<ChangeId>* adopted);
  Status ReadPart(TableIo& table, std::string_view after, std::vector<NetChange>* rows);
  /// In a transaction that has begun; its commit is the end of it.
  Status AdoptPart(std::vector<NetChange> rows, const std::string& what,
                   std::vector<ChangeId>* adopted);

  // reload.cc
  Result<Schema> CurrentSchema(const Schema& wanted);
  Result<std::vector<SchemaChange>> PlanSchema(const Schema& wanted);
  Result<SchemaOutcome> ApplySchema(const Schema& wanted, bool allow_destructive,
                                    CommitEffects* effects);
  Status ChangeTables(const std::vector<SchemaChange>& changes, const Schema& from,
                      const Schema& wanted);
  Status CarryTables(const std::vector<SchemaChange>& changes,
                     std::vector<std::unique_ptr<TableIo>>& before);
  void ExtendCachedRows(const Schema& before);
  void UseTables(Schema next);

  // lost_commits.cc
  /// Before anything is written: is everything there that was acknowledged?
  Status CompareWithAcked();
  /// After a commit, before it is acknowledged.
  void NoteAcked();
  /// What own processes acknowledged before and the file no longer has, nor any peer returned yet.
  std::vector<crdt::ActorRanges> LostCommits() const;
  /// For people; empty when there are none.
  std::string DescribeLostCommits() const;

  // execute_group.cc, with Execute, ApplyLocal and ApplyNet
  Status RunGroup(std::span<const Transaction> transactions,
                  std::vector<Result<Committed>>* results, std::vector<bool>* failed,
                  std::vector<Pending>* pending, bool* restart);
  // execute.cc
  Result<Pending> RunOne(const Transaction& transaction);
  Result<std::vector<int64_t>> RunStatements(const Transaction& transaction);
  Status CheckStatements(const Transaction& transaction) const;
  Error WhyStatementFailed(const Result<int64_t>& changed) const;
  Result<int64_t> RunStatement(const Statement& statement);
  Result<Stmt*> ClientStatement(const std::string& sql);
  Status LogLocal(Pending* pending);
  Result<std::string> BuildChangeset(const crdt::ChangesetHeader& header,
                                     const std::vector<NetChange>& net);
  void MintActorIfNeeded();
  void ApplyLocal(Pending& pending, CommitEffects* effects);
  void ApplyNet(const crdt::Stamp& stamp, NetChange& net);
  Status MoveClocks(const std::vector<NetChange>& net);
  crdt::RowClock ClockInGroup(const CachedRow& cached) const;
  void GuardClientSql();
  static int Authorize(void* self, int action, const char* a, const char* b, const char* c,
                       const char* d);
  static int Progress(void* self);

  // execute_large.cc
  class LargeWriter;
  Result<Committed> RunLarge(const Transaction& transaction, Spill* spill, CommitEffects* effects);

  // merge_large.cc
  /// Before a commit that goes past the cache: everything is in the file, nothing in the cache.
  Status BeginPastCache(DigestsBefore* before);
  void UndoPastCache(const Error& why, const DigestsBefore& before);
  /// The rest of such a commit of one version: log, state, index. Memory follows in AdoptLarge.
  Status CommitLarge(const crdt::Manifest& manifest, const crdt::Stamp& stamp);
  void AdoptLarge(const crdt::Manifest& manifest, CommitEffects* effects);
  Status AddChunk(const ChangeId& id, uint64_t number, std::string_view bytes);
  Status ForEachChunk(const ChangeId& id, const std::function<Status(const std::string&)>& visit);
  Status CheckChunks(const crdt::Manifest& manifest);
  Status MergeChunk(const std::string& bytes, std::string* park_reason, CommitEffects* effects);
  /// *park_reason: it was not applied, because. Then nothing has changed.
  Status ApplyLarge(const crdt::Manifest& manifest, std::string* park_reason,
                    CommitEffects* effects);
  /// Applies a parked one: one outcome, as of MergeOnce.
  Status SettleLarge(const ChangeId& id, std::vector<MergeOutcome>* outcome,
                     CommitEffects* effects);
  Status ParkLarge(const crdt::Manifest& manifest, const std::string& reason);
  Status NoteStaged(const ChangeId& id, std::string_view manifest);
  Status ForgetStaged(const ChangeId& id);
  /// Chunks that no entry of the log, nothing staged and nothing set aside needs.
  Status DropLooseChunks();
  /// Into another file, where they are not staged afterwards.
  Status CarryChunks(const ChangeId& id, Impl* to);
  Result<uint64_t> FirstMissingChunk(const ChangeId& id);
  Status InOneCommit(std::string_view what, const std::function<Status()>& write);
  Status DropStaged(const ChangeId& id);
  Status DropTooOld(const ChangeId& id);
  Status DropWhatCameOtherwise();
  void Unstage(const ChangeId& id);
  Status MakeRoom(const crdt::Manifest& manifest);
  void IgnoreChecks(bool ignore);
  /// While a large transaction passes, SQLite keeps few pages: its rows come by once.
  void KeepFewPages(bool few);
  Status LoadStaged();
  // scrub.cc
  void NoteForeign(ForeignRow::Kind kind, const CachedRow& row, std::optional<int64_t> clock_rowid);
  Status CheckRow(TableIo& table, CachedRow row);
  static bool UnstampedAreDefaults(const TableIo& table, const CachedRow& row);
  Status NoteOrphan(TableIo& table, Orphan orphan);
  Status SaveReplayedKeys();
  void LoadReplayedKeys(std::string_view bytes);
  Result<bool> IsLeftBehind(TableIo& table, const Orphan& orphan, const crdt::Stamp& existence);
  Result<size_t> ScrubRows(TableIo& table, size_t rows_max);
  Result<size_t> ScrubClocks(TableIo& table, size_t rows_max);
  /// Or the chunk with a row whose key has this hash. Empty: the log no longer has it.
  Result<std::string> LoggedChangeset(const crdt::Stamp& stamp, uint32_t short_hash);
  Result<std::string> LoggedChunk(const ChangeId& id, uint32_t short_hash);
  Result<std::string> KeyInLog(const TableIo& table, const crdt::Stamp& stamp, uint32_t short_hash);

  // foreign_rows.cc
  Result<TrueRow> ReadTrueRow(const ForeignRow& found);
  Status ReadTrueValue(const TableIo& table, const crdt::Stamp& stamp, crdt::ColumnIndex column,
                       const std::string& key, std::optional<crdt::Value>* value);
  /// Empty: it can be settled that way.
  std::string WhyLeft(const TrueRow& row, ForeignAction action) const;
  static NetChange AdoptedRow(const TrueRow& row);
  Status SealAnew(const TrueRow& row);
  Status GatherClocks(const TrueRow& row);
  Status AdoptRows(const std::vector<TrueRow>& rows, ForeignOutcome* outcome);
  Status PutBack(TrueRow* row);
  Status TakeAway(TrueRow* row);
  Status DiscardRows(std::vector<TrueRow>* rows);
  Result<std::vector<TrueRow>> FindForeignRows(ForeignAction action, ForeignOutcome* outcome);
  Status RenewDigests();

  // merge.cc
  Status Decode(std::string_view bytes, uint32_t position, MergeBatch* batch,
                std::string* park_reason, crdt::ChangesetHeader* header);
  Status DecodeTable(crdt::ChangesetReader& reader, const crdt::TableChange& change,
                     uint32_t position, const crdt::Stamp& stamp, MergeBatch* batch,
                     std::string* park_reason);
  Result<TableIo*> Understand(const crdt::TableChange& change,
                              std::vector<crdt::ColumnIndex>* local, std::string* park_reason);
  Status LoadWork(MergeWork* work, MergeBatch* batch, Loading loading);
  Status LoadWorks(MergeBatch* batch, Loading loading);
  /// Folds, loads and merges in memory: afterwards every work's `next` is the row as it is to be.
  Status MergeInMemory(MergeBatch* batch, Loading loading);
  Status WriteMerged(MergeBatch* batch, std::span<const SharedBytes> changesets, Loading loading,
                     const std::vector<MergeOutcome>& outcomes,
                     const std::vector<crdt::ChangesetHeader>& headers);
  /// Were there any?
  bool ForgetAssumed(MergeBatch* batch);
  void MergeOpIntoWork(const MergeOp& op, MergeBatch* batch);
  void FinishWork(MergeWork* work, MergeBatch* batch);
  std::span<const crdt::ValueView> CellsOf(const MergeWork& work, const MergeBatch& batch) const {
    return {batch.cells.data() + work.first_cell, schema.tables[work.table].columns.size()};
  }
  /// What the row's share of its bucket grows by.
  uint64_t DigestChange(const MergeWork& work);
  Status WriteWork(MergeWork* work, const MergeBatch& batch);
  void AdoptWork(MergeWork* work, uint64_t seq, CommitEffects* effects);
  Status MergeOnce(std::span<const SharedBytes> changesets, bool settling,
                   std::vector<MergeOutcome>* outcomes, CommitEffects* effects);
  Status WriteBatch(MergeBatch* batch);
  Status LogMerged(const MergeBatch& batch, std::span<const SharedBytes> changesets,
                   const std::vector<MergeOutcome>& outcomes,
                   const std::vector<crdt::ChangesetHeader>& headers);
  void Triage(std::span<const SharedBytes> changesets, bool settling, MergeBatch* batch,
              std::vector<MergeOutcome>* outcomes, std::vector<crdt::ChangesetHeader>* headers);
  void TriageOne(const SharedBytes& bytes, uint32_t position, bool settling, MergeBatch* batch,
                 MergeOutcome* outcome, crdt::ChangesetHeader* header);
  Status CommitBatch(MergeBatch* batch, std::span<const SharedBytes> changesets, bool settling,
                     std::vector<MergeOutcome>* outcomes,
                     const std::vector<crdt::ChangesetHeader>& headers, CommitEffects* effects);
  void NoteMerged(MergeBatch* batch, bool settling, const std::vector<MergeOutcome>& outcomes,
                  const std::vector<crdt::ChangesetHeader>& headers, CommitEffects* effects);
  Result<std::string> EffectOf(const MergeBatch& batch, uint32_t changeset, std::string_view bytes);
  Result<std::string> EffectOfDiscarding(const MergeBatch& batch, uint32_t changeset,
                                         std::string_view bytes);
  Status Park(const crdt::ChangesetHeader& header, std::string_view bytes,
              const std::string& reason);
  bool FromTheFuture(crdt::HlcTime time) const;
  /// Why such a change is not taken.
  std::string BeforeHorizon(crdt::HlcTime time) const;
  bool ParkedIsFull(uint64_t more, uint64_t more_bytes) const;
  void SetCheckConstraints(bool on, const MergeBatch& batch);

  // shared
  Status AppendLog(const crdt::Stamp& stamp, LogKind kind, std::string_view bytes,
                   std::string_view effect);
  /// Takes back the numbers that a commit which failed gave to actors.
  void ForgetActors(crdt::ActorIndex from);
  /// Rows for actors that are numbered in memory only: in every transaction that uses a number.
  Status SaveActors();
  Status Commit(std::string_view what);
  void RollBack();
  /// Called with what failed, before the rollback: keeps what the disk did for Troubles().
  void NoteFailure(const Error& error);
  /// Refused: broken, damaged, or too much waits for a checkpoint that cannot be made.
  Status MayWrite() const;
  int64_t ClusterMs() const {
    if (!cluster_minus_steady_ms) return options.clock->WallMs();
    return ToMs(options.clock->Now().time_since_epoch()) + *cluster_minus_steady_ms;
  }
  void AddEffect(CommitEffects* effects, uint32_t table, uint64_t seq, const std::string& key,
                 uint64_t key_hash, bool had_row, std::string_view before, bool has_row,
                 std::string_view after);
  void NoteTable(CommitEffects* effects, uint32_t table);
  void BeginEffects(CommitEffects* effects);
  void AddDigest(TableIo& table, uint64_t key_hash, uint64_t change, bool alive_before,
                 bool alive_after);
  TableIo* FindTable(std::string_view name);
  Status SaveState(std::string_view name, const crdt::ValueView& value);
  Status ForgetState(const std::string& name);
  Status WriteDirtyRows();
  Status SaveDigests();
  /// What a checkpoint says besides the rows: the set and newest stamp as given, the log up to seq,
  /// digests.
  Status SaveCheckpoint(const crdt::VersionSet& applied_then, crdt::HlcTime newest, uint64_t seq);
  /// Clock or tombstone of a row whose user row is as it shall be, straight into the file, and the
  /// digest. Where the file had its clock is free. was_dead: the file had, and counted, a
  /// tombstone.
  Status WriteThrough(CachedRow* row, bool present_before, uint64_t digest_change, bool was_dead);
  Status IndexLogTail();
  Status TrimLog(uint64_t* bytes_left, uint64_t* first_left);
  Result<CachedRow*> EnsureCached(const NetChange& net);
  Status DecodeTransferHeader(ByteReader& in, TransferDecode* decode);
  Status DecodeTransferRow(ByteReader& in, TransferDecode* decode, MergeBatch* batch);
  Status AddTransferOp(const MergeOp& op, TransferDecode* decode, MergeBatch* batch);
  Status ReadTransferChunk(std::string_view bytes, TransferDecode* decode, MergeBatch* batch);
  void AdoptTransfer(const TransferDecode& decode);
  Status MergeTransferChunk(std::string_view bytes, TransferDecode* decode);
  Status WriteTransferred(MergeBatch* batch);
  Status MergeStaged(uint64_t transfer, TransferDecode* decode);
  Status FinishTransfer(const TransferDecode& decode);

  /// While one lives, pages may leave SQLite's cache before the commit: only for transactions that
  /// roll back as a whole or not at all. SQLite 3.40 loses commits at a crash otherwise: when
  /// frames of the running transaction are overwritten in the log, and ROLLBACK TO (or a statement
  /// that fails) goes back before them, the first frames after that never get their checksums
  /// (docs/decisions/0008-no-spill-with-savepoints.md).
  class Spilling {
   public:
    explicit Spilling(Db& db) : db_(db) { (void)db_.Exec("PRAGMA cache_spill = ON"); }
    ~Spilling() { (void)db_.Exec("PRAGMA cache_spill = OFF"); }
    Spilling(const Spilling&) = delete;
    Spilling& operator=(const Spilling&) = delete;

   private:
    Db& db_;
  };

  /// After each of many steps: tells whoever listens once in kStepsPerProgress.
  void NoteStep(size_t step) {
    if (step % kStepsPerProgress == kStepsPerProgress - 1) NoteProgress();
  }
  void NoteProgress(Duration silence = {}) {
    if (on_progress) on_progress(silence);
  }
  static constexpr size_t kStepsPerProgress = 1'000;

  // peer_snapshot.cc
  Status CheckSnapshot(const std::string& staged_path) const;
  /// Do the tables hold what their digests in the file say?
  Status CheckDigests();
  /// Of each version whose time the file still knows; some are told more than once.
  Status ForEachKnownTime(const std::function<void(const ChangeId&, crdt::HlcTime)>& note);
  Result<SnapshotShare> DivideForSnapshot(const Impl& staged);
  /// The rows of this file, but for what the set has, as the stream of transfer_format.h.
  Status ReadOwnRows(const crdt::VersionSet& without,
                     const std::function<Status(std::string)>& take);
  Status MergeKeptRows(const SnapshotShare& share, Impl* staged);
  Status CarryKeptChanges(const SnapshotShare& share, Impl* staged);
  Status CarryOwnState(Impl* staged);
  Status NamePrepared(const std::string& staged_path) const;

  // set_aside.cc
  Status LoadSetAside();
  Result<Committed> ApplySetAsideRows(std::string_view bytes, CommitEffects* effects,
                                      const std::function<Status()>& also);
  Result<Committed> ApplyLargeSetAside(const ChangeId& id, CommitEffects* effects);
  Status DeleteSetAside(const ChangeId& id);
  Status RebuildChangesets(
      const crdt::VersionSet& wanted,
      const std::function<Status(const ChangeId&, crdt::HlcTime, std::string_view)>& take);
  Status AddSetAside(const ChangeId& id, crdt::HlcTime time, std::string_view reason,
                     std::string_view bytes);
  Status CarrySetAside(const SnapshotShare& share, Impl* staged);
  Status AddNewlySetAside(const SnapshotShare& share, Impl* staged);
  Status BoundSetAside();

  // collect.cc
  std::string EncodeCollected() const;
  Status RaiseHorizon(crdt::HlcTime line);
  /// Of one tombstone: what is older than sweep_line.
  Status ForgetOlder(TableIo& table, CachedRow* row);
  Result<bool> Sweep();
  Result<bool> GiveBackPages();

  StoreOptions options;
  std::function<void(Duration silence)> on_progress;
  Schema schema;
  std::unique_ptr<Db> db;
  const std::shared_ptr<Snapshots> snapshots;
  std::unique_ptr<WalLimit> wal_limit;
  std::vector<std::unique_ptr<TableIo>> tables;
  std::vector<RowHasher> hashers;
  std::unordered_map<std::string_view, TableIo*> by_name;
  std::unique_ptr<Capture> capture;
  RowCache cache;
  ForeignRowList foreign_rows;
  ScrubCursor scrub_cursor;
  uint64_t logged_before_pass = 0;      // foreign rows found before this pass
  std::optional<int64_t> data_version;  // SQLite's: moves when another connection commits
  // By table, short hashes of replayed rows that had no clock row in their place: an older one may
  // have stayed behind elsewhere. In the file, too, until a pass of the scrub has ended.
  std::map<std::string, std::set<uint32_t>> replayed_keys;
  using LargeKeys = std::vector<std::pair<uint32_t, uint32_t>>;  // short hash, chunk; sorted
  std::map<ChangeId, LargeKeys> large_keys;                      // for this pass
  bool digests_suspect = false;  // what Patina wrote since may have been over foreign rows
  std::optional<Instant> digests_renewed;
  crdt::ActorTable actors;
  std::unordered_map<ActorId, std::string> node_names;
  crdt::HybridClock hlc;
  MergeBatch merge_batch;  // of MergeOnce
  crdt::VersionSet received, applied;
  std::unordered_map<ChangeId, WaitingChange> parked;
  uint64_t parked_bytes = 0;
  crdt::HlcTime horizon, published;
  crdt::HlcTime newest_applied;  // of all stamps ever; hlc may be ahead of it by what was published
  crdt::HlcTime sweep_line;      // the horizon, but for a broken rule
  Collected collected;
  /// Large versions of peers whose chunks are staged: being fetched, or complete and parked.
  std::map<ChangeId, crdt::Manifest> large_staged;
  uint64_t large_staged_bytes = 0;      // as their manifests say
  std::atomic<uint64_t> large_rows{0};  // LargeRowsSoFar
  std::vector<bool> effect_tables;
  std::unordered_map<std::string, size_t> effect_index;  // row -> position, within one commit

  ActorId actor;
  crdt::ActorIndex actor_index = 0;
  uint64_t version = 0;       // committed
  size_t group_size = 0;      // transactions of the group that were run
  size_t careful_groups = 0;  // so many will use savepoints
  bool lean = false;          // the group that runs does not
  size_t careful_merges = 0;  // so many will look for each row first
  uint64_t next_version = 0;  // within the transaction that runs
  uint64_t next_seq = 0;
  crdt::ActorIndex actors_saved = 1;
  std::function<Status()> in_same_commit;  // what ApplySetAside does besides its rows
  uint64_t last_seq = 0, checkpoint_seq = 0, log_first_seq = 1, log_bytes = 0,
           log_bytes_uncommitted = 0;
  Instant last_checkpoint{};
  std::optional<int64_t> cluster_minus_steady_ms;
  std::unique_ptr<AckedFile> acked;  // null: it could not be made
  Duration checkpoint_delay{};       // 0: the last one succeeded
  Instant checkpoint_not_before{};
  bool broken = false, closed = false;
  std::string damage;        // the file is not what was written: for good
  std::string disk_trouble;  // until a commit succeeds
  bool settles_at_open = true;
  Rng rng;
  StoreStats stats;

  // Client statements, most recently used first.
  struct CachedStatement {
    std::string sql;
    Stmt statement;
  };
  std::list<CachedStatement> client_statements;
  std::unordered_map<std::string_view, std::list<CachedStatement>::iterator> client_index;
  bool client_sql = false;       // the authorizer looks
  bool changing_schema = false;  // SQLite's work is progress
  std::string denied;            // what it said no to
  bool large_runs = false;       // a large transaction: other limits, and progress is told
  Instant deadline{};
  const std::vector<Pending>* group = nullptr;  // transactions of the group that runs
  std::vector<Savepoint> savepoints;
  std::string savepoint_op, savepoint_name;

  Stmt begin, commit, savepoint, release, rollback_to, insert_log, insert_actor, save_state,
      insert_parked, delete_parked, insert_chunk;
};

}  // namespace patina::storage

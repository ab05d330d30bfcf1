#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/hash.h"
#include "base/ids.h"
#include "base/status.h"
#include "crdt/changeset.h"
#include "crdt/hlc.h"
#include "crdt/value.h"
#include "crdt/version_set.h"
#include "storage/effects.h"
#include "storage/foreign_rows.h"
#include "storage/mutants.h"
#include "storage/schema.h"
#include "storage/snapshots.h"
#include "storage/wal_limit.h"

// The replicated database of one node: the only read-write connection to its SQLite file.

namespace patina::storage {

using SharedBytes = std::shared_ptr<const std::string>;

struct StoreLimits {
  size_t transaction_rows_max = 50'000;
  size_t statement_bytes_max = 1u << 20;
  size_t statements_max = 10'000;  // in one transaction
  crdt::ChangesetLimits changeset;
  size_t dirty_rows_max = 64'000;  // then a checkpoint is due
  uint64_t log_tail_max = 64'000;  // log entries since the last checkpoint: then, too
  Duration checkpoint_interval = std::chrono::seconds(10);
  size_t foreign_rows_max = 10'000;    // listed; what is beyond is counted
  size_t row_cache_bytes = 48u << 20;  // hot rows with their clocks
  int64_t page_cache_kib = 64 * 1024;
  int64_t max_clock_skew_ms = 500;
  size_t parked_bytes_max = 64u << 20;
  size_t parked_changesets_max = 100'000;
  uint64_t log_bytes_max = 256u << 20;  // trimmed from the front at checkpoints, never past them
  uint64_t wal_bytes_max = 512u << 20;  // reads that keep it from beginning anew are ended
  Duration log_age_max = std::chrono::hours(24);
  size_t set_aside_bytes_max = 64u << 20;  // then the oldest go
  size_t set_aside_changes_max = 100'000;
  Duration transaction_deadline = std::chrono::seconds(10);
  Duration group_deadline = std::chrono::milliseconds(250);  // then no further transaction joins

  // Of a large transaction (Transaction::large).
  uint64_t large_transaction_rows_max = 5'000'000;
  uint64_t large_transaction_bytes_max = uint64_t{2} << 30;  // of its changes
  Duration large_transaction_deadline = std::chrono::minutes(10);
  size_t large_memory_bytes = 8u << 20;                 // of touched rows, then they go to a file
  size_t large_chunk_bytes = 256u << 10;                // about: a chunk ends after a row
  uint64_t large_staged_bytes_max = uint64_t{4} << 30;  // chunks of peers' that are not applied
};

struct StoreOptions {
  std::string path;  // the SQLite file; its folder must exist
  Schema schema;
  std::string node_name;  // kept beside the actor, for people
  std::string cluster;    // a file of another cluster is refused; empty: any
  StoreLimits limits;
  bool full_sync = false;          // synchronous FULL instead of NORMAL
  bool allow_destructive = false;  // Open may drop columns and tables that tables.toml lists
  /// Wall clock, steady clock. Not owned; outlives the store.
  const Clock* clock = nullptr;
  uint64_t seed = 0;              // of actor ids; 0: from the operating system
  Mutant mutant = Mutant::kNone;  // for tests: a rule to break
};

struct Statement {
  std::string sql;
  std::vector<crdt::Value> positional;
  std::vector<std::pair<std::string, crdt::Value>> named;  // names with their prefix: ":id"
};

struct Transaction {
  std::vector<Statement> statements;
  /// May touch more rows than transaction_rows_max and travels in chunks (docs/decisions/0013); it
  /// has no SAVEPOINT.
  bool large = false;
};

/// An acknowledged transaction.
struct Committed {
  std::vector<int64_t> rows_changed;  // per statement
  ActorId actor;                      // zero when nothing changed in effect
  uint64_t version = 0;               // 0 when nothing changed in effect: nothing travels
  crdt::HlcTime time;
  uint64_t seq = 0;       // log entry
  SharedBytes changeset;  // null: it is large, peers fetch its chunks
};

/// kTooOld: it is from before the horizon and was never received. It is not taken, and nothing of
/// it is kept: its holder and this node settle by a snapshot (see PrepareSnapshot).
enum class MergeState : uint8_t { kApplied, kDuplicate, kParked, kRejected, kTooOld };

struct MergeOutcome {
  ChangeId id;
  MergeState state = MergeState::kRejected;
  std::string reason;  // of parked, rejected and too old
};

struct TableDigest {
  std::string table;
  Digest128 digest;
  uint64_t rows = 0;  // alive
  bool operator==(const TableDigest&) const = default;
};

/// One row as it is compared between nodes by `patina verify`.
struct RowDigest {
  std::string key;    // packed
  uint64_t hash = 0;  // over all its cells
  struct Cell {
    std::string column;  // "" is the row's existence
    std::string value;   // for people
    crdt::HlcTime time;
    ActorId actor;
    uint64_t version = 0;
  };
  std::vector<Cell> cells;
};

struct ParkedChange {
  ChangeId id;
  crdt::HlcTime time;
  std::string reason;
  uint64_t bytes = 0;
};

/// What ApplySchema did.
struct SchemaOutcome {
  std::vector<SchemaChange> changes;
  std::vector<ChangeId> adopted;  // own changes that hold the rows of adopted tables
  Duration took{};                // so long all other writes waited
};

/// A change that a snapshot made this node drop: it was older than the horizon of the node whose
/// file was taken.
struct SetAsideChange {
  ChangeId id;
  crdt::HlcTime time;  // 0 if nothing of it was left but that it had been applied
  uint64_t bytes = 0;  // of the changeset; 0: nothing of it is left, ApplySetAside cannot help
  std::string reason;
};

/// What PrepareSnapshot carried over.
struct SnapshotOutcome {
  crdt::HlcTime horizon;   // of the new file
  uint64_t kept = 0;       // versions this node had received and the sender had not
  uint64_t set_aside = 0;  // versions listed by SetAside from now on
};

/// What SettleForeignRows did.
struct ForeignOutcome {
  uint64_t settled = 0;
  std::vector<ForeignRowLeft> left;
  std::vector<ChangeId> adopted;  // own changes that hold the adopted rows
  bool more = false;              // there were more than foreign_rows_max: call again
};

struct StoreStats {
  uint64_t commits = 0, local_transactions = 0, transactions_failed = 0;
  uint64_t groups_run_again = 0;  // because a transaction in them failed
  uint64_t merges_run_again = 0;  // because a row that a peer inserted was there
  uint64_t changesets_applied = 0, duplicates = 0, rejected = 0;
  uint64_t rows_written = 0, rows_merged = 0, cells_lost = 0;  // lost: an older write came later
  uint64_t checkpoints = 0, dirty_rows = 0, cached_rows = 0, cache_bytes = 0;
  uint64_t cache_hits = 0, cache_misses = 0;
  uint64_t log_entries = 0, log_bytes = 0, log_first_seq = 0;
  uint64_t parked = 0, parked_bytes = 0, parked_refused = 0;
  uint64_t large_local = 0, large_merged = 0;          // large transactions
  uint64_t large_staged_bytes = 0, large_refused = 0;  // peers' chunks not applied; no room for
  uint64_t replayed = 0;                               // log entries replayed at start
  uint64_t cells_discarded = 0, rows_discarded = 0;    // for dropped columns, for dropped tables
  uint64_t schema_changes = 0;                         // since the start
  double last_schema_change_ms = 0;
  uint64_t scrub_passes = 0, scrub_rows = 0;          // ended; looked at
  int64_t last_scrub_ms = 0;                          // cluster time when a pass ended
  uint64_t foreign_commits = 0;                       // seen, of other clients of the file
  uint64_t foreign_rows = 0, foreign_rows_found = 0;  // listed now; since the start
  uint64_t foreign_rows_unlisted = 0;                 // seen while the list was full
  uint64_t file_bytes = 0, wal_bytes = 0;
  WalStats wal;
  Snapshots::Stats snapshots;
  uint64_t wal_writes = 0, wal_writes_asked = 0;  // of this process: made, and by SQLite asked for
  uint64_t tombstones = 0;
  uint64_t disk_failures = 0, checkpoints_failed = 0;  // disk: full, or I/O errors
  uint64_t tombstones_collected = 0;  // tombstones, and late cells of rows that are not alive
  uint64_t too_old = 0;               // changes refused because they are from before the horizon
  uint64_t set_aside = 0, set_aside_bytes = 0;
  uint64_t set_aside_dropped = 0;  // there was no room for them, since the file exists
  double last_checkpoint_ms = 0;
};

inline constexpr size_t kDigestBuckets = 4096;
/// The error of a transfer that a snapshot must replace.
inline constexpr Errc kNeedsSnapshot = Errc::kOutOfRange;

/// Not thread-safe: the writer thread (or the simulator) owns it. After an error that leaves memory
/// and file in doubt (disk I/O during COMMIT) broken() is true, every call fails, and the process
/// must end and start anew; nothing acknowledged is lost by that. A full disk is no such error:
/// what does not fit fails with RESOURCE_EXHAUSTED and leaves no trace, reading goes on, and
/// writing, too, once there is space.
///
/// Invariants: the state of the tables is the join of what is applied. An acknowledged transaction
/// and a changeset reported applied or parked are committed. The same file never hands out a
/// version twice.
class Store {
 public:
  /// Opens or creates the file, brings its tables to the schema, and replays the log's tail if the
  /// last process did not stop cleanly. FAILED_PRECONDITION, and the file is as it was, when the
  /// schema does not fit the file, or data would be lost without allow_destructive.
  static Result<std::unique_ptr<Store>> Open(StoreOptions options);
  /// Without Close this is a crash: what was written behind is rebuilt at the next Open.
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  /// Checkpoints; the store is unusable afterwards.
  Status Close();

  /// Runs the transactions in one commit, each with its own outcome: one that fails leaves no trace
  /// and does not disturb the others. If the commit itself fails, all fail. *effects gets what
  /// changed.
  /// Fewer outcomes than transactions: the others were not run, because the group took long already
  /// (group_deadline), or because a large one comes next: it runs alone, and its effects list no
  /// rows (rows_unknown).
  std::vector<Result<Committed>> Execute(std::span<const Transaction> transactions,
                                         CommitEffects* effects);

  /// Merges changesets from peers in one commit, each whole or not at all. One outcome per
  /// changeset, in order. The result is an error only if nothing was merged because the commit
  /// failed.
  Result<std::vector<MergeOutcome>> Merge(std::span<const SharedBytes> changesets,
                                          CommitEffects* effects);

  /// Applies parked changes that are due or now understood. Cheap when there are none.
  Result<std::vector<ChangeId>> SettleParked(CommitEffects* effects);

  /// What ApplySchema would do, or why not, change by change.
  Result<std::vector<SchemaChange>> PlanSchema(const Schema& wanted);
  /// Brings the tables to another schema, in one commit, and adopts the rows of tables that another
  /// program made, in commits of their own. *effects says so. Afterwards parked
  /// changes may be due (SettleParked), and no table is wanted in effects. Errors as Open's; then
  /// nothing has changed.
  Result<SchemaOutcome> ApplySchema(const Schema& wanted, bool allow_destructive,
                                    CommitEffects* effects);

  /// Writes behind what is only in memory if it is due (or at once), and trims the log.
  Status CheckpointIfDue();
  Status Checkpoint();

  /// Called now and then during what takes long (each chunk of a transfer, each thousand rows of a
  /// checkpoint or a comparison), so that it is not taken for stuck. Must not call the store.
  /// silence: how long the next call may be away at most: zero but for a client's transaction. That
  /// one is ended by its deadline; but a single step of SQLite's machine can be long, and is
  /// silent.
  void SetProgress(std::function<void(Duration silence)> on_progress);

  /// What to add to the steady clock to get cluster time (gossip::Node::ClusterMinusSteadyMs);
  /// until the first call the wall clock is taken for it. Not the wall clock plus a correction:
  /// when the wall clock jumps, its correction is wrong until the peers are heard, and one write
  /// stamped in between would draw all later ones into the future.
  void SetClusterMinusSteady(int64_t ms);

  /// Which tables' rows are listed in effects, by position in schema().tables.
  void SetEffectTables(std::vector<bool> wanted);

  /// Compares the next rows_max rows (and clock rows) with their seals, see foreign_rows.h. True:
  /// that was the end of a pass through all tables. Some 4 us per row. After a pass without
  /// foreign rows that follows one with some, digests are made anew: that takes a second per
  /// million rows, once in ten minutes at most.
  Result<bool> Scrub(size_t rows_max);
  /// Whether another client of the file has committed since the last call. If so the scrub starts
  /// over, to find what it wrote.
  bool OtherClientWrote();
  /// Rows that are not as Patina wrote them, as far as the scrub has come upon them.
  std::vector<ForeignRow> ForeignRows(size_t rows_max = SIZE_MAX) const;
  /// Looks at the whole file, then settles the foreign rows, at most foreign_rows_max: the larger
  /// the tables, the longer other writes wait (some 6 s per million rows). Rows of which the log
  /// no longer has what Patina wrote are adopted whole, or left and named when they should be
  /// discarded. An error: nothing is settled.
  Result<ForeignOutcome> SettleForeignRows(ForeignAction action, CommitEffects* effects);

  // Transfers, receiver's side: chunks are staged in the file, then merged in one commit.
  Status StageTransferChunk(uint64_t transfer, uint64_t number, std::string_view bytes);
  /// Merges the staged chunks 0..last and claims what the sender had applied. Nothing is changed by
  /// an error: OUT_OF_RANGE: the two histories differ before a horizon, a snapshot must settle it
  /// (kNeedsSnapshot); UNAVAILABLE: it holds a write from the future, ask again later;
  /// FAILED_PRECONDITION: the schemas differ; INVALID_ARGUMENT: malformed.
  Status MergeTransfer(uint64_t transfer, CommitEffects* effects);
  Status AbandonTransfers();

  // Collection. Tombstones, and cells of rows that are not alive, go one by one by their stamps.

  /// What is older was collected or is about to be. In the file; never falls.
  crdt::HlcTime horizon() const;
  /// W: the cluster time, as a clock that every later write of this file is later than. It is in
  /// the file before it is returned. Commits: for every 30 s, not for every message.
  Result<crdt::HlcTime> PublishClock();
  /// The newest W that this file has published; 0 if none.
  crdt::HlcTime published() const;
  /// Of the changes that are received and not applied; they hold T.
  std::optional<crdt::HlcTime> OldestParked() const;
  /// Does the file hold anything older than the line that Collect would drop? Without it the
  /// horizon should stay: a node without tombstones, a new one say, has no reason to refuse what is
  /// old.
  Result<bool> AnyToCollect(crdt::HlcTime line);
  /// Raises the horizon to the line, if that is higher, and drops what is older, at most some
  /// thousand rows; gives some free pages back to the file system. True: there is more to do, call
  /// again soon (with any line). The caller answers for the line: at most the lesser of the
  /// frontier and an hour ago.
  Result<bool> Collect(crdt::HlcTime line);

  /// The cluster's members as the caller last knew them, in its own format, for after a restart:
  /// who is away then still counts for the frontier. Empty if nothing was saved.
  Status SaveMembers(std::string_view members);
  Result<std::string> SavedMembers();

  // Snapshots. Sender: Checkpoint, then Backup::Begin (storage/backup.h) before the next commit;
  // the copy is sent as it is. Receiver:

  /// Makes of a copy of another node's file (at staged_path, in the folder of this store's file)
  /// the file that this node goes on with: merges onto it what this node had received and the other
  /// had not, except what is older than the other's horizon, which is set aside. Takes about as
  /// long as reading this node's file, and a digest of the copy. After success the store is of no
  /// more use (broken() is true): this process ends, and the next Open takes the new file, in one
  /// step that a crash cannot halve. Readers must be closed by then. Errors, which leave this store
  /// as it was (the copy is of no more use): FAILED_PRECONDITION: the schemas differ, or the
  /// other's horizon is below this one's (then the other takes ours); UNAVAILABLE: it holds a write
  /// from the future; DATA_LOSS: the copy is damaged.
  Result<SnapshotOutcome> PrepareSnapshot(const std::string& staged_path);

  /// What snapshots made this node drop; oldest first.
  Result<std::vector<SetAsideChange>> SetAside();
  /// The changeset of one of them. NOT_FOUND.
  Result<std::string> SetAsideBytes(const ChangeId& id);
  /// Writes its rows again as a local transaction with new stamps (a large one: as several, one for
  /// each chunk; the last is returned), and drops it from the list.
  /// NOT_FOUND; FAILED_PRECONDITION: nothing is left of it, or it does not fit the tables.
  Result<Committed> ApplySetAside(const ChangeId& id, CommitEffects* effects);
  Status DropSetAside(const ChangeId& id);

  // Large transactions of peers: their chunks are staged in the file, survive a restart, and are
  // applied in one commit when all are there.
  /// Begins, or goes on with, the version that this manifest stands for. The number of the first
  /// chunk that is missing; the number of chunks: none is. Staged chunks of another version that is
  /// not complete go when their room is needed. RESOURCE_EXHAUSTED: it is too large for
  /// large_transaction_rows_max, large_transaction_bytes_max or large_staged_bytes_max.
  /// kNeedsSnapshot: it is from before the horizon.
  Result<uint64_t> StageLarge(std::string_view manifest);
  /// Each in a commit of its own. One that is there already is replaced. INVALID_ARGUMENT: it is
  /// malformed or no chunk of this version.
  Status StageLargeChunk(const ChangeId& id, uint64_t number, std::string_view bytes);
  /// Applies a version that is complete, or parks it. FAILED_PRECONDITION: a chunk is missing.
  /// DATA_LOSS: the chunks are not those of the manifest; they are dropped.
  Result<MergeOutcome> MergeLarge(const ChangeId& id, CommitEffects* effects);
  /// Rows that the large transaction that runs, this node's or a peer's, has got through so far; 0:
  /// none runs. Any thread.
  uint64_t LargeRowsSoFar() const;

  // Looking. Digests are of the tables now.
  const Schema& schema() const;
  /// Durable here: applied or parked.
  const crdt::VersionSet& received() const;
  const crdt::VersionSet& applied() const;
  std::vector<TableDigest> Digests() const;
  /// The 4,096 buckets of one table; empty if there is no such table.
  std::vector<uint64_t> Buckets(std::string_view table) const;
  /// All live rows in the bucket. Reads the whole table.
  Result<std::vector<RowDigest>> RowsInBucket(std::string_view table, uint32_t bucket);
  std::vector<ParkedChange> Parked() const;
  /// This process's actor; zero until its first write.
  ActorId actor() const;
  /// All actors known, with the node name if it is known.
  std::vector<std::pair<ActorId, std::string>> Actors() const;
  StoreStats Stats() const;
  uint64_t last_seq() const;
  bool broken() const;
  /// For the readers of this file that other threads use (Reader::Open).
  std::shared_ptr<Snapshots> snapshots() const;
  /// Why the file cannot be trusted (a damaged page); empty: it can. Then all writing is refused
  /// with DATA_LOSS, for good: the node has to leave service and be rebuilt.
  const std::string& damage() const;
  /// Takes note that a reader of the same file found it damaged.
  void NoteDamage(const Error& error);
  /// Commits of earlier processes on this file that were acknowledged, are not in it (a damaged
  /// write-ahead log, an older file put in its place), and were not returned by a peer yet.
  std::vector<crdt::ActorRanges> LostCommits() const;
  /// What an operator should know of the disk and the file, in words; empty when all is well.
  std::vector<std::string> Troubles() const;

 private:
  class Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// A number in 0..kDigestBuckets-1 for a row: by a hash of its packed key.
uint32_t BucketOfKey(std::string_view packed_key);

}  // namespace patina::storage

#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "agent/config.h"
#include "gossip/messages.h"
#include "gossip/node.h"
#include "storage/store.h"

namespace patina::agent {

/// The writer thread: owns the Store. Others hand it work through a bounded queue; it takes what is
/// queued, runs local transactions as one group commit and changesets from peers as one batch, and
/// tells the listeners after each commit. Construct, Start, use from any thread, Stop.
class Writer {
 public:
  /// What the others hear, on the writer thread; they must not block.
  struct Listeners {
    /// Own transactions that are durable, in version order.
    std::function<void(std::vector<gossip::Change>)> on_local_commit;
    std::function<void(std::vector<ChangeId>)> on_persisted;
    std::function<void(std::vector<ChangeId>)> on_persist_failed;
    /// From before the horizon: not taken.
    std::function<void(std::vector<ChangeId>)> on_too_old;
    /// What is received but not applied now, all of it, whenever that has changed.
    std::function<void(std::vector<ChangeId>)> on_parked;
    /// After each commit that changed something, in commit order.
    std::function<void(std::shared_ptr<const storage::CommitEffects>)> on_commit;
    std::function<void(uint64_t transfer, uint64_t number, Status)> on_staged;
    /// The number of the first chunk of a large transaction that is missing.
    std::function<void(uint64_t transfer, Result<uint64_t> next)> on_large_staged;
    std::function<void(uint64_t transfer, Result<crdt::VersionSet> received)> on_transfer_merged;
    /// Another node's file is ready to take this one's place: this process has to end, and a new
    /// one to begin.
    std::function<void()> on_snapshot_taken;
    std::function<void(ActorId)> on_actor;  // the process has minted its actor
    /// The file is damaged: the node has to leave service. Once.
    std::function<void(Error)> on_damage;
    /// The store is broken (disk): the process has to end.
    std::function<void(Error)> on_fatal;
  };

  Writer(const Config& config, std::unique_ptr<storage::Store> store);
  ~Writer();

  void Start(Listeners listeners);
  /// Finishes what is queued, checkpoints, closes, joins. Later calls are refused.
  void Stop();

  using ExecuteDone = std::function<void(Result<storage::Committed>)>;
  /// done is called once, on the writer thread or the answers thread, or at once on the caller's
  /// with RESOURCE_EXHAUSTED (queue full) or UNAVAILABLE (stopping).
  void Execute(storage::Transaction transaction, ExecuteDone done);

  /// Another schema, between commits; what is queued waits. on_commit hears of it, then done, on
  /// the writer thread. Like Execute when stopping.
  using SchemaDone = std::function<void(Result<storage::SchemaOutcome>)>;
  void ApplySchema(storage::Schema wanted, bool allow_destructive, const SchemaDone& done);

  using SettledDone = std::function<void(Result<storage::ForeignOutcome>)>;
  /// Adopts or discards what another SQLite client wrote in the file, in as many turns as it takes.
  /// done is called once, on the writer thread, or at once on the caller's with UNAVAILABLE
  /// (stopping). An error in a later turn tells of that turn: what went before stays settled.
  void SettleForeignRows(storage::ForeignAction action, const SettledDone& done);

  /// False when the queue is full: nothing was taken.
  bool Merge(std::vector<gossip::Change> changes);
  /// A chunk of a transfer, of a snapshot, or of a large transaction; after the last one (which may
  /// be empty: all are there) that is merged.
  bool StageChunk(gossip::Outputs::StageChunk chunk);
  void StageLarge(uint64_t transfer, gossip::SharedBytes manifest);
  void AbandonTransfers();

  /// Writes a change that was set aside anew, as a transaction of this node. done: as of Execute.
  void ApplySetAside(const ChangeId& id, ExecuteDone done);

  /// Runs on the writer thread between commits, for what must see or touch the store (status,
  /// verify, checkpoint before a transfer, effect tables). Never refused before Stop.
  void Run(std::function<void(storage::Store&)> task);
  /// The same, and waits for it; not from the writer thread. False if stopping: it did not run.
  bool RunAndWait(const std::function<void(storage::Store&)>& task);

  /// The store's, for whoever opens readers of its file. Any thread.
  std::shared_ptr<storage::Snapshots> snapshots() const;

  struct Stats {
    uint64_t longest_silence_ms = 0;  // between two signs of life to the watchdog
    uint64_t queued_transactions = 0, queued_bytes = 0, refused = 0, groups = 0, merge_batches = 0;
    uint64_t longest_commit_us = 0;
    uint64_t merged = 0, merge_rejected = 0, merges_refused = 0;
    /// How long the large transaction that runs has done so (own or a peer's), and how many rows it
    /// has got through; 0: none does.
    uint64_t large_running_ms = 0, large_rows = 0;
  };
  Stats stats() const;
  /// Steady milliseconds when the thread last came round or got on with something long, for the
  /// watchdog; now when it waits, or runs a client's transaction before its deadline.
  int64_t LastTurnMs() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace patina::agent

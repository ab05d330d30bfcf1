#pragma once

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "agent/answers.h"
#include "agent/large_chunks.h"
#include "agent/log_limit.h"
#include "agent/scrubber.h"
#include "agent/snapshot_taker.h"
#include "agent/turn_watch.h"
#include "agent/writer.h"
#include "agent/writer_queue.h"
#include "base/check.h"
#include "base/log.h"
#include "base/thread_checker.h"

namespace patina::agent {

inline constexpr Duration kIdleWait = std::chrono::milliseconds(500);
inline constexpr Duration kSettleInterval = std::chrono::milliseconds(100);

inline Instant Now() { return SystemClock().Now(); }

inline bool ChangedSomething(const storage::CommitEffects& effects) {
  return effects.last_seq >= effects.first_seq || effects.rows_unknown || !effects.rows.empty();
}

/// The writer's thread and what it does in its turns: the inside of Writer, for writer.cc alone.
class Writer::Impl {
 public:
  Impl(const Config& config, std::unique_ptr<storage::Store> store)
      : group_max_(config.group_commit_transactions_max),
        merge_bytes_max_(config.merge_batch_bytes_max),
        store_(std::move(store)),
        snapshots_(store_->snapshots()),
        queue_(config.writer_queue_transactions_max, config.writer_queue_bytes_max),
        snapshot_(DatabasePath(config)),
        scrubber_(config.scrub_rows_per_second, config.scrub_interval) {}

  void Start(Listeners listeners) {
    listeners_ = std::move(listeners);
    actor_ = store_->actor();
    // A large transfer is one turn: as long as it gets on, the watchdog is not to end the process.
    store_->SetProgress([this](Duration silence) {
      turns_.Note(silence);
      large_.SetRows(store_->LargeRowsSoFar());
    });
    answers_.Start();
    thread_ = std::thread([this] {
      NameThread("writer");
      Loop();
    });
  }

  void Stop() {
    queue_.Close();
    if (thread_.joinable()) thread_.join();
    answers_.Stop();
  }

  /// On the writer thread.
  void ApplySchema(const storage::Schema& wanted, bool allow_destructive, const SchemaDone& done) {
    storage::CommitEffects effects;
    const Instant before = Now();
    auto outcome = store_->ApplySchema(wanted, allow_destructive, &effects);
    NoteCommit(before);
    if (outcome.ok()) {
      TellAdopted(outcome->adopted);
      TellEffects(std::move(effects));
      parked_ = true;  // what waited for this schema
      settle_at_ = {};
    }
    done(std::move(outcome));
    CheckBroken();
  }

  WriterQueue& queue() { return queue_; }
  const std::shared_ptr<storage::Snapshots>& snapshots() const { return snapshots_; }

  void TellLargeStaged(uint64_t transfer, Result<uint64_t> next) {
    if (listeners_.on_large_staged) listeners_.on_large_staged(transfer, std::move(next));
  }

  /// On the writer thread: some of them in this turn, the rest in later ones.
  void SettleForeignRows(storage::ForeignAction action, uint64_t settled_before,
                         const SettledDone& done) {
    storage::CommitEffects effects;
    auto outcome = store_->SettleForeignRows(action, &effects);
    CheckBroken();
    if (!outcome.ok()) return done(outcome.error());
    TellAdopted(outcome->adopted);
    TellEffects(std::move(effects));
    const bool again = outcome->more && outcome->settled > 0;
    outcome->settled += settled_before;
    const bool added = again && queue_.AddTask([=, this](storage::Store&) {
      SettleForeignRows(action, outcome->settled, done);
    });
    if (!added) done(std::move(outcome));
  }

  /// On the writer thread.
  void DropSnapshot() { snapshot_.Drop(); }

  /// On the writer thread.
  void ApplySetAside(const ChangeId& id, const ExecuteDone& done) {
    storage::CommitEffects effects;
    const uint64_t before = store_->received().Head(store_->actor());
    std::vector<Result<storage::Committed>> results;
    results.push_back(store_->ApplySetAside(id, &effects));
    TellActor();
    // A large one became several transactions; not broadcast: peers fetch the first ones.
    const uint64_t own = store_->received().Head(store_->actor());
    const uint64_t last = results[0].ok() && results[0]->version > 0 ? own - 1 : own;
    std::vector<ChangeId> parts;
    for (uint64_t version = before + 1; version <= last; ++version)
      parts.push_back({store_->actor(), version});
    if (!parts.empty() && listeners_.on_persisted) listeners_.on_persisted(std::move(parts));
    TellNetwork(results);
    TellEffects(std::move(effects));
    done(std::move(results[0]));
    CheckBroken();
  }

  bool OnThread() const { return std::this_thread::get_id() == thread_.get_id(); }

  Stats stats() const {
    Stats stats;
    stats.queued_transactions = queue_.transactions();
    stats.queued_bytes = queue_.bytes();
    stats.refused = queue_.refused();
    stats.merges_refused = queue_.merges_refused();
    stats.groups = groups_.load(std::memory_order_relaxed);
    stats.merge_batches = merge_batches_.load(std::memory_order_relaxed);
    stats.merged = merged_.load(std::memory_order_relaxed);
    stats.merge_rejected = rejected_.load(std::memory_order_relaxed);
    stats.large_running_ms = large_.RunningMs(Now());
    stats.large_rows = large_.rows();
    stats.longest_silence_ms = turns_.longest_silence_ms();
    stats.longest_commit_us = longest_commit_us_.load(std::memory_order_relaxed);
    return stats;
  }

  int64_t LastTurnMs() const { return turns_.LastMs(); }

 private:
  void Loop() {
    bool closed = false;
    while (!(closed && batch_.Empty())) {
      turns_.SetBusy(false);
      closed = queue_.Take(batch_.Empty() ? WaitTime() : Duration::zero(), &batch_);
      turns_.Note();
      turns_.SetBusy(true);
      // One of each kind in turn: a flood of one does not starve the others.
      RunTasks();
      CommitGroup();
      MergeBatch();
      StageOne();
      SettleIfDue();
      if (!AtItsEnd()) scrubber_.RunIfDue(*store_);
      CheckpointIfDue();
    }
    const Status status = store_->Close();
    if (!status.ok() && !snapshot_.taken())
      LogError("writer", "closing the store: ", status.error().ToString());
    store_.reset();
    turns_.SetBusy(false);
  }

  Duration WaitTime() const {
    const Duration wait = scrubber_.Wait(Now(), kIdleWait);
    if (!parked_) return wait;
    return std::min(wait, std::clamp(settle_at_ - Now(), Duration(1'000'000), kSettleInterval));
  }

  void RunTasks() {
    std::vector<WriterQueue::Task> tasks = std::move(batch_.tasks);
    batch_.tasks.clear();
    for (WriterQueue::Task& task : tasks) task(*store_);
  }

  // ---- Local transactions ----

  void CommitGroup() {
    const size_t count = std::min(group_max_, batch_.locals.size());
    if (count == 0) return;
    std::vector<storage::Transaction> transactions;
    std::vector<ExecuteDone> dones;
    transactions.reserve(count);
    dones.reserve(count);
    size_t bytes = 0;
    for (size_t i = 0; i < count; ++i) {
      WriterQueue::Local& local = batch_.locals.front();
      bytes += WriterQueue::BytesOf(local.transaction);
      transactions.push_back(std::move(local.transaction));
      dones.push_back(std::move(local.done));
      batch_.locals.pop_front();
    }
    storage::CommitEffects effects;
    const Instant before = Now();
    if (transactions[0].large) large_.Begin(before);
    auto results = store_->Execute(transactions, &effects);
    large_.End();
    NoteCommit(before);
    groups_.fetch_add(1, std::memory_order_relaxed);
    // What did not fit the group's time comes first in the next.
    for (size_t i = count; i > results.size(); --i) {
      bytes -= WriterQueue::BytesOf(transactions[i - 1]);
      batch_.locals.push_front({std::move(transactions[i - 1]), std::move(dones[i - 1])});
    }
    TellNetwork(results);
    TellEffects(std::move(effects));
    dones.resize(results.size());
    answers_.Tell({std::move(dones), std::move(results), bytes});
    CheckBroken();
  }

  void TellActor() {
    const ActorId actor = store_->actor();
    if (actor == actor_) return;
    actor_ = actor;
    if (listeners_.on_actor) listeners_.on_actor(actor);
  }

  /// Rows that were in the file already. Not broadcast: peers fetch them at their own pace.
  void TellAdopted(const std::vector<ChangeId>& adopted) {
    TellActor();
    if (!adopted.empty() && listeners_.on_persisted) listeners_.on_persisted(adopted);
  }

  /// Before the clients: a hand-over, and others wait for it.
  void TellNetwork(const std::vector<Result<storage::Committed>>& results) {
    std::vector<gossip::Change> changes;
    for (const auto& result : results) {
      if (!result.ok() || result->version == 0) continue;
      changes.push_back({ChangeId{result->actor, result->version}, result->changeset});
    }
    if (!changes.empty()) {
      TellActor();
      if (listeners_.on_local_commit) listeners_.on_local_commit(std::move(changes));
    }
  }

  // ---- Changesets from peers ----

  void MergeBatch() {
    if (batch_.merges.empty()) return;
    std::vector<storage::SharedBytes> changesets;
    std::vector<ChangeId> ids;
    size_t bytes = 0, charged = 0;
    while (!batch_.merges.empty() && (ids.empty() || bytes < merge_bytes_max_)) {
      gossip::Change& change = batch_.merges.front();
      bytes += change.bytes->size();
      charged += change.bytes->size() + sizeof change;
      ids.push_back(change.id);
      changesets.push_back(std::move(change.bytes));
      batch_.merges.pop_front();
    }
    storage::CommitEffects effects;
    const Instant before = Now();
    auto outcomes = store_->Merge(changesets, &effects);
    NoteCommit(before);
    merge_batches_.fetch_add(1, std::memory_order_relaxed);
    queue_.DoneMerges(charged);
    if (outcomes.ok()) {
      TellMerged(*outcomes);
      TellEffects(std::move(effects));
    } else if (outcomes.error().code == Errc::kFailedPrecondition) {
      TellEffects(std::move(effects));  // of those that went before the one that failed
      LogWarning("writer", "merging ", ids.size(),
                 " changesets failed, trying them alone: ", outcomes.error().ToString());
      MergeAlone(changesets, ids);
    } else {
      NoteFailed(ids.size(), outcomes.error());
      TellEffects(std::move(effects));  // the store, too, may have merged some of them alone
      if (listeners_.on_persist_failed) listeners_.on_persist_failed(std::move(ids));
    }
    CheckBroken();
  }

  /// A batch failed as a whole: one bad changeset must not take the others with it.
  void MergeAlone(const std::vector<storage::SharedBytes>& changesets,
                  const std::vector<ChangeId>& ids) {
    for (size_t i = 0; i < ids.size(); ++i) {
      storage::CommitEffects effects;
      auto outcome = store_->Merge(std::span(&changesets[i], 1), &effects);
      if (outcome.ok()) {
        TellMerged(*outcome);
        TellEffects(std::move(effects));
        continue;
      }
      NoteRejected(ids[i], outcome.error().ToString());
      if (listeners_.on_persist_failed) listeners_.on_persist_failed({ids[i]});
      if (store_->broken()) return;
    }
  }

  void TellMerged(const std::vector<storage::MergeOutcome>& outcomes) {
    std::vector<ChangeId> persisted, failed, too_old;
    for (const storage::MergeOutcome& outcome : outcomes) {
      if (outcome.state == storage::MergeState::kRejected) {
        NoteRejected(outcome.id, outcome.reason);
        failed.push_back(outcome.id);
        continue;
      }
      if (outcome.state == storage::MergeState::kTooOld) {
        too_old.push_back(outcome.id);
        continue;
      }
      if (outcome.state == storage::MergeState::kParked) parked_ = true;
      persisted.push_back(outcome.id);
    }
    merged_.fetch_add(persisted.size(), std::memory_order_relaxed);
    if (parked_) TellParked();  // before they count as received
    if (!persisted.empty() && listeners_.on_persisted) {
      listeners_.on_persisted(std::move(persisted));
    }
    if (!failed.empty() && listeners_.on_persist_failed) {
      listeners_.on_persist_failed(std::move(failed));
    }
    if (!too_old.empty() && listeners_.on_too_old) listeners_.on_too_old(std::move(too_old));
  }

  /// What is received but not applied, whenever that has changed.
  void TellParked() {
    std::vector<ChangeId> parked;
    for (const storage::ParkedChange& change : store_->Parked()) parked.push_back(change.id);
    if (parked == told_parked_) return;
    told_parked_ = parked;
    if (listeners_.on_parked) listeners_.on_parked(std::move(parked));
  }

  void NoteRejected(const ChangeId& id, const std::string& reason) {
    rejected_.fetch_add(1, std::memory_order_relaxed);
    if (!rejected_log_.Due(Now())) return;
    LogWarning("writer", "changeset ", id.actor.ToString(), "/", id.version,
               " was not merged: ", reason);
  }

  /// They are asked for again; a full disk would say so many times a second.
  void NoteFailed(size_t changesets, const Error& error) {
    if (!failed_log_.Due(Now())) return;
    LogWarning("writer", "merging ", changesets, " changesets failed: ", error.ToString());
  }

  // ---- Transfers ----

  void StageOne() {
    if (batch_.chunks.empty()) return;
    const WriterQueue::Chunk chunk = std::move(batch_.chunks.front());
    batch_.chunks.pop_front();
    queue_.DoneMerges(chunk.bytes->size());
    if (chunk.large) return StageOfLarge(chunk);
    if (chunk.snapshot) return TakeSnapshotChunk(chunk);
    const Status staged = store_->StageTransferChunk(chunk.transfer, chunk.number, *chunk.bytes);
    if (!staged.ok() || !chunk.last) {
      if (listeners_.on_staged) listeners_.on_staged(chunk.transfer, chunk.number, staged);
      CheckBroken();
      return;
    }
    storage::CommitEffects effects;
    const Instant before = Now();
    const Status merged = store_->MergeTransfer(chunk.transfer, &effects);
    NoteCommit(before);
    TellStaged(chunk, merged);
    if (merged.ok()) TellEffects(std::move(effects));
    parked_ = true;  // what the transfer brought may be what a parked change waits for
    CheckBroken();
  }

  /// A chunk of a large transaction; after the last one all of it.
  void StageOfLarge(const WriterQueue::Chunk& chunk) {
    storage::CommitEffects effects;
    const Instant before = Now();
    if (chunk.last) large_.Begin(before);
    const LargeOutcome outcome = TakeLargeChunk(*store_, chunk, &effects);
    large_.End();
    NoteCommit(before);
    if (!outcome.status.ok()) NoteRejected(*chunk.large, outcome.status.error().ToString());
    if (outcome.parked) {
      parked_ = true;
      TellParked();  // before it counts as received
    }
    TellStaged(chunk, outcome.status);
    if (outcome.status.ok()) TellEffects(std::move(effects));
    CheckBroken();
  }

  void TellStaged(const WriterQueue::Chunk& chunk, const Status& status) {
    if (!chunk.last) {
      if (listeners_.on_staged) listeners_.on_staged(chunk.transfer, chunk.number, status);
    } else if (listeners_.on_transfer_merged) {
      listeners_.on_transfer_merged(chunk.transfer,
                                    status.ok() ? Result<crdt::VersionSet>(store_->received())
                                                : Result<crdt::VersionSet>(Error(status.error())));
    }
  }

  void TakeSnapshotChunk(const WriterQueue::Chunk& chunk) {
    Status staged = snapshot_.Add(*store_, chunk);
    if (snapshot_.taken()) {
      if (listeners_.on_snapshot_taken) listeners_.on_snapshot_taken();
    } else if (listeners_.on_staged) {
      listeners_.on_staged(chunk.transfer, chunk.number, std::move(staged));
    }
    CheckBroken();
  }

  // ---- Between ----

  void SettleIfDue() {
    if (!parked_ || AtItsEnd()) return;
    const Instant now = Now();
    if (now < settle_at_) return;
    settle_at_ = now + kSettleInterval;
    storage::CommitEffects effects;
    const auto settled = store_->SettleParked(&effects);
    TellEffects(std::move(effects));
    if (settled.ok()) {
      TellParked();
      parked_ = !told_parked_.empty();
    } else if (settle_log_.Due(now)) {
      LogWarning("writer", "applying parked changes: ", settled.error().ToString());
    }
    CheckBroken();
  }

  void CheckpointIfDue() {
    const Instant before = Now();
    const Status status = store_->CheckpointIfDue();
    NoteCommit(before);
    if (!status.ok() && !AtItsEnd()) {
      LogError("writer", "checkpoint: ", status.error().ToString());
    }
    CheckBroken();
  }

  void TellEffects(storage::CommitEffects effects) {
    if (!listeners_.on_commit || !ChangedSomething(effects)) return;
    listeners_.on_commit(std::make_shared<const storage::CommitEffects>(std::move(effects)));
  }

  void NoteCommit(Instant before) {
    const auto us = static_cast<uint64_t>(ToUs(Now() - before));
    if (us > longest_commit_us_.load(std::memory_order_relaxed)) {
      longest_commit_us_.store(us, std::memory_order_relaxed);
    }
  }

  bool AtItsEnd() const { return broken_ || snapshot_.taken(); }

  void CheckBroken() {
    if (!damaged_ && !store_->damage().empty()) {
      damaged_ = true;
      if (listeners_.on_damage) listeners_.on_damage(DataLoss(store_->damage()));
    }
    if (AtItsEnd() || !store_->broken()) return;
    broken_ = true;
    LogError("writer", "the store is broken: the process has to end");
    if (listeners_.on_fatal) {
      listeners_.on_fatal(
          DataLoss("the disk failed during a commit; restart the agent, nothing "
                   "acknowledged is lost"));
    }
  }

  const size_t group_max_, merge_bytes_max_;
  std::unique_ptr<storage::Store> store_;
  const std::shared_ptr<storage::Snapshots> snapshots_;
  WriterQueue queue_;
  Answers answers_{queue_};
  Listeners listeners_;
  std::thread thread_;

  // The writer thread's own.
  WriterQueue::Batch batch_;
  ActorId actor_;
  std::vector<ChangeId> told_parked_;
  bool parked_ = true;  // until SettleParked has found none
  bool broken_ = false, damaged_ = false;
  SnapshotTaker snapshot_;
  Instant settle_at_{};
  LogLimit rejected_log_, failed_log_, settle_log_;
  Scrubber scrubber_;

  TurnWatch turns_;
  std::atomic<uint64_t> groups_{0}, merge_batches_{0}, merged_{0}, rejected_{0};
  std::atomic<uint64_t> longest_commit_us_{0};
  LargeWatch large_;
};

}  // namespace patina::agent

#include "agent/writer.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "agent/answers.h"
#include "agent/scrubber.h"
#include "agent/snapshot_taker.h"
#include "agent/turn_watch.h"
#include "agent/writer_queue.h"
#include "base/check.h"
#include "base/log.h"
#include "base/thread_checker.h"

namespace patina::agent {
namespace {

constexpr size_t kAnswerApartFrom = 4;  // fewer are told sooner than another thread wakes up
constexpr Duration kIdleWait = std::chrono::milliseconds(500);
constexpr Duration kSettleInterval = std::chrono::milliseconds(100);
constexpr Duration kRejectedLogInterval = std::chrono::seconds(10);

Instant Now() { return SystemClock().Now(); }
int64_t SteadyMs(Instant instant) { return ToMs(instant.time_since_epoch()); }

bool ChangedSomething(const storage::CommitEffects& effects) {
  return effects.last_seq >= effects.first_seq || effects.rows_unknown || !effects.rows.empty();
}

}  // namespace

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
    store_->SetProgress([this](Duration silence) { turns_.Note(silence); });
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

  /// On the writer thread.
  void StageLarge(storage::Store& store, uint64_t transfer, std::string_view manifest) {
    auto next = store.StageLarge(manifest);
    if (!next.ok() && Now() >= rejected_log_at_) {  // it is asked for again
      rejected_log_at_ = Now() + kRejectedLogInterval;
      LogWarning("writer", "a peer's large transaction is not fetched: ", next.error().ToString());
    }
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
    if (const int64_t since = large_since_ms_.load(std::memory_order_relaxed); since != 0) {
      stats.large_running_ms = static_cast<uint64_t>(std::max<int64_t>(1, SteadyMs(Now()) - since));
      stats.large_rows = store_->LargeRowsSoFar();
    }
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
    if (transactions[0].large) large_since_ms_.store(SteadyMs(before), std::memory_order_relaxed);
    auto results = store_->Execute(transactions, &effects);
    large_since_ms_.store(0, std::memory_order_relaxed);
    NoteCommit(before);
    groups_.fetch_add(1, std::memory_order_relaxed);
    // What did not fit the group's time comes first in the next.
    for (size_t i = count; i > results.size(); --i) {
      bytes -= WriterQueue::BytesOf(transactions[i - 1]);
      batch_.locals.push_front({std::move(transactions[i - 1]), std::move(dones[i - 1])});
    }
    TellNetwork(results);
    TellEffects(std::move(effects));
    Answers::Group group;
    group.bytes = bytes;
    group.answers.reserve(results.size());
    for (size_t i = 0; i < results.size(); ++i)
      group.answers.push_back({std::move(dones[i]), std::move(results[i])});
    if (group.answers.size() < kAnswerApartFrom) {
      answers_.Tell(group);
    } else {
      answers_.Add(std::move(group));
    }
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
    const Instant now = Now();
    if (now < rejected_log_at_) return;
    rejected_log_at_ = now + kRejectedLogInterval;
    LogWarning("writer", "changeset ", id.actor.ToString(), "/", id.version,
               " was not merged: ", reason);
  }

  /// They are asked for again; a full disk would say so many times a second.
  void NoteFailed(size_t changesets, const Error& error) {
    const Instant now = Now();
    if (now < failed_log_at_) return;
    failed_log_at_ = now + kRejectedLogInterval;
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
    if (listeners_.on_transfer_merged) {
      listeners_.on_transfer_merged(chunk.transfer,
                                    merged.ok() ? Result<crdt::VersionSet>(store_->received())
                                                : Result<crdt::VersionSet>(Error(merged.error())));
    }
    if (merged.ok()) TellEffects(std::move(effects));
    parked_ = true;  // what the transfer brought may be what a parked change waits for
    CheckBroken();
  }

  /// A chunk of a large transaction; after the last one all of it.
  void StageOfLarge(const WriterQueue::Chunk& chunk) {
    Status staged = OkStatus();
    if (!chunk.bytes->empty()) {
      staged = store_->StageLargeChunk(*chunk.large, chunk.number, *chunk.bytes);
    }
    if (!staged.ok() || !chunk.last) {
      if (listeners_.on_staged) listeners_.on_staged(chunk.transfer, chunk.number, staged);
      return CheckBroken();
    }
    storage::CommitEffects effects;
    const Instant before = Now();
    large_since_ms_.store(SteadyMs(before), std::memory_order_relaxed);
    auto merged = store_->MergeLarge(*chunk.large, &effects);
    large_since_ms_.store(0, std::memory_order_relaxed);
    NoteCommit(before);
    if (merged.ok() && merged->state == storage::MergeState::kRejected) {
      merged = ResourceExhausted("too much is parked already (" + merged->reason + ")");
    } else if (merged.ok() && merged->state == storage::MergeState::kTooOld) {
      merged = Error{storage::kNeedsSnapshot, merged->reason};
    }
    if (!merged.ok()) NoteRejected(*chunk.large, merged.error().ToString());
    if (merged.ok() && merged->state == storage::MergeState::kParked) {
      parked_ = true;
      TellParked();  // before it counts as received
    }
    if (listeners_.on_transfer_merged) {
      listeners_.on_transfer_merged(chunk.transfer,
                                    merged.ok() ? Result<crdt::VersionSet>(store_->received())
                                                : Result<crdt::VersionSet>(merged.error()));
    }
    if (merged.ok()) TellEffects(std::move(effects));
    CheckBroken();
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
    } else if (now >= settle_log_at_) {
      settle_log_at_ = now + kRejectedLogInterval;
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
  Instant settle_at_{}, rejected_log_at_{}, failed_log_at_{}, settle_log_at_{};
  Scrubber scrubber_;

  TurnWatch turns_;
  std::atomic<uint64_t> groups_{0}, merge_batches_{0}, merged_{0}, rejected_{0};
  std::atomic<uint64_t> longest_commit_us_{0};
  std::atomic<int64_t> large_since_ms_{0};  // 0: none runs
};

Writer::Writer(const Config& config, std::unique_ptr<storage::Store> store)
    : impl_(std::make_unique<Impl>(config, std::move(store))) {}
Writer::~Writer() { Stop(); }

void Writer::Start(Listeners listeners) { impl_->Start(std::move(listeners)); }
void Writer::Stop() { impl_->Stop(); }

void Writer::Execute(storage::Transaction transaction, ExecuteDone done) {
  WriterQueue::Local local{std::move(transaction), std::move(done)};
  if (auto error = impl_->queue().AddLocal(&local)) local.done(std::move(*error));
}

void Writer::ApplySchema(storage::Schema wanted, bool allow_destructive, SchemaDone done) {
  const bool added = impl_->queue().AddTask(
      [impl = impl_.get(), wanted = std::move(wanted), allow_destructive, done](storage::Store&) {
        impl->ApplySchema(wanted, allow_destructive, done);
      });
  if (!added) done(Unavailable("the agent is stopping"));
}

bool Writer::Merge(std::vector<gossip::Change> changes) {
  return impl_->queue().AddMerges(std::move(changes));
}

bool Writer::StageChunk(gossip::Outputs::StageChunk chunk) {
  return impl_->queue().AddChunk(std::move(chunk));
}

void Writer::StageLarge(uint64_t transfer, gossip::SharedBytes manifest) {
  Run([this, transfer, manifest = std::move(manifest)](storage::Store& store) {
    impl_->StageLarge(store, transfer, *manifest);
  });
}

void Writer::SettleForeignRows(storage::ForeignAction action, SettledDone done) {
  const bool added = impl_->queue().AddTask([impl = impl_.get(), action, done](storage::Store&) {
    impl->SettleForeignRows(action, 0, done);
  });
  if (!added) done(Unavailable("the agent is stopping"));
}

void Writer::AbandonTransfers() {
  Run([impl = impl_.get()](storage::Store& store) {
    impl->DropSnapshot();
    const Status status = store.AbandonTransfers();
    if (!status.ok()) LogWarning("writer", "dropping staged chunks: ", status.error().ToString());
  });
}

void Writer::Run(std::function<void(storage::Store&)> task) {
  impl_->queue().AddTask(std::move(task));
}

void Writer::ApplySetAside(const ChangeId& id, ExecuteDone done) {
  const auto shared = std::make_shared<ExecuteDone>(std::move(done));
  const bool added = impl_->queue().AddTask(
      [impl = impl_.get(), id, shared](storage::Store&) { impl->ApplySetAside(id, *shared); });
  if (!added) (*shared)(Unavailable("the agent is stopping"));
}

bool Writer::RunAndWait(const std::function<void(storage::Store&)>& task) {
  CHECK(!impl_->OnThread());
  return impl_->queue().RunAndWait(task);
}

std::shared_ptr<storage::Snapshots> Writer::snapshots() const { return impl_->snapshots(); }
Writer::Stats Writer::stats() const { return impl_->stats(); }
int64_t Writer::LastTurnMs() const { return impl_->LastTurnMs(); }

}  // namespace patina::agent

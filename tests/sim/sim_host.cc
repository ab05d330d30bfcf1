#include "tests/sim/sim_host.h"

#include <algorithm>
#include <utility>

#include "base/hash.h"
#include "base/log.h"

namespace patina::sim {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr size_t kSnapshotChunk = 32 * 1024;
constexpr size_t kChunkBytes = 8 * 1024;  // small, so that transfers have several

}  // namespace

SimHost::SimHost(HostWorld& world, Settings settings, const storage::Schema& schema)
    : world_(world), settings_(std::move(settings)), schema_(schema), clock_(world) {}

void SimHost::Start(uint64_t seed) {
  ++life_;
  seed_ = seed;
  storage::StoreOptions options;
  options.path = settings_.path;
  options.schema = schema_;
  options.node_name = settings_.name;
  options.limits = settings_.limits;
  options.clock = &clock_;
  options.seed = seed;
  auto store = storage::Store::Open(std::move(options));
  if (!store.ok()) return world_.Fail(*this, "cannot open: " + store.error().ToString());
  store_ = std::move(*store);
  auto reader =
      storage::Reader::Open(settings_.path, {.page_cache_kib = 256, .snapshots = nullptr});
  if (!reader.ok()) return world_.Fail(*this, "cannot read: " + reader.error().ToString());
  reader_ = std::move(*reader);

  gossip::Self self;
  self.name = settings_.name;
  self.region = settings_.region;
  self.address = settings_.address;
  self.schema = schema_.Hash();
  self.boot_wall_ms = clock_.WallMs();
  node_ = std::make_unique<gossip::Node>(settings_.config, self, store_->received(), seed + 1);
  node_->SetSeeds(settings_.seeds);
  node_->SetHorizon(store_->horizon());
  node_->SetKnownMembers(known_members_);
  tick_at_ = Instant::max();
  TellParked();
  Step([&](Instant now, Outputs& out) { node_->Start(now, out); });
  ScheduleUpkeep();
}

void SimHost::Crash() {
  ++life_;
  queued_.clear();
  serving_.clear();
  serving_large_.clear();
  copies_.clear();
  stage_.reset();
  node_.reset();
  reader_.reset();
  store_.reset();
}

template <class Call>
void SimHost::Step(Call call) {
  Outputs out;
  node_->SetWallMs(clock_.WallMs());
  call(world_.Now(), out);
  Perform(out);
  ScheduleTick();
}

void SimHost::OnDatagram(const Endpoint& from, const gossip::Datagram& datagram) {
  Step([&](Instant now, Outputs& out) { node_->OnDatagram(from, datagram, now, out); });
}

void SimHost::OnFrame(const std::string& from, const gossip::Frame& frame) {
  Step([&](Instant now, Outputs& out) { node_->OnFrame(from, frame, now, out); });
}

void SimHost::OnStreamLost(const std::string& member) {
  Step([&](Instant now, Outputs& out) { node_->OnStreamLost(member, now, out); });
}

std::optional<gossip::Change> SimHost::Write(const storage::Transaction& transaction) {
  store_->SetClusterMinusSteady(node_->ClusterMinusSteadyMs());
  storage::CommitEffects effects;
  auto results = store_->Execute(std::span(&transaction, 1), &effects);
  if (results.size() != 1) {
    world_.Fail(*this, "Execute gave another number of results");
    return std::nullopt;
  }
  if (!results[0].ok()) {  // an INSERT of what is there
    if (store_->broken()) world_.Fail(*this, "broken: " + results[0].error().ToString());
    return std::nullopt;
  }
  const storage::Committed& committed = *results[0];
  if (committed.version == 0) return std::nullopt;
  const gossip::Change change{{committed.actor, committed.version}, committed.changeset};
  Step([&](Instant now, Outputs& out) {
    node_->SetActor(committed.actor, now, out);
    node_->OnLocalCommit({change}, now, out);
  });
  return change;
}

void SimHost::ScheduleTick() {
  const Instant at = std::max(node_->NextDeadline(), world_.Now());
  if (at >= tick_at_) return;
  tick_at_ = at;
  world_.Later(*this, at - world_.Now(), [this, at] {
    if (tick_at_ != at) return;
    tick_at_ = Instant::max();
    Step([&](Instant now, Outputs& out) { node_->Tick(now, out); });
  });
}

void SimHost::ScheduleUpkeep() {
  world_.Later(*this, world_.RandomTime(milliseconds(800), milliseconds(1200)), [this] {
    Upkeep();
    ScheduleUpkeep();
  });
}

void SimHost::Upkeep() {
  store_->SetClusterMinusSteady(node_->ClusterMinusSteadyMs());
  storage::CommitEffects effects;
  auto settled = store_->SettleParked(&effects);
  if (!settled.ok()) return world_.Fail(*this, "settle: " + settled.error().ToString());
  if (!settled->empty()) TellParked();
  if (auto status = store_->CheckpointIfDue(); !status.ok()) {
    world_.Fail(*this, "checkpoint: " + status.error().ToString());
  }
}

void SimHost::TellParked() {
  std::vector<ChangeId> ids;
  for (const storage::ParkedChange& parked : store_->Parked()) ids.push_back(parked.id);
  node_->SetParked(std::move(ids));
}

void SimHost::Perform(Outputs& out) {
  if (!out.persist.empty()) {
    if (queued_.empty()) ScheduleMerge();
    std::move(out.persist.begin(), out.persist.end(), std::back_inserter(queued_));
  }
  if (!out.abandon_staged.empty()) Abandon();
  if (out.publish != nullptr) {
    world_.Later(*this, world_.RandomTime(microseconds(500), milliseconds(5)),
                 [this, frontier = out.publish] { Publish(*frontier); });
  }
  for (auto& chunk : out.stage) {
    world_.Later(*this, world_.RandomTime(microseconds(500), milliseconds(3)),
                 [this, staged = std::move(chunk)] {
                   staged.snapshot ? StageSnapshot(staged) : Stage(staged);
                 });
  }
  for (auto& large : out.stage_large) {
    world_.Later(*this, world_.RandomTime(microseconds(500), milliseconds(3)),
                 [this, staged = std::move(large)] { StageLarge(staged); });
  }
  for (auto& read : out.log_reads) {
    world_.Later(*this, world_.RandomTime(microseconds(300), milliseconds(3)),
                 [this, wanted = std::move(read)] { ReadLog(wanted); });
  }
  for (auto& open : out.open_transfers) {
    world_.Later(*this, world_.RandomTime(milliseconds(1), milliseconds(5)),
                 [this, opened = std::move(open)] {
                   opened.snapshot ? OpenSnapshot(opened) : OpenTransfer(opened);
                 });
  }
  for (const auto& read : out.read_chunks) {
    world_.Later(*this, world_.RandomTime(microseconds(300), milliseconds(3)), [this, read] {
      copies_.contains(read.serving) ? ReadSnapshot(read.serving, read.number)
                                     : ReadChunk(read.serving, read.number);
    });
  }
  for (const uint64_t serving : out.close_transfers) {
    serving_.erase(serving);
    serving_large_.erase(serving);
    copies_.erase(serving);
  }
  for (auto& datagram : out.datagrams) world_.SendDatagram(*this, std::move(datagram));
  for (auto& frame : out.frames) world_.SendFrame(*this, std::move(frame));
}

/// The writer thread takes what came meanwhile in one commit.
void SimHost::ScheduleMerge() {
  world_.Later(*this, world_.RandomTime(microseconds(500), milliseconds(5)),
               [this] { MergeQueued(); });
}

void SimHost::MergeQueued() {
  const std::vector<gossip::Change> changes = std::exchange(queued_, {});
  std::vector<storage::SharedBytes> bytes;
  bytes.reserve(changes.size());
  for (const gossip::Change& change : changes) bytes.push_back(change.bytes);
  storage::CommitEffects effects;
  store_->SetClusterMinusSteady(node_->ClusterMinusSteadyMs());
  const auto outcomes = store_->Merge(bytes, &effects);
  if (!outcomes.ok()) return world_.Fail(*this, "merge: " + outcomes.error().ToString());
  std::vector<ChangeId> durable, too_old;
  bool parked = false;
  for (size_t i = 0; i < outcomes->size(); ++i) {
    const storage::MergeOutcome& outcome = (*outcomes)[i];
    if (outcome.state == storage::MergeState::kRejected) {
      return world_.Fail(*this, "a change was rejected: " + outcome.reason);
    }
    if (outcome.state == storage::MergeState::kTooOld) {
      too_old.push_back(changes[i].id);
      continue;
    }
    if (outcome.state == storage::MergeState::kParked) parked = true;
    durable.push_back(changes[i].id);
  }
  if (parked) TellParked();
  too_old_ += too_old.size();
  Step([&](Instant now, Outputs& out) {
    node_->OnPersisted(durable, now, out);
    if (!too_old.empty()) node_->OnTooOld(too_old, now, out);
  });
}

void SimHost::ReadLog(const Outputs::LogRead& read) {
  auto range = reader_->ReadLog(read.wanted, read.bytes_max);
  if (!range.ok()) return world_.Fail(*this, "log: " + range.error().ToString());
  std::vector<gossip::Change> changes;
  for (auto& [id, bytes] : range->changes) changes.push_back({id, std::move(bytes)});
  Step([&](Instant now, Outputs& out) {
    node_->OnLogRead(read.read, std::move(changes), std::move(range->not_at_hand), range->complete,
                     now, out);
  });
}

void SimHost::OpenTransfer(const Outputs::OpenTransfer& open) {
  if (open.large) {
    serving_large_[open.serving] = *open.large;
    return ReadChunk(open.serving, open.first);
  }
  Status status = store_->Checkpoint();
  if (!status.ok()) return world_.Fail(*this, "checkpoint: " + status.error().ToString());
  auto reader =
      storage::Reader::Open(settings_.path, {.page_cache_kib = 256, .snapshots = nullptr});
  if (!reader.ok()) return world_.Fail(*this, "cannot read: " + reader.error().ToString());
  status = (*reader)->BeginTransfer(schema_, open.receiver_applied);
  if (!status.ok()) {
    LogInfo("sim", settings_.name, " cannot serve a transfer: ", status.error().ToString());
    return Step([&](Instant now, Outputs& out) {
      node_->OnTransferReadFailed(open.serving, status.error().message, now, out);
    });
  }
  serving_[open.serving] = std::move(*reader);
  ReadChunk(open.serving, 0);
}

void SimHost::ReadChunk(uint64_t serving, uint64_t number) {
  const auto found = serving_.find(serving);
  const auto large = serving_large_.find(serving);
  if (found == serving_.end() && large == serving_large_.end()) return;  // closed meanwhile
  auto chunk = large != serving_large_.end() ? reader_->ReadLargeChunk(large->second, number)
                                             : found->second->NextTransferChunk(kChunkBytes);
  if (!chunk.ok()) {
    LogInfo("sim", settings_.name, " cannot read a transfer: ", chunk.error().ToString());
  }
  Step([&](Instant now, Outputs& out) {
    if (chunk.ok()) {
      node_->OnTransferChunkRead(serving, number,
                                 std::make_shared<const std::string>(std::move(chunk->bytes)),
                                 chunk->last, now, out);
    } else {
      node_->OnTransferReadFailed(serving, chunk.error().message, now, out);
    }
  });
}

void SimHost::StageLarge(const Outputs::StageLarge& large) {
  const auto next = store_->StageLarge(*large.manifest);
  Step([&](Instant now, Outputs& out) {
    if (next.ok()) return node_->OnLargeStaged(large.transfer, *next, now, out);
    LargeFailed(large.transfer, next.error(), now, out);
  });
}

void SimHost::LargeFailed(uint64_t transfer, const Error& error, Instant now, Outputs& out) {
  if (error.code != storage::kNeedsSnapshot) {
    return world_.Fail(*this, "large transaction: " + error.ToString());
  }
  node_->OnTransferNeedsSnapshot(transfer, now, out);
}

void SimHost::StageOfLarge(const Outputs::StageChunk& chunk) {
  Status status = OkStatus();
  if (!chunk.bytes->empty()) {
    status = store_->StageLargeChunk(*chunk.large, chunk.number, *chunk.bytes);
  }
  if (status.ok() && chunk.last) {
    storage::CommitEffects effects;
    store_->SetClusterMinusSteady(node_->ClusterMinusSteadyMs());
    const auto outcome = store_->MergeLarge(*chunk.large, &effects);
    if (!outcome.ok()) {
      status = outcome.error();
    } else if (outcome->state == storage::MergeState::kTooOld) {
      status = Error{storage::kNeedsSnapshot, outcome->reason};
    }
    TellParked();
  }
  Step([&](Instant now, Outputs& out) {
    if (!status.ok()) {
      LargeFailed(chunk.transfer, status.error(), now, out);
    } else if (chunk.last) {
      node_->OnTransferMerged(chunk.transfer, store_->received(), now, out);
    } else {
      node_->OnTransferStaged(chunk.transfer, chunk.number, now, out);
    }
  });
}

void SimHost::Stage(const Outputs::StageChunk& chunk) {
  if (chunk.large) return StageOfLarge(chunk);
  Status status = store_->StageTransferChunk(chunk.transfer, chunk.number, *chunk.bytes);
  if (status.ok() && chunk.last) {
    storage::CommitEffects effects;
    status = store_->MergeTransfer(chunk.transfer, &effects);
    if (status.ok()) TellParked();
  }
  Step([&](Instant now, Outputs& out) {
    if (!status.ok() && status.error().code == storage::kNeedsSnapshot) {
      node_->OnTransferNeedsSnapshot(chunk.transfer, now, out);
    } else if (!status.ok()) {
      LogInfo("sim", settings_.name, " transfer failed: ", status.error().ToString());
      node_->OnTransferFailed(chunk.transfer, status.error().message, now, out);
    } else if (chunk.last) {
      node_->OnTransferMerged(chunk.transfer, store_->received(), now, out);
    } else {
      node_->OnTransferStaged(chunk.transfer, chunk.number, now, out);
    }
  });
}

/// What the agent's Collection does on the writer thread.
void SimHost::Publish(const gossip::Frontier& frontier) {
  store_->SetClusterMinusSteady(node_->ClusterMinusSteadyMs());
  const auto clock = store_->PublishClock();
  if (!clock.ok()) return world_.Fail(*this, "publish: " + clock.error().ToString());
  crdt::VersionSet own;
  for (const auto& [actor, node] : store_->Actors()) {
    if (node != settings_.name) continue;
    for (const auto& range : store_->applied().Ranges(actor)) own.AddRange(actor, range);
  }
  gossip::Publication publication;
  publication.clock = *clock;
  publication.own = std::make_shared<const crdt::VersionSet>(std::move(own));
  publication.complete = frontier.Complete(store_->applied(), *clock, store_->OldestParked());
  const int64_t line_ms = clock->ms() - ToMs(settings_.collect_after);
  const crdt::HlcTime line =
      std::min(frontier.Get(publication.complete), crdt::HlcTime::FromMs(line_ms));
  const auto any = store_->AnyToCollect(line);
  if (!any.ok()) return world_.Fail(*this, "collect: " + any.error().ToString());
  for (bool more = true; more;) {
    const auto collected = store_->Collect(*any ? line : store_->horizon());
    if (!collected.ok()) return world_.Fail(*this, "collect: " + collected.error().ToString());
    more = *collected;
  }
  known_members_.clear();
  for (const auto& [name, member] : frontier.members()) {
    known_members_.emplace_back(name, member.last_heard_ms);
  }
  node_->SetHorizon(store_->horizon());
  node_->OnPublished(std::move(publication), world_.Now());
}

void SimHost::OpenSnapshot(const Outputs::OpenTransfer& open) {
  const auto copy = [&]() -> Result<std::shared_ptr<const storage::SnapshotCopy>> {
    uint64_t rows = 0;
    for (const storage::TableDigest& table : store_->Digests()) rows += table.rows;
    if (rows < open.rows_min) return FailedPrecondition("too few rows");
    RETURN_IF_ERROR(store_->Checkpoint());
    ASSIGN_OR_RETURN(const auto backup, storage::Backup::Begin(settings_.path));
    return storage::SnapshotCopy::Make(*backup, StrCat(settings_.path, ".copy", open.serving));
  }();
  if (copy.ok()) {
    copies_[open.serving] = *copy;
    return ReadSnapshot(open.serving, 0);
  }
  Step([&](Instant now, Outputs& out) {
    node_->OnTransferReadFailed(open.serving, copy.error().message, now, out);
  });
}

void SimHost::ReadSnapshot(uint64_t serving, uint64_t number) {
  const auto found = copies_.find(serving);
  if (found == copies_.end()) return;  // closed meanwhile
  auto chunk = found->second->Read(number, kSnapshotChunk);
  if (!chunk.ok()) return world_.Fail(*this, "copy: " + chunk.error().ToString());
  Step([&](Instant now, Outputs& out) {
    node_->OnTransferChunkRead(serving, number,
                               std::make_shared<const std::string>(std::move(chunk->bytes)),
                               chunk->last, now, out);
  });
}

void SimHost::StageSnapshot(const Outputs::StageChunk& chunk) {
  store_->SetClusterMinusSteady(node_->ClusterMinusSteadyMs());
  const Status staged = [&]() -> Status {
    if (chunk.number == 0) {
      ASSIGN_OR_RETURN(stage_,
                       storage::SnapshotStage::Open(storage::IncomingSnapshotPath(settings_.path)));
    }
    if (stage_ == nullptr) return FailedPrecondition("given up");
    RETURN_IF_ERROR(stage_->Add(*chunk.bytes, chunk.last));
    if (!chunk.last) return OkStatus();
    ASSIGN_OR_RETURN(const auto taken, store_->PrepareSnapshot(stage_->path()));
    LogInfo("sim", settings_.name, " takes a file, ", taken.set_aside, " set aside");
    return OkStatus();
  }();
  if (staged.ok() && chunk.last) {
    ++snapshots_taken_;
    Crash();
    return Start(CombineHash(seed_, life_) | 1);
  }
  if (!staged.ok()) {
    LogInfo("sim", settings_.name, " snapshot failed: ", staged.error().ToString());
    stage_.reset();
  }
  Step([&](Instant now, Outputs& out) {
    if (staged.ok()) {
      node_->OnTransferStaged(chunk.transfer, chunk.number, now, out);
    } else {
      node_->OnTransferFailed(chunk.transfer, staged.error().message, now, out);
    }
  });
}

void SimHost::Abandon() {
  stage_.reset();
  if (auto status = store_->AbandonTransfers(); !status.ok()) {
    world_.Fail(*this, "abandon: " + status.error().ToString());
  }
}

}  // namespace patina::sim

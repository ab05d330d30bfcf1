#include "tests/storage/model_node.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "crdt/manifest.h"
#include "storage/backup.h"
#include "tests/storage/model_world.h"
#include "tests/support/files.h"
#include "tests/support/temporary_folder.h"

namespace patina::storage::model {
namespace {

namespace fs = std::filesystem;

std::string NameOf(size_t node) { return StrCat("node-", node); }

uint64_t BytesOfFile(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
}

FileImage MakeEmptyFile(Sql sql) {
  test::TemporaryFolder folder;
  FakeClock clock(World::kStartMs);
  StoreOptions options;
  options.path = folder.File("empty.db");
  options.schema = Schemas(sql)[0];
  options.clock = &clock;
  auto store = Store::Open(options);
  EXPECT_TRUE(store.ok() && (*store)->Close().ok());
  store->reset();
  return FileImage{test::ReadFile(options.path), {}};
}

/// An empty node's file: made once, because making its tables takes longer than most histories.
const FileImage& EmptyFile(Sql sql) {
  static const FileImage plain = MakeEmptyFile(Sql::kPlain), any = MakeEmptyFile(Sql::kAny);
  return sql == Sql::kPlain ? plain : any;
}

}  // namespace

Node::Node(World* world, size_t number)
    : name(number), world_(world), clock_(world->now_ms), true_ms_(world->now_ms) {
  options_.path = world->FileOf(number);
  options_.node_name = NameOf(number);
  options_.clock = &clock_;
  options_.limits.max_clock_skew_ms = kMaxClockSkewMs;
  options_.limits.log_age_max = std::chrono::hours(24 * 365);
  options_.limits.page_cache_kib = 256;
  options_.allow_destructive = true;
  options_.mutant = world->options.broken.store;
  backup = EmptyFile(world->options.sql);
  PutImage(backup);
}

Node::~Node() { Stop(); }

// ---- Processes and files ------------------------------------------------------------------------

void Node::Start() {
  up = true;
  process = world_->NextSerial();
  clock_error_ms = wall_error_ms;
  SetClocks();
  options_.seed = world_->rng.Next() | 1;
  options_.schema = world_->SchemaOf(*this);
  // How much of the log a checkpoint leaves.
  const uint64_t log_bytes[] = {0, 200, 1u << 20, 1u << 20};
  options_.limits.log_bytes_max = log_bytes[world_->rng.Below(4)];
  options_.limits.row_cache_bytes = world_->rng.Chance(0.5) ? 100 : 1u << 20;
  options_.limits.large_memory_bytes = options_.limits.large_chunk_bytes = 1;
  auto opened = Store::Open(options_);
  if (!opened.ok()) return world_->RequireOk(Error(opened.error()), "opening");
  store = std::move(*opened);
  SetClocks();
  gossip::FrontierConfig config;
  config.forget_after_ms = kForgetAfterMs;
  if (world_->options.broken.node == NodeMutant::kMinorityForgets)
    config.forget_unreachable_max = 9;
  frontier_ = std::make_unique<gossip::Frontier>(NameOf(name), config);
  own_publications_.clear();
  for (const auto& [other, heard_ms] : last_heard_ms) frontier_->Heard(NameOf(other), heard_ms);
  log_sizes_.clear();
  FollowAnew();
  NoteCommit();
}

void Node::Stop() {
  up = false;
  reader_.reset();
  store.reset();
}

void Node::UseSchema(int next) {
  level = next;
  if (!up) return;
  if (world_->rng.Chance(0.3)) {
    Stop();
    return Start();
  }
  const auto changed = store->ApplySchema(world_->SchemaOf(*this), true, &effects_);
  if (!changed.ok()) return world_->RequireOk(Error(changed.error()), "changing the schema");
  FollowAnew();
  SettleParked();
}

Reader& Node::reader() {
  if (reader_ == nullptr) {
    auto opened = Reader::Open(options_.path, {.page_cache_kib = 64, .snapshots = nullptr});
    EXPECT_TRUE(opened.ok()) << opened.error().ToString();
    reader_ = std::move(*opened);
  }
  return *reader_;
}

FileImage Node::Image() const {
  return {test::ReadFile(options_.path), test::ReadFile(options_.path + "-wal")};
}

void Node::PutImage(const FileImage& image) {
  Stop();
  fs::remove(options_.path + "-shm");
  fs::remove(options_.path + "-wal");
  test::WriteFile(options_.path, image.database);
  if (!image.log.empty()) test::WriteFile(options_.path + "-wal", image.log);
}

FileImage Node::ImageBeforeCommits(size_t commits) const {
  FileImage image = Image();
  const size_t kept = log_sizes_.size() - std::min(commits, log_sizes_.size() - 1);
  image.log.resize(std::min(image.log.size(), size_t{log_sizes_[kept - 1]}));
  return image;
}

void Node::NoteCommit() {
  touched = true;
  const uint64_t size = BytesOfFile(options_.path + "-wal");
  if (!log_sizes_.empty() && size < log_sizes_.back()) log_sizes_.clear();
  if (log_sizes_.empty() || size > log_sizes_.back()) log_sizes_.push_back(size);
  world_->NoteApplied(*this);
}

void Node::FollowAnew() {
  store->SetEffectTables(std::vector<bool>(store->schema().tables.size(), true));
  followed_ = Visible();
}

void Node::FollowEffects() {
  if (effects_.rows_unknown) return FollowAnew();
  for (const RowEffect& effect : effects_.rows) {
    const Rows::key_type row_name(store->schema().tables[effect.table].name, effect.key);
    const auto row = followed_.find(row_name);
    world_->Require(effect.before.has_value()
                        ? row != followed_.end() && row->second == *effect.before
                        : row == followed_.end(),
                    "node ", name, " tells of another row than it had: ", [&] {
                      return DescribeEffects(effects_, store->schema());
                    });
    if (effect.after) {
      followed_[row_name] = *effect.after;
    } else {
      followed_.erase(row_name);
    }
  }
}

// ---- Time ---------------------------------------------------------------------------------------

int64_t Node::ClusterMs() const { return world_->now_ms + clock_error_ms; }

void Node::SetClocks() {
  clock_.AdvanceMs(world_->now_ms - true_ms_);
  true_ms_ = world_->now_ms;
  clock_.SetWallMs(world_->now_ms + wall_error_ms);
  if (store == nullptr) return;
  store->SetClusterMinusSteady(ClusterMs() - ToMs(clock_.Now().time_since_epoch()));
}

/// The wall clock, unless the median of the peers says it is off.
void Node::MeasureOffsets(const std::vector<Node*>& peers) {
  std::vector<int64_t> offsets;
  for (const Node* peer : peers) {
    offsets.push_back(peer->ClusterMs() - world_->now_ms - wall_error_ms);
  }
  std::sort(offsets.begin(), offsets.end());
  const size_t middle = offsets.size() / 2;
  const int64_t median =
      offsets.size() % 2 == 1 ? offsets[middle] : (offsets[middle - 1] + offsets[middle]) / 2;
  clock_error_ms = wall_error_ms + (std::abs(median) < kToleratedOffsetMs ? 0 : median);
  SetClocks();
}

// ---- Writing and receiving ----------------------------------------------------------------------

void Node::Write(const std::vector<Transaction>& group) {
  const Rows before = followed_;
  uint64_t seq = store->last_seq(), version = store->applied().Head(store->actor());
  const auto results = store->Execute(group, &effects_);
  FollowEffects();
  for (size_t i = 0; i < results.size(); ++i) {
    if (!results[i].ok()) {
      world_->NoteFailed(group[i], results[i].error());
      continue;
    }
    if (results[i]->version > 0) {
      world_->Require(results[i]->version == ++version && results[i]->seq == ++seq,
                      "versions or change numbers have gaps");
      world_->NoteWrite(*this, *results[i]);
    }
    if (group.size() == 1) world_->CheckCaptured(*this, *results[i], before);
  }
  world_->Require(store->last_seq() == seq, "a change number is lost");
  NoteCommit();
}

bool Node::Receive(const std::vector<SharedBytes>& changes) {
  std::vector<SharedBytes> small;
  for (const SharedBytes& change : changes) {
    if (!crdt::IsManifest(*change)) {
      small.push_back(change);
      continue;
    }
    const auto outcome = ReceiveLarge(change);
    if (!outcome.ok()) {
      world_->RequireOk(Error(outcome.error()), "merging a large transaction");
      return true;
    }
    if (!Receive(*outcome)) return false;
  }
  if (small.empty()) return true;
  const auto outcomes = store->Merge(small, &effects_);
  if (!outcomes.ok()) {
    world_->RequireOk(Error(outcomes.error()), "merging");
    return true;
  }
  FollowEffects();
  bool all = true;
  for (const MergeOutcome& outcome : *outcomes) all = Receive(outcome) && all;
  return all;
}

bool Node::Receive(const MergeOutcome& outcome) {
  world_->Require(outcome.state != MergeState::kRejected, "rejected: ", outcome.reason);
  if (outcome.state == MergeState::kParked) ++world_->count["parked"];
  if (outcome.state == MergeState::kDuplicate) ++world_->count["duplicates"];
  if (outcome.state == MergeState::kTooOld) {
    world_->NoteRefused(*this, outcome);
    return world_->options.broken.node == NodeMutant::kRefuseOnly;
  }
  NoteCommit();
  return true;
}

/// Now and then only some chunks arrive. Nothing has become of it then, as of a duplicate.
Result<MergeOutcome> Node::ReceiveLarge(const SharedBytes& manifest) {
  ASSIGN_OR_RETURN(const crdt::ChangesetHeader header, crdt::PeekChangesetHeader(*manifest));
  const ChangeId id = header.id;
  const LargeChange& change = world_->Large(id);
  const auto first = store->StageLarge(*manifest);
  NoteCommit();
  if (!first.ok() && first.error().code == kNeedsSnapshot)
    return MergeOutcome{id, MergeState::kTooOld, first.error().message};
  if (!first.ok()) return first.error();
  for (uint64_t i = *first; i < change.chunks.size(); ++i) {
    if (world_->rng.Chance(0.2)) return MergeOutcome{id, MergeState::kDuplicate, "cut off"};
    RETURN_IF_ERROR(store->StageLargeChunk(id, i, *change.chunks[i]));
    NoteCommit();
  }
  ASSIGN_OR_RETURN(MergeOutcome outcome, store->MergeLarge(id, &effects_));
  FollowEffects();
  return outcome;
}

void Node::SettleParked() {
  const auto settled = store->SettleParked(&effects_);
  if (!settled.ok()) return world_->RequireOk(Error(settled.error()), "settling");
  FollowEffects();
  world_->count["unparked"] += settled->size();
  NoteCommit();
}

void Node::Checkpoint() {
  world_->RequireOk(store->Checkpoint(), "checkpoint");
  NoteCommit();
}

void Node::Pull(Node& peer, size_t limit) {
  const auto wanted = store->received().Lacking(peer.store->received());
  if (wanted.empty()) return;
  auto range = peer.reader().ReadLog(wanted, UINT64_MAX);
  if (!range.ok()) return world_->RequireOk(Error(range.error()), "reading a log");
  world_->rng.Shuffle(range->changes);
  if (range->changes.size() > limit) range->changes.resize(limit);
  const size_t together = world_->ReceivedTogether();
  std::vector<SharedBytes> batch;
  for (const auto& [id, bytes] : range->changes) {
    ++world_->count["log range changes"];
    batch.push_back(bytes);
    if (batch.size() < together && id != range->changes.back().first) continue;
    if (!Receive(std::exchange(batch, {}))) return Resolve(peer);
  }
  if (!range->not_at_hand.empty()) peer.SendTransfer(*this);
}

/// Our histories differ before a horizon: the one with the lower horizon takes the other's
/// snapshot.
void Node::Resolve(Node& peer) {
  const bool peer_is_lower =
      std::pair(peer.store->horizon(), peer.name) < std::pair(store->horizon(), name);
  peer_is_lower ? peer.TakeSnapshot(*this) : TakeSnapshot(peer);
}

void Node::SendTransfer(Node& receiver) {
  Checkpoint();
  Transfer transfer{receiver.process, name, {}};
  Status status = reader().BeginTransfer(store->schema(), receiver.store->applied());
  for (bool last = false; status.ok() && !last;) {
    auto chunk = reader().NextTransferChunk(64);
    if (!chunk.ok()) {
      status = Error(chunk.error());
      break;
    }
    transfer.chunks.push_back(std::move(chunk->bytes));
    last = chunk->last;
  }
  reader().EndTransfer();
  world_->RequireOk(status, "sending a transfer");
  if (status.ok()) world_->Send(*this, receiver, std::move(transfer));
}

void Node::TakeTransfer(const Transfer& transfer) {
  if (transfer.process != process) return;
  Node& sender = *world_->nodes()[transfer.sender];
  if (world_->options.broken.node == NodeMutant::kTransferToWhoIsNotBehind &&
      Complete() < sender.store->horizon()) {
    return Resolve(sender);
  }
  const uint64_t number = ++transfers_;
  for (size_t i = 0; i < transfer.chunks.size(); ++i)
    world_->RequireOk(store->StageTransferChunk(number, i, transfer.chunks[i]), "staging");
  const Status merged = store->MergeTransfer(number, &effects_);
  if (merged.ok()) {
    ++world_->count["transfers"];
    FollowEffects();
    return NoteCommit();
  }
  world_->RequireOk(store->AbandonTransfers(), "abandoning");
  NoteCommit();
  const Errc code = merged.error().code;
  if (code == kNeedsSnapshot) return Resolve(sender);
  // Of another schema, or from the future: asked for again.
  if (code != Errc::kFailedPrecondition && code != Errc::kUnavailable)
    world_->RequireOk(merged, "taking a transfer");
}

void Node::TakeSnapshot(Node& peer) {
  if (!world_->Linked(*this, peer)) return;
  peer.Checkpoint();
  const std::string staged = options_.path + ".staged";
  fs::remove(staged);
  const auto copied = BackupFile(peer.options_.path, staged, {});
  if (!copied.ok()) return world_->RequireOk(Error(copied.error()), "copying");
  const auto before = store->SetAside();
  crdt::VersionSet had = store->received();
  had.Union(peer.store->received());
  const auto prepared = store->PrepareSnapshot(staged);
  NoteCommit();
  if (!prepared.ok()) {
    const Errc code = prepared.error().code;
    if (code != Errc::kFailedPrecondition && code != Errc::kUnavailable)
      world_->RequireOk(Error(prepared.error()), "taking a snapshot");
    fs::remove(staged);
    return;
  }
  Stop();
  admitted.Union(peer.store->applied());  // the store has looked at their times
  Start();
  if (!up || store == nullptr) return;
  const auto after = store->SetAside();
  if (!after.ok()) return world_->RequireOk(Error(after.error()), "what is set aside");
  std::vector<ChangeId> newly;
  for (size_t i = before->size(); i < after->size(); ++i) newly.push_back((*after)[i].id);
  crdt::VersionSet have = store->received();
  for (const SetAsideChange& change : *after) have.Add(change.id);
  world_->Require(had.IsSubsetOf(have), "a snapshot lost a change");
  world_->NoteSnapshot(*this, peer, newly);
}

// ---- Frontier -----------------------------------------------------------------------------------

crdt::VersionSet Node::OwnVersions() const {
  crdt::VersionSet own;
  for (const auto& [actor, node] : store->Actors()) {
    if (node != options_.node_name) continue;
    for (const crdt::VersionRange& range : store->applied().Ranges(actor))
      own.AddRange(actor, range);
  }
  return own;
}

void Node::Publish() {
  const auto clock = store->PublishClock();
  if (!clock.ok()) return world_->RequireOk(Error(clock.error()), "publishing");
  gossip::Publication publication;
  publication.node = NameOf(name);
  publication.serial = world_->NextSerial();
  publication.clock = *clock;
  publication.complete = Complete();
  publication.own = std::make_shared<const crdt::VersionSet>(OwnVersions());
  frontier_->Hear(publication, world_->now_ms);
  own_publications_.push_back(publication);
  if (own_publications_.size() > gossip::Frontier::kKept)
    own_publications_.erase(own_publications_.begin());
  NoteCommit();
}

void Node::Gossip(const Node& peer) {
  frontier_->Heard(NameOf(peer.name), world_->now_ms);
  for (const auto& [other, member] : peer.frontier_->members()) {
    for (const auto& publication : member.publications)
      frontier_->Hear(publication, world_->now_ms);
  }
  for (const auto& publication : peer.own_publications_)
    frontier_->Hear(publication, world_->now_ms);
}

bool Node::Satisfies(const gossip::Publication& publication) const {
  if (world_->options.broken.node != NodeMutant::kHeadsOnly)
    return publication.own->IsSubsetOf(store->applied());
  const auto actors = publication.own->Actors();
  return std::all_of(actors.begin(), actors.end(), [&](const ActorId& actor) {
    return store->applied().Contains({actor, publication.own->Head(actor)});
  });
}

crdt::HlcTime Node::Complete() const {
  const NodeMutant broken = world_->options.broken.node;
  auto oldest_parked = store->OldestParked();
  if (broken == NodeMutant::kParkedDoesNotHoldT) oldest_parked.reset();
  if (broken != NodeMutant::kHeadsOnly && broken != NodeMutant::kLaggardsLeftOut)
    return frontier_->Complete(store->applied(), store->published(), oldest_parked);
  crdt::HlcTime complete = store->published();
  if (oldest_parked && broken == NodeMutant::kHeadsOnly)
    complete = std::min(complete, *oldest_parked);
  for (const auto& [member, state] : frontier_->members()) {
    crdt::HlcTime clock;
    for (const auto& publication : state.publications)
      if (Satisfies(publication)) clock = std::max(clock, publication.clock);
    const bool newest = !state.publications.empty() && Satisfies(state.publications.back());
    if (broken == NodeMutant::kLaggardsLeftOut && !newest) continue;
    complete = std::min(complete, clock);
  }
  return complete;
}

crdt::HlcTime Node::Line() const {
  if (world_->options.broken.node == NodeMutant::kCollectWhenAllHaveDelete)
    return world_->AppliedEverywhere();
  const crdt::HlcTime hour_ago = crdt::HlcTime::FromMs(ClusterMs() - kHourMs);
  return std::min(frontier_->Get(Complete()), hour_ago);
}

void Node::Collect(bool checkpoint_first) {
  if (checkpoint_first) Checkpoint();
  const crdt::HlcTime before = store->horizon(), line = Line();
  const uint64_t tombstones = store->Stats().tombstones_collected;
  while (true) {
    const auto more = store->Collect(line);
    if (!more.ok()) return world_->RequireOk(Error(more.error()), "collecting");
    if (!*more) break;
  }
  if (store->horizon() > before) ++world_->count["horizon raised"];
  world_->count["tombstones collected"] += store->Stats().tombstones_collected - tombstones;
  NoteCommit();
}

void Node::ForgetDead() {
  for (const auto& [other, heard_ms] : last_heard_ms) {
    if (frontier_->members().contains(NameOf(other))) frontier_->Heard(NameOf(other), heard_ms);
  }
  const auto reachable = [&](const std::string& other) {
    return world_->Linked(*this, *world_->nodes()[static_cast<size_t>(other.back() - '0')]);
  };
  for (const std::string& other : frontier_->ForgetDead(reachable, world_->now_ms))
    world_->NoteForgotten(*this, static_cast<size_t>(other.back() - '0'));
}

}  // namespace patina::storage::model

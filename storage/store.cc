#include "storage/store.h"

#include <sys/stat.h>

#include <algorithm>

#include "storage/store_impl.h"
#include "storage/wal_vfs.h"

namespace patina::storage {

Result<std::unique_ptr<Store>> Store::Open(StoreOptions options) {
  auto impl = std::make_unique<Impl>(std::move(options));
  RETURN_IF_ERROR(impl->Open());
  return std::unique_ptr<Store>(new Store(std::move(impl)));
}

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::~Store() = default;

Status Store::Close() { return impl_->Close(); }

std::vector<Result<Committed>> Store::Execute(std::span<const Transaction> transactions,
                                              CommitEffects* effects) {
  return impl_->Execute(transactions, effects);
}

Result<std::vector<MergeOutcome>> Store::Merge(std::span<const SharedBytes> changesets,
                                               CommitEffects* effects) {
  return impl_->Merge(changesets, effects);
}

Result<std::vector<ChangeId>> Store::SettleParked(CommitEffects* effects) {
  return impl_->SettleParked(effects);
}
Result<std::vector<SchemaChange>> Store::PlanSchema(const Schema& wanted) {
  return impl_->PlanSchema(wanted);
}
Result<SchemaOutcome> Store::ApplySchema(const Schema& wanted, bool allow_destructive,
                                         CommitEffects* effects) {
  return impl_->ApplySchema(wanted, allow_destructive, effects);
}
Status Store::CheckpointIfDue() { return impl_->CheckpointIfDue(); }
Status Store::Checkpoint() { return impl_->Checkpoint(); }
Result<bool> Store::Scrub(size_t rows_max) { return impl_->Scrub(rows_max); }
bool Store::OtherClientWrote() { return impl_->OtherClientWrote(); }
std::vector<ForeignRow> Store::ForeignRows(size_t rows_max) const {
  return impl_->foreign_rows.List(rows_max);
}
Result<ForeignOutcome> Store::SettleForeignRows(ForeignAction action, CommitEffects* effects) {
  return impl_->SettleForeignRows(action, effects);
}
void Store::SetProgress(std::function<void(Duration silence)> on_progress) {
  impl_->on_progress = std::move(on_progress);
}
void Store::SetClusterMinusSteady(int64_t ms) { impl_->cluster_minus_steady_ms = ms; }

void Store::SetEffectTables(std::vector<bool> wanted) {
  wanted.resize(impl_->tables.size());
  impl_->effect_tables = std::move(wanted);
}

Status Store::StageTransferChunk(uint64_t transfer, uint64_t number, std::string_view bytes) {
  return impl_->StageTransferChunk(transfer, number, bytes);
}
Status Store::MergeTransfer(uint64_t transfer, CommitEffects* effects) {
  return impl_->MergeTransfer(transfer, effects);
}
Status Store::AbandonTransfers() { return impl_->AbandonTransfers(); }

crdt::HlcTime Store::horizon() const { return impl_->horizon; }
crdt::HlcTime Store::published() const { return impl_->published; }
Status Store::SaveMembers(std::string_view members) { return impl_->SaveMembers(members); }
Result<std::string> Store::SavedMembers() { return impl_->SavedMembers(); }
Result<crdt::HlcTime> Store::PublishClock() { return impl_->PublishClock(); }
std::optional<crdt::HlcTime> Store::OldestParked() const { return impl_->OldestParked(); }
Result<bool> Store::AnyToCollect(crdt::HlcTime line) { return impl_->AnyToCollect(line); }
Result<bool> Store::Collect(crdt::HlcTime line) { return impl_->Collect(line); }

Result<SnapshotOutcome> Store::PrepareSnapshot(const std::string& staged_path) {
  return impl_->PrepareSnapshot(staged_path);
}
Result<std::vector<SetAsideChange>> Store::SetAside() { return impl_->SetAside(); }
Result<std::string> Store::SetAsideBytes(const ChangeId& id) { return impl_->SetAsideBytes(id); }
Result<Committed> Store::ApplySetAside(const ChangeId& id, CommitEffects* effects) {
  return impl_->ApplySetAside(id, effects);
}
Status Store::DropSetAside(const ChangeId& id) { return impl_->DropSetAside(id); }
Result<uint64_t> Store::StageLarge(std::string_view manifest) {
  return impl_->StageLarge(manifest);
}
Status Store::StageLargeChunk(const ChangeId& id, uint64_t number, std::string_view bytes) {
  return impl_->StageLargeChunk(id, number, bytes);
}
Result<MergeOutcome> Store::MergeLarge(const ChangeId& id, CommitEffects* effects) {
  return impl_->MergeLarge(id, effects);
}
uint64_t Store::LargeRowsSoFar() const { return impl_->large_rows; }

const Schema& Store::schema() const { return impl_->schema; }
const crdt::VersionSet& Store::received() const { return impl_->received; }
const crdt::VersionSet& Store::applied() const { return impl_->applied; }

std::vector<TableDigest> Store::Digests() const {
  std::vector<TableDigest> digests;
  for (const auto& table : impl_->tables) {
    const TableDigestState state = impl_->DigestWithForeignRows(*table);
    digests.push_back({table->table().name, state.Fold(), state.rows});
  }
  return digests;
}

std::vector<uint64_t> Store::Buckets(std::string_view table) const {
  const TableIo* found = impl_->FindTable(table);
  if (found == nullptr) return {};
  return impl_->DigestWithForeignRows(*found).buckets;
}

Result<std::vector<RowDigest>> Store::RowsInBucket(std::string_view table, uint32_t bucket) {
  return impl_->RowsInBucket(table, bucket);
}

std::vector<ParkedChange> Store::Parked() const {
  std::vector<ParkedChange> changes;
  for (const auto& [id, change] : impl_->parked)
    changes.push_back({id, change.time, change.reason, change.bytes});
  std::sort(changes.begin(), changes.end(),
            [](const auto& a, const auto& b) { return a.id < b.id; });
  return changes;
}

ActorId Store::actor() const { return impl_->actor; }

std::vector<std::pair<ActorId, std::string>> Store::Actors() const {
  std::vector<std::pair<ActorId, std::string>> all;
  for (crdt::ActorIndex i = 1; i < impl_->actors.size(); ++i) {
    const ActorId& id = impl_->actors.Get(i);
    const auto name = impl_->node_names.find(id);
    all.emplace_back(id, name == impl_->node_names.end() ? std::string() : name->second);
  }
  return all;
}

StoreStats Store::Stats() const { return impl_->Stats(); }
uint64_t Store::last_seq() const { return impl_->last_seq; }
bool Store::broken() const { return impl_->broken; }
std::shared_ptr<Snapshots> Store::snapshots() const { return impl_->snapshots; }
const std::string& Store::damage() const { return impl_->damage; }
void Store::NoteDamage(const Error& error) { impl_->NoteFailure(error); }

std::vector<crdt::ActorRanges> Store::LostCommits() const { return impl_->LostCommits(); }

std::vector<std::string> Store::Troubles() const {
  std::vector<std::string> troubles;
  for (const std::string& trouble :
       {impl_->damage, impl_->disk_trouble, impl_->DescribeLostCommits()}) {
    if (!trouble.empty()) troubles.push_back(trouble);
  }
  return troubles;
}

namespace {

uint64_t FileBytes(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
}

}  // namespace

TableDigestState Store::Impl::DigestWithForeignRows(const TableIo& table) const {
  TableDigestState state = table.digest;
  for (const ForeignRow& row : foreign_rows.List()) {
    if (row.table != table.table().name || row.key.empty()) continue;
    const uint64_t key_hash = RowCache::KeyHash(row.key);
    state.Add(key_hash, CombineHash(key_hash, static_cast<uint64_t>(row.kind)));
  }
  return state;
}

StoreStats Store::Impl::Stats() const {
  StoreStats now = stats;
  now.dirty_rows = cache.dirty();
  now.cached_rows = cache.size();
  now.cache_bytes = cache.bytes();
  now.cache_hits = cache.hits;
  now.cache_misses = cache.misses;
  now.foreign_rows = foreign_rows.size();
  now.foreign_rows_unlisted = foreign_rows.unlisted();
  now.log_bytes = log_bytes;
  now.log_first_seq = log_first_seq;
  now.log_entries = last_seq + 1 - std::min(log_first_seq, last_seq + 1);
  now.parked = parked.size();
  now.parked_bytes = parked_bytes;
  now.large_staged_bytes = large_staged_bytes;
  now.file_bytes = FileBytes(options.path);
  now.wal_bytes = FileBytes(options.path + "-wal");
  now.wal = wal_limit->stats();
  now.snapshots = snapshots->stats();
  const WalVfsStats writes = GetWalVfsStats();
  now.wal_writes = writes.done;
  now.wal_writes_asked = writes.asked;
  for (const auto& table : tables) now.tombstones += table->tombstones;
  return now;
}

Result<std::vector<RowDigest>> Store::Impl::RowsInBucket(std::string_view name, uint32_t bucket) {
  TableIo* table = FindTable(name);
  if (table == nullptr) return NotFound("no such table: " + std::string(name));
  std::vector<RowDigest> rows;
  ASSIGN_OR_RETURN(Stmt scan,
                   db->Prepare("SELECT " + table->KeyList() + " FROM " + QuoteName(name), false));
  for (size_t row = 0;; ++row) {
    NoteStep(row);
    ASSIGN_OR_RETURN(const bool more, scan.Step());
    if (!more) return rows;
    RowDigest digest;
    ByteWriter out(&digest.key);
    out.Varint(table->table().key.size());
    for (size_t i = 0; i < table->table().key.size(); ++i)
      crdt::EncodeValue(scan.Column(static_cast<int>(i)), out);
    if (BucketOfKey(digest.key) != bucket) continue;
    const uint64_t key_hash = RowCache::KeyHash(digest.key);
    // From the file, not the cache: what is really stored is compared.
    ASSIGN_OR_RETURN(CachedRow found, table->Load(digest.key, key_hash, actors));
    if (const CachedRow* cached = cache.Find(table->number(), digest.key, key_hash))
      found.clock = cached->clock;
    digest.hash = hashers[table->number()].Hash(key_hash, found.clock, found.values, actors);
    std::vector<crdt::ValueView> values;
    if (!crdt::UnpackValues(found.values, crdt::kMaxColumns, &values))
      return DataLoss("a row cannot be read");
    const crdt::Stamp& existence = found.clock.existence();
    if (existence.IsNever()) {
      digest.cells.push_back({"", "there, and nobody wrote it", {}, {}, 0});
    } else {
      digest.cells.push_back({"", found.clock.alive() ? "alive" : "deleted", existence.time,
                              actors.Get(existence.actor), existence.version});
    }
    for (size_t i = 0; i < values.size(); ++i) {
      const auto column = static_cast<crdt::ColumnIndex>(i);
      if (!found.clock.HasCell(column)) continue;
      const crdt::Stamp stamp = found.clock.Cell(column);
      digest.cells.push_back({table->table().columns[i].name, values[i].ToString(), stamp.time,
                              actors.Get(stamp.actor), stamp.version});
    }
    rows.push_back(std::move(digest));
  }
}

}  // namespace patina::storage

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "storage/store_impl.h"

// Large transactions of peers: chunks staged in the file, applied in one commit that is a
// checkpoint. What it shares with a large local transaction and a transfer: rows and clocks are
// written past the cache.

namespace patina::storage {

Status Store::Impl::BeginPastCache(DigestsBefore* before) {
  RETURN_IF_ERROR(Checkpoint());
  cache.Clear();
  for (const auto& table : tables) {
    before->digests.push_back(table->digest);
    before->tombstones.push_back(table->tombstones);
  }
  return OkStatus();
}

void Store::Impl::UndoPastCache(const Error& why, const DigestsBefore& before) {
  NoteFailure(why);
  RollBack();
  cache.Clear();
  for (size_t i = 0; i < tables.size(); ++i) {
    tables[i]->digest = before.digests[i];
    tables[i]->tombstones = before.tombstones[i];
  }
}

void Store::Impl::IgnoreChecks(bool ignore) {
  const bool any = std::any_of(tables.begin(), tables.end(),
                               [](const auto& table) { return table->has_check(); });
  if (any) (void)db->Exec(StrCat("PRAGMA ignore_check_constraints = ", ignore ? 1 : 0));
}

void Store::Impl::KeepFewPages(bool few) {
  constexpr int64_t kFewKib = 16 * 1024;
  const int64_t kib = options.limits.page_cache_kib;
  (void)db->Exec(StrCat("PRAGMA cache_size = -", few ? std::min(kib, kFewKib) : kib));
}

Status Store::Impl::CommitLarge(const crdt::Manifest& manifest, const crdt::Stamp& stamp) {
  next_seq = last_seq;
  RETURN_IF_ERROR(AppendLog(stamp, LogKind::kLarge, crdt::EncodeManifest(manifest), {}));
  log_bytes_uncommitted += manifest.bytes;
  crdt::VersionSet all = applied;
  all.Add(manifest.header.id);
  RETURN_IF_ERROR(SaveCheckpoint(all, std::max(newest_applied, manifest.header.time), next_seq));
  RETURN_IF_ERROR(IndexLogTail());
  return Commit("committing a large transaction");
}

void Store::Impl::AdoptLarge(const crdt::Manifest& manifest, CommitEffects* effects) {
  const ChangeId& id = manifest.header.id;
  received.Add(id);
  applied.Add(id);
  hlc.Observe(manifest.header.time);
  newest_applied = std::max(newest_applied, manifest.header.time);
  actors_saved = actors.size();
  last_seq = checkpoint_seq = next_seq;
  NoteAcked();
  for (const auto& table : tables) table->digest_dirty = false;
  effects->last_seq = last_seq;
  effects->rows_unknown = true;
}

Status Store::Impl::AddChunk(const ChangeId& id, uint64_t number, std::string_view bytes) {
  insert_chunk.BindChange(id);
  insert_chunk.BindInt(3, static_cast<int64_t>(number));
  insert_chunk.BindBlob(4, bytes);
  return insert_chunk.Run();
}

// ---- Staging -----------------------------------------------------------------------------------

Status Store::Impl::NoteStaged(const ChangeId& id, std::string_view manifest) {
  ASSIGN_OR_RETURN(Stmt insert,
                   db->Prepare("INSERT OR REPLACE INTO __patina_large VALUES (?, ?, ?)", false));
  insert.BindChange(id);
  insert.BindBlob(3, manifest);
  return insert.Run();
}

Status Store::Impl::ForgetStaged(const ChangeId& id) {
  ASSIGN_OR_RETURN(
      Stmt forget,
      db->Prepare("DELETE FROM __patina_large WHERE actor = ? AND version = ?", false));
  forget.BindChange(id);
  return forget.Run();
}

Status Store::Impl::DropLooseChunks() {
  const auto none = [](std::string_view table) {
    return StrCat(" AND NOT EXISTS (SELECT 1 FROM ", table,
                  " o WHERE o.actor = c.actor AND o.version = c.version)");
  };
  return db->Exec(StrCat(
      "DELETE FROM __patina_chunk WHERE (actor, version) IN (SELECT DISTINCT actor, version FROM "
      "__patina_chunk c WHERE NOT ",
      kChunkIsLogged, none("__patina_large"), none("__patina_set_aside"), ")"));
}

Status Store::Impl::CarryChunks(const ChangeId& id, Impl* to) {
  RETURN_IF_ERROR(to->ForgetStaged(id));
  uint64_t number = 0;
  return ForEachChunk(id,
                      [&](const std::string& bytes) { return to->AddChunk(id, number++, bytes); });
}

Status Store::Impl::LoadStaged() {
  std::vector<crdt::Manifest> manifests;
  {
    ASSIGN_OR_RETURN(Stmt select, db->Prepare("SELECT manifest FROM __patina_large", false));
    while (true) {
      ASSIGN_OR_RETURN(const bool row, select.Step());
      if (!row) break;
      ASSIGN_OR_RETURN(crdt::Manifest manifest, crdt::DecodeManifest(select.ColumnBytes(0)));
      manifests.push_back(manifest);
    }
  }
  for (const crdt::Manifest& manifest : manifests) {
    large_staged[manifest.header.id] = manifest;
    large_staged_bytes += manifest.bytes;
  }
  return DropWhatCameOtherwise();
}

/// A transfer may bring what is staged.
Status Store::Impl::DropWhatCameOtherwise() {
  std::vector<ChangeId> here;
  for (const auto& [id, manifest] : large_staged) {
    if (applied.Contains(id)) here.push_back(id);
  }
  for (const ChangeId& id : here) RETURN_IF_ERROR(DropStaged(id));
  return OkStatus();
}

Status Store::Impl::InOneCommit(std::string_view what, const std::function<Status()>& write) {
  auto all = [&]() -> Status {
    RETURN_IF_ERROR(begin.Run());
    RETURN_IF_ERROR(write());
    return Commit(what);
  };
  Status status = all();
  if (!status.ok()) {
    NoteFailure(status.error());
    RollBack();
  }
  return status;
}

Status Store::Impl::DropStaged(const ChangeId& id) {
  const auto drop = [&]() -> Status {
    RETURN_IF_ERROR(ForgetStaged(id));
    return DropLooseChunks();
  };
  RETURN_IF_ERROR(InOneCommit("dropping staged chunks", drop));
  Unstage(id);
  return OkStatus();
}

Status Store::Impl::DropTooOld(const ChangeId& id) {
  ++stats.too_old;
  return large_staged.contains(id) ? DropStaged(id) : OkStatus();
}

void Store::Impl::Unstage(const ChangeId& id) {
  const auto found = large_staged.find(id);
  if (found == large_staged.end()) return;
  large_staged_bytes -= found->second.bytes;
  large_staged.erase(found);
}

/// Versions that are not complete make room for the one that is asked for now: they are not
/// received, and can be fetched again. Parked ones stay.
Status Store::Impl::MakeRoom(const crdt::Manifest& manifest) {
  const uint64_t most = options.limits.large_staged_bytes_max;
  while (large_staged_bytes + manifest.bytes > most) {
    const auto other =
        std::find_if(large_staged.begin(), large_staged.end(),
                     [&](const auto& entry) { return !parked.contains(entry.first); });
    if (other == large_staged.end()) {
      ++stats.large_refused;
      return ResourceExhausted(StrCat("a large transaction of ", manifest.bytes,
                                      " bytes has no room beside ", large_staged_bytes,
                                      " staged bytes (limit large_staged_bytes_max, ", most, ")"));
    }
    RETURN_IF_ERROR(DropStaged(other->first));
  }
  return OkStatus();
}

Result<uint64_t> Store::Impl::FirstMissingChunk(const ChangeId& id) {
  ASSIGN_OR_RETURN(Stmt numbers,
                   db->Prepare("SELECT number FROM __patina_chunk WHERE actor = ? AND "
                               "version = ? ORDER BY number",
                               false));
  numbers.BindChange(id);
  for (uint64_t next = 0;; ++next) {
    ASSIGN_OR_RETURN(const bool row, numbers.Step());
    if (!row || static_cast<uint64_t>(numbers.ColumnInt(0)) != next) return next;
  }
}

Result<uint64_t> Store::Impl::StageLarge(std::string_view bytes) {
  RETURN_IF_ERROR(MayWrite());
  ASSIGN_OR_RETURN(const crdt::Manifest manifest, crdt::DecodeManifest(bytes));
  const ChangeId& id = manifest.header.id;
  if (received.Contains(id)) return manifest.chunks;
  if (manifest.header.time < horizon) {
    RETURN_IF_ERROR(DropTooOld(id));
    return Error{kNeedsSnapshot, BeforeHorizon(manifest.header.time)};
  }
  const StoreLimits& limits = options.limits;
  if (manifest.rows > limits.large_transaction_rows_max ||
      manifest.bytes > limits.large_transaction_bytes_max) {
    ++stats.large_refused;
    return ResourceExhausted(StrCat(
        "a large transaction of ", manifest.rows, " rows and ", manifest.bytes, " bytes; at most ",
        limits.large_transaction_rows_max, " rows (limit large_transaction_rows_max) and ",
        limits.large_transaction_bytes_max, " bytes (limit large_transaction_bytes_max)"));
  }
  if (const auto found = large_staged.find(id); found != large_staged.end()) {
    if (crdt::EncodeManifest(found->second) == bytes) return FirstMissingChunk(id);
    RETURN_IF_ERROR(DropStaged(id));
  }
  RETURN_IF_ERROR(MakeRoom(manifest));
  RETURN_IF_ERROR(InOneCommit("noting a large transaction", [&] { return NoteStaged(id, bytes); }));
  large_staged[id] = manifest;
  large_staged_bytes += manifest.bytes;
  return 0;
}

Status Store::Impl::StageLargeChunk(const ChangeId& id, uint64_t number, std::string_view bytes) {
  RETURN_IF_ERROR(MayWrite());
  const auto found = large_staged.find(id);
  if (found == large_staged.end()) return FailedPrecondition("no such large transaction is staged");
  const crdt::Manifest& manifest = found->second;
  ASSIGN_OR_RETURN(const crdt::ChangesetHeader header,
                   crdt::ValidateChangeset(bytes, options.limits.changeset));
  if (number >= manifest.chunks || header.id != id || header.time != manifest.header.time ||
      header.scope != manifest.header.scope) {
    return InvalidArgument(StrCat("chunk ", number, " is not of this large transaction"));
  }
  KeepFewPages(true);  // chunks come by once
  Status staged = InOneCommit("staging a chunk", [&] { return AddChunk(id, number, bytes); });
  KeepFewPages(false);
  return staged;
}

// ---- Applying ----------------------------------------------------------------------------------

/// Hands over the chunks in order, one in memory at a time, up to the first that is missing:
/// whoever needs all counts them.
Status Store::Impl::ForEachChunk(const ChangeId& id,
                                 const std::function<Status(const std::string&)>& visit) {
  for (uint64_t number = 0;; ++number) {
    ASSIGN_OR_RETURN(const std::optional<std::string> bytes, ReadChunk(*db, id, number));
    if (!bytes) return OkStatus();
    RETURN_IF_ERROR(visit(*bytes));
    NoteProgress();
  }
}

Status Store::Impl::CheckChunks(const crdt::Manifest& manifest) {
  crdt::Manifest found;
  const auto count = [&](const std::string& bytes) -> Status {
    crdt::AddToManifest(bytes, &found);
    ASSIGN_OR_RETURN(const crdt::ChangesetReader reader, crdt::ChangesetReader::Open(bytes));
    found.rows += reader.rows();
    return OkStatus();
  };
  KeepFewPages(true);
  const Status counted = ForEachChunk(manifest.header.id, count);
  KeepFewPages(false);
  RETURN_IF_ERROR(counted);
  if (found.chunks < manifest.chunks) {
    return FailedPrecondition(StrCat("chunk ", found.chunks, " of ", manifest.chunks,
                                     " of a large transaction is missing"));
  }
  if (found.chunks == manifest.chunks && found.bytes == manifest.bytes &&
      found.hash == manifest.hash && found.rows == manifest.rows) {
    return OkStatus();
  }
  RETURN_IF_ERROR(DropStaged(manifest.header.id));
  return DataLoss("the chunks of a large transaction are not those that its manifest names");
}

Status Store::Impl::MergeChunk(const std::string& bytes, std::string* park_reason,
                               CommitEffects* effects) {
  if (!park_reason->empty()) return OkStatus();
  MergeBatch batch;
  crdt::ChangesetHeader header;
  RETURN_IF_ERROR(Decode(bytes, 0, &batch, park_reason, &header));
  RETURN_IF_ERROR(MergeInMemory(&batch, Loading::kFromFile));
  RETURN_IF_ERROR(WriteTransferred(&batch));
  for (size_t i = 0; i < batch.work_count(); ++i) {
    if (batch.work(i).changed) NoteTable(effects, batch.work(i).table);
  }
  cache.Clear();  // what was loaded is as it was before
  large_rows += batch.ops.size();
  return OkStatus();
}

Status Store::Impl::ApplyLarge(const crdt::Manifest& manifest, std::string* park_reason,
                               CommitEffects* effects) {
  const ChangeId& id = manifest.header.id;
  DigestsBefore before;
  RETURN_IF_ERROR(BeginPastCache(&before));
  const crdt::ActorIndex known_actors = actors.size();
  IgnoreChecks(true);
  KeepFewPages(true);
  const auto merge_chunk = [&](const std::string& bytes) -> Status {
    return MergeChunk(bytes, park_reason, effects);
  };
  auto merge = [&]() -> Status {
    const Spilling spilling(*db);
    RETURN_IF_ERROR(begin.Run());
    RETURN_IF_ERROR(ForEachChunk(id, merge_chunk));
    if (!park_reason->empty()) return FailedPrecondition(*park_reason);
    const crdt::Stamp stamp{manifest.header.time, id.version, actors.Intern(id.actor)};
    RETURN_IF_ERROR(ForgetStaged(id));
    if (parked.contains(id)) {
      delete_parked.BindInt(1, stamp.actor);
      delete_parked.BindInt(2, static_cast<int64_t>(id.version));
      RETURN_IF_ERROR(delete_parked.Run());
    }
    return CommitLarge(manifest, stamp);
  };
  Status status = merge();
  large_rows = 0;
  KeepFewPages(false);
  IgnoreChecks(false);
  if (!status.ok()) {
    UndoPastCache(status.error(), before);
    ForgetActors(known_actors);
    effects->tables_changed.assign(tables.size(), false);
    if (status.error().code != Errc::kFailedPrecondition) return status;
    // What it says, or what only SQLite saw: it waits for another schema.
    *park_reason = status.error().message;
    return OkStatus();
  }
  if (const auto found = parked.find(id); found != parked.end()) {
    parked_bytes -= found->second.bytes;
    parked.erase(found);
  }
  Unstage(id);
  AdoptLarge(manifest, effects);
  ++stats.large_merged;
  ++stats.changesets_applied;
  return OkStatus();
}

Status Store::Impl::ParkLarge(const crdt::Manifest& manifest, const std::string& reason) {
  const std::string bytes = crdt::EncodeManifest(manifest);
  const crdt::ActorIndex known_actors = actors.size();
  Status status = InOneCommit("parking a large transaction", [&]() -> Status {
    RETURN_IF_ERROR(Park(manifest.header, bytes, reason));
    return SaveActors();
  });
  if (!status.ok()) {
    ForgetActors(known_actors);
    return status;
  }
  actors_saved = actors.size();
  parked[manifest.header.id] = {manifest.header.time, reason, bytes.size(),
                                reason.starts_with("from the future")};
  parked_bytes += bytes.size();
  received.Add(manifest.header.id);
  return OkStatus();
}

Status Store::Impl::SettleLarge(const ChangeId& id, std::vector<MergeOutcome>* outcome,
                                CommitEffects* effects) {
  const auto found = large_staged.find(id);
  if (found == large_staged.end())
    return DataLoss("the chunks of a parked large transaction are missing");
  const crdt::Manifest manifest = found->second;
  MergeOutcome one{id, MergeState::kApplied, ""};
  RETURN_IF_ERROR(ApplyLarge(manifest, &one.reason, effects));
  if (!one.reason.empty()) one.state = MergeState::kParked;
  *outcome = {std::move(one)};
  return OkStatus();
}

Result<MergeOutcome> Store::Impl::MergeLarge(const ChangeId& id, CommitEffects* effects) {
  BeginEffects(effects);
  RETURN_IF_ERROR(MayWrite());
  MergeOutcome outcome{id, MergeState::kDuplicate, ""};
  if (received.Contains(id)) {
    ++stats.duplicates;
    return outcome;
  }
  const auto found = large_staged.find(id);
  if (found == large_staged.end()) return FailedPrecondition("no such large transaction is staged");
  const crdt::Manifest manifest = found->second;
  RETURN_IF_ERROR(CheckChunks(manifest));
  if (manifest.header.time < horizon) {
    outcome.state = MergeState::kTooOld;
    outcome.reason = BeforeHorizon(manifest.header.time);
    RETURN_IF_ERROR(DropTooOld(id));
    return outcome;
  }
  if (FromTheFuture(manifest.header.time)) {
    outcome.reason = "from the future: " + manifest.header.time.ToString();
  } else {
    RETURN_IF_ERROR(ApplyLarge(manifest, &outcome.reason, effects));
  }
  outcome.state = outcome.reason.empty() ? MergeState::kApplied : MergeState::kParked;
  if (outcome.state == MergeState::kApplied) return outcome;
  if (ParkedIsFull(1, 0)) {
    ++stats.parked_refused;
    outcome.state = MergeState::kRejected;
    return outcome;
  }
  RETURN_IF_ERROR(ParkLarge(manifest, outcome.reason));
  return outcome;
}

}  // namespace patina::storage

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "storage/store_impl.h"

// Merging: a batch of changesets is folded by row in memory, each row is written once, one commit
// for all.

namespace patina::storage {
namespace {

constexpr size_t kSettledAtOnce = 500;  // one commit each, and the writer has others to serve

/// To look for a row that is not there costs an eighth of what it takes to merge its INSERT, and
/// nearly all that peers insert is new. So it is inserted at once; when it was there, the batch is
/// rolled back and merged again with a look first, as so many batches after it are.
constexpr size_t kCarefulMerges = 64;

}  // namespace

Status Store::Impl::LoadWork(MergeWork* work, MergeBatch* batch, Loading loading) {
  TableIo& table = *tables[work->table];
  work->cached = cache.Find(work->table, work->key, work->key_hash);
  if (work->cached != nullptr) {
    ++cache.hits;
  } else {
    ++cache.misses;
    work->assumed =
        loading == Loading::kAssumeAbsent && work->begins_alive && table.tombstones == 0;
    CachedRow row;
    if (work->assumed) {
      row = table.Absent(work->key, work->key_hash);
    } else {
      ASSIGN_OR_RETURN(
          row, table.Load(work->key, work->key_hash, actors, loading == Loading::kWithDead));
    }
    work->cached = cache.Insert(std::move(row));
  }
  work->next = *work->cached;
  work->first_cell = static_cast<uint32_t>(batch->cells.size());
  CHECK(crdt::AppendUnpacked(work->cached->values, crdt::kMaxColumns, &batch->cells));
  return OkStatus();
}

Status Store::Impl::LoadWorks(MergeBatch* batch, Loading loading) {
  for (size_t i = 0; i < batch->work_count(); ++i) {
    RETURN_IF_ERROR(LoadWork(&batch->work(i), batch, loading));
  }
  return OkStatus();
}

Status Store::Impl::MergeInMemory(MergeBatch* batch, Loading loading) {
  batch->FoldByRow();
  RETURN_IF_ERROR(LoadWorks(batch, loading));
  for (const MergeOp& op : batch->ops) MergeOpIntoWork(op, batch);
  for (size_t i = 0; i < batch->work_count(); ++i) FinishWork(&batch->work(i), batch);
  return OkStatus();
}

void Store::Impl::MergeOpIntoWork(const MergeOp& op, MergeBatch* batch) {
  MergeWork& work = batch->work_of(op);
  if (options.mutant == Mutant::kReplayWithoutStamps && capture == nullptr &&
      op.says != crdt::Says::kNothing) {
    work.next.clock = crdt::RowClock();
  }
  const crdt::ColumnIndex* columns = batch->columns.data() + op.first;
  const crdt::MergeEffect effect =
      work.next.clock.Merge({op.stamp, op.says, columns, op.count}, actors);
  if (effect.Nothing()) {
    stats.cells_lost += op.count;
    return;
  }
  work.changed = true;
  work.touched |= effect.taken | effect.reset;
  crdt::ValueView* cells = batch->cells.data() + work.first_cell;
  if (effect.reset.any()) {
    const Table& table = schema.tables[op.table];
    for (size_t i = 0; i < table.columns.size(); ++i) {
      if (effect.reset.test(i)) cells[i] = table.columns[i].default_value;
    }
  }
  for (uint32_t i = 0; i < op.count; ++i) {
    if (effect.taken.test(columns[i])) {
      cells[columns[i]] = batch->values[op.first + i];
      // A default that the stored row is too short to hold must be stored once it is stamped:
      // capture takes the hook's NULL of a stamped cell for a NULL.
      if (tables[op.table]->HasLateDefault(columns[i])) work.stored.set(columns[i]);
    } else {
      ++stats.cells_lost;
    }
  }
}

void Store::Impl::FinishWork(MergeWork* work, MergeBatch* batch) {
  if (!work->changed) return;
  const std::span<const crdt::ValueView> cells = CellsOf(*work, *batch);
  ByteReader before(work->cached->values);
  before.Varint();
  for (size_t i = 0; i < cells.size(); ++i) {
    const crdt::ValueView value = crdt::DecodeValue(before);
    if (work->touched.test(i) && !(value == cells[i])) work->written.set(i);
  }
  if (work->written.none()) return;
  work->next.values.clear();
  ByteWriter out(&work->next.values);
  out.Varint(cells.size());
  for (const crdt::ValueView& value : cells) crdt::EncodeValue(value, out);
}

Status Store::Impl::WriteWork(MergeWork* work, const MergeBatch& batch) {
  const bool alive = work->next.clock.alive();
  if (work->assumed && !alive) return FailedPrecondition("nothing shows that the row was absent");
  if (!work->changed) return OkStatus();
  TableIo& table = *tables[work->table];
  if (work->cached->present && alive) {
    return table.Update(work->next, work->written | work->stored, CellsOf(*work, batch));
  }
  if (work->cached->present) {
    RETURN_IF_ERROR(table.Delete(work->next));
    work->next.present = false;
    work->next.rowid = 0;
    if (work->next.clock.CellCount() == 0) return OkStatus();
    // Cells later than the DELETE have left the user's table, and with the row goes the way to its
    // clock: a replay of the log could not find them again, so the tombstone is written now.
    work->tombstone_is_new = !work->next.dead_in_file;
    const std::optional<int64_t> clock_rowid = work->next.clock_rowid;
    Status status = table.WriteClock(&work->next);
    work->next.clock_rowid = clock_rowid;  // what is there goes at the checkpoint, as ever
    return status;
  }
  if (!alive) return OkStatus();
  RETURN_IF_ERROR(table.Insert(&work->next, CellsOf(*work, batch)));
  work->next.present = true;
  return OkStatus();
}

Status Store::Impl::WriteBatch(MergeBatch* batch) {
  for (size_t i = 0; i < batch->work_count(); ++i) {
    RETURN_IF_ERROR(WriteWork(&batch->work(i), *batch));
  }
  return OkStatus();
}

Result<std::string> Store::Impl::EffectOf(const MergeBatch& batch, uint32_t changeset,
                                          std::string_view bytes) {
  if (std::binary_search(batch.discarding.begin(), batch.discarding.end(), changeset))
    return EffectOfDiscarding(batch, changeset, bytes);
  EffectWriter effect;
  auto op =
      std::lower_bound(batch.ops.begin(), batch.ops.end(), changeset,
                       [](const MergeOp& a, uint32_t position) { return a.changeset < position; });
  for (; op != batch.ops.end() && op->changeset == changeset; ++op) {
    const crdt::RowClock& clock = batch.work_of(*op).next.clock;
    if (op->says != crdt::Says::kNothing) effect.Add(clock.existence() == op->stamp);
    for (uint32_t i = 0; i < op->count; ++i)
      effect.Add(clock.Cell(batch.columns[op->first + i]) == op->stamp);
  }
  return std::move(effect).Finish();
}

Status Store::Impl::Park(const crdt::ChangesetHeader& header, std::string_view bytes,
                         const std::string& reason) {
  insert_parked.BindInt(1, actors.Intern(header.id.actor));
  insert_parked.BindInt(2, static_cast<int64_t>(header.id.version));
  insert_parked.BindInt(3, static_cast<int64_t>(header.time.bits));
  insert_parked.BindText(4, reason);
  insert_parked.BindInt(5, reason.starts_with("from the future") ? 1 : 0);
  insert_parked.BindBlob(6, bytes);
  return insert_parked.Run();
}

Status Store::Impl::LogMerged(const MergeBatch& batch, std::span<const SharedBytes> changesets,
                              const std::vector<MergeOutcome>& outcomes,
                              const std::vector<crdt::ChangesetHeader>& headers) {
  next_seq = last_seq;
  for (uint32_t i = 0; i < changesets.size(); ++i) {
    if (outcomes[i].state == MergeState::kParked) {
      RETURN_IF_ERROR(Park(headers[i], *changesets[i], outcomes[i].reason));
    }
    if (outcomes[i].state != MergeState::kApplied) continue;
    const crdt::Stamp stamp{headers[i].time, headers[i].id.version,
                            actors.Intern(headers[i].id.actor)};
    ASSIGN_OR_RETURN(const std::string effect, EffectOf(batch, i, *changesets[i]));
    if (options.mutant != Mutant::kUnparkedNotLogged || !parked.contains(headers[i].id))
      RETURN_IF_ERROR(AppendLog(stamp, LogKind::kChangeset, *changesets[i], effect));
    if (parked.contains(headers[i].id)) {
      delete_parked.BindInt(1, stamp.actor);
      delete_parked.BindInt(2, static_cast<int64_t>(stamp.version));
      RETURN_IF_ERROR(delete_parked.Run());
    }
  }
  return SaveActors();
}

uint64_t Store::Impl::DigestChange(const MergeWork& work) {
  RowHasher& hasher = hashers[work.table];
  const CachedRow &before = *work.cached, &after = work.next;
  if (!before.clock.alive() && !after.clock.alive()) return 0;
  if (before.clock.alive() != after.clock.alive() ||
      !(before.clock.existence() == after.clock.existence())) {
    return hasher.Hash(work.key_hash, after.clock, after.values, actors) -
           hasher.Hash(work.key_hash, before.clock, before.values, actors);
  }
  return hasher.HashOfCells(work.key_hash, after.clock, after.values, work.touched, actors) -
         hasher.HashOfCells(work.key_hash, before.clock, before.values, work.touched, actors);
}

void Store::Impl::AdoptWork(MergeWork* work, uint64_t seq, CommitEffects* effects) {
  if (!work->changed) return;
  CachedRow& row = *work->cached;
  TableIo& table = *tables[work->table];
  if (work->tombstone_is_new) ++table.tombstones;
  const bool alive = work->next.present;
  const uint64_t change = DigestChange(*work);
  AddDigest(table, work->key_hash, change, row.present, alive);
  work->next.AddToSeal(change);
  if (work->written.any() || alive != row.present) {
    NoteTable(effects, work->table);
    AddEffect(effects, work->table, seq, row.key, work->key_hash, row.present, row.values, alive,
              work->next.values);
  }
  const size_t bytes_before = RowCache::BytesOf(row);
  work->next.dirty = row.dirty;
  std::swap(row, work->next);  // both keep their memory
  cache.Resized(bytes_before, row);
  cache.MarkDirty(&row);
  ++stats.rows_merged;
}

bool Store::Impl::ForgetAssumed(MergeBatch* batch) {
  bool any = false;
  for (size_t i = 0; i < batch->work_count(); ++i) {
    MergeWork& work = batch->work(i);
    if (!work.assumed) continue;
    cache.Forget(work.cached);
    work.cached = nullptr;
    work.assumed = false;
    any = true;
  }
  return any;
}

Status Store::Impl::WriteMerged(MergeBatch* batch, std::span<const SharedBytes> changesets,
                                Loading loading, const std::vector<MergeOutcome>& outcomes,
                                const std::vector<crdt::ChangesetHeader>& headers) {
  const auto write = [&]() -> Status {
    // The loads too: outside of a transaction each would lock and unlock the file.
    RETURN_IF_ERROR(begin.Run());
    RETURN_IF_ERROR(MergeInMemory(batch, loading));
    RETURN_IF_ERROR(WriteBatch(batch));
    RETURN_IF_ERROR(LogMerged(*batch, changesets, outcomes, headers));
    return Commit("merging");
  };
  const uint64_t cells_lost = stats.cells_lost;
  Status status = write();
  if (status.ok()) return status;
  const bool assumed = ForgetAssumed(batch);
  if (assumed && status.error().code == Errc::kFailedPrecondition) {
    RollBack();
    if (broken) return status;
    careful_merges = kCarefulMerges;
    ++stats.merges_run_again;
    stats.cells_lost = cells_lost;
    return WriteMerged(batch, changesets, Loading::kFromFile, outcomes, headers);
  }
  NoteFailure(status.error());
  RollBack();
  return status;
}

void Store::Impl::SetCheckConstraints(bool on, const MergeBatch& batch) {
  const bool any = std::any_of(batch.ops.begin(), batch.ops.end(),
                               [&](const MergeOp& op) { return tables[op.table]->has_check(); });
  if (any)
    (void)db->Exec(on ? "PRAGMA ignore_check_constraints = 0"
                      : "PRAGMA ignore_check_constraints = 1");
}

void Store::Impl::NoteMerged(MergeBatch* batch, bool settling,
                             const std::vector<MergeOutcome>& outcomes,
                             const std::vector<crdt::ChangesetHeader>& headers,
                             CommitEffects* effects) {
  last_seq = next_seq;
  NoteAcked();
  for (size_t i = 0; i < outcomes.size(); ++i) {
    const MergeOutcome& outcome = outcomes[i];
    if (outcome.state == MergeState::kDuplicate) ++stats.duplicates;
    if (outcome.state == MergeState::kRejected) ++stats.rejected;
    if (outcome.state == MergeState::kTooOld) ++stats.too_old;
    if (outcome.state == MergeState::kApplied) {
      ++stats.changesets_applied;
      received.Add(outcome.id);
      applied.Add(outcome.id);
      hlc.Observe(headers[i].time);
      newest_applied = std::max(newest_applied, headers[i].time);
      if (const auto found = parked.find(outcome.id); found != parked.end()) {
        parked_bytes -= found->second.bytes;
        parked.erase(found);
      }
    }
    if (outcome.state == MergeState::kParked && !settling) received.Add(outcome.id);
    if (outcome.state == MergeState::kParked && options.mutant == Mutant::kParkedIsApplied)
      applied.Add(outcome.id);
  }
  for (size_t i = 0; i < batch->work_count(); ++i) {
    AdoptWork(&batch->work(i), last_seq, effects);
  }
  effects->last_seq = last_seq;
  cache.EvictIfNeeded();
}

Status Store::Impl::CommitBatch(MergeBatch* batch, std::span<const SharedBytes> changesets,
                                bool settling, std::vector<MergeOutcome>* outcomes,
                                const std::vector<crdt::ChangesetHeader>& headers,
                                CommitEffects* effects) {
  const bool work =
      std::any_of(outcomes->begin(), outcomes->end(), [](const MergeOutcome& outcome) {
        return outcome.state == MergeState::kApplied || outcome.state == MergeState::kParked;
      });
  if (!work) {
    next_seq = last_seq;
    NoteMerged(batch, settling, *outcomes, headers, effects);
    return OkStatus();
  }
  SetCheckConstraints(false, *batch);
  Loading loading = Loading::kAssumeAbsent;
  if (careful_merges > 0) {
    --careful_merges;
    loading = Loading::kFromFile;
  }
  const Status status = WriteMerged(batch, changesets, loading, *outcomes, headers);
  SetCheckConstraints(true, *batch);
  RETURN_IF_ERROR(status);
  actors_saved = actors.size();
  for (size_t i = 0; i < outcomes->size(); ++i) {
    if ((*outcomes)[i].state != MergeState::kParked || settling) continue;
    const std::string& reason = (*outcomes)[i].reason;
    parked[(*outcomes)[i].id] = {headers[i].time, reason, changesets[i]->size(),
                                 reason.starts_with("from the future")};
    parked_bytes += changesets[i]->size();
  }
  NoteMerged(batch, settling, *outcomes, headers, effects);
  return OkStatus();
}

void Store::Impl::ForgetActors(crdt::ActorIndex from) {
  actors.Truncate(from);
  for (RowHasher& hasher : hashers) hasher.ForgetActors(from);
}

Status Store::Impl::MergeOnce(std::span<const SharedBytes> changesets, bool settling,
                              std::vector<MergeOutcome>* outcomes, CommitEffects* effects) {
  outcomes->assign(changesets.size(), MergeOutcome());
  std::vector<crdt::ChangesetHeader> headers(changesets.size());
  merge_batch.Clear();
  const crdt::ActorIndex known_actors = actors.size();
  Triage(changesets, settling, &merge_batch, outcomes, &headers);
  Status status = CommitBatch(&merge_batch, changesets, settling, outcomes, headers, effects);
  if (!status.ok()) ForgetActors(known_actors);
  return status;
}

Result<std::vector<MergeOutcome>> Store::Impl::Merge(std::span<const SharedBytes> changesets,
                                                     CommitEffects* effects) {
  BeginEffects(effects);
  RETURN_IF_ERROR(MayWrite());
  std::vector<MergeOutcome> outcomes;
  Status status = MergeOnce(changesets, false, &outcomes, effects);
  if (status.ok()) return outcomes;
  const bool constraint = status.error().code == Errc::kFailedPrecondition;
  if (!constraint || broken) return status.error();
  // One of them does not fit the tables in a way that only SQLite saw: each alone, and that one is
  // parked.
  outcomes.clear();
  for (size_t i = 0; i < changesets.size(); ++i) {
    std::vector<MergeOutcome> one;
    Status alone = MergeOnce(changesets.subspan(i, 1), false, &one, effects);
    if (!alone.ok()) {
      if (alone.error().code != Errc::kFailedPrecondition) return alone.error();
      const auto header = crdt::PeekChangesetHeader(*changesets[i]);
      CHECK(header.ok());
      MergeBatch none;
      one = {{header->id, MergeState::kParked, alone.error().message}};
      if (ParkedIsFull(1, changesets[i]->size())) {
        one[0].state = MergeState::kRejected;
        ++stats.parked_refused;
      }
      RETURN_IF_ERROR(
          CommitBatch(&none, changesets.subspan(i, 1), false, &one, {*header}, effects));
    }
    outcomes.push_back(std::move(one[0]));
  }
  return outcomes;
}

Result<std::vector<ChangeId>> Store::Impl::SettleParked(CommitEffects* effects) {
  BeginEffects(effects);
  std::vector<ChangeId> settled;
  if (parked.empty() || !MayWrite().ok()) return settled;
  std::vector<ChangeId> due;
  for (const auto& [id, change] : parked) {
    if (change.future && !FromTheFuture(change.time)) due.push_back(id);
  }
  if (due.empty()) return settled;
  std::sort(due.begin(), due.end());
  ASSIGN_OR_RETURN(
      Stmt read,
      db->Prepare("SELECT bytes FROM __patina_parked WHERE actor = ? AND version = ?", false));
  if (due.size() > kSettledAtOnce) due.resize(kSettledAtOnce);  // the others next time
  for (const ChangeId& id : due) {
    std::vector<SharedBytes> bytes;
    {
      StmtScope scope(read);
      read.BindInt(1, actors.Intern(id.actor));
      read.BindInt(2, static_cast<int64_t>(id.version));
      ASSIGN_OR_RETURN(const bool found, read.Step());
      if (!found) return DataLoss("a parked changeset is missing");
      bytes.push_back(std::make_shared<const std::string>(read.ColumnBytes(0)));
    }
    std::vector<MergeOutcome> outcome;
    Status status = crdt::IsManifest(*bytes[0]) ? SettleLarge(id, &outcome, effects)
                                                : MergeOnce(bytes, true, &outcome, effects);
    if (!status.ok() && status.error().code != Errc::kFailedPrecondition) return status.error();
    if (status.ok() && outcome[0].state == MergeState::kApplied) {
      settled.push_back(id);
    } else if (const auto found = parked.find(id); found != parked.end()) {
      // Not its time any more, but what it says: it waits for another schema, at the next start.
      found->second.future = false;
      found->second.reason = status.ok() ? outcome[0].reason : status.error().message;
    }
  }
  return settled;
}

}  // namespace patina::storage

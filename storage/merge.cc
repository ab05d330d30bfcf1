#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "storage/store_impl.h"

// Merging: a batch of changesets is folded by row in memory, each row is written once, one commit
// for all.

namespace patina::storage {
namespace {

constexpr size_t kSettledAtOnce = 500;  // one commit each, and the writer has others to serve

}  // namespace

uint32_t Store::Impl::FindOrLoadWork(const MergeOp& op, MergeBatch* batch, bool join_dead,
                                     Status* status) {
  const auto next = static_cast<uint32_t>(batch->works.size());
  auto [found, is_new] = batch->index.try_emplace(CombineHash(op.key_hash, op.table), next);
  uint32_t* link = &found->second;
  if (!is_new) {
    while (*link != UINT32_MAX) {
      MergeWork& work = batch->works[*link];
      if (work.next.table == op.table && work.next.key == op.key) return *link;
      link = &work.next_same_hash;
    }
    *link = next;
  }
  MergeWork& work = batch->works.emplace_back();
  work.cached = cache.Find(op.table, op.key, op.key_hash);
  if (work.cached != nullptr) {
    ++cache.hits;
    work.next = *work.cached;
  } else {
    ++cache.misses;
    Result<CachedRow> loaded = tables[op.table]->Load(op.key, op.key_hash, actors, join_dead);
    if (!loaded.ok()) {
      *status = loaded.error();
      return next;
    }
    work.next = std::move(*loaded);
  }
  work.present_before = work.next.present;
  work.hash_before = hashers[op.table].Hash(op.key_hash, work.next.clock, work.next.values, actors);
  work.values_before = work.next.values;
  CHECK(crdt::UnpackValues(work.values_before, crdt::kMaxColumns, &work.values));
  return next;
}

Status Store::Impl::LoadWorks(MergeBatch* batch, bool join_dead) {
  batch->index.reserve(batch->ops.size());
  Status status = OkStatus();
  for (MergeOp& op : batch->ops) {
    op.work = FindOrLoadWork(op, batch, join_dead, &status);
    RETURN_IF_ERROR(status);
  }
  return OkStatus();
}

void Store::Impl::MergeOpIntoWork(const MergeOp& op, MergeBatch* batch) {
  MergeWork& work = batch->works[op.work];
  const crdt::ColumnIndex* columns = batch->columns.data() + op.first;
  const crdt::MergeEffect effect =
      work.next.clock.Merge({op.stamp, op.says, columns, op.count}, actors);
  if (effect.Nothing()) {
    stats.cells_lost += op.count;
    return;
  }
  work.changed = true;
  if (effect.reset.any()) {
    const Table& table = schema.tables[op.table];
    for (size_t i = 0; i < table.columns.size(); ++i) {
      if (effect.reset.test(i)) work.values[i] = table.columns[i].default_value;
    }
  }
  for (uint32_t i = 0; i < op.count; ++i) {
    if (effect.taken.test(columns[i])) {
      work.values[columns[i]] = batch->values[op.first + i];
      // A default that the stored row is too short to hold must be stored once it is stamped:
      // capture takes the hook's NULL of a stamped cell for a NULL.
      if (tables[op.table]->HasLateDefault(columns[i])) work.stored.set(columns[i]);
    } else {
      ++stats.cells_lost;
    }
  }
}

void Store::Impl::FinishWork(MergeWork* work) {
  if (!work->changed) return;
  // Compare before packing: the old views look into values_before.
  ByteReader before(work->values_before);
  before.Varint();
  for (size_t i = 0; i < work->values.size(); ++i) {
    if (!(crdt::DecodeValue(before) == work->values[i])) work->written.set(i);
  }
  if (work->written.any()) {
    std::string packed = crdt::PackValues(work->values);
    work->next.values = std::move(packed);
  }
}

Status Store::Impl::WriteWork(MergeWork* work) {
  if (!work->changed) return OkStatus();
  TableIo& table = *tables[work->next.table];
  const bool alive = work->next.clock.alive();
  if (work->present_before && alive) return table.Update(work->next, work->written | work->stored);
  if (work->present_before) {
    RETURN_IF_ERROR(table.Delete(work->next));
    work->next.present = false;
    work->next.rowid = 0;
    if (work->next.clock.CellCount() == 0) return OkStatus();
    // Cells later than the DELETE have left the user's table, and with the row goes the way to its
    // clock: a replay of the log could not find them again, so the tombstone is written now.
    work->tombstone_is_new = !work->next.dead_in_file;
    const int64_t clock_rowid = work->next.clock_rowid;
    Status status = table.WriteClock(&work->next);
    work->next.clock_rowid = clock_rowid;  // what is there goes at the checkpoint, as ever
    return status;
  }
  if (!alive) return OkStatus();
  RETURN_IF_ERROR(table.Insert(&work->next));
  work->next.present = true;
  return OkStatus();
}

Status Store::Impl::WriteBatch(MergeBatch* batch) {
  std::vector<MergeWork*> order;
  order.reserve(batch->works.size());
  for (MergeWork& work : batch->works) order.push_back(&work);
  std::sort(order.begin(), order.end(), [](const MergeWork* a, const MergeWork* b) {
    return a->next.table != b->next.table ? a->next.table < b->next.table
                                          : a->next.key < b->next.key;
  });
  for (MergeWork* work : order) RETURN_IF_ERROR(WriteWork(work));
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
    const crdt::RowClock& clock = batch.works[op->work].next.clock;
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
    RETURN_IF_ERROR(AppendLog(stamp, LogKind::kChangeset, *changesets[i], effect));
    if (parked.contains(headers[i].id)) {
      delete_parked.BindInt(1, stamp.actor);
      delete_parked.BindInt(2, static_cast<int64_t>(stamp.version));
      RETURN_IF_ERROR(delete_parked.Run());
    }
  }
  return SaveActors();
}

void Store::Impl::AdoptWork(MergeWork* work, uint64_t seq, CommitEffects* effects) {
  if (!work->changed) {
    if (work->cached == nullptr) cache.Insert(std::move(work->next));
    return;
  }
  TableIo& table = *tables[work->next.table];
  if (work->tombstone_is_new) ++table.tombstones;
  const bool alive = work->next.present;
  const uint64_t hash_after = hashers[work->next.table].Hash(work->next.key_hash, work->next.clock,
                                                             work->next.values, actors);
  AddDigest(table, work->next.key_hash, work->hash_before, hash_after, work->present_before, alive);
  if (work->written.any() || alive != work->present_before) {
    NoteTable(effects, work->next.table);
    AddEffect(effects, work->next.table, seq, work->next.key, work->next.key_hash,
              work->present_before, work->values_before, alive, work->next.values);
  }
  CachedRow* row = work->cached;
  if (row == nullptr) {
    row = cache.Insert(std::move(work->next));
  } else {
    const size_t bytes_before = RowCache::BytesOf(*row);
    work->next.dirty = row->dirty;
    *row = std::move(work->next);
    cache.Resized(bytes_before, *row);
  }
  cache.MarkDirty(row);
  ++stats.rows_merged;
}

void Store::Impl::SetCheckConstraints(bool on, const MergeBatch& batch) {
  const bool any = std::any_of(batch.works.begin(), batch.works.end(), [&](const MergeWork& work) {
    return tables[work.next.table]->has_check();
  });
  if (any)
    (void)db->Exec(on ? "PRAGMA ignore_check_constraints = 0"
                      : "PRAGMA ignore_check_constraints = 1");
}

void Store::Impl::NoteMerged(MergeBatch* batch, bool settling,
                             const std::vector<MergeOutcome>& outcomes,
                             const std::vector<crdt::ChangesetHeader>& headers,
                             CommitEffects* effects) {
  last_seq = next_seq;
  for (size_t i = 0; i < outcomes.size(); ++i) {
    const MergeOutcome& outcome = outcomes[i];
    if (outcome.state == MergeState::kDuplicate) ++stats.duplicates;
    if (outcome.state == MergeState::kRejected) ++stats.rejected;
    if (outcome.state == MergeState::kApplied) {
      ++stats.changesets_applied;
      received.Add(outcome.id);
      applied.Add(outcome.id);
      hlc.Observe(headers[i].time);
      if (const auto found = parked.find(outcome.id); found != parked.end()) {
        parked_bytes -= found->second.bytes;
        parked.erase(found);
      }
    }
    if (outcome.state == MergeState::kParked && !settling) received.Add(outcome.id);
  }
  for (MergeWork& work : batch->works) AdoptWork(&work, last_seq, effects);
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
  auto write = [&]() -> Status {
    RETURN_IF_ERROR(begin.Run());
    RETURN_IF_ERROR(WriteBatch(batch));
    RETURN_IF_ERROR(LogMerged(*batch, changesets, *outcomes, headers));
    return Commit("merging");
  };
  Status status = write();
  if (!status.ok()) RollBack();
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

Status Store::Impl::MergeOnce(std::span<const SharedBytes> changesets, bool settling,
                              std::vector<MergeOutcome>* outcomes, CommitEffects* effects) {
  outcomes->assign(changesets.size(), MergeOutcome());
  std::vector<crdt::ChangesetHeader> headers(changesets.size());
  MergeBatch batch;
  const crdt::ActorIndex known_actors = actors.size();
  auto merge = [&]() -> Status {
    Triage(changesets, settling, &batch, outcomes, &headers);
    RETURN_IF_ERROR(LoadWorks(&batch, false));
    for (const MergeOp& op : batch.ops) MergeOpIntoWork(op, &batch);
    for (MergeWork& work : batch.works) FinishWork(&work);
    return CommitBatch(&batch, changesets, settling, outcomes, headers, effects);
  };
  Status status = merge();
  if (!status.ok()) actors.Truncate(known_actors);
  return status;
}

Result<std::vector<MergeOutcome>> Store::Impl::Merge(std::span<const SharedBytes> changesets,
                                                     CommitEffects* effects) {
  BeginEffects(effects);
  if (broken) return Unavailable("the store is broken; the agent must restart");
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
  if (parked.empty() || broken) return settled;
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
    Status status = MergeOnce(bytes, true, &outcome, effects);
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

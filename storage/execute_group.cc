#include <algorithm>
#include <utility>

#include "storage/store_impl.h"

// Local transactions of one commit: run one after the other, committed together, then made known to
// memory.

namespace patina::storage {
namespace {

/// A savepoint for each transaction of a group costs a copy of every page that it writes, and all
/// but few transactions succeed. So a group runs without ("lean"); when one fails, or has
/// savepoints of its own, which must not reach into another's, all is rolled back and runs again
/// with them, as so many groups after it do.
constexpr size_t kCarefulGroups = 64;

}  // namespace

Status Store::Impl::RunGroup(std::span<const Transaction> transactions,
                             std::vector<Result<Committed>>* results, std::vector<bool>* failed,
                             std::vector<Pending>* pending, bool* restart) {
  RETURN_IF_ERROR(begin.Run());
  next_version = version;
  next_seq = last_seq;
  log_bytes_uncommitted = 0;
  pending->clear();
  pending->resize(transactions.size());
  const Instant group_deadline = options.clock->Now() + options.limits.group_deadline;
  group_size = transactions.size();
  const bool alone = transactions.size() == 1;  // its savepoint is the transaction itself
  lean = !alone && careful_groups == 0;
  const bool careful = !alone && !lean;
  for (size_t i = 0; i < transactions.size(); ++i) {
    if (i > 0 && options.clock->Now() > group_deadline) {
      group_size = i;
      break;
    }
    if ((*failed)[i]) continue;
    if (careful) RETURN_IF_ERROR(savepoint.Run());
    const uint64_t version_before = next_version, seq_before = next_seq;
    Result<Pending> outcome = RunOne(transactions[i]);
    if (outcome.ok()) {
      (*pending)[i] = std::move(*outcome);
      if (careful) RETURN_IF_ERROR(release.Run());
      continue;
    }
    if (lean && db->InTransaction()) {
      capture->Discard();
      RollBack();
      careful_groups = kCarefulGroups;
      ++stats.groups_run_again;
      *restart = true;
      return OkStatus();
    }
    NoteFailure(outcome.error());
    capture->Discard();
    (*failed)[i] = true;
    (*results)[i] = outcome.error();
    ++stats.transactions_failed;
    if (!db->InTransaction()) {  // INSERT OR ROLLBACK and its like end the whole group: run the
                                 // others again
      *restart = true;
      return OkStatus();
    }
    next_version = version_before;
    next_seq = seq_before;
    if (alone) {
      RollBack();
      return OkStatus();
    }
    RETURN_IF_ERROR(rollback_to.Run());
    RETURN_IF_ERROR(release.Run());
  }
  if (in_same_commit) RETURN_IF_ERROR(in_same_commit());
  RETURN_IF_ERROR(SaveActors());
  RETURN_IF_ERROR(Commit("committing transactions"));
  actors_saved = actors.size();
  return OkStatus();
}

void Store::Impl::ApplyNet(const crdt::Stamp& stamp, NetChange& net) {
  CachedRow* const row = net.cached;
  RowHasher& hasher = hashers[row->table];
  const size_t bytes_before = RowCache::BytesOf(*row);
  if (net.had_row) row->values = std::move(net.old_values);  // maybe another client's, see seal
  crdt::ColumnMask written;
  for (const crdt::ColumnIndex column : net.columns) written.set(column);
  const bool updated = net.says == crdt::Says::kNothing && row->clock.alive();
  const auto hash = [&] {  // of an UPDATE: what it leaves as it was is not looked at
    return updated ? hasher.HashOfCells(row->key_hash, row->clock, row->values, written, actors)
                   : hasher.Hash(row->key_hash, row->clock, row->values, actors);
  };
  const uint64_t hash_before = hash();
  if (net.says != crdt::Says::kNothing || !net.columns.empty()) {
    row->clock.Merge({stamp, net.says, net.columns.data(), net.columns.size()}, actors);
    cache.MarkDirty(row);
  }
  if (net.moved() && !net.table->table().without_rowid) {
    row->clock_rowid = net.new_rowid;
    cache.MarkDirty(
        row);  // whoever had this rowid before may delete the clock there at the checkpoint
  }
  if (net.has_row) {
    row->values = std::move(net.new_values);
  } else {
    row->values = net.table->default_values();
  }
  row->present = net.has_row;
  row->rowid = net.new_rowid;
  const uint64_t hash_after = hash();
  row->AddToSeal(hash_after - hash_before);
  AddDigest(*net.table, row->key_hash, hash_after - hash_before, net.had_row, net.has_row);
  cache.Resized(bytes_before, *row);
  ++stats.rows_written;
}

void Store::Impl::ApplyLocal(Pending& pending, CommitEffects* effects) {
  for (NetChange& net : pending.net) {
    if (net.says != crdt::Says::kNothing || !net.columns.empty()) {  // not for one that only moved
      NoteTable(effects, net.table->number());
      AddEffect(effects, net.table->number(), pending.committed.seq, net.key, net.key_hash,
                net.had_row, net.old_values, net.has_row, net.new_values);
    }
    ApplyNet(pending.stamp, net);
  }
  if (pending.committed.version == 0) return;
  received.Add({actor, pending.committed.version});
  applied.Add({actor, pending.committed.version});
  newest_applied = std::max(newest_applied, pending.committed.time);
  ++stats.local_transactions;
}

std::vector<Result<Committed>> Store::Impl::Execute(std::span<const Transaction> transactions,
                                                    CommitEffects* effects) {
  const auto large = std::find_if(transactions.begin(), transactions.end(),
                                  [](const Transaction& transaction) { return transaction.large; });
  if (large != transactions.end()) {
    if (large == transactions.begin()) return {ExecuteLarge(*large, effects)};
    transactions = {transactions.begin(), large};
  }
  std::vector<Result<Committed>> results(transactions.size(),
                                         Result<Committed>(Aborted("not run")));
  BeginEffects(effects);
  std::vector<bool> failed(transactions.size());
  std::vector<Pending> pending;
  group = &pending;
  Status status = MayWrite();
  for (bool restart = true; status.ok() && restart;) {
    restart = false;
    status = RunGroup(transactions, &results, &failed, &pending, &restart);
  }
  group = nullptr;
  lean = false;
  if (careful_groups > 0) --careful_groups;
  if (!status.ok()) {
    NoteFailure(status.error());
    capture->Discard();
    RollBack();
    for (size_t i = 0; i < results.size(); ++i) {
      if (!failed[i]) results[i] = status.error();
    }
    return results;
  }
  version = next_version;
  last_seq = next_seq;
  NoteAcked();
  results.erase(results.begin() + static_cast<std::ptrdiff_t>(group_size), results.end());
  for (size_t i = 0; i < group_size; ++i) {
    if (failed[i]) continue;
    ApplyLocal(pending[i], effects);
    results[i] = std::move(pending[i].committed);
  }
  effects->last_seq = last_seq;
  cache.EvictIfNeeded();
  return results;
}

}  // namespace patina::storage

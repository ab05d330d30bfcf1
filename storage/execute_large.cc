#include <algorithm>
#include <optional>

#include "base/check.h"
#include "base/log.h"
#include "storage/store_impl.h"

// A large local transaction: alone in its commit, its rows handed over one by one from the spill.
// Clock rows are written through and the changes cut into chunks on the way, so that memory holds
// neither all rows nor all changes. The commit is a checkpoint (storage/README.md).

namespace patina::storage {

/// Writes each row's clock and puts its change into the chunk that is being built.
class Store::Impl::LargeWriter final : public Capture::LargeSink {
 public:
  LargeWriter(Impl& impl, const crdt::Stamp& stamp, const crdt::ChangesetHeader& header)
      : impl_(impl), stamp_(stamp) {
    manifest_.header = header;
  }

  Result<std::string> Leave(TableIo& table, const std::string& key, int64_t rowid) override;
  Status OnNet(NetChange& net, const crdt::RowClock* clock) override;
  /// Ends the last chunk. Afterwards the manifest has no chunks if nothing changed in effect.
  Status Finish();

  const crdt::Manifest& manifest() const { return manifest_; }
  /// By position in Schema::tables.
  const std::vector<bool>& changed() const { return changed_; }

 private:
  Status WriteRow(const NetChange& net, const crdt::RowClock* clock);
  Status AddToChunk(const NetChange& net);
  Status EndChunk();

  Impl& impl_;
  const crdt::Stamp stamp_;
  crdt::Manifest manifest_;
  std::optional<crdt::ChangesetBuilder> chunk_;
  const TableIo* table_ = nullptr;  // of the chunk's section
  std::vector<bool> changed_ = std::vector<bool>(impl_.tables.size());
  std::vector<crdt::ValueView> all_, values_;
  size_t rows_ = 0;
};

Result<std::string> Store::Impl::LargeWriter::Leave(TableIo& table, const std::string& key,
                                                    int64_t rowid) {
  CachedRow row;
  row.table = table.number();
  row.key = key;
  row.key_hash = RowCache::KeyHash(key);
  row.rowid = rowid;
  RETURN_IF_ERROR(table.LoadClock(&row, true, rowid, impl_.actors));
  RETURN_IF_ERROR(table.DeleteClock(row));
  std::string bytes;
  ByteWriter out(&bytes);
  row.clock.Encode(out);
  impl_.NoteStep(rows_++);
  return bytes;
}

Status Store::Impl::LargeWriter::WriteRow(const NetChange& net, const crdt::RowClock* clock) {
  TableIo& table = *net.table;
  CachedRow row;
  row.table = table.number();
  row.key_hash = net.key_hash;
  row.key = net.key;
  row.values = net.had_row ? net.old_values : table.default_values();
  if (clock != nullptr) {
    row.clock = *clock;
    row.sealed = !net.had_row;  // what it was stayed behind; the scrub makes another
  } else {
    RETURN_IF_ERROR(table.LoadClock(&row, net.had_row, net.old_rowid, impl_.actors));
  }
  RowHasher& hasher = impl_.hashers[row.table];
  const uint64_t hash_before = hasher.Hash(row.key_hash, row.clock, row.values, impl_.actors);
  if (net.says != crdt::Says::kNothing || !net.columns.empty()) {
    row.clock.Merge({stamp_, net.says, net.columns.data(), net.columns.size()}, impl_.actors);
  }
  row.values = net.has_row ? net.new_values : table.default_values();
  row.present = net.has_row;
  row.rowid = net.new_rowid;
  if (!row.present) RETURN_IF_ERROR(table.DeleteClock(row));
  ++impl_.stats.rows_written;
  const uint64_t hash_after = hasher.Hash(row.key_hash, row.clock, row.values, impl_.actors);
  return impl_.WriteThrough(&row, net.had_row, hash_after - hash_before, row.dead_in_file);
}

Status Store::Impl::LargeWriter::AddToChunk(const NetChange& net) {
  const Table& declared = net.table->table();
  if (!chunk_) {
    chunk_.emplace(manifest_.header);
    table_ = nullptr;
  }
  if (table_ != net.table) {
    table_ = net.table;
    std::vector<crdt::ColumnName> names;
    for (const Column& column : declared.columns) names.push_back({column.name, column.life});
    chunk_->BeginTable(TravelName(declared), declared.key.size(), names);
  }
  values_.clear();
  if (net.has_row) CHECK(crdt::UnpackValues(net.new_values, crdt::kMaxColumns, &all_));
  for (crdt::ColumnIndex column : net.columns) values_.push_back(all_[column]);
  chunk_->AddRow(net.says, net.key, net.columns, values_);
  changed_[net.table->number()] = true;
  return chunk_->size() < impl_.options.limits.large_chunk_bytes ? OkStatus() : EndChunk();
}

Status Store::Impl::LargeWriter::EndChunk() {
  const size_t rows = chunk_->rows();
  const std::string bytes = std::move(*chunk_).Finish();
  chunk_.reset();
  const StoreLimits& limits = impl_.options.limits;
  if (bytes.size() > limits.changeset.bytes_max) {
    return ResourceExhausted(StrCat("a row of table ", table_->table().name, " is larger than ",
                                    limits.changeset.bytes_max,
                                    " bytes (limit changeset_bytes_max)"));
  }
  const uint64_t number = manifest_.chunks;
  manifest_.rows += rows;
  crdt::AddToManifest(bytes, &manifest_);
  if (manifest_.bytes > limits.large_transaction_bytes_max) {
    return ResourceExhausted(StrCat(
        "the large transaction's changes are larger than ", limits.large_transaction_bytes_max,
        " bytes (limit large_transaction_bytes_max), the last of table ", table_->table().name,
        ": split it"));
  }
  impl_.NoteProgress();
  return impl_.AddChunk(manifest_.header.id, number, bytes);
}

Status Store::Impl::LargeWriter::OnNet(NetChange& net, const crdt::RowClock* clock) {
  impl_.NoteStep(rows_++);
  RETURN_IF_ERROR(WriteRow(net, clock));
  const bool effective = net.says != crdt::Says::kNothing || !net.columns.empty();
  return effective ? AddToChunk(net) : OkStatus();
}

Status Store::Impl::LargeWriter::Finish() { return chunk_ ? EndChunk() : OkStatus(); }

Result<Committed> Store::Impl::RunLarge(const Transaction& transaction, Spill* spill,
                                        CommitEffects* effects) {
  RETURN_IF_ERROR(CheckStatements(transaction));
  RETURN_IF_ERROR(begin.Run());
  next_seq = last_seq;
  log_bytes_uncommitted = 0;
  const StoreLimits& limits = options.limits;
  capture->BeginLarge(limits.large_transaction_rows_max, limits.large_memory_bytes, spill);
  Committed committed;
  ASSIGN_OR_RETURN(committed.rows_changed, RunStatements(transaction));
  MintActorIfNeeded();
  const crdt::HlcTime time = hlc.Next(ClusterMs());
  const crdt::Stamp stamp{time, version + 1, actor_index};
  LargeWriter writer(*this, stamp, {{actor, version + 1}, time, 0});
  RETURN_IF_ERROR(capture->FinishLarge(actors.size(), writer));
  RETURN_IF_ERROR(writer.Finish());
  if (writer.manifest().chunks == 0) {  // rows that only moved have moved their clocks
    RETURN_IF_ERROR(SaveActors());
    RETURN_IF_ERROR(Commit("committing a large transaction"));
    actors_saved = actors.size();
    return committed;
  }
  RETURN_IF_ERROR(CommitLarge(writer.manifest(), stamp));
  effects->tables_changed = writer.changed();
  ++version;
  AdoptLarge(writer.manifest(), effects);
  ++stats.large_local;
  ++stats.local_transactions;
  committed.actor = actor;
  committed.version = version;
  committed.time = time;
  committed.seq = last_seq;
  return committed;
}

Result<Committed> Store::Impl::ExecuteLarge(const Transaction& transaction,
                                            CommitEffects* effects) {
  BeginEffects(effects);
  RETURN_IF_ERROR(MayWrite());
  DigestsBefore before;
  RETURN_IF_ERROR(BeginPastCache(&before));
  ASSIGN_OR_RETURN(const std::unique_ptr<Spill> spill, Spill::Open(options.path + "-spill"));
  // What SQLite itself keeps for the statement (old pages, sorters) must not be in memory either.
  RETURN_IF_ERROR(db->Exec("PRAGMA temp_store = FILE"));
  KeepFewPages(true);
  const crdt::HybridClock hlc_before = hlc;
  large_runs = true;
  Result<Committed> outcome = [&] {
    const Spilling spilling(*db);  // so it has no savepoints, see Authorize
    return RunLarge(transaction, spill.get(), effects);
  }();
  large_runs = false;
  large_rows = 0;
  KeepFewPages(false);
  capture->Discard();
  // Its time was taken before it was known whether it changes anything.
  if (!outcome.ok() || outcome->version == 0) hlc = hlc_before;
  if (!outcome.ok()) {
    UndoPastCache(outcome.error(), before);
    ++stats.transactions_failed;
  }
  if (Status back = db->Exec("PRAGMA temp_store = MEMORY"); !back.ok()) {
    LogWarning("storage", "temporary tables stay in files: ", back.error().ToString());
  }
  return outcome;
}

}  // namespace patina::storage

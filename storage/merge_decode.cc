#include <algorithm>

#include "base/log.h"
#include "storage/store_impl.h"

// From a changeset's bytes to operations on this node's tables. What cannot be held here is parked
// whole.

namespace patina::storage {

namespace {

/// The place of a column that was dropped since: its cells are left out.
constexpr crdt::ColumnIndex kDiscarded = UINT16_MAX;

std::string WithLife(uint32_t life) {
  return life == 0 ? std::string() : StrCat(" (dropped ", life, " times before)");
}

}  // namespace

/// This node's table, and where the change's columns stand in it. Null: it was dropped since, or,
/// with *park_reason, a later schema is to tell.
Result<TableIo*> Store::Impl::Understand(const crdt::TableChange& change,
                                         std::vector<crdt::ColumnIndex>* local,
                                         std::string* park_reason) {
  const auto [name, life] = ReadTravelName(change.name);
  TableIo* table = FindTable(name);
  if (table == nullptr || table->table().life != life) {
    if (LifeOf(schema.dropped_tables, name, life) == Life::kUnknown)
      *park_reason = "unknown table " + std::string(name) + WithLife(life);
    return nullptr;
  }
  if (table->table().key.size() != change.key_columns) {
    *park_reason = "table " + std::string(name) + " has another key here";
    return nullptr;
  }
  local->clear();
  crdt::ColumnMask named;
  for (const crdt::ColumnName& column : change.columns) {
    const auto index = table->table().FindColumn(column.name);
    const bool any_life = options.mutant == Mutant::kLivesNotLookedAt;
    if (!index || (table->table().columns[*index].life != column.life && !any_life)) {
      if (LifeOf(table->table().dropped, column.name, column.life) == Life::kUnknown) {
        *park_reason = "unknown column " + std::string(name) + "." + std::string(column.name) +
                       WithLife(column.life);
        return nullptr;
      }
      local->push_back(kDiscarded);
      continue;
    }
    if (named.test(*index)) return InvalidArgument("the changeset names a column twice");
    named.set(*index);
    local->push_back(*index);
  }
  return table;
}

Status Store::Impl::DecodeTable(crdt::ChangesetReader& reader, const crdt::TableChange& change,
                                uint32_t position, const crdt::Stamp& stamp, MergeBatch* batch,
                                std::string* park_reason) {
  std::vector<crdt::ColumnIndex> local;
  ASSIGN_OR_RETURN(TableIo * table, Understand(change, &local, park_reason));
  if (!park_reason->empty()) return OkStatus();
  const bool discards = table == nullptr || std::count(local.begin(), local.end(), kDiscarded) > 0;
  if (discards && (batch->discarding.empty() || batch->discarding.back() != position))
    batch->discarding.push_back(position);
  if (table == nullptr) {
    stats.rows_discarded += change.rows;
    return OkStatus();
  }
  crdt::RowOp row;
  while (true) {
    ASSIGN_OR_RETURN(const bool more, reader.NextRow(&row));
    if (!more) return OkStatus();
    if (std::string why = table->WhyNotKey(row.key); !why.empty()) {
      *park_reason = "table " + std::string(change.name) + ": " + why;
      return OkStatus();
    }
    MergeOp op{table->number(),
               position,
               row.says,
               stamp,
               row.key,
               RowCache::KeyHash(row.key),
               static_cast<uint32_t>(batch->columns.size()),
               static_cast<uint32_t>(row.positions.size()),
               0};
    for (size_t i = 0; i < row.positions.size(); ++i) {
      const crdt::ColumnIndex column = local[row.positions[i]];
      if (column == kDiscarded) {
        ++stats.cells_discarded;
        continue;
      }
      if (std::string why = table->WhyNotStorable(column, row.values[i]); !why.empty()) {
        *park_reason = "table " + std::string(change.name) + ": " + why;
        return OkStatus();
      }
      batch->columns.push_back(column);
      batch->values.push_back(row.values[i]);
    }
    op.count = static_cast<uint32_t>(batch->columns.size()) - op.first;
    if (op.says != crdt::Says::kNothing || op.count > 0) batch->ops.push_back(op);
  }
}

/// The bits of a changeset some of whose words were left out: those did not take effect.
Result<std::string> Store::Impl::EffectOfDiscarding(const MergeBatch& batch, uint32_t changeset,
                                                    std::string_view bytes) {
  EffectWriter effect;
  auto op =
      std::lower_bound(batch.ops.begin(), batch.ops.end(), changeset,
                       [](const MergeOp& a, uint32_t position) { return a.changeset < position; });
  ASSIGN_OR_RETURN(crdt::ChangesetReader reader,
                   crdt::ChangesetReader::Open(bytes, options.limits.changeset));
  crdt::TableChange change;
  crdt::RowOp row;
  std::vector<crdt::ColumnIndex> local;
  std::string park_reason;
  while (true) {
    ASSIGN_OR_RETURN(const bool more_tables, reader.NextTable(&change));
    if (!more_tables) return std::move(effect).Finish();
    ASSIGN_OR_RETURN(const TableIo* table, Understand(change, &local, &park_reason));
    if (table == nullptr) local.assign(change.columns.size(), kDiscarded);
    while (true) {
      ASSIGN_OR_RETURN(const bool more_rows, reader.NextRow(&row));
      if (!more_rows) break;
      const bool says = row.says != crdt::Says::kNothing;
      const bool has_op =
          table != nullptr &&
          (says || std::any_of(row.positions.begin(), row.positions.end(),
                               [&](auto position) { return local[position] != kDiscarded; }));
      const crdt::RowClock* clock = has_op ? &batch.work_of(*op).next.clock : nullptr;
      if (says) effect.Add(has_op && clock->existence() == op->stamp);
      for (const crdt::ColumnIndex position : row.positions) {
        effect.Add(local[position] != kDiscarded && clock->Cell(local[position]) == op->stamp);
      }
      if (has_op) ++op;
    }
  }
}

Status Store::Impl::Decode(std::string_view bytes, uint32_t position, MergeBatch* batch,
                           std::string* park_reason, crdt::ChangesetHeader* header) {
  const size_t ops = batch->ops.size(), values = batch->values.size();
  const crdt::ActorIndex known_actors = actors.size();
  auto undo = [&] {
    ForgetActors(known_actors);  // who was only named in vain must not fill the table of actors
    batch->ops.resize(ops);
    batch->columns.resize(values);
    batch->values.resize(values);
    std::erase(batch->discarding, position);
  };
  auto decode = [&]() -> Status {
    ASSIGN_OR_RETURN(crdt::ChangesetReader reader,
                     crdt::ChangesetReader::Open(bytes, options.limits.changeset));
    *header = reader.header();
    const crdt::Stamp stamp{header->time, header->id.version, actors.Intern(header->id.actor)};
    crdt::TableChange table;
    while (true) {
      ASSIGN_OR_RETURN(const bool more, reader.NextTable(&table));
      if (!more) return OkStatus();
      if (!park_reason->empty()) continue;  // parked, but whole and well formed
      RETURN_IF_ERROR(DecodeTable(reader, table, position, stamp, batch, park_reason));
      if (options.mutant == Mutant::kApplyHalfOfTransaction) park_reason->clear();
    }
  };
  Status status = decode();
  if (!status.ok() || !park_reason->empty()) undo();
  return status;
}

bool Store::Impl::FromTheFuture(crdt::HlcTime time) const {
  if (options.mutant == Mutant::kMergeFutureAtOnce) return false;
  return time.ms() > ClusterMs() + options.limits.max_clock_skew_ms;
}

std::string Store::Impl::BeforeHorizon(crdt::HlcTime time) const {
  return StrCat("from ", time.ToString(), ", before the horizon ", horizon.ToString());
}

void Store::Impl::TriageOne(const SharedBytes& bytes, uint32_t position, bool settling,
                            MergeBatch* batch, MergeOutcome* outcome,
                            crdt::ChangesetHeader* header) {
  if (bytes->size() > options.limits.changeset.bytes_max) {
    outcome->reason = StrCat("the changeset has ", bytes->size(), " bytes; at most ",
                             options.limits.changeset.bytes_max);
    return;
  }
  Result<crdt::ChangesetHeader> peeked = crdt::PeekChangesetHeader(*bytes);
  if (!peeked.ok()) {
    outcome->reason = peeked.error().message;
    return;
  }
  *header = *peeked;
  outcome->id = header->id;
  if (settling ? applied.Contains(header->id) : received.Contains(header->id)) {
    outcome->state = MergeState::kDuplicate;
    return;
  }
  if (!settling && header->time < horizon && options.mutant != Mutant::kSkipHorizon) {
    outcome->state = MergeState::kTooOld;
    outcome->reason = BeforeHorizon(header->time);
    return;
  }
  if (FromTheFuture(header->time)) {
    outcome->state = MergeState::kParked;
    outcome->reason = "from the future: " + header->time.ToString();
    // Its shape is checked when it is due; here only that it can be read at all.
    if (Result<crdt::ChangesetHeader> valid =
            crdt::ValidateChangeset(*bytes, options.limits.changeset);
        !valid.ok()) {
      outcome->state = MergeState::kRejected;
      outcome->reason = valid.error().message;
    }
    return;
  }
  std::string park_reason;
  if (Status status = Decode(*bytes, position, batch, &park_reason, header); !status.ok()) {
    outcome->reason = status.error().message;
    return;
  }
  outcome->state = park_reason.empty() ? MergeState::kApplied : MergeState::kParked;
  outcome->reason = park_reason;
}

bool Store::Impl::ParkedIsFull(uint64_t more, uint64_t more_bytes) const {
  return parked.size() + more > options.limits.parked_changesets_max ||
         parked_bytes + more_bytes > options.limits.parked_bytes_max;
}

void Store::Impl::Triage(std::span<const SharedBytes> changesets, bool settling, MergeBatch* batch,
                         std::vector<MergeOutcome>* outcomes,
                         std::vector<crdt::ChangesetHeader>* headers) {
  std::unordered_map<ChangeId, uint32_t> seen;
  uint64_t newly_parked = 0, newly_parked_bytes = 0;
  for (uint32_t i = 0; i < changesets.size(); ++i) {
    MergeOutcome& outcome = (*outcomes)[i];
    if (const auto header = crdt::PeekChangesetHeader(*changesets[i]);
        header.ok() && !seen.try_emplace(header->id, i).second) {
      // A second copy in one batch is as durable as the first.
      const MergeOutcome& first = (*outcomes)[seen[header->id]];
      outcome.id = header->id;
      const bool taken = first.state != MergeState::kRejected && first.state != MergeState::kTooOld;
      outcome.state = taken ? MergeState::kDuplicate : first.state;
      outcome.reason = first.reason;
      continue;
    }
    TriageOne(changesets[i], i, settling, batch, &outcome, &(*headers)[i]);
    if (outcome.state != MergeState::kParked || settling) continue;
    ++newly_parked;
    newly_parked_bytes += changesets[i]->size();
    if (ParkedIsFull(newly_parked, newly_parked_bytes)) {
      // Not received: it is asked for again when there is room.
      outcome.state = MergeState::kRejected;
      outcome.reason = "too much is parked already (" + outcome.reason + ")";
      ++stats.parked_refused;
    }
  }
}

}  // namespace patina::storage

#include <algorithm>
#include <deque>
#include <utility>

#include "base/log.h"
#include "storage/store_impl.h"

// What a snapshot made this node drop: kept in a table of its own, to be looked at, applied anew or
// dropped by people.

namespace patina::storage {
namespace {

Error NoSuchSetAside(const ChangeId& id) {
  return NotFound(StrCat("no change ", id.actor.ToString(), "/", id.version, " is set aside"));
}

/// SQL that does again what a changeset says of a row.
Result<Statement> StatementOf(const Table& table, const crdt::TableChange& change,
                              const crdt::RowOp& row) {
  Statement statement;
  std::vector<crdt::ValueView> key;
  if (!crdt::UnpackValues(row.key, table.key.size(), &key) || key.size() != table.key.size())
    return FailedPrecondition("table " + table.name + " has another key now");
  std::string where, names, parameters, updates;
  auto bind = [&](const crdt::ValueView& value) {
    statement.positional.emplace_back(value);
    return StrCat("?", statement.positional.size());
  };
  for (size_t i = 0; i < key.size(); ++i) {
    const std::string name = QuoteName(table.key[i].name), parameter = bind(key[i]);
    where += (i == 0 ? "" : " AND ") + name + " = " + parameter;
    names += (i == 0 ? "" : ", ") + name;
    parameters += (i == 0 ? "" : ", ") + parameter;
  }
  const std::string conflict = names;
  for (size_t i = 0; i < row.positions.size(); ++i) {
    const crdt::ColumnName& column = change.columns[row.positions[i]];
    const auto index = table.FindColumn(column.name);
    if (!index || table.columns[*index].life != column.life) {
      return FailedPrecondition("table " + table.name + " has no such column " +
                                std::string(column.name) + " now");
    }
    const std::string name = QuoteName(column.name), parameter = bind(row.values[i]);
    names += ", " + name;
    parameters += ", " + parameter;
    updates += (updates.empty() ? "" : ", ") + name + " = " + parameter;
  }
  const std::string quoted = QuoteName(table.name);
  if (row.says == crdt::Says::kDeleted) {
    statement.sql = "DELETE FROM " + quoted + " WHERE " + where;
  } else if (row.says == crdt::Says::kAlive) {
    statement.sql = "INSERT INTO " + quoted + " (" + names + ") VALUES (" + parameters +
                    ") ON CONFLICT (" + conflict + ") DO " +
                    (updates.empty() ? std::string("NOTHING") : "UPDATE SET " + updates);
  } else {
    statement.sql = "UPDATE " + quoted + " SET " + updates + " WHERE " + where;
  }
  return statement;
}

}  // namespace

Status Store::Impl::LoadSetAside() {
  ASSIGN_OR_RETURN(const int64_t count, db->QueryInt("SELECT count(*) FROM __patina_set_aside"));
  ASSIGN_OR_RETURN(const int64_t bytes,
                   db->QueryInt("SELECT coalesce(sum(length(bytes)), 0) FROM __patina_set_aside"));
  ASSIGN_OR_RETURN(const int64_t chunk_bytes,
                   db->QueryInt("SELECT coalesce(sum(length(c.bytes)), 0) FROM __patina_chunk c "
                                "JOIN __patina_set_aside s USING (actor, version)"));
  stats.set_aside = static_cast<uint64_t>(count);
  stats.set_aside_bytes = static_cast<uint64_t>(bytes + chunk_bytes);
  return OkStatus();
}

Result<std::vector<SetAsideChange>> Store::Impl::SetAside() {
  ASSIGN_OR_RETURN(Stmt select,
                   db->Prepare("SELECT actor, version, time, length(bytes), reason FROM "
                               "__patina_set_aside ORDER BY n",
                               false));
  std::vector<SetAsideChange> changes;
  while (true) {
    ASSIGN_OR_RETURN(const bool row, select.Step());
    if (!row) return changes;
    const auto actor_id = ActorId::FromBytes(select.ColumnBytes(0));
    if (!actor_id) return DataLoss("table __patina_set_aside is damaged");
    changes.push_back({{*actor_id, static_cast<uint64_t>(select.ColumnInt(1))},
                       {static_cast<uint64_t>(select.ColumnInt(2))},
                       static_cast<uint64_t>(select.ColumnInt(3)),
                       std::string(select.ColumnBytes(4))});
  }
}

Result<std::string> Store::Impl::SetAsideBytes(const ChangeId& id) {
  ASSIGN_OR_RETURN(
      Stmt select,
      db->Prepare("SELECT bytes FROM __patina_set_aside WHERE actor = ? AND version = ?", false));
  select.BindChange(id);
  ASSIGN_OR_RETURN(const bool found, select.Step());
  if (!found) return NoSuchSetAside(id);
  return std::string(select.ColumnBytes(0));
}

Status Store::Impl::DropSetAside(const ChangeId& id) {
  RETURN_IF_ERROR(MayWrite());
  RETURN_IF_ERROR(DeleteSetAside(id));
  RETURN_IF_ERROR(DropLooseChunks());
  return LoadSetAside();
}

/// In the transaction that runs, or as one of its own.
Status Store::Impl::DeleteSetAside(const ChangeId& id) {
  ASSIGN_OR_RETURN(
      Stmt drop,
      db->Prepare("DELETE FROM __patina_set_aside WHERE actor = ? AND version = ?", false));
  drop.BindChange(id);
  RETURN_IF_ERROR(drop.Run());
  return sqlite3_changes(db->get()) == 0 ? Status(NoSuchSetAside(id)) : OkStatus();
}

Result<Committed> Store::Impl::ApplySetAside(const ChangeId& id, CommitEffects* effects) {
  ASSIGN_OR_RETURN(const std::string bytes, SetAsideBytes(id));
  if (bytes.empty()) {
    return FailedPrecondition(
        "nothing is left of that change: later ones had replaced all it said; drop it");
  }
  if (applied.Contains(id)) {
    return FailedPrecondition("that change has been applied since; drop it from the list");
  }
  if (crdt::IsManifest(bytes)) return ApplyLargeSetAside(id, effects);
  Result<Committed> written =
      ApplySetAsideRows(bytes, effects, [this, id] { return DeleteSetAside(id); });
  if (written.ok()) RETURN_IF_ERROR(LoadSetAside());
  return written;
}

/// also: done in the same commit.
Result<Committed> Store::Impl::ApplySetAsideRows(std::string_view bytes, CommitEffects* effects,
                                                 const std::function<Status()>& also) {
  ASSIGN_OR_RETURN(crdt::ChangesetReader reader,
                   crdt::ChangesetReader::Open(bytes, options.limits.changeset));
  Transaction transaction;
  crdt::TableChange change;
  crdt::RowOp row;
  while (true) {
    ASSIGN_OR_RETURN(const bool more_tables, reader.NextTable(&change));
    if (!more_tables) break;
    const auto [name, life] = ReadTravelName(change.name);
    const TableIo* table = FindTable(name);
    if (table == nullptr || table->table().life != life)
      return FailedPrecondition("there is no table " + std::string(name) + " now");
    while (true) {
      ASSIGN_OR_RETURN(const bool more_rows, reader.NextRow(&row));
      if (!more_rows) break;
      ASSIGN_OR_RETURN(Statement statement, StatementOf(table->table(), change, row));
      transaction.statements.push_back(std::move(statement));
    }
  }
  in_same_commit = also;
  std::vector<Result<Committed>> results = Execute({&transaction, 1}, effects);
  in_same_commit = nullptr;
  return std::move(results[0]);
}

/// A large one in parts: each chunk is a transaction. A crash before the end leaves it listed; to
/// apply once more what was applied then changes nothing.
Result<Committed> Store::Impl::ApplyLargeSetAside(const ChangeId& id, CommitEffects* effects) {
  Committed last;
  BeginEffects(effects);
  const uint64_t first_seq = effects->first_seq;
  std::vector<bool> changed(tables.size());
  const Status status = ForEachChunk(id, [&](const std::string& bytes) -> Status {
    ASSIGN_OR_RETURN(last, ApplySetAsideRows(bytes, effects, [] { return OkStatus(); }));
    for (size_t i = 0; i < changed.size(); ++i)
      changed[i] = changed[i] || effects->tables_changed[i];
    return OkStatus();
  });
  effects->first_seq = first_seq;
  effects->tables_changed = std::move(changed);
  effects->rows_unknown = true;
  RETURN_IF_ERROR(status);
  RETURN_IF_ERROR(DropSetAside(id));
  return last;
}

/// Changesets of what the clocks still know of some versions, which are no longer in the log.
Status Store::Impl::RebuildChangesets(
    const crdt::VersionSet& wanted,
    const std::function<Status(const ChangeId&, crdt::HlcTime, std::string_view)>& take) {
  std::deque<std::string> chunks;  // the operations look into them
  TransferDecode decode;
  decode.own_rows = true;
  MergeBatch batch;
  size_t held = 0;
  RETURN_IF_ERROR(ReadOwnRows(received.Without(wanted), [&](std::string chunk) -> Status {
    held += chunk.size();
    // There is no room for more of them: what is only here is listed without its rows.
    if (!chunks.empty() && held > options.limits.set_aside_bytes_max) return OkStatus();
    chunks.push_back(std::move(chunk));
    return ReadTransferChunk(chunks.back(), &decode, &batch);
  }));
  std::stable_sort(batch.ops.begin(), batch.ops.end(), [](const MergeOp& a, const MergeOp& b) {
    return std::pair(a.stamp.actor, a.stamp.version) < std::pair(b.stamp.actor, b.stamp.version);
  });
  if (held > options.limits.set_aside_bytes_max) {
    LogWarning("storage", "of ", held, " bytes of rows that are set aside ",
               options.limits.set_aside_bytes_max, " are kept (limit set_aside_bytes_max)");
  }
  for (size_t i = 0; i < batch.ops.size();) {
    const crdt::Stamp stamp = batch.ops[i].stamp;
    const ChangeId id{actors.Get(stamp.actor), stamp.version};
    crdt::ChangesetBuilder builder({id, stamp.time, 0});
    const TableIo* open = nullptr;
    for (; i < batch.ops.size() && batch.ops[i].stamp == stamp; ++i) {
      const MergeOp& op = batch.ops[i];
      const Table& table = schema.tables[op.table];
      if (open != tables[op.table].get()) {
        open = tables[op.table].get();
        std::vector<crdt::ColumnName> names;
        for (const Column& column : table.columns) names.push_back({column.name, column.life});
        builder.BeginTable(TravelName(table), table.key.size(), names);
      }
      const auto first = static_cast<std::ptrdiff_t>(op.first);
      const auto last = first + static_cast<std::ptrdiff_t>(op.count);
      builder.AddRow(op.says, op.key, {batch.columns.begin() + first, batch.columns.begin() + last},
                     {batch.values.begin() + first, batch.values.begin() + last});
    }
    RETURN_IF_ERROR(take(id, stamp.time, std::move(builder).Finish()));
  }
  return OkStatus();
}

Status Store::Impl::AddSetAside(const ChangeId& id, crdt::HlcTime time, std::string_view reason,
                                std::string_view bytes) {
  ASSIGN_OR_RETURN(Stmt insert,
                   db->Prepare("INSERT OR IGNORE INTO __patina_set_aside (actor, version, time, "
                               "reason, bytes) VALUES (?, ?, ?, ?, ?)",
                               false));
  insert.BindChange(id);
  insert.BindInt(3, static_cast<int64_t>(time.bits));
  insert.BindText(4, reason);
  insert.BindBlob(5, bytes);
  return insert.Run();
}

/// The sender's list is the sender's; this node's goes on in the new file.
Status Store::Impl::CarrySetAside(const SnapshotShare& share, Impl* staged) {
  RETURN_IF_ERROR(staged->db->Exec("DELETE FROM __patina_set_aside"));
  ASSIGN_OR_RETURN(const std::vector<SetAsideChange> listed, SetAside());
  for (const SetAsideChange& change : listed) {
    ASSIGN_OR_RETURN(const std::string bytes, SetAsideBytes(change.id));
    RETURN_IF_ERROR(staged->AddSetAside(change.id, change.time, change.reason, bytes));
    if (crdt::IsManifest(bytes)) RETURN_IF_ERROR(CarryChunks(change.id, staged));
  }
  if (!share.set_aside.Empty()) RETURN_IF_ERROR(AddNewlySetAside(share, staged));
  return staged->BoundSetAside();
}

Status Store::Impl::AddNewlySetAside(const SnapshotShare& share, Impl* staged) {
  const std::string reason = "from before " + staged->horizon.ToString() +
                             ", the horizon of the node whose snapshot this node took";
  crdt::VersionSet found;
  auto add = [&](const ChangeId& id, crdt::HlcTime time, std::string_view bytes) -> Status {
    if (!share.set_aside.Contains(id) || !found.Add(id)) return OkStatus();
    RETURN_IF_ERROR(staged->AddSetAside(id, time, reason, bytes));
    return crdt::IsManifest(bytes) ? CarryChunks(id, staged) : OkStatus();
  };
  for (const char* stored_in : {"__patina_log WHERE kind <> 1", "__patina_parked"}) {
    ASSIGN_OR_RETURN(
        Stmt stored,
        db->Prepare(StrCat("SELECT actor, version, time, bytes FROM ", stored_in), false));
    while (true) {
      ASSIGN_OR_RETURN(const bool row, stored.Step());
      if (!row) break;
      RETURN_IF_ERROR(add({actors.Get(static_cast<crdt::ActorIndex>(stored.ColumnInt(0))),
                           static_cast<uint64_t>(stored.ColumnInt(1))},
                          {static_cast<uint64_t>(stored.ColumnInt(2))}, stored.ColumnBytes(3)));
    }
  }
  RETURN_IF_ERROR(RebuildChangesets(share.set_aside.Without(found), add));
  uint64_t listed = 0;
  for (const crdt::ActorRanges& left : share.set_aside.Without(found).AllRanges()) {
    for (const crdt::VersionRange& range : left.ranges) {
      for (uint64_t number = range.first; number <= range.last; ++number) {
        if (++listed > options.limits.set_aside_changes_max) return OkStatus();
        RETURN_IF_ERROR(staged->AddSetAside(
            {left.actor, number}, {},
            "nothing is left of it (replaced by later writes, or no room); " + reason, {}));
      }
    }
  }
  return OkStatus();
}

/// The oldest go.
Status Store::Impl::BoundSetAside() {
  RETURN_IF_ERROR(LoadSetAside());
  uint64_t dropped = 0;
  while (stats.set_aside > options.limits.set_aside_changes_max ||
         stats.set_aside_bytes > options.limits.set_aside_bytes_max) {
    const uint64_t some = std::max<uint64_t>(1, stats.set_aside / 16), before = stats.set_aside;
    RETURN_IF_ERROR(db->Exec(
        StrCat("DELETE FROM __patina_set_aside WHERE n IN (SELECT n FROM __patina_set_aside ORDER "
               "BY n LIMIT ",
               some, ")")));
    RETURN_IF_ERROR(DropLooseChunks());
    RETURN_IF_ERROR(LoadSetAside());
    dropped += before - stats.set_aside;
  }
  if (dropped > 0) {
    LogWarning("storage", dropped,
               " of the oldest changes set aside were dropped: there is room for ",
               options.limits.set_aside_changes_max, " and for ",
               options.limits.set_aside_bytes_max, " bytes of them");
  }
  stats.set_aside_dropped += dropped;
  return SaveState("set_aside_dropped",
                   crdt::ValueView::Integer(static_cast<int64_t>(stats.set_aside_dropped)));
}

}  // namespace patina::storage

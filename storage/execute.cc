#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "storage/bind.h"
#include "storage/store_impl.h"

// A local transaction: its SQL runs, and its net effect becomes a changeset. Those of one commit:
// execute_group.cc.

namespace patina::storage {
namespace {

constexpr const char* kSavepoint = "__patina_tx";
constexpr size_t kClientStatementsMax = 200;
constexpr int kProgressSteps = 4'000;
constexpr const char* kOrLarge =
    ", or run it as a large one (patina exec --large, `large` in State.Execute)";

bool IsInternal(const char* table) {
  const std::string_view name = table == nullptr ? "" : table;
  return name.starts_with("__patina_") || name.starts_with("sqlite_");
}

}  // namespace

void Store::Impl::GuardClientSql() {
  // Once and for all: setting an authorizer makes SQLite prepare every statement anew.
  sqlite3_set_authorizer(db->get(), &Impl::Authorize, this);
  sqlite3_progress_handler(db->get(), kProgressSteps, &Impl::Progress, this);
}

int Store::Impl::Authorize(void* context, int action, const char* first, const char* second,
                           const char*, const char*) {
  auto* self = static_cast<Impl*>(context);
  if (!self->client_sql) return SQLITE_OK;
  auto deny = [&](std::string why) {
    self->denied = std::move(why);
    return SQLITE_DENY;
  };
  switch (action) {
    case SQLITE_SELECT:
    case SQLITE_READ:
    case SQLITE_RECURSIVE:
      return SQLITE_OK;
    case SQLITE_FUNCTION:
      if (second != nullptr && std::string_view(second) == "load_extension")
        return deny("load_extension is not allowed");
      return SQLITE_OK;
    case SQLITE_INSERT:
    case SQLITE_UPDATE:
    case SQLITE_DELETE:
      if (first != nullptr &&
          std::string_view(first).starts_with("sqlite_")) {  // what CREATE, DROP and ALTER write
        return deny(
            "only SELECT, INSERT, UPDATE and DELETE run here; the schema is changed by its files");
      }
      if (IsInternal(first))
        return deny(std::string("the table ") + first + " is internal and only read");
      return SQLITE_OK;
    case SQLITE_SAVEPOINT:
      if (second != nullptr && sqlite3_stricmp(second, kSavepoint) == 0)
        return deny("this savepoint name is reserved");
      if (self->large_runs)
        return deny("a large transaction has no savepoints: run it without, or in smaller parts");
      self->savepoint_op = first == nullptr ? "" : first;
      self->savepoint_name = second == nullptr ? "" : second;
      return SQLITE_OK;
    case SQLITE_TRANSACTION:
      return deny(
          "each request is one transaction already: leave out BEGIN, COMMIT and ROLLBACK "
          "(SAVEPOINT is fine)");
    case SQLITE_PRAGMA:
      return deny("PRAGMA is not allowed here");
    case SQLITE_ATTACH:
    case SQLITE_DETACH:
      return deny("ATTACH, DETACH and VACUUM are not allowed here");
    default:
      return deny(
          "only SELECT, INSERT, UPDATE and DELETE run here; the schema is changed by its files");
  }
}

int Store::Impl::Progress(void* context) {
  auto* self = static_cast<Impl*>(context);
  if (!self->client_sql) {
    if (self->changing_schema) self->NoteProgress();
    return 0;
  }
  const Duration left = self->deadline - self->options.clock->Now();
  if (self->large_runs) self->large_rows = self->capture->touched();
  // A large transaction has a long deadline: each of its steps counts, not what is left.
  self->NoteProgress(self->large_runs ? Duration::zero() : std::max(left, Duration::zero()));
  const bool useless = self->capture->too_many() || self->capture->read_error() != SQLITE_OK ||
                       !self->capture->spill_status().ok();
  return useless || left < Duration::zero() ? 1 : 0;
}

Result<Stmt*> Store::Impl::ClientStatement(const std::string& sql) {
  if (const auto found = client_index.find(sql); found != client_index.end()) {
    client_statements.splice(client_statements.begin(), client_statements, found->second);
    return &client_statements.front().statement;
  }
  ASSIGN_OR_RETURN(Stmt statement, PrepareOne(*db, sql, options.limits.statement_bytes_max));
  client_statements.push_front({sql, std::move(statement)});
  // What a savepoint statement does is told while it is prepared: such a one is prepared each time.
  if (savepoint_op.empty()) client_index[client_statements.front().sql] = client_statements.begin();
  if (client_statements.size() > kClientStatementsMax) {
    const auto last = std::prev(client_statements.end());
    if (const auto found = client_index.find(last->sql);
        found != client_index.end() && found->second == last) {
      client_index.erase(found);
    }
    client_statements.erase(last);
  }
  return &client_statements.front().statement;
}

Error Store::Impl::WhyStatementFailed(const Result<int64_t>& changed) const {
  if (!denied.empty()) return PermissionDenied(denied);
  if (!capture->spill_status().ok()) return capture->spill_status().error();
  const std::string which = large_runs ? "large " : "", limit = large_runs ? "large_" : "";
  if (capture->too_many()) {
    return ResourceExhausted(
        StrCat("the ", which, "transaction touches more than ", capture->rows_max(),
               " rows (limit ", limit, "transaction_rows_max), the last in table ",
               capture->too_many_table(), ": split it", large_runs ? "" : kOrLarge));
  }
  if (changed.error().code != Errc::kCancelled) return changed.error();
  const Duration most =
      large_runs ? options.limits.large_transaction_deadline : options.limits.transaction_deadline;
  return DeadlineExceeded(StrCat("the ", which, "transaction ran longer than ", ToMs(most),
                                 " ms (limit ", limit, "transaction_deadline_ms)"));
}

Result<int64_t> Store::Impl::RunStatement(const Statement& statement) {
  savepoint_op.clear();
  denied.clear();
  client_sql = true;
  auto run = [&]() -> Result<int64_t> {
    ASSIGN_OR_RETURN(Stmt * prepared, ClientStatement(statement.sql));
    if (lean && !savepoint_op.empty()) return Aborted("a group that is lean has no savepoints");
    StmtScope scope(*prepared);
    sqlite3_clear_bindings(prepared->get());
    RETURN_IF_ERROR(BindParameters(*prepared, statement));
    int code = SQLITE_ROW;
    while (code == SQLITE_ROW) code = prepared->StepRaw();
    if (code != SQLITE_DONE) return SqliteError(db->get());
    return sqlite3_stmt_readonly(prepared->get()) != 0 ? 0 : sqlite3_changes64(db->get());
  };
  Result<int64_t> changed = run();
  client_sql = false;
  if (const int code = capture->read_error(); code != SQLITE_OK)
    return SqliteError(db->get(), code, "reading a row before it changes");
  if (!changed.ok() || capture->too_many() || !capture->spill_status().ok()) {
    return WhyStatementFailed(changed);
  }
  if (savepoint_op == "BEGIN") savepoints.push_back({savepoint_name, capture->Mark()});
  if (savepoint_op == "ROLLBACK" || savepoint_op == "RELEASE") {
    while (!savepoints.empty() &&
           sqlite3_stricmp(savepoints.back().name.c_str(), savepoint_name.c_str()) != 0) {
      savepoints.pop_back();
    }
    if (!savepoints.empty() && savepoint_op == "ROLLBACK")
      capture->RollBackTo(savepoints.back().mark);
    if (!savepoints.empty() && savepoint_op == "RELEASE") savepoints.pop_back();
  }
  return changed;
}

void Store::Impl::MintActorIfNeeded() {
  if (actor_index != 0) return;
  do {
    actor = rng.NextActorId();
  } while (actors.Find(actor));  // a seed used again must not give an actor again
  actor_index = actors.Intern(actor);
  node_names[actor] = options.node_name;
}

Status Store::Impl::SaveActors() {
  for (crdt::ActorIndex i = actors_saved; i < actors.size(); ++i) {
    const ActorId& id = actors.Get(i);
    const auto name = node_names.find(id);
    insert_actor.BindInt(1, i);
    insert_actor.BindBlob(2, id.AsBytes());
    insert_actor.BindText(
        3, name == node_names.end() ? std::string_view() : std::string_view(name->second));
    RETURN_IF_ERROR(insert_actor.Run());
  }
  return OkStatus();
}

Result<std::string> Store::Impl::BuildChangeset(const crdt::ChangesetHeader& header,
                                                const std::vector<NetChange>& net) {
  crdt::ChangesetBuilder builder(header);
  std::vector<crdt::ValueView> all, values;
  std::vector<crdt::ColumnIndex> positions;
  for (size_t i = 0; i < net.size();) {
    const TableIo* table = net[i].table;
    size_t end = i;
    crdt::ColumnMask used;
    for (; end < net.size() && net[end].table == table; ++end) {
      for (crdt::ColumnIndex column : net[end].columns) used.set(column);
    }
    std::vector<crdt::ColumnName> names;
    std::vector<crdt::ColumnIndex> position_of(table->table().columns.size());
    for (size_t c = 0; c < table->table().columns.size(); ++c) {
      if (!used.test(c)) continue;
      position_of[c] = static_cast<crdt::ColumnIndex>(names.size());
      names.push_back({table->table().columns[c].name, table->table().columns[c].life});
    }
    builder.BeginTable(TravelName(table->table()), table->table().key.size(), names);
    for (; i < end; ++i) {
      const NetChange& change = net[i];
      if (change.says == crdt::Says::kNothing && change.columns.empty()) continue;
      positions.clear();
      values.clear();
      if (change.has_row) CHECK(crdt::UnpackValues(change.new_values, crdt::kMaxColumns, &all));
      for (crdt::ColumnIndex column : change.columns) {
        positions.push_back(position_of[column]);
        values.push_back(all[column]);
      }
      builder.AddRow(change.says, change.key, positions, values);
      if (builder.size() > options.limits.changeset.bytes_max) {
        return ResourceExhausted(StrCat("the transaction's changes are larger than ",
                                        options.limits.changeset.bytes_max,
                                        " bytes (limit changeset_bytes_max), the last of table ",
                                        table->table().name, ": split it", kOrLarge));
      }
    }
  }
  return std::move(builder).Finish();
}

Result<CachedRow*> Store::Impl::EnsureCached(const NetChange& net) {
  if (CachedRow* row = cache.Find(net.table->number(), net.key, net.key_hash)) {
    ++cache.hits;
    return row;
  }
  ++cache.misses;
  CachedRow row;
  row.table = net.table->number();
  row.key_hash = net.key_hash;
  row.key = net.key;
  row.present = net.had_row;
  row.rowid = net.old_rowid;
  row.values = net.had_row ? net.old_values : net.table->default_values();
  RETURN_IF_ERROR(net.table->LoadClock(&row, net.had_row, net.old_rowid, actors));
  return cache.Insert(std::move(row));
}

Status Store::Impl::MoveClocks(const std::vector<NetChange>& net) {
  std::vector<std::pair<TableIo*, CachedRow>> moved;
  for (const NetChange& change : net) {
    if (!change.moved() || change.table->table().without_rowid) continue;
    const CachedRow* const row = change.cached;
    // Deleted and inserted again since the checkpoint, it left its clock where it was then.
    if (row->clock_rowid && row->clock_rowid != change.old_rowid)
      RETURN_IF_ERROR(change.table->DeleteOwnClock(*row));
    moved.emplace_back(change.table, *row);
    CachedRow& copy = moved.back().second;
    copy.clock_rowid = change.old_rowid;
    copy.rowid = change.new_rowid;
    copy.present = true;
  }
  // First what goes: two rows may have changed places.
  for (auto& [table, row] : moved) RETURN_IF_ERROR(table->DeleteClock(row));
  for (auto& [table, row] : moved) RETURN_IF_ERROR(table->WriteClock(&row));
  return OkStatus();
}

/// With what earlier transactions of the group did: the cache learns of them only after the commit.
crdt::RowClock Store::Impl::ClockInGroup(const CachedRow& cached) const {
  crdt::RowClock clock = cached.clock;
  if (group == nullptr) return clock;
  for (const Pending& earlier : *group) {
    const auto found = std::lower_bound(earlier.net.begin(), earlier.net.end(), cached,
                                        [](const NetChange& net, const CachedRow& row) {
                                          return net.table->number() != row.table
                                                     ? net.table->number() < row.table
                                                     : net.key < row.key;
                                        });
    if (found == earlier.net.end() || found->table->number() != cached.table ||
        found->key != cached.key)
      continue;
    if (found->says == crdt::Says::kNothing && found->columns.empty()) continue;
    clock.Merge({earlier.stamp, found->says, found->columns.data(), found->columns.size()}, actors);
  }
  return clock;
}

Status Store::Impl::LogLocal(Pending* pending) {
  const bool effective =
      std::any_of(pending->net.begin(), pending->net.end(), [](const NetChange& change) {
        return change.says != crdt::Says::kNothing || !change.columns.empty();
      });
  // Now, while the file's clocks are those of before: another transaction of the group may change
  // the row again.
  for (NetChange& change : pending->net) {
    ASSIGN_OR_RETURN(change.cached, EnsureCached(change));
  }
  RETURN_IF_ERROR(MoveClocks(pending->net));
  if (!effective) return OkStatus();
  MintActorIfNeeded();
  const crdt::HlcTime time = hlc.Next(ClusterMs());
  pending->stamp = {time, next_version + 1, actor_index};
  ASSIGN_OR_RETURN(std::string bytes,
                   BuildChangeset({{actor, next_version + 1}, time, 0}, pending->net));
  RETURN_IF_ERROR(AppendLog(pending->stamp, LogKind::kChangeset, bytes, {}));
  ++next_version;
  pending->committed.actor = actor;
  pending->committed.version = next_version;
  pending->committed.time = time;
  pending->committed.seq = next_seq;
  pending->committed.changeset = std::make_shared<const std::string>(std::move(bytes));
  return OkStatus();
}

Result<std::vector<int64_t>> Store::Impl::RunStatements(const Transaction& transaction) {
  std::vector<int64_t> rows_changed;
  savepoints.clear();
  const Duration most = transaction.large ? options.limits.large_transaction_deadline
                                          : options.limits.transaction_deadline;
  deadline = options.clock->Now() + most;
  NoteProgress(transaction.large ? Duration::zero() : most);
  for (size_t i = 0; i < transaction.statements.size(); ++i) {
    Result<int64_t> changed = RunStatement(transaction.statements[i]);
    // Short statements never ask SQLite's progress handler.
    if (changed.ok() && transaction.large && options.clock->Now() > deadline) {
      changed = WhyStatementFailed(Error{Errc::kCancelled, "interrupted"});
    }
    if (!changed.ok()) {
      Error error = changed.error();
      if (transaction.statements.size() > 1)
        error.message = StrCat("statement ", i + 1, ": ", error.message);
      return error;
    }
    rows_changed.push_back(*changed);
  }
  NoteProgress();
  return rows_changed;
}

Status Store::Impl::CheckStatements(const Transaction& transaction) const {
  if (transaction.statements.empty()) return InvalidArgument("the transaction has no statements");
  if (transaction.statements.size() <= options.limits.statements_max || in_same_commit)
    return OkStatus();
  return ResourceExhausted(StrCat("the transaction has ", transaction.statements.size(),
                                  " statements; at most ", options.limits.statements_max,
                                  " (limit statements_max)"));
}

Result<Store::Impl::Pending> Store::Impl::RunOne(const Transaction& transaction) {
  RETURN_IF_ERROR(CheckStatements(transaction));
  Pending pending;
  capture->Begin(options.limits.transaction_rows_max);
  ASSIGN_OR_RETURN(pending.committed.rows_changed, RunStatements(transaction));
  ASSIGN_OR_RETURN(pending.net, capture->Finish());
  RETURN_IF_ERROR(LogLocal(&pending));
  return pending;
}

}  // namespace patina::storage

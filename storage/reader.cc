#include "storage/reader.h"

#include <algorithm>
#include <chrono>
#include <set>

#include "base/log.h"
#include "storage/bind.h"
#include "storage/db.h"
#include "storage/reader_impl.h"

namespace patina::storage {
namespace {

constexpr size_t kQueryBytesMax = 1u << 20;
constexpr int kProgressSteps = 2'000;  // virtual machine steps between looks at the deadline

int AuthorizeRead(void* context, int action, const char* first, const char* second, const char*,
                  const char*) {
  const auto* guard = static_cast<ReadGuard*>(context);
  if (!guard->client_sql) return SQLITE_OK;
  ReadWatch* watch = guard->watch;
  switch (action) {
    case SQLITE_SELECT:
    case SQLITE_RECURSIVE:
      return SQLITE_OK;
    case SQLITE_READ:
      if (watch != nullptr && first != nullptr) {
        watch->reads.insert({first, second == nullptr ? "" : second});
      }
      return SQLITE_OK;
    case SQLITE_FUNCTION:
      if (second != nullptr && std::string_view(second) == "load_extension") return SQLITE_DENY;
      if (watch != nullptr && second != nullptr) watch->functions.insert(second);
      return SQLITE_OK;
    case SQLITE_PRAGMA: {
      // Table-valued pragma functions that only describe.
      const std::string_view name = first == nullptr ? "" : first;
      const bool harmless = name == "table_info" || name == "table_xinfo" || name == "table_list" ||
                            name == "index_list" || name == "index_info" || name == "index_xinfo";
      return harmless ? SQLITE_OK : SQLITE_DENY;
    }
    default:
      return SQLITE_DENY;
  }
}

/// Counts what reads outside of a snapshot: SQLite takes one for each statement.
class PlaceScope {
 public:
  PlaceScope(const Db& db, Snapshots::Place& place)
      : taken_(db.InTransaction() ? nullptr : &place) {
    if (taken_ != nullptr) taken_->EnterWhenOpen();
  }
  ~PlaceScope() {
    if (taken_ != nullptr) taken_->Leave();
  }
  PlaceScope(const PlaceScope&) = delete;
  PlaceScope& operator=(const PlaceScope&) = delete;

 private:
  Snapshots::Place* const taken_;
};

struct QueryWatch {
  std::chrono::steady_clock::time_point deadline;
  const std::atomic<bool>* cancelled;
  const Snapshots::Place* place;
  bool late = false;
};

int QueryProgress(void* context) {
  auto* watch = static_cast<QueryWatch*>(context);
  if (watch->cancelled != nullptr && watch->cancelled->load(std::memory_order_relaxed)) return 1;
  if (watch->place->MustEnd()) return 1;
  if (std::chrono::steady_clock::now() < watch->deadline) return 0;
  watch->late = true;
  return 1;
}

/// Of a query that QueryProgress ended.
Error EndedError(const QueryWatch& watch, const QueryLimits& limits) {
  if (watch.late) {
    return DeadlineExceeded(StrCat("the query and its reader took longer than the deadline of ",
                                   ToMs(limits.deadline), " ms"));
  }
  if (watch.place->MustEnd()) return watch.place->WhyEnded();
  return {Errc::kCancelled, "the query was cancelled"};
}

Error QueryError(Error error) {
  if (error.code == Errc::kPermissionDenied) {
    return InvalidArgument("the statement is not a query that only reads: " + error.message +
                           " (write with State.Execute or patina exec)");
  }
  return error;
}

std::vector<std::string> ColumnNames(const Stmt& statement) {
  std::vector<std::string> names;
  for (int i = 0; i < statement.column_count(); ++i) {
    const char* name = sqlite3_column_name(statement.get(), i);
    names.emplace_back(name == nullptr ? "" : name);
  }
  return names;
}

Status Stream(Stmt& statement, const QueryLimits& limits, QueryWatch& watch, RowSink& sink) {
  if (!sink.OnColumns(ColumnNames(statement))) return OkStatus();
  std::vector<crdt::ValueView> values(static_cast<size_t>(statement.column_count()));
  for (uint64_t rows = 0;; ++rows) {
    const int code = statement.StepRaw();
    if (code == SQLITE_DONE) return OkStatus();
    if (code != SQLITE_ROW) {
      Error error = SqliteError(sqlite3_db_handle(statement.get()));
      return error.code == Errc::kCancelled ? EndedError(watch, limits) : QueryError(error);
    }
    if (rows == limits.rows_max) {
      return ResourceExhausted(StrCat("the answer has more than ", limits.rows_max, " rows"));
    }
    for (size_t i = 0; i < values.size(); ++i) values[i] = statement.Column(static_cast<int>(i));
    if (!sink.OnRow(values)) {
      return watch.place->MustEnd() ? Status(watch.place->WhyEnded()) : OkStatus();
    }
    if (QueryProgress(&watch) != 0) return EndedError(watch, limits);
  }
}

}  // namespace

Result<std::unique_ptr<Reader>> Reader::Open(const std::string& path, ReaderOptions options) {
  ASSIGN_OR_RETURN(Db db, Db::Open(path, Db::Mode::kReadOnly));
  RETURN_IF_ERROR(
      db.Exec(StrCat("PRAGMA query_only = 1; PRAGMA cache_size = -", options.page_cache_kib,
                     "; PRAGMA temp_store = MEMORY; PRAGMA mmap_size = 0")));
  sqlite3_limit(db.get(), SQLITE_LIMIT_ATTACHED, 0);
  RETURN_IF_ERROR(db.ConnectTableFunctions());
  std::unique_ptr<Reader> reader(
      new Reader(std::make_unique<Impl>(std::move(db), std::move(options))));
  sqlite3_set_authorizer(reader->impl_->db.get(), AuthorizeRead, reader->impl_->guard.get());
  return reader;
}

Reader::Reader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Reader::~Reader() = default;

Status Reader::Query(const Statement& query, const QueryLimits& limits, RowSink& sink) {
  Db& db = impl_->db;
  const PlaceScope scope(db, impl_->place);
  QueryWatch watch{std::chrono::steady_clock::now() - limits.spent +
                       std::min<Duration>(limits.deadline, std::chrono::hours(24)),
                   limits.cancelled, &impl_->place};
  impl_->guard->client_sql = true;
  sqlite3_progress_handler(db.get(), kProgressSteps, QueryProgress, &watch);
  Status status = OkStatus();
  {
    Result<Stmt> prepared = PrepareOne(db, query.sql, kQueryBytesMax);
    if (!prepared.ok()) {
      status = QueryError(prepared.error());
    } else if (sqlite3_stmt_readonly(prepared->get()) == 0) {
      status = InvalidArgument("the statement writes; use State.Execute or patina exec");
    } else if (Status bound = BindParameters(*prepared, query); !bound.ok()) {
      status = bound.error();
    } else {
      status = Stream(*prepared, limits, watch, sink);
    }
  }
  sqlite3_progress_handler(db.get(), 0, nullptr, nullptr);
  impl_->guard->client_sql = false;
  return status;
}

Result<uint64_t> Reader::BeginSnapshot() {
  impl_->place.EnterWhenOpen();
  const Status begun = impl_->db.Exec("BEGIN");
  Result<uint64_t> seq =  // the first read takes the snapshot
      begun.ok() ? LastSeq() : Result<uint64_t>(begun.error());
  if (!seq.ok()) EndSnapshot();
  return seq;
}

void Reader::EndSnapshot() {
  if (impl_->db.InTransaction()) (void)impl_->db.Exec("COMMIT");
  impl_->place.Leave();
}

bool Reader::MustEnd() const { return impl_->place.MustEnd(); }

Result<uint64_t> Reader::LastSeq() {
  const PlaceScope scope(impl_->db, impl_->place);
  ASSIGN_OR_RETURN(const int64_t last,
                   impl_->db.QueryInt("SELECT coalesce(max(seq), 0) FROM __patina_log"));
  if (last > 0) return static_cast<uint64_t>(last);
  ASSIGN_OR_RETURN(
      const int64_t noted,
      impl_->db.QueryInt(
          "SELECT coalesce((SELECT value FROM __patina_state WHERE name = 'last_seq'), 0)"));
  return static_cast<uint64_t>(noted);
}

Result<QueryReads> Reader::Analyze(const Statement& query) {
  Db& db = impl_->db;
  const PlaceScope scope(db, impl_->place);
  // SQLite looks whether the tables are others when a statement runs, not when it is prepared.
  RETURN_IF_ERROR(impl_->db.QueryInt("SELECT count(*) FROM (SELECT 1 FROM sqlite_schema LIMIT 1)"));
  ReadWatch watch;
  *impl_->guard = {true, &watch};
  Result<Stmt> prepared = PrepareOne(db, query.sql, kQueryBytesMax);
  *impl_->guard = {};
  if (!prepared.ok()) return QueryError(prepared.error());
  if (sqlite3_stmt_readonly(prepared->get()) == 0) {
    return InvalidArgument("the statement writes; only SELECT can be asked or subscribed to");
  }
  QueryReads reads;
  reads.reads.assign(watch.reads.begin(), watch.reads.end());
  reads.functions.assign(watch.functions.begin(), watch.functions.end());
  for (std::string& name : reads.functions) {
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return std::tolower(c); });
  }
  reads.columns = ColumnNames(*prepared);
  reads.parameters = static_cast<size_t>(sqlite3_bind_parameter_count(prepared->get()));
  RETURN_IF_ERROR(BindParameters(*prepared, query));
  return reads;
}

Result<Reader::LogRange> Reader::ReadLog(const std::vector<crdt::ActorRanges>& wanted,
                                         uint64_t bytes_max) {
  Db& db = impl_->db;
  const bool own_snapshot = !db.InTransaction();  // index and tail have to be of one moment
  if (own_snapshot) {
    RETURN_IF_ERROR(BeginSnapshot());
  }
  Result<LogRange> range = impl_->ReadLog(wanted, bytes_max);
  if (own_snapshot) EndSnapshot();
  return range;
}

Result<std::vector<LogEntry>> Reader::ReadLogAfter(uint64_t after, uint64_t bytes_max) {
  ASSIGN_OR_RETURN(const uint64_t last, LastSeq());
  std::vector<LogEntry> entries;
  if (after >= last) return entries;
  const PlaceScope place(impl_->db, impl_->place);
  Stmt& statement = impl_->log_after;
  if (!statement) {
    ASSIGN_OR_RETURN(
        statement,
        impl_->db.Prepare("SELECT l.seq, a.actor, l.version, l.time, l.kind, l.bytes, l.effect "
                          "FROM __patina_log l LEFT JOIN __patina_actor a ON a.id = l.actor "
                          "WHERE l.seq > ? ORDER BY l.seq"));
  }
  StmtScope scope(statement);
  statement.BindInt(1, static_cast<int64_t>(after));
  for (uint64_t bytes = 0; bytes < bytes_max;) {
    ASSIGN_OR_RETURN(const bool row, statement.Step());
    if (!row) break;
    LogEntry entry;
    entry.seq = static_cast<uint64_t>(statement.ColumnInt(0));
    entry.id.actor = ActorId::FromBytes(statement.ColumnBytes(1)).value_or(ActorId());
    entry.id.version = static_cast<uint64_t>(statement.ColumnInt(2));
    entry.time.bits = static_cast<uint64_t>(statement.ColumnInt(3));
    entry.rows_unknown = statement.ColumnInt(4) != static_cast<int>(LogKind::kChangeset);
    entry.bytes = std::make_shared<const std::string>(statement.ColumnBytes(5));
    entry.effect = statement.ColumnBytes(6);
    if (entries.empty() && entry.seq != after + 1) {
      return OutOfRange(StrCat("the log begins at change ", entry.seq, ", after ", after,
                               " was asked: read the table anew"));
    }
    bytes += entry.bytes->size() + 64;
    entries.push_back(std::move(entry));
  }
  if (entries.empty()) return OutOfRange(StrCat("the log no longer holds change ", after + 1));
  return entries;
}

Status Reader::BeginTransfer(const Schema& schema, const crdt::VersionSet& receiver_applied) {
  return impl_->BeginTransfer(schema, receiver_applied);
}

Result<Reader::TransferChunk> Reader::NextTransferChunk(size_t bytes_max) {
  return impl_->NextTransferChunk(bytes_max);
}

void Reader::EndTransfer() { impl_->EndTransfer(); }

Result<Reader::TransferChunk> Reader::ReadLargeChunk(const ChangeId& id, uint64_t number) {
  const PlaceScope place(impl_->db, impl_->place);
  ASSIGN_OR_RETURN(
      Stmt read,
      impl_->db.Prepare("SELECT bytes, NOT EXISTS (SELECT 1 FROM __patina_chunk n WHERE n.actor = "
                        "c.actor AND n.version = c.version AND n.number = c.number + 1) FROM "
                        "__patina_chunk c WHERE actor = ? AND version = ? AND number = ?",
                        false));
  read.BindChange(id);
  read.BindInt(3, static_cast<int64_t>(number));
  ASSIGN_OR_RETURN(const bool row, read.Step());
  if (!row) return NotFound(StrCat("the log does not hold chunk ", number, " of this transaction"));
  return TransferChunk{std::string(read.ColumnBytes(0)), read.ColumnInt(1) != 0};
}

}  // namespace patina::storage

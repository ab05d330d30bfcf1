#include "storage/file_check.h"

#include <sys/stat.h>

#include <bitset>
#include <unordered_map>
#include <utility>

#include "base/log.h"
#include "storage/digest.h"
#include "storage/introspect.h"
#include "storage/lives.h"
#include "storage/log.h"
#include "storage/table_io.h"

namespace patina::storage {
namespace {

constexpr size_t kProblemsMax = 20;
constexpr int kProgressSteps = 10'000;  // of SQLite's machine, between two looks at cancelled

using TouchedBuckets = std::bitset<kDigestBuckets>;

class Check {
 public:
  Check(Db db, const std::atomic<bool>* cancelled) : db_(std::move(db)), cancelled_(cancelled) {}

  Result<FileReport> Run() {
    sqlite3_progress_handler(db_.get(), kProgressSteps, IsCancelled, this);
    if (auto identity = ReadIdentity(db_); identity.ok()) {
      report_.identity = *std::move(identity);
    } else {
      Problem(identity.error().message);
    }
    RETURN_IF_ERROR(db_.Exec("BEGIN"));  // one snapshot, should somebody be writing
    CheckPages();
    // A page that cannot be read is one more problem, not the end.
    if (Status status = CheckDigests(); !status.ok()) Problem(status.error().message);
    if (IsCancelled(this) != 0) return Error{Errc::kCancelled, "the check was cancelled"};
    return std::move(report_);
  }

 private:
  static int IsCancelled(void* self) {
    const auto* cancelled = static_cast<const Check*>(self)->cancelled_;
    return cancelled != nullptr && cancelled->load(std::memory_order_relaxed) ? 1 : 0;
  }

  void Problem(std::string text) {
    if (report_.problems.size() < kProblemsMax) report_.problems.push_back(std::move(text));
  }

  void CheckPages() {
    const auto problems = db_.Problems("integrity_check(10)");
    if (!problems.ok()) return Problem("SQLite: " + problems.error().message);
    for (const std::string& problem : *problems) Problem("SQLite: " + problem);
  }

  Status CheckDigests() {
    RETURN_IF_ERROR(LoadActors());
    ASSIGN_OR_RETURN(const int64_t checkpoint, StateInt("last_seq"));
    ASSIGN_OR_RETURN(const int64_t valid, StateInt("digests_valid"));
    report_.seq = static_cast<uint64_t>(checkpoint);
    RETURN_IF_ERROR(ReadTail(checkpoint));
    ASSIGN_OR_RETURN(const Schema schema, SchemaInFile(db_, {}));
    ASSIGN_OR_RETURN(Stmt stored,
                     db_.Prepare("SELECT value FROM __patina_state WHERE name = ?", false));
    for (const Table& table : schema.tables) {
      StmtScope scope(stored);
      const std::string entry = "digest:" + table.name;
      stored.BindText(1, entry);
      ASSIGN_OR_RETURN(const bool found, stored.Step());
      const std::string digest(found ? stored.ColumnBytes(0) : std::string_view());
      if (Status status = CheckTable(table, digest, valid == 1); !status.ok()) {
        Problem("table " + table.name + ": " + status.error().message);
      }
    }
    return OkStatus();
  }

  Status CheckTable(const Table& table, std::string_view stored, bool comparable) {
    TableIo io(&db_, &table, 0);
    RowHasher hasher(table);
    RETURN_IF_ERROR(io.RecomputeDigest(&hasher, actors_, {}));
    report_.tables.push_back({table.name, io.digest.Fold(), io.digest.rows});
    if (!comparable || stored.empty()) {  // made anew at the next start
      report_.buckets_not_compared += kDigestBuckets;
      return OkStatus();
    }
    ByteReader in(stored);
    if (in.remaining() != (kDigestBuckets + 1) * sizeof(uint64_t)) {
      return DataLoss("its stored digest is damaged");
    }
    const TouchedBuckets& touched = touched_[table.name];
    report_.buckets_not_compared += touched.count();
    uint64_t differing = 0;
    for (size_t bucket = 0; bucket < kDigestBuckets; ++bucket) {
      if (in.U64() != io.digest.buckets[bucket] && !touched.test(bucket)) ++differing;
    }
    if (differing == 0) return OkStatus();
    return DataLoss(StrCat("its rows are not those of the last checkpoint (", differing, " of ",
                           kDigestBuckets, " parts differ)"));
  }

  Status LoadActors() {
    ASSIGN_OR_RETURN(Stmt select,
                     db_.Prepare("SELECT id, actor FROM __patina_actor ORDER BY id", false));
    while (true) {
      ASSIGN_OR_RETURN(const bool row, select.Step());
      if (!row) return OkStatus();
      const auto id = ActorId::FromBytes(select.ColumnBytes(1));
      if (!id || select.ColumnInt(0) != actors_.size()) {
        return DataLoss("table __patina_actor is damaged");
      }
      actors_.Restore(static_cast<crdt::ActorIndex>(select.ColumnInt(0)), *id);
    }
  }

  Result<int64_t> StateInt(const char* name) {
    return db_.QueryInt(StrCat("SELECT value FROM __patina_state WHERE name = '", name, "'"));
  }

  /// Which parts of which tables were written after the checkpoint.
  Status ReadTail(int64_t checkpoint) {
    ASSIGN_OR_RETURN(Stmt tail, db_.Prepare("SELECT seq, kind, bytes FROM __patina_log WHERE seq > "
                                            "? ORDER BY seq",
                                            false));
    tail.BindInt(1, checkpoint);
    while (true) {
      ASSIGN_OR_RETURN(const bool row, tail.Step());
      if (!row) return OkStatus();
      ++report_.tail;
      report_.seq = static_cast<uint64_t>(tail.ColumnInt(0));
      if (tail.ColumnInt(1) != static_cast<int64_t>(LogKind::kChangeset)) continue;
      if (Status status = NoteTouched(tail.ColumnBytes(2)); !status.ok()) {
        return DataLoss(StrCat("log entry ", report_.seq, ": ", status.error().message));
      }
    }
  }

  Status NoteTouched(std::string_view bytes) {
    ASSIGN_OR_RETURN(crdt::ChangesetReader reader, crdt::ChangesetReader::Open(bytes));
    crdt::TableChange table;
    crdt::RowOp row;
    while (true) {
      ASSIGN_OR_RETURN(const bool more_tables, reader.NextTable(&table));
      if (!more_tables) return OkStatus();
      TouchedBuckets& touched = touched_[std::string(table.name)];
      while (true) {
        ASSIGN_OR_RETURN(const bool more_rows, reader.NextRow(&row));
        if (!more_rows) break;
        touched.set(BucketOfKey(row.key));
      }
    }
  }

  Db db_;
  const std::atomic<bool>* const cancelled_;
  crdt::ActorTable actors_;
  std::unordered_map<std::string, TouchedBuckets> touched_;
  FileReport report_;
};

}  // namespace

Result<FileIdentity> ReadIdentity(Db& db) {
  FileIdentity identity;
  ASSIGN_OR_RETURN(Stmt select,
                   db.Prepare("SELECT name, value FROM __patina_state WHERE name IN ('format', "
                              "'cluster')",
                              false));
  while (true) {
    ASSIGN_OR_RETURN(const bool row, select.Step());
    if (!row) return identity;
    if (select.ColumnBytes(0) == "format") {
      identity.format = select.ColumnInt(1);
    } else {
      identity.cluster = select.ColumnBytes(1);
    }
  }
}

Status CheckIdentity(const FileIdentity& identity, const std::string& cluster,
                     const std::string& path) {
  if (identity.format > kFileFormat) {
    return FailedPrecondition(StrCat(path, " was written by a newer release (format ",
                                     identity.format, ", this one knows formats up to ",
                                     kFileFormat, "): upgrade patina on this host first"));
  }
  if (identity.cluster.empty() || cluster.empty() || identity.cluster == cluster) return OkStatus();
  return FailedPrecondition(
      StrCat(path, " is of cluster '", identity.cluster, "', and this node is configured for '",
             cluster, "' (gossip.cluster). If it really is to become a node of '", cluster,
             "', move the file away and say `patina restore FILE --new-cluster`"));
}

Status SaveIdentity(Db& db, const FileIdentity& before, const std::string& cluster) {
  ASSIGN_OR_RETURN(Stmt save,
                   db.Prepare("INSERT OR REPLACE INTO __patina_state VALUES (?, ?)", false));
  auto put = [&](const char* name, const crdt::ValueView& value) {
    save.BindText(1, name);
    save.Bind(2, value);
    return save.Run();
  };
  if (before.format != kFileFormat) {
    RETURN_IF_ERROR(put("format", crdt::ValueView::Integer(kFileFormat)));
  }
  if (cluster.empty() || before.cluster == cluster) return OkStatus();
  return put("cluster", crdt::ValueView::Text(cluster));
}

Status SetCluster(const std::string& path, const std::string& cluster) {
  ASSIGN_OR_RETURN(Db db, Db::Open(path, Db::Mode::kReadWriteCreate));
  ASSIGN_OR_RETURN(const FileIdentity identity, ReadIdentity(db));
  return SaveIdentity(db, identity, cluster);
}

Result<FileReport> VerifyFile(const std::string& path, const std::atomic<bool>* cancelled) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return NotFound("there is no file " + path);
  ASSIGN_OR_RETURN(Db db, Db::Open(path, Db::Mode::kInspect));
  Result<int64_t> ours =
      db.QueryInt("SELECT count(*) FROM sqlite_master WHERE name = '__patina_state'");
  if (!ours.ok()) {
    return Error{ours.error().code, path + " cannot be read: " + ours.error().message};
  }
  if (*ours == 0) return FailedPrecondition(path + " is a SQLite file, but not that of a node");
  return Check(std::move(db), cancelled).Run();
}

Status CheckPages(const std::string& path, const std::atomic<bool>& stop) {
  ASSIGN_OR_RETURN(Db db, Db::Open(path, Db::Mode::kReadOnly));
  std::vector<std::string> tables;
  {
    ASSIGN_OR_RETURN(Stmt list, db.Prepare("SELECT name FROM sqlite_schema WHERE type = 'table' "
                                           "AND name NOT LIKE 'sqlite!_%' ESCAPE '!'",
                                           false));
    while (true) {
      ASSIGN_OR_RETURN(const bool row, list.Step());
      if (!row) break;
      tables.emplace_back(list.ColumnBytes(0));
    }
  }
  for (const std::string& table : tables) {
    if (stop) return OkStatus();
    ASSIGN_OR_RETURN(const auto problems, db.Problems("quick_check(" + QuoteName(table) + ")"));
    if (!problems.empty()) {
      return DataLoss("table " + table + " in " + path + " is damaged: " + problems[0] +
                      "; `patina reseed` rebuilds this node from a peer");
    }
  }
  return OkStatus();
}

}  // namespace patina::storage

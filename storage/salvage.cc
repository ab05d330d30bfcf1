#include "storage/salvage.h"

#include <limits>
#include <unordered_map>
#include <utility>

#include "base/log.h"
#include "crdt/manifest.h"
#include "storage/db.h"
#include "storage/log.h"

namespace patina::storage {
namespace {

constexpr size_t kProblemsMax = 20;
/// Rows asked for one by one between those that could be read in order; a lookup is some
/// microseconds.
constexpr int64_t kSingleLookupsMax = 2'000'000;
/// The same behind the last row that could be read, if no later one can: how many there were is not
/// known.
constexpr int64_t kLookupsPastEnd = 10'000;

class Salvage {
 public:
  Salvage(Db db, const std::string& node_name, const SalvageTaker& take)
      : db_(std::move(db)), node_name_(node_name), take_(take) {}

  Result<SalvageReport> Run() {
    (void)db_.Exec("PRAGMA cell_size_check = 1; BEGIN");
    RETURN_IF_ERROR(ForEach("__patina_actor", "id", "node", [this](Stmt& row) {
      own_[row.ColumnInt(0)] = row.ColumnBytes(1) == node_name_;
      return OkStatus();
    }));
    RETURN_IF_ERROR(
        ForEach("__patina_log", "seq", "actor, version, kind, bytes", [this](Stmt& row) {
          if (row.ColumnInt(3) == static_cast<int64_t>(LogKind::kTransfer)) return OkStatus();
          return Take(row.ColumnInt(1), row.ColumnInt(2), row.ColumnBytes(4));
        }));
    RETURN_IF_ERROR(ReadParked());
    RETURN_IF_ERROR(Flush());
    return std::move(report_);
  }

 private:
  using OnRow = std::function<Status(Stmt&)>;

  void Problem(const std::string& text) {
    if (report_.problems.size() < kProblemsMax) report_.problems.push_back(text);
  }

  Status Take(int64_t actor, int64_t version, std::string_view bytes) {
    const auto own = own_.find(actor);
    if (own != own_.end() && !own->second) return OkStatus();
    if (crdt::IsManifest(bytes)) return TakeLarge(version, std::string(bytes));
    const auto reader = crdt::ChangesetReader::Open(bytes);
    if (!reader.ok() || reader->header().id.version != static_cast<uint64_t>(version)) {
      ++report_.unreadable;
      return OkStatus();
    }
    batch_.push_back(std::make_shared<const std::string>(bytes));
    batch_bytes_ += bytes.size();
    ++report_.changes;
    return batch_bytes_ < kSalvageBatchBytes ? OkStatus() : Flush();
  }

  Status TakeLarge(int64_t version, const std::string& bytes) {
    const auto manifest = crdt::DecodeManifest(bytes);
    if (!manifest.ok() || manifest->header.id.version != static_cast<uint64_t>(version)) {
      ++report_.unreadable;
      return OkStatus();
    }
    ++report_.changes;
    return take_.large(bytes, [&](uint64_t number) { return ReadChunk(*manifest, number); });
  }

  Result<std::string> ReadChunk(const crdt::Manifest& manifest, uint64_t number) {
    const ChangeId& id = manifest.header.id;
    Result<std::optional<std::string>> bytes = storage::ReadChunk(db_, id, number);
    if (bytes.ok() && *bytes) return std::move(**bytes);
    ++report_.unreadable;
    Problem(StrCat("chunk ", number, " of ", manifest.chunks, " of a large transaction (version ",
                   id.version, ", ", manifest.rows,
                   " rows): ", bytes.ok() ? "it is not there" : bytes.error().message));
    return NotFound("that chunk cannot be read");
  }

  Status Flush() {
    if (batch_.empty()) return OkStatus();
    batch_bytes_ = 0;
    return take_.changes(std::exchange(batch_, {}));
  }

  /// Steps to the end. False: a page on the way cannot be read. *last_id: of the last row that
  /// could.
  Result<bool> Walk(Stmt& rows, const OnRow& on_row, int64_t* last_id) {
    while (true) {
      const int code = rows.StepRaw();
      if (code == SQLITE_DONE) return true;
      if (code != SQLITE_ROW) return false;
      *last_id = rows.ColumnInt(0);
      RETURN_IF_ERROR(on_row(rows));
    }
  }

  /// All rows that can be read of a table with an integer key: from the front as far as it goes,
  /// then from the back, then what lies between, one by one.
  Status ForEach(const std::string& table, const std::string& id, const std::string& columns,
                 const OnRow& on_row) {
    const std::string select = "SELECT " + id + ", " + columns + " FROM " + table;
    Result<Stmt> forward = db_.Prepare(select + " ORDER BY " + id, false);
    Result<Stmt> backward =
        db_.Prepare(select + " WHERE " + id + " > ? ORDER BY " + id + " DESC", false);
    Result<Stmt> one = db_.Prepare(select + " WHERE " + id + " = ?", false);
    if (!forward.ok() || !backward.ok() || !one.ok()) {
      Problem(table + " cannot be read at all: " +
              (forward.ok() ? db_.LastError().message : forward.error().message));
      return OkStatus();
    }
    int64_t front = 0;
    ASSIGN_OR_RETURN(const bool whole, Walk(*forward, on_row, &front));
    if (whole) return OkStatus();
    Problem(table + ": " + db_.LastError().message + ", reading past it");
    forward->Reset();
    int64_t back = std::numeric_limits<int64_t>::max();
    backward->BindInt(1, front);
    ASSIGN_OR_RETURN(const bool reached, Walk(*backward, on_row, &back));
    backward->Reset();
    if (reached) return OkStatus();
    const bool end_known = back != std::numeric_limits<int64_t>::max();
    if (!end_known) back = front + kLookupsPastEnd;
    if (back - front > kSingleLookupsMax) {
      Problem(
          StrCat(table, ": rows ", front + kSingleLookupsMax, " to ", back - 1, " not looked for"));
      back = front + kSingleLookupsMax;
    }
    return LookUpOneByOne(*one, front, back, on_row);
  }

  Status LookUpOneByOne(Stmt& one, int64_t after, int64_t before, const OnRow& on_row) {
    for (int64_t id = after + 1; id < before; ++id) {
      StmtScope scope(one);
      one.BindInt(1, id);
      const int code = one.StepRaw();
      if (code == SQLITE_ROW) RETURN_IF_ERROR(on_row(one));
      if (code != SQLITE_ROW && code != SQLITE_DONE) ++report_.unreadable;
    }
    return OkStatus();
  }

  Status ReadParked() {
    for (const char* order : {"", " DESC"}) {
      Result<Stmt> rows =
          db_.Prepare(StrCat("SELECT actor, version, bytes FROM __patina_parked ORDER BY actor",
                             order, ", version", order),
                      false);
      if (!rows.ok()) {
        Problem("__patina_parked cannot be read at all: " + rows.error().message);
        return OkStatus();
      }
      int64_t last = 0;
      ASSIGN_OR_RETURN(const bool whole, Walk(
                                             *rows,
                                             [this](Stmt& row) {
                                               return Take(row.ColumnInt(0), row.ColumnInt(1),
                                                           row.ColumnBytes(2));
                                             },
                                             &last));
      if (whole) return OkStatus();
      Problem("__patina_parked: " + db_.LastError().message + ", reading past it");
    }
    return OkStatus();
  }

  Db db_;
  const std::string node_name_;
  const SalvageTaker& take_;
  std::unordered_map<int64_t, bool> own_;  // actor's number -> it is the node's
  std::vector<SharedBytes> batch_;
  size_t batch_bytes_ = 0;
  SalvageReport report_;
};

}  // namespace

Result<SalvageReport> SalvageOwnChanges(const std::string& path, const std::string& node_name,
                                        const SalvageTaker& take) {
  Result<Db> db = Db::Open(path, Db::Mode::kInspect);
  if (!db.ok()) {
    SalvageReport report;
    report.problems.push_back(db.error().message);
    return report;
  }
  return Salvage(*std::move(db), node_name, take).Run();
}

Result<MergeOutcome> MergeSalvaged(Store& store, const std::string& bytes,
                                   const SalvageTaker::ReadChunk& read, CommitEffects* effects) {
  ASSIGN_OR_RETURN(const crdt::Manifest manifest, crdt::DecodeManifest(bytes));
  const ChangeId& id = manifest.header.id;
  const auto take = [&]() -> Result<MergeOutcome> {
    ASSIGN_OR_RETURN(const uint64_t first, store.StageLarge(bytes));
    for (uint64_t number = first; number < manifest.chunks; ++number) {
      ASSIGN_OR_RETURN(const std::string chunk, read(number));
      RETURN_IF_ERROR(store.StageLargeChunk(id, number, chunk));
    }
    return store.MergeLarge(id, effects);
  };
  Result<MergeOutcome> outcome = take();
  if (outcome.ok()) return outcome;
  const Errc code = outcome.error().code;
  const bool of_the_change = code == Errc::kNotFound || code == Errc::kInvalidArgument ||
                             code == Errc::kResourceExhausted || code == Errc::kDataLoss;
  if (!of_the_change || store.broken()) return outcome;
  return MergeOutcome{id, MergeState::kRejected, outcome.error().message};
}

}  // namespace patina::storage

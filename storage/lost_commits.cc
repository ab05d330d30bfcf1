#include "base/log.h"
#include "storage/store_impl.h"
#include "storage/wal_check.h"

// Commits that were acknowledged and are gone: noticed at the start, told, and struck off as peers
// return them (docs/decisions/0009-commits-that-are-gone.md).

namespace patina::storage {
namespace {

/// The newest log entry that a connection sees; 0 in a new file.
Result<uint64_t> NewestEntry(Db& db) {
  ASSIGN_OR_RETURN(const bool there, db.HasTable("__patina_log"));
  if (!there) return uint64_t{0};
  ASSIGN_OR_RETURN(
      const int64_t newest,
      db.QueryInt("SELECT max(coalesce((SELECT max(seq) FROM __patina_log), 0), coalesce((SELECT "
                  "value FROM __patina_state WHERE name = 'last_seq'), 0))"));
  return static_cast<uint64_t>(newest);
}

uint64_t CountOf(const std::vector<crdt::ActorRanges>& lost) {
  uint64_t count = 0;
  for (const crdt::ActorRanges& actor : lost) {
    for (const crdt::VersionRange& range : actor.ranges) count += range.last - range.first + 1;
  }
  return count;
}

}  // namespace

Status Store::Impl::CompareWithAcked() {
  Result<std::unique_ptr<AckedFile>> opened = AckedFile::Open(options.path + "-acked");
  if (!opened.ok()) {
    LogWarning("storage", opened.error().message, ": commits that get lost will not be noticed");
    return OkStatus();
  }
  acked = std::move(*opened);
  ASSIGN_OR_RETURN(const uint64_t newest, NewestEntry(*db));
  if (acked->last_seq() <= newest) return OkStatus();
  LogError(
      "storage", options.path, " ends with change ", newest, ", but ", acked->last_seq(),
      " was acknowledged: its write-ahead log is damaged, or an older file was put in its place");
  RETURN_IF_ERROR(CheckSound(*db, options.path));
  // Without the log's index (files that were copied) nobody knows how much of the log had been
  // copied to the database: should that be more than is left of it, the two are no state that ever
  // was.
  wal_limit.reset();
  sqlite3_db_config(db->get(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  db.reset();  // the end of the one that reads the file alone would end this one's locks
  uint64_t in_file = 0;
  if (Result<Db> alone = Db::Open(options.path, Db::Mode::kFileAlone); alone.ok())
    in_file = NewestEntry(*alone).value_or(0);
  if (in_file > newest) {
    return DataLoss(StrCat(options.path, " is damaged: it ends with change ", in_file,
                           ", its write-ahead log with ", newest,
                           "; `patina reseed` rebuilds it from a peer"));
  }
  return OpenConnection();
}

void Store::Impl::NoteAcked() {
  if (acked == nullptr) return;
  if (version > 0 && !acked->has_actor()) acked->SetActor(actor, received);
  acked->Note(last_seq, version);
}

std::vector<crdt::ActorRanges> Store::Impl::LostCommits() const {
  if (acked == nullptr) return {};
  std::vector<crdt::ActorRanges> lost = acked->Missing(received);
  std::erase_if(lost, [this](const auto& ranges) { return ranges.actor == actor; });
  return lost;
}

std::string Store::Impl::DescribeLostCommits() const {
  const std::vector<crdt::ActorRanges> lost = LostCommits();
  if (lost.empty()) return {};
  std::string which;
  for (const crdt::ActorRanges& actor_ranges : lost) {
    which += (which.empty() ? "" : "; ") + actor_ranges.actor.ToString() + ":";
    for (const crdt::VersionRange& range : actor_ranges.ranges) {
      which += StrCat(" ", range.first);
      if (range.last != range.first) which += StrCat("-", range.last);
    }
  }
  return StrCat(CountOf(lost), " commits that this node had acknowledged are gone (a damaged log, ",
                "or an older file), and no peer has returned them yet: versions of ", which);
}

}  // namespace patina::storage

#include "storage/peer_snapshot.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "storage/backup.h"
#include "storage/store_impl.h"
#include "storage/transfer_source.h"

namespace patina::storage {
namespace {

std::string SystemError() { return std::generic_category().message(errno); }

bool Remove(const std::string& path) { return ::unlink(path.c_str()) == 0 || errno == ENOENT; }

}  // namespace

std::string PreparedSnapshotPath(const std::string& path) { return path + ".snapshot"; }

Status AdoptPreparedSnapshot(const std::string& path) {
  const std::string prepared = PreparedSnapshotPath(path);
  struct stat info {};
  if (::stat(prepared.c_str(), &info) != 0) return OkStatus();
  // What was acknowledged is in the new file, received or set aside: "-acked" tells of the old one.
  for (const char* suffix : {"-wal", "-shm", "-journal", "-acked"}) {
    if (!Remove(path + suffix))
      return FailedPrecondition(path + suffix + " cannot be removed: " + SystemError());
  }
  RETURN_IF_ERROR(SyncFolder(FolderOf(path)));
  if (::rename(prepared.c_str(), path.c_str()) != 0)
    return FailedPrecondition(prepared + " cannot be renamed: " + SystemError());
  RETURN_IF_ERROR(SyncFolder(FolderOf(path)));
  LogInfo("storage", "a peer's snapshot has taken the place of ", path);
  return OkStatus();
}

Status Store::Impl::CheckSnapshot(const std::string& staged_path) const {
  ASSIGN_OR_RETURN(Db copy, Db::Open(staged_path, Db::Mode::kReadOnly));
  auto state = [&](const char* name) {
    return copy.QueryInt(StrCat("SELECT value FROM __patina_state WHERE name = '", name, "'"));
  };
  ASSIGN_OR_RETURN(const int64_t hash, state("schema_hash"));
  if (static_cast<uint64_t>(hash) != schema.Hash()) {
    return FailedPrecondition(
        "the snapshot is of another schema; it can be taken when both nodes have the same");
  }
  ASSIGN_OR_RETURN(const int64_t their_horizon, state("horizon"));
  if (crdt::HlcTime{static_cast<uint64_t>(their_horizon)} < horizon)
    return FailedPrecondition("the snapshot's horizon is below this node's; the other takes ours");
  ASSIGN_OR_RETURN(const int64_t newest, state("hlc"));
  if (FromTheFuture({static_cast<uint64_t>(newest)}))
    return Unavailable("the snapshot holds a write from the future; ask again later");
  return OkStatus();
}

Status Store::Impl::CheckDigests() {
  std::vector<Digest128> stored;
  for (const auto& table : tables) {
    stored.push_back(table->digest.Fold());
    table->digest_dirty = true;
  }
  RETURN_IF_ERROR(RecomputeDigests());
  for (size_t i = 0; i < tables.size(); ++i) {
    tables[i]->digest_dirty = false;
    if (!(tables[i]->digest.Fold() == stored[i])) {
      return DataLoss(
          "the rows of table " + tables[i]->table().name +
          " are not those of its digest; take the snapshot again, or from another node");
    }
  }
  return OkStatus();
}

Status Store::Impl::ForEachKnownTime(
    const std::function<void(const ChangeId&, crdt::HlcTime)>& note) {
  for (const auto& [id, change] : parked) note(id, change.time);
  ASSIGN_OR_RETURN(
      Stmt log,
      db->Prepare("SELECT actor, version, time FROM __patina_log WHERE kind <> 1", false));
  size_t step = 0;
  auto note_stamp = [&](const crdt::Stamp& stamp) {
    if (!stamp.IsNever()) note({actors.Get(stamp.actor), stamp.version}, stamp.time);
  };
  for (;; ++step) {
    NoteStep(step);
    ASSIGN_OR_RETURN(const bool row, log.Step());
    if (!row) break;
    const auto index = static_cast<crdt::ActorIndex>(log.ColumnInt(0));
    if (index >= actors.size()) return DataLoss("the log names an unknown actor");
    note_stamp({{static_cast<uint64_t>(log.ColumnInt(2))},
                static_cast<uint64_t>(log.ColumnInt(1)),
                index});
  }
  for (const auto& table : tables) {
    for (const bool dead : {false, true}) {
      ASSIGN_OR_RETURN(
          Stmt clocks,
          db->Prepare("SELECT clock FROM " + (dead ? table->dead_table() : table->clock_table()),
                      false));
      for (;; ++step) {
        NoteStep(step);
        ASSIGN_OR_RETURN(const bool row, clocks.Step());
        if (!row) break;
        ByteReader in(clocks.ColumnBytes(0));
        if (!dead) in.U32();  // the short hash of the key
        crdt::RowClock clock;
        if (!crdt::RowClock::Decode(in, actors.size(), &clock))
          return DataLoss("a clock of table " + table->table().name + " is damaged");
        note_stamp(clock.existence());
        for (size_t i = 0; i < clock.ColumnLimit(); ++i)
          note_stamp(clock.Cell(static_cast<crdt::ColumnIndex>(i)));
      }
    }
  }
  return OkStatus();
}

Result<SnapshotShare> Store::Impl::DivideForSnapshot(const Impl& staged) {
  SnapshotShare share;
  const crdt::VersionSet extra = received.Without(staged.applied);
  if (extra.Empty()) return share;
  crdt::VersionSet older, newer;
  RETURN_IF_ERROR(ForEachKnownTime([&](const ChangeId& id, crdt::HlcTime time) {
    if (extra.Contains(id)) (time < staged.horizon ? older : newer).Add(id);
  }));
  // A version of unknown time was overwritten; if that was by one that goes, it must not be
  // claimed.
  const bool some_go = !older.Empty() || !HasAllCollected(collected, applied, staged.applied);
  share.kept = some_go ? newer : extra;
  if (options.mutant == Mutant::kOwnUnsentOnly) {
    crdt::VersionSet own;
    for (const crdt::ActorRanges& of_actor : share.kept.AllRanges()) {
      const auto name = node_names.find(of_actor.actor);
      if (name == node_names.end() || name->second != options.node_name) continue;
      for (const crdt::VersionRange& range : of_actor.ranges) own.AddRange(of_actor.actor, range);
    }
    share.kept = own;
    return share;
  }
  share.set_aside = extra.Without(share.kept).Without(staged.received);
  return share;
}

Status Store::Impl::ReadOwnRows(const crdt::VersionSet& without,
                                const std::function<Status(std::string)>& take) {
  ASSIGN_OR_RETURN(const auto source, TransferSource::Open(db.get(), schema, without));
  for (bool last = false; !last;) {
    ASSIGN_OR_RETURN(std::string chunk, source->Next(size_t{1} << 20, &last));
    RETURN_IF_ERROR(take(std::move(chunk)));
    NoteProgress();
  }
  return OkStatus();
}

/// As a transfer from the old file, of what is kept.
Status Store::Impl::MergeKeptRows(const SnapshotShare& share, Impl* staged) {
  TransferDecode decode;
  decode.own_rows = true;
  crdt::VersionSet waiting;
  for (const auto& [id, change] : parked) waiting.Add(id);
  crdt::VersionSet unwanted = staged->applied;
  unwanted.Union(received.Without(share.kept));
  staged->cache.Clear();
  staged->IgnoreChecks(true);
  const Spilling spilling(*staged->db);
  RETURN_IF_ERROR(staged->begin.Run());
  RETURN_IF_ERROR(ReadOwnRows(unwanted, [&](const std::string& chunk) {
    return staged->MergeTransferChunk(chunk, &decode);
  }));
  decode.claimed = share.kept.Without(waiting);
  RETURN_IF_ERROR(staged->FinishTransfer(decode));
  staged->AdoptTransfer(decode);
  return OkStatus();
}

/// Changesets of the log and parked ones, so that others can be served and what is due be applied.
Status Store::Impl::CarryKeptChanges(const SnapshotShare& share, Impl* staged) {
  ASSIGN_OR_RETURN(
      Stmt log,
      db->Prepare("SELECT actor, version, time, bytes, effect, kind FROM __patina_log WHERE kind "
                  "<> 1 ORDER BY seq",
                  false));
  staged->next_seq = staged->last_seq;
  for (size_t step = 0;; ++step) {
    NoteStep(step);
    ASSIGN_OR_RETURN(const bool row, log.Step());
    if (!row) break;
    const ChangeId id{actors.Get(static_cast<crdt::ActorIndex>(log.ColumnInt(0))),
                      static_cast<uint64_t>(log.ColumnInt(1))};
    if (!share.kept.Contains(id)) continue;
    RETURN_IF_ERROR(staged->AppendLog(
        {{static_cast<uint64_t>(log.ColumnInt(2))}, id.version, staged->actors.Intern(id.actor)},
        static_cast<LogKind>(log.ColumnInt(5)), log.ColumnBytes(3), log.ColumnBytes(4)));
    if (crdt::IsManifest(log.ColumnBytes(3))) RETURN_IF_ERROR(CarryChunks(id, staged));
  }
  ASSIGN_OR_RETURN(
      Stmt waiting,
      db->Prepare("SELECT actor, version, time, reason, bytes FROM __patina_parked", false));
  while (true) {
    ASSIGN_OR_RETURN(const bool row, waiting.Step());
    if (!row) break;
    const crdt::ChangesetHeader header{
        {actors.Get(static_cast<crdt::ActorIndex>(waiting.ColumnInt(0))),
         static_cast<uint64_t>(waiting.ColumnInt(1))},
        {static_cast<uint64_t>(waiting.ColumnInt(2))},
        0};
    if (!share.kept.Contains(header.id) || staged->applied.Contains(header.id)) continue;
    RETURN_IF_ERROR(
        staged->Park(header, waiting.ColumnBytes(4), std::string(waiting.ColumnBytes(3))));
    if (!crdt::IsManifest(waiting.ColumnBytes(4))) continue;
    RETURN_IF_ERROR(CarryChunks(header.id, staged));
    RETURN_IF_ERROR(staged->NoteStaged(header.id, waiting.ColumnBytes(4)));
  }
  return OkStatus();
}

/// What is this node's and not the sender's: names of its actors, the clock it has published.
Status Store::Impl::CarryOwnState(Impl* staged) {
  RETURN_IF_ERROR(staged->SaveActors());
  ASSIGN_OR_RETURN(
      Stmt name, staged->db->Prepare("UPDATE __patina_actor SET node = ? WHERE actor = ?", false));
  for (const auto& [id, node] : node_names) {
    StmtScope scope(name);
    name.BindText(1, node);
    name.BindBlob(2, id.AsBytes());
    RETURN_IF_ERROR(name.Run());
  }
  // Who is away and was a member here still counts; a new node has the sender's list.
  ASSIGN_OR_RETURN(const std::string members, SavedMembers());
  if (!members.empty())
    RETURN_IF_ERROR(staged->SaveState("members", crdt::ValueView::Blob(members)));
  const crdt::HlcTime carried = std::max(published, staged->horizon);
  return staged->SaveState("published",
                           crdt::ValueView::Integer(static_cast<int64_t>(carried.bits)));
}

/// Whole and synced, under the name that the next Open looks for.
Status Store::Impl::NamePrepared(const std::string& staged_path) const {
  const std::string prepared = PreparedSnapshotPath(options.path);
  if (FolderOf(staged_path) != FolderOf(prepared))
    return InvalidArgument(staged_path + " is not in the folder of " + options.path);
  RETURN_IF_ERROR(SyncFile(staged_path));
  if (::rename(staged_path.c_str(), prepared.c_str()) != 0)
    return Internal(staged_path + " cannot be renamed to " + prepared + ": " + SystemError());
  return SyncFolder(FolderOf(prepared));
}

Result<SnapshotOutcome> Store::Impl::PrepareSnapshot(const std::string& staged_path) {
  if (broken) return Unavailable("the store is broken; the agent must restart");
  RETURN_IF_ERROR(CheckSnapshot(staged_path));
  RETURN_IF_ERROR(Checkpoint());
  SnapshotOutcome outcome;
  {
    StoreOptions theirs = options;
    theirs.path = staged_path;
    Impl staged(std::move(theirs));
    staged.cluster_minus_steady_ms = cluster_minus_steady_ms;
    staged.on_progress = on_progress;
    staged.settles_at_open = false;
    RETURN_IF_ERROR(staged.Open());
    RETURN_IF_ERROR(staged.CheckDigests());
    ASSIGN_OR_RETURN(const SnapshotShare share, DivideForSnapshot(staged));
    if (!share.kept.Empty()) RETURN_IF_ERROR(MergeKeptRows(share, &staged));
    const Spilling spilling(*staged.db);
    RETURN_IF_ERROR(staged.begin.Run());
    // First: it drops chunks that nothing needs, and what is kept is not in the log's index yet.
    RETURN_IF_ERROR(CarrySetAside(share, &staged));
    RETURN_IF_ERROR(CarryKeptChanges(share, &staged));
    RETURN_IF_ERROR(CarryOwnState(&staged));
    RETURN_IF_ERROR(staged.Commit("taking a snapshot"));
    staged.actors_saved = staged.actors.size();
    staged.last_seq = staged.next_seq;
    RETURN_IF_ERROR(staged.Close());
    outcome = {staged.horizon, share.kept.Size(), share.set_aside.Size()};
    // One file without a log of its own, so that it has its place by one renaming.
    RETURN_IF_ERROR(staged.db->Exec("PRAGMA journal_mode = DELETE"));
  }
  RETURN_IF_ERROR(NamePrepared(staged_path));
  broken = true;
  LogInfo("storage", "a peer's snapshot is ready to take the file's place: ", outcome.kept,
          " changes of this node's are kept, ", outcome.set_aside, " set aside");
  return outcome;
}

}  // namespace patina::storage

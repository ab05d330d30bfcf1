#include "agent/offline.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <system_error>
#include <utility>

#include "agent/folder_lock.h"
#include "base/clock.h"
#include "base/log.h"
#include "storage/backup.h"
#include "storage/db.h"
#include "storage/peer_snapshot.h"

namespace patina::agent {
namespace {

constexpr const char* kSuffixes[] = {"", "-wal", "-shm"};

bool Exists(const std::string& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0;
}

/// What root makes is to be the agent's, which may run as another user: the folder's owner.
Status GiveToOwner(const std::string& folder, const std::string& path) {
  struct stat info {};
  if (::geteuid() != 0 || ::stat(folder.c_str(), &info) != 0) return OkStatus();
  if (::lchown(path.c_str(), info.st_uid, info.st_gid) == 0) return OkStatus();
  return FailedPrecondition(path + ": cannot be given to the owner of " + folder + ": " +
                            std::generic_category().message(errno));
}

/// A file that is made to take the database's place; gone at the end of the scope unless it did.
class Replacement {
 public:
  explicit Replacement(const Config& config)
      : database_(DatabasePath(config)), path_(database_ + ".new") {
    Remove();
  }
  ~Replacement() { Remove(); }
  Replacement(const Replacement&) = delete;
  Replacement& operator=(const Replacement&) = delete;

  const std::string& path() const { return path_; }

  /// The old file's new name; empty if there was none. What is committed in its write-ahead log
  /// goes with it.
  Result<std::string> TakePlace(const std::string& why) {
    std::string kept;
    if (Exists(database_)) {
      kept = database_ + "." + why + "-" + Stamp();
      for (const char* suffix : kSuffixes) {
        if (Exists(database_ + suffix)) {
          RETURN_IF_ERROR(Rename(database_ + suffix, kept + suffix));
        }
      }
    } else {
      for (const char* suffix : kSuffixes) ::unlink((database_ + suffix).c_str());
    }
    for (const char* suffix : {"-wal", ""}) {
      if (!Exists(path_ + suffix)) continue;
      RETURN_IF_ERROR(GiveToOwner(storage::FolderOf(database_), path_ + suffix));
      RETURN_IF_ERROR(Rename(path_ + suffix, database_ + suffix));
    }
    RETURN_IF_ERROR(storage::SyncFolder(storage::FolderOf(database_)));
    return kept;
  }

 private:
  static std::string Stamp() {
    const std::time_t now = SystemClock().WallMs() / 1'000;
    std::tm utc{};
    gmtime_r(&now, &utc);
    char text[32];
    std::strftime(text, sizeof text, "%Y%m%dT%H%M%SZ", &utc);
    return text;
  }

  static Status Rename(const std::string& from, const std::string& to) {
    if (std::rename(from.c_str(), to.c_str()) == 0) return OkStatus();
    return FailedPrecondition(from + ": cannot be renamed to " + to + ": " +
                              std::generic_category().message(errno));
  }

  void Remove() {
    for (const char* suffix : kSuffixes) ::unlink((path_ + suffix).c_str());
    // The database's own stays: it tells of commits that the new file does not have.
    ::unlink((path_ + "-acked").c_str());
  }

  const std::string database_, path_;
};

storage::StoreOptions OptionsOf(const Config& config, const storage::Schema& schema,
                                const std::string& path, const Clock* clock) {
  storage::StoreOptions options;
  options.path = path;
  options.schema = schema;
  options.node_name = config.node.name;
  options.cluster = config.gossip.cluster;
  options.limits = config.store;
  options.full_sync = true;  // it is not touched again before it is needed
  options.clock = clock;
  return options;
}

Status LockFolder(const Config& config, FolderLock* lock) {
  std::error_code error;
  std::filesystem::create_directories(config.node.data_dir, error);
  if (error) {
    return FailedPrecondition("node.data_dir " + config.node.data_dir +
                              ": cannot be created: " + error.message());
  }
  RETURN_IF_ERROR(lock->Take(config.node.data_dir));
  return GiveToOwner(config.node.data_dir, config.node.data_dir + "/patina.lock");
}

Error Damaged(const std::string& path, const storage::FileReport& report) {
  std::string what = path + " is damaged, nothing was changed";
  for (const std::string& problem : report.problems) what += "; " + problem;
  return DataLoss(what);
}

/// As the agent will open it: what would keep it from starting is found now.
Status OpenOnce(const Config& config, const std::string& path) {
  const SystemClock clock;
  ASSIGN_OR_RETURN(const storage::Schema schema, storage::LoadSchema(config.schema.paths));
  ASSIGN_OR_RETURN(auto store, storage::Store::Open(OptionsOf(config, schema, path, &clock)));
  return store->Close();
}

/// A damaged file may still say whose it is.
Status CheckOldCluster(const Config& config) {
  Result<storage::Db> db = storage::Db::Open(DatabasePath(config), storage::Db::Mode::kInspect);
  if (!db.ok()) return OkStatus();
  const Result<storage::FileIdentity> identity = storage::ReadIdentity(*db);
  if (!identity.ok()) return OkStatus();
  return storage::CheckIdentity(*identity, config.gossip.cluster, DatabasePath(config));
}

}  // namespace

Result<RestoreOutcome> RestoreBackup(const Config& config, const RestoreOptions& options) {
  FolderLock lock;
  RETURN_IF_ERROR(LockFolder(config, &lock));
  RETURN_IF_ERROR(storage::AdoptPreparedSnapshot(DatabasePath(config)));
  RestoreOutcome outcome;
  ASSIGN_OR_RETURN(outcome.report, storage::VerifyFile(options.backup));
  const std::string cluster = options.new_cluster ? std::string() : config.gossip.cluster;
  RETURN_IF_ERROR(storage::CheckIdentity(outcome.report.identity, cluster, options.backup));
  if (!outcome.report.problems.empty()) return Damaged(options.backup, outcome.report);
  Replacement replacement(config);
  RETURN_IF_ERROR(storage::BackupFile(options.backup, replacement.path(), {}));
  if (options.new_cluster) {
    RETURN_IF_ERROR(storage::SetCluster(replacement.path(), config.gossip.cluster));
  }
  if (options.check_schema) RETURN_IF_ERROR(OpenOnce(config, replacement.path()));
  ASSIGN_OR_RETURN(outcome.kept_as, replacement.TakePlace("before-restore"));
  return outcome;
}

Result<ReseedOutcome> Reseed(const Config& config) {
  FolderLock lock;
  RETURN_IF_ERROR(LockFolder(config, &lock));
  RETURN_IF_ERROR(storage::AdoptPreparedSnapshot(DatabasePath(config)));
  const std::string old = DatabasePath(config);
  if (!Exists(old)) {
    return NotFound("there is no " + old +
                    " to take anything from: just start the agent, it gets everything from its "
                    "peers");
  }
  RETURN_IF_ERROR(CheckOldCluster(config));
  const SystemClock clock;
  ASSIGN_OR_RETURN(const storage::Schema schema, storage::LoadSchema(config.schema.paths));
  Replacement replacement(config);
  ASSIGN_OR_RETURN(auto store,
                   storage::Store::Open(OptionsOf(config, schema, replacement.path(), &clock)));
  ReseedOutcome outcome;
  const auto count = [&](const storage::MergeOutcome& one) {
    if (one.state == storage::MergeState::kApplied) ++outcome.applied;
    if (one.state == storage::MergeState::kParked) ++outcome.parked;
    if (one.state != storage::MergeState::kRejected) return;
    ++outcome.rejected;
    LogWarning("reseed", "a salvaged change was rejected: ", one.reason);
  };
  storage::SalvageTaker take;
  storage::CommitEffects effects;
  take.changes = [&](const std::vector<storage::SharedBytes>& batch) -> Status {
    ASSIGN_OR_RETURN(const auto merged, store->Merge(batch, &effects));
    for (const storage::MergeOutcome& one : merged) count(one);
    return store->CheckpointIfDue();
  };
  take.large = [&](const std::string& manifest, const auto& read) -> Status {
    ASSIGN_OR_RETURN(const auto merged, storage::MergeSalvaged(*store, manifest, read, &effects));
    count(merged);
    return OkStatus();
  };
  ASSIGN_OR_RETURN(outcome.salvage, storage::SalvageOwnChanges(old, config.node.name, take));
  RETURN_IF_ERROR(store->Close());
  store.reset();
  ASSIGN_OR_RETURN(outcome.kept_as, replacement.TakePlace("damaged"));
  return outcome;
}

}  // namespace patina::agent

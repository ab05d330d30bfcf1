#include "storage/backup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <thread>
#include <utility>

#include "base/log.h"
#include "storage/db.h"

namespace patina::storage {
namespace {

std::string SystemError() { return std::generic_category().message(errno); }

Status Sync(const std::string& path, int flags) {
  const int handle = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags);
  if (handle < 0) return FailedPrecondition(path + ": " + SystemError());
  const bool synced = ::fsync(handle) == 0;
  const std::string why = synced ? "" : SystemError();
  ::close(handle);
  return synced ? OkStatus() : Status(Internal(path + ": cannot be synced: " + why));
}

struct FinishBackup {
  void operator()(sqlite3_backup* backup) const { sqlite3_backup_finish(backup); }
};

/// The unfinished copy; gone at the end of the scope unless it got its name.
class PartialFile {
 public:
  explicit PartialFile(std::string path) : path_(std::move(path)) { Remove(); }
  ~PartialFile() { Remove(); }
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;
  const std::string& path() const { return path_; }

  Status Rename(const std::string& target, bool lasting) {
    if (lasting) RETURN_IF_ERROR(SyncFile(path_));
    int renamed = ::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, target.c_str(), RENAME_NOREPLACE);
    // Some network file systems do not know the flag; that nobody was there was seen before.
    if (renamed != 0 && errno == EINVAL) renamed = ::rename(path_.c_str(), target.c_str());
    if (renamed != 0 && errno == EEXIST) return Exists(target);
    if (renamed != 0) return FailedPrecondition(target + ": cannot be named: " + SystemError());
    return lasting ? SyncFolder(FolderOf(target)) : OkStatus();
  }

  static Error Exists(const std::string& target) {
    return {Errc::kAlreadyExists,
            target +
                " is there already, and a backup overwrites nothing: give another name, or "
                "move it away"};
  }

 private:
  void Remove() {
    for (const char* suffix : {"", "-journal", "-wal", "-shm"}) {
      ::unlink((path_ + suffix).c_str());
    }
  }
  const std::string path_;
};

/// Keeps to a rate.
class Pace {
 public:
  explicit Pace(const BackupOptions& options) : options_(options), started_(clock().Now()) {}

  Duration elapsed() const { return clock().Now() - started_; }

  void Wait(uint64_t bytes_done) const {
    if (options_.bytes_per_second == 0) return;
    const double seconds =
        static_cast<double>(bytes_done) / static_cast<double>(options_.bytes_per_second);
    const auto due = Duration(static_cast<int64_t>(std::min(seconds, 1e9) * 1e9));
    const Duration pause = due - elapsed();
    if (pause <= Duration::zero()) return;
    options_.pause ? options_.pause(pause) : std::this_thread::sleep_for(pause);
  }

 private:
  const Clock& clock() const { return options_.clock != nullptr ? *options_.clock : system_; }
  const BackupOptions& options_;
  const SystemClock system_;
  const Instant started_;
};

uint64_t FileBytes(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
}

}  // namespace

Status SyncFile(const std::string& path) { return Sync(path, 0); }

Status SyncFolder(const std::string& folder) { return Sync(folder, O_DIRECTORY); }

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

class Backup::Impl {
 public:
  Impl(std::string source_path, Db source, std::shared_ptr<Snapshots> snapshots)
      : path_(std::move(source_path)), place_(std::move(snapshots)), source_(std::move(source)) {}

  Status Begin() {
    place_.EnterNow();
    // The first read takes the snapshot, and the transaction holds it.
    RETURN_IF_ERROR(source_.Exec("BEGIN"));
    Result<int64_t> seq = source_.QueryInt(
        "SELECT max(coalesce((SELECT max(seq) FROM __patina_log), 0), coalesce((SELECT value FROM "
        "__patina_state WHERE name = 'last_seq'), 0))");
    if (!seq.ok()) {
      return Error{
          seq.error().code == Errc::kInvalidArgument ? Errc::kFailedPrecondition : seq.error().code,
          path_ + " cannot be copied as a node's file: " + seq.error().message};
    }
    seq_ = static_cast<uint64_t>(*seq);
    return OkStatus();
  }

  Result<BackupResult> CopyTo(const std::string& target, const BackupOptions& options) {
    struct stat info {};
    if (::lstat(target.c_str(), &info) == 0) return PartialFile::Exists(target);
    const std::string folder = FolderOf(target);
    if (::stat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
      return FailedPrecondition("there is no folder " + folder + ": make it first");
    }
    PartialFile partial(target + ".partial");
    Copying copying{target, options, Pace(options), FileBytes(path_ + "-wal"), {}};
    RETURN_IF_ERROR(CopyPages(partial.path(), &copying));
    RETURN_IF_ERROR(partial.Rename(target, options.lasting));
    copying.result.seq = seq_;
    copying.result.duration = copying.pace.elapsed();
    return copying.result;
  }

  uint64_t seq() const { return seq_; }

 private:
  struct Copying {
    const std::string& target;
    const BackupOptions& options;
    const Pace pace;
    const uint64_t wal_bytes_before;
    BackupResult result;
  };

  Status CopyPages(const std::string& path, Copying* copying) {
    ASSIGN_OR_RETURN(Db copy, Db::Open(path, Db::Mode::kReadWriteCreate));
    // Nobody but us sees it before it is whole and synced: nothing to roll back to.
    RETURN_IF_ERROR(copy.Exec(
        "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; PRAGMA cache_size = -2048"));
    std::unique_ptr<sqlite3_backup, FinishBackup> backup(
        sqlite3_backup_init(copy.get(), "main", source_.get(), "main"));
    if (backup == nullptr) return CopyError(sqlite3_errcode(copy.get()), *copying);
    RETURN_IF_ERROR(CopyPieces(backup.get(), copying));
    if (const int code = sqlite3_backup_finish(backup.release()); code != SQLITE_OK) {
      return CopyError(code, *copying);
    }
    // Its first page says that it has a write-ahead log, as the source has.
    if (!copy.Exec("PRAGMA journal_mode = DELETE").ok()) {
      return CopyError(sqlite3_errcode(copy.get()), *copying);
    }
    return OkStatus();
  }

  Status CopyPieces(sqlite3_backup* backup, Copying* copying) {
    const BackupOptions& options = copying->options;
    BackupResult& result = copying->result;
    ASSIGN_OR_RETURN(const int64_t page_size, source_.QueryInt("PRAGMA page_size"));
    const auto page_bytes = static_cast<uint64_t>(std::max<int64_t>(512, page_size));
    // Small pieces at small rates: a cancellation is heard soon.
    uint64_t piece = kBackupPieceBytes;
    if (options.bytes_per_second > 0) piece = std::min(piece, options.bytes_per_second / 8);
    const int pages = static_cast<int>(std::max<uint64_t>(1, piece / page_bytes));
    while (true) {
      if (options.cancelled != nullptr && options.cancelled->load(std::memory_order_relaxed)) {
        return Error{Errc::kCancelled,
                     "the copy to " + copying->target + " was cancelled; nothing is left of it"};
      }
      const int code = sqlite3_backup_step(backup, pages);
      if (code != SQLITE_OK && code != SQLITE_DONE) return CopyError(code, *copying);
      result.pages = static_cast<uint64_t>(sqlite3_backup_pagecount(backup));
      result.bytes = result.pages * page_bytes;
      const auto left = static_cast<uint64_t>(sqlite3_backup_remaining(backup));
      const BackupProgress progress{(result.pages - left) * page_bytes, result.bytes};
      if (options.on_progress) options.on_progress(progress);
      if (code == SQLITE_DONE) return OkStatus();
      RETURN_IF_ERROR(LookAtLog(copying));
      if (!result.hurried) copying->pace.Wait(progress.bytes_done);
    }
  }

  Status LookAtLog(Copying* copying) const {
    if (place_.MustEnd()) {
      return ResourceExhausted(
          "the copy to " + copying->target + " was given up: " + place_.WhyEnded().message +
          ", copy at a higher rate, to a faster disk, or when less is written");
    }
    const uint64_t wal_bytes = FileBytes(path_ + "-wal");
    if (wal_bytes > copying->wal_bytes_before + copying->options.hurry_after_wal_bytes) {
      copying->result.hurried = true;
    }
    return OkStatus();
  }

  Error CopyError(int code, const Copying& copying) const {
    const Errc ours = ErrcOfSqlite(code);
    std::string what =
        StrCat("copying ", path_, " to ", copying.target, ": ", sqlite3_errstr(code));
    if (ours == Errc::kResourceExhausted) what += ": free some space, or name another disk";
    if (ours == Errc::kDataLoss) {
      what += ": the source is damaged; rebuild the node from its peers with `patina reseed`";
    }
    return {ours, std::move(what)};
  }

  const std::string path_;
  Snapshots::Place place_;
  Db source_;
  uint64_t seq_ = 0;
};

Backup::Backup(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Backup::~Backup() = default;

Result<std::unique_ptr<Backup>> Backup::Begin(const std::string& source_path,
                                              std::shared_ptr<Snapshots> snapshots) {
  ASSIGN_OR_RETURN(Db source, Db::Open(source_path, Db::Mode::kReadOnly));
  auto impl = std::make_unique<Impl>(source_path, std::move(source), std::move(snapshots));
  RETURN_IF_ERROR(impl->Begin());
  return std::unique_ptr<Backup>(new Backup(std::move(impl)));
}

uint64_t Backup::seq() const { return impl_->seq(); }

Result<BackupResult> Backup::CopyTo(const std::string& target_path, const BackupOptions& options) {
  return impl_->CopyTo(target_path, options);
}

Result<BackupResult> BackupFile(const std::string& source_path, const std::string& target_path,
                                const BackupOptions& options) {
  ASSIGN_OR_RETURN(const auto backup, Backup::Begin(source_path));
  return backup->CopyTo(target_path, options);
}

}  // namespace patina::storage

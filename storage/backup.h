#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "storage/snapshots.h"

// Copies of a node's file while it is in use: for `patina backup`, and for a peer that joins.

namespace patina::storage {

struct BackupProgress {
  uint64_t bytes_done = 0, bytes_total = 0;
};

struct BackupOptions {
  uint64_t bytes_per_second = 0;  // 0: as fast as it goes
  /// While a copy is read, the source's write-ahead log cannot begin anew and grows with what is
  /// written. When it has grown by this, the copy hurries: bytes_per_second counts no more.
  uint64_t hurry_after_wal_bytes = 64u << 20;
  /// After each piece of about kBackupPieceBytes, on the copying thread.
  std::function<void(const BackupProgress&)> on_progress;
  const std::atomic<bool>* cancelled = nullptr;  // not owned; looked at before each piece
  const Clock* clock = nullptr;                  // not owned; null: the host's
  std::function<void(Duration)> pause;           // empty: the thread sleeps
  bool lasting = true;                           // synced; false: it need not outlast a power cut
};

inline constexpr uint64_t kBackupPieceBytes = 1u << 20;

struct BackupResult {
  uint64_t bytes = 0, pages = 0;
  uint64_t seq = 0;  // the newest log entry in the copy
  Duration duration{};
  bool hurried = false;  // the write-ahead log made it
};

/// One consistent copy of a store's file: the commit that was the last one when Begin returned,
/// whatever is written meanwhile; SQLite's backup API reads it inside one read transaction, so
/// that no writer makes it start over. One thread at a time, any thread; holds a connection and the
/// snapshot until it is destroyed.
///
/// Begun on the writer thread right after Store::Checkpoint, with no commit in between, the copy
/// has nothing to replay, and its stored digests are those of its tables.
class Backup {
 public:
  /// snapshots: the store's, when the source is used by this process: then the copy is given up
  /// (RESOURCE_EXHAUSTED) before the write-ahead log reaches its limit.
  static Result<std::unique_ptr<Backup>> Begin(const std::string& source_path,
                                               std::shared_ptr<Snapshots> snapshots = nullptr);
  ~Backup();
  Backup(const Backup&) = delete;
  Backup& operator=(const Backup&) = delete;

  /// The newest log entry in the snapshot.
  uint64_t seq() const;

  /// Writes the copy beside target_path under the name target_path + ".partial", syncs it and gives
  /// it its name. The copy needs no write-ahead log. Once. Errors: ALREADY_EXISTS (nothing is ever
  /// overwritten), RESOURCE_EXHAUSTED (disk full; the write-ahead log), CANCELLED,
  /// FAILED_PRECONDITION (the folder), DATA_LOSS (the source is damaged). After an error there is
  /// no copy, not even part of one.
  Result<BackupResult> CopyTo(const std::string& target_path, const BackupOptions& options);

 private:
  class Impl;
  explicit Backup(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Begin and CopyTo.
Result<BackupResult> BackupFile(const std::string& source_path, const std::string& target_path,
                                const BackupOptions& options);

/// Syncs a file that nobody has open for writing.
Status SyncFile(const std::string& path);

/// Syncs a folder, so that names given in it outlast a power cut.
Status SyncFolder(const std::string& folder);

/// The folder a path names a file in; "." if it names none.
std::string FolderOf(const std::string& path);

}  // namespace patina::storage

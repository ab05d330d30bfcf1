#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "storage/db.h"
#include "storage/store.h"

// What a node's file says about itself, and whether it is sound. Any thread.

namespace patina::storage {

/// Kept in __patina_state: `format` (a number) and `cluster` (text).
struct FileIdentity {
  int64_t format = 0;   // 0: a new file, or one from before formats were numbered
  std::string cluster;  // empty: not known
};

/// Files of a higher number are of a newer release, and are refused. Counted up by a change that an
/// older program would read wrongly; what is only added does not count.
inline constexpr int64_t kFileFormat = 1;

Result<FileIdentity> ReadIdentity(Db& db);

/// FAILED_PRECONDITION with the reason when a node of the cluster must not use such a file. path is
/// for people. An empty cluster fits all.
Status CheckIdentity(const FileIdentity& identity, const std::string& cluster,
                     const std::string& path);

/// Writes what is not noted yet. In a transaction or not.
Status SaveIdentity(Db& db, const FileIdentity& before, const std::string& cluster);

struct FileReport {
  FileIdentity identity;
  std::vector<TableDigest> tables;  // as computed from their rows
  /// Log entries after the file's last checkpoint: what they touch has no stored digest to be
  /// compared with.
  uint64_t tail = 0;
  uint64_t buckets_not_compared = 0;
  uint64_t seq = 0;  // the newest log entry
  /// What is wrong, one line each: SQLite's own check first, then tables. Empty: sound.
  std::vector<std::string> problems;
};

/// Looks through the structure of the file's pages, table by table, beside whoever writes.
/// DATA_LOSS says what is wrong. Ends early, with OK, once stop is true.
Status CheckPages(const std::string& path, const std::atomic<bool>& stop);

/// Reads the whole file: SQLite's integrity check, and each table's digest against the stored one.
/// Errors: it cannot be opened, or is not the file of a node; CANCELLED. cancelled: not owned.
Result<FileReport> VerifyFile(const std::string& path,
                              const std::atomic<bool>* cancelled = nullptr);

/// Makes it a file of that cluster. It must not be in use.
Status SetCluster(const std::string& path, const std::string& cluster);

}  // namespace patina::storage

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "storage/backup.h"

// A node's file on its way to another node.
//
//   chunk: u64 bytes of the whole file | u64 offset | 16 bytes XXH3 of the rest | the rest

namespace patina::storage {

inline constexpr size_t kSnapshotChunkBytes = 4u << 20;

/// Where a copy for peers is made, and where a peer's file is put together, beside the store's.
std::string ServedCopyPath(const std::string& path);
std::string IncomingSnapshotPath(const std::string& path);
/// What an earlier process left of both. Requires that no process uses the store's file.
void RemoveSnapshotRemains(const std::string& path);

/// A finished copy of a store's file, for those who ask within a while. It has no name, so that
/// nothing is left of it when it is no longer used. Any thread.
class SnapshotCopy {
 public:
  /// Takes as long as copying takes. As Backup::CopyTo.
  static Result<std::shared_ptr<const SnapshotCopy>> Make(Backup& backup, const std::string& path);
  ~SnapshotCopy();
  SnapshotCopy(const SnapshotCopy&) = delete;
  SnapshotCopy& operator=(const SnapshotCopy&) = delete;

  struct Chunk {
    std::string bytes;
    bool last = false;
  };
  /// OUT_OF_RANGE: there are not so many.
  Result<Chunk> Read(uint64_t number, size_t chunk_bytes = kSnapshotChunkBytes) const;
  uint64_t bytes() const { return bytes_; }

 private:
  SnapshotCopy(int file, uint64_t bytes) : file_(file), bytes_(bytes) {}

  const int file_;
  const uint64_t bytes_;
};

/// Where the chunks of another node's file are put together. The file goes with the object, unless
/// it was given another name meanwhile. One thread.
class SnapshotStage {
 public:
  /// Replaces what an earlier process may have left there.
  static Result<std::unique_ptr<SnapshotStage>> Open(const std::string& path);
  ~SnapshotStage();
  SnapshotStage(const SnapshotStage&) = delete;
  SnapshotStage& operator=(const SnapshotStage&) = delete;

  /// The next chunk; after the last one the file is whole. INVALID_ARGUMENT: it is not the next
  /// one, or malformed; DATA_LOSS: damaged on its way; RESOURCE_EXHAUSTED: no room on the disk.
  Status Add(std::string_view chunk, bool last);
  const std::string& path() const { return path_; }

 private:
  SnapshotStage(std::string path, int file) : path_(std::move(path)), file_(file) {}
  Status Write(std::string_view bytes);
  Status CheckRoom(uint64_t bytes) const;

  const std::string path_;
  const int file_;
  uint64_t offset_ = 0, total_ = 0;
};

}  // namespace patina::storage

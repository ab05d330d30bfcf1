#include "storage/wal_vfs.h"

#include <sqlite3.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>
#include <string>

#include "base/check.h"

namespace patina::storage {
namespace {

constexpr const char* kName = "patina-wal";
constexpr int kFrameHeaderBytes = 24;
constexpr size_t kGatheredMax = 256 << 10;
constexpr int kWriteMax = 64 << 10;  // SQLite's default VFS cannot write 128 KiB at once

std::atomic<uint64_t> g_asked{0}, g_done{0};

sqlite3_vfs* Real() {
  static sqlite3_vfs* const real = sqlite3_vfs_find(nullptr);
  return real;
}

/// A write-ahead log; the default VFS's file object stands behind it in the same allocation.
///
/// Invariants: what is gathered begins at start_ and holds nothing once a commit's last frame is
/// written. Only what follows directly on the write before is gathered: everything else goes
/// straight through (SQLite goes back to correct frames of the running transaction, or begins the
/// log anew). What could not be written stays gathered: SQLite was told that those frames are in
/// the file, and it does not look at every error of a read. So they are tried again before anything
/// that needs them, and given up only when SQLite itself goes back before them.
class WalFile {
 public:
  static WalFile* Of(sqlite3_file* file) { return reinterpret_cast<Handle*>(file)->wal; }
  struct Handle {
    sqlite3_file base;
    WalFile* wal;
  };
  explicit WalFile(sqlite3_file* real) : real_(real) {}

  sqlite3_file* real() { return real_; }

  int Write(const void* bytes, int count, int64_t offset) {
    g_asked.fetch_add(1, std::memory_order_relaxed);
    const bool header = count == kFrameHeaderBytes;
    if (header && offset != 0) commits_ = SaysCommit(bytes);
    if (offset != next_) {
      // A frame written anew, or the log begun anew: after a rollback. (Frames whose checksums are
      // corrected are read first, which writes what is gathered.)
      if ((header && offset <= start_) || offset == 0) gathered_.clear();
      if (const int code = Flush(); code != SQLITE_OK) return code;
      const int code = Through(bytes, count, offset);
      next_ = code == SQLITE_OK ? offset + count : -1;
      return code;
    }
    next_ = offset + count;
    if (gathered_.empty()) start_ = offset;
    gathered_.append(static_cast<const char*>(bytes), static_cast<size_t>(count));
    const bool committing = !header && commits_;
    if (!committing && gathered_.size() < kGatheredMax) return SQLITE_OK;
    const int code = Flush();
    if (code != SQLITE_OK && committing) {  // SQLite rolls back: it must not get there later
      gathered_.clear();
      next_ = -1;
    }
    return code;
  }

  int Flush() {
    if (gathered_.empty()) return SQLITE_OK;
    const int code = Through(gathered_.data(), static_cast<int>(gathered_.size()), start_);
    if (code == SQLITE_OK) gathered_.clear();
    return code;
  }

 private:
  /// The size of the database after the commit, in a frame that ends one; 0 in others.
  static bool SaysCommit(const void* header) {
    uint32_t pages = 0;
    std::memcpy(&pages, static_cast<const char*>(header) + 4, sizeof pages);
    return pages != 0;
  }

  int Through(const void* bytes, int count, int64_t offset) {
    for (int done = 0; done < count; done += kWriteMax) {
      g_done.fetch_add(1, std::memory_order_relaxed);
      const int code = real_->pMethods->xWrite(real_, static_cast<const char*>(bytes) + done,
                                               std::min(kWriteMax, count - done), offset + done);
      if (code != SQLITE_OK) return code;
    }
    return SQLITE_OK;
  }

  sqlite3_file* const real_;
  std::string gathered_;
  int64_t start_ = 0;
  int64_t next_ = -1;  // end of the write before
  bool commits_ = false;
};

int Close(sqlite3_file* file) {
  WalFile* wal = WalFile::Of(file);
  // What is gathered still belongs to a transaction that was rolled back.
  const int code = wal->real()->pMethods->xClose(wal->real());
  delete wal;
  return code;
}

int Write(sqlite3_file* file, const void* bytes, int count, sqlite3_int64 offset) {
  return WalFile::Of(file)->Write(bytes, count, offset);
}

/// A method that does not touch what is gathered: the default VFS's own.
template <auto method, class... Arguments>
int Forward(sqlite3_file* file, Arguments... arguments) {
  sqlite3_file* real = WalFile::Of(file)->real();
  return (real->pMethods->*method)(real, arguments...);
}

/// One that must find in the file what was written to it.
template <auto method, class... Arguments>
int FlushAndForward(sqlite3_file* file, Arguments... arguments) {
  if (const int code = WalFile::Of(file)->Flush(); code != SQLITE_OK) return code;
  return Forward<method>(file, arguments...);
}

const sqlite3_io_methods* Methods() {
  static const sqlite3_io_methods methods = [] {
    sqlite3_io_methods made{};
    made.iVersion = 1;  // no shared memory or mapping: SQLite asks the database's file for those
    made.xClose = Close;
    made.xRead = FlushAndForward<&sqlite3_io_methods::xRead>;
    made.xWrite = Write;
    made.xTruncate = FlushAndForward<&sqlite3_io_methods::xTruncate>;
    made.xSync = FlushAndForward<&sqlite3_io_methods::xSync>;
    made.xFileSize = FlushAndForward<&sqlite3_io_methods::xFileSize>;
    made.xLock = Forward<&sqlite3_io_methods::xLock>;
    made.xUnlock = Forward<&sqlite3_io_methods::xUnlock>;
    made.xCheckReservedLock = Forward<&sqlite3_io_methods::xCheckReservedLock>;
    made.xFileControl = FlushAndForward<&sqlite3_io_methods::xFileControl>;
    made.xSectorSize = Forward<&sqlite3_io_methods::xSectorSize>;
    made.xDeviceCharacteristics = Forward<&sqlite3_io_methods::xDeviceCharacteristics>;
    return made;
  }();
  return &methods;
}

int Open(sqlite3_vfs*, const char* path, sqlite3_file* file, int flags, int* out_flags) {
  if ((flags & SQLITE_OPEN_WAL) == 0) return Real()->xOpen(Real(), path, file, flags, out_flags);
  auto* handle = reinterpret_cast<WalFile::Handle*>(file);
  auto* real = reinterpret_cast<sqlite3_file*>(handle + 1);
  handle->base.pMethods = nullptr;
  const int code = Real()->xOpen(Real(), path, real, flags, out_flags);
  if (code != SQLITE_OK) return code;
  handle->wal = new (std::nothrow) WalFile(real);
  if (handle->wal == nullptr) {
    real->pMethods->xClose(real);
    return SQLITE_NOMEM;
  }
  handle->base.pMethods = Methods();
  return SQLITE_OK;
}

}  // namespace

const char* WalVfsName() {
  static const bool registered = [] {
    static sqlite3_vfs vfs = *Real();
    vfs.zName = kName;
    vfs.pNext = nullptr;
    vfs.szOsFile = static_cast<int>(sizeof(WalFile::Handle)) + Real()->szOsFile;
    vfs.xOpen = Open;
    return sqlite3_vfs_register(&vfs, 0) == SQLITE_OK;
  }();
  CHECK(registered);
  return kName;
}

WalVfsStats GetWalVfsStats() {
  return {g_asked.load(std::memory_order_relaxed), g_done.load(std::memory_order_relaxed)};
}

}  // namespace patina::storage

#include "tests/storage/fault_vfs.h"

#include <sqlite3.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <new>
#include <string_view>
#include <vector>

namespace patina::storage {
namespace {

uint64_t SizeOf(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
}

int ErrorOf(FaultDisk::Op op) {
  switch (op) {
    case FaultDisk::Op::kOpen:
      return SQLITE_CANTOPEN;
    case FaultDisk::Op::kRead:
      return SQLITE_IOERR_READ;
    case FaultDisk::Op::kSync:
      return SQLITE_IOERR_FSYNC;
    case FaultDisk::Op::kTruncate:
      return SQLITE_IOERR_TRUNCATE;
    case FaultDisk::Op::kDelete:
      return SQLITE_IOERR_DELETE;
    default:
      return SQLITE_IOERR_WRITE;
  }
}

}  // namespace

struct FaultDisk::State {
  std::mutex mutex;
  std::string path;
  std::vector<Fault> faults;
  struct Flip {
    File file;
    int64_t offset;
    uint8_t bits;
  };
  std::vector<Flip> flips;
  uint64_t quota = UINT64_MAX;
  bool dead = false;
  uint64_t operations = 0, failed = 0;

  /// SQLITE_OK, or what the operation fails with; *half: see Fault.
  int Check(Op op, File file, bool* half) {
    const std::lock_guard lock(mutex);
    ++operations;
    *half = false;
    int code = dead ? ErrorOf(op) : SQLITE_OK;
    for (Fault& fault : faults) {
      if (code != SQLITE_OK) break;
      if ((fault.op != Op::kAny && fault.op != op) ||
          (fault.file != File::kAny && fault.file != file))
        continue;
      if (fault.skip > 0) {
        --fault.skip;
      } else if (fault.times > 0) {
        --fault.times;
        code = fault.code == 0 ? ErrorOf(op) : fault.code;
        *half = fault.half;
      }
    }
    if (code != SQLITE_OK) ++failed;
    return code;
  }

  bool Dead() {
    const std::lock_guard lock(mutex);
    return dead;
  }

  uint64_t Bytes() const { return SizeOf(path) + SizeOf(path + "-wal"); }

  /// How many of the bytes there is room for.
  int Room(File file, int count, int64_t offset) {
    const std::lock_guard lock(mutex);
    if (quota == UINT64_MAX || file == File::kSpill) return count;
    const auto size = static_cast<int64_t>(SizeOf(file == File::kWal ? path + "-wal" : path));
    const auto grows = std::max<int64_t>(0, offset + count - size);
    const uint64_t used = Bytes(), left = used >= quota ? 0 : quota - used;
    if (static_cast<uint64_t>(grows) <= left) return count;
    ++failed;
    return static_cast<int>(std::max<int64_t>(0, count - grows + static_cast<int64_t>(left)));
  }

  void Distort(File file, char* bytes, int count, int64_t offset) {
    const std::lock_guard lock(mutex);
    for (const Flip& flip : flips) {
      if (flip.file != file || flip.offset < offset || flip.offset >= offset + count) continue;
      bytes[flip.offset - offset] = static_cast<char>(bytes[flip.offset - offset] ^ flip.bits);
    }
  }
};

namespace {

using State = FaultDisk::State;
using Op = FaultDisk::Op;
using File = FaultDisk::File;

/// Disks by the database's path.
struct Disks {
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<State>, std::less<>> by_path;
};
Disks& AllDisks() {
  static Disks disks;
  return disks;
}

File KindOf(std::string_view path) {
  if (path.ends_with("-wal")) return File::kWal;
  return path.ends_with("-spill") ? File::kSpill : File::kDatabase;
}

std::shared_ptr<State> DiskOf(std::string_view path) {
  for (const std::string_view end : {"-wal", "-spill"}) {
    if (path.ends_with(end)) path.remove_suffix(end.size());
  }
  Disks& disks = AllDisks();
  const std::lock_guard lock(disks.mutex);
  const auto found = disks.by_path.find(path);
  return found == disks.by_path.end() ? nullptr : found->second;
}

sqlite3_vfs* g_real = nullptr;

/// What stands in SQLite's memory for an open file; the real one's follows it.
struct Handle {
  sqlite3_file base;
  struct Open {
    std::shared_ptr<State> disk;
    File kind;
  } * open;
};

Handle* Of(sqlite3_file* file) { return reinterpret_cast<Handle*>(file); }
sqlite3_file* RealOf(sqlite3_file* file) { return reinterpret_cast<sqlite3_file*>(Of(file) + 1); }
const sqlite3_io_methods& Under(sqlite3_file* file) { return *RealOf(file)->pMethods; }

int Check(sqlite3_file* file, Op op) {
  bool half = false;
  return Of(file)->open->disk->Check(op, Of(file)->open->kind, &half);
}

int Close(sqlite3_file* file) {
  delete Of(file)->open;
  return Under(file).xClose(RealOf(file));
}

int Read(sqlite3_file* file, void* to, int count, sqlite3_int64 offset) {
  if (const int code = Check(file, Op::kRead); code != SQLITE_OK) return code;
  const int code = Under(file).xRead(RealOf(file), to, count, offset);
  Of(file)->open->disk->Distort(Of(file)->open->kind, static_cast<char*>(to), count, offset);
  return code;
}

int Write(sqlite3_file* file, const void* bytes, int count, sqlite3_int64 offset) {
  const Handle::Open& open = *Of(file)->open;
  bool half = false;
  if (const int code = open.disk->Check(Op::kWrite, open.kind, &half); code != SQLITE_OK) {
    if (half) (void)Under(file).xWrite(RealOf(file), bytes, count / 2, offset);
    return code;
  }
  const int room = open.disk->Room(open.kind, count, offset);
  if (room < count) {
    if (room > 0) (void)Under(file).xWrite(RealOf(file), bytes, room, offset);
    return SQLITE_FULL;
  }
  return Under(file).xWrite(RealOf(file), bytes, count, offset);
}

int Truncate(sqlite3_file* file, sqlite3_int64 size) {
  if (const int code = Check(file, Op::kTruncate); code != SQLITE_OK) return code;
  return Under(file).xTruncate(RealOf(file), size);
}

int Sync(sqlite3_file* file, int flags) {
  if (const int code = Check(file, Op::kSync); code != SQLITE_OK) return code;
  return Under(file).xSync(RealOf(file), flags);
}

int FileSize(sqlite3_file* file, sqlite3_int64* size) {
  return Under(file).xFileSize(RealOf(file), size);
}
int Lock(sqlite3_file* file, int level) { return Under(file).xLock(RealOf(file), level); }
int Unlock(sqlite3_file* file, int level) { return Under(file).xUnlock(RealOf(file), level); }
int CheckReservedLock(sqlite3_file* file, int* held) {
  return Under(file).xCheckReservedLock(RealOf(file), held);
}
int FileControl(sqlite3_file* file, int op, void* argument) {
  return Under(file).xFileControl(RealOf(file), op, argument);
}
int SectorSize(sqlite3_file* file) { return Under(file).xSectorSize(RealOf(file)); }
int DeviceCharacteristics(sqlite3_file* file) {
  return Under(file).xDeviceCharacteristics(RealOf(file));
}
int ShmMap(sqlite3_file* file, int page, int bytes, int extend, void volatile** to) {
  return Under(file).xShmMap(RealOf(file), page, bytes, extend, to);
}
int ShmLock(sqlite3_file* file, int offset, int count, int flags) {
  return Under(file).xShmLock(RealOf(file), offset, count, flags);
}
void ShmBarrier(sqlite3_file* file) { Under(file).xShmBarrier(RealOf(file)); }
int ShmUnmap(sqlite3_file* file, int remove) {
  const bool dead = Of(file)->open->disk->Dead();  // who is killed removes nothing
  return Under(file).xShmUnmap(RealOf(file), dead ? 0 : remove);
}

constexpr sqlite3_io_methods kMethods = {2,  // no memory mapping: reads are to be seen
                                         Close,       Read,       Write,
                                         Truncate,    Sync,       FileSize,
                                         Lock,        Unlock,     CheckReservedLock,
                                         FileControl, SectorSize, DeviceCharacteristics,
                                         ShmMap,      ShmLock,    ShmBarrier,
                                         ShmUnmap,    nullptr,    nullptr};

int Open(sqlite3_vfs*, const char* path, sqlite3_file* file, int flags, int* out_flags) {
  const bool wal = (flags & SQLITE_OPEN_WAL) != 0, database = (flags & SQLITE_OPEN_MAIN_DB) != 0;
  std::shared_ptr<State> disk =
      path != nullptr && (wal || database) ? DiskOf(path) : std::shared_ptr<State>();
  if (disk == nullptr) return g_real->xOpen(g_real, path, file, flags, out_flags);
  const File kind = KindOf(path);
  file->pMethods = nullptr;
  bool half = false;
  if (const int code = disk->Check(Op::kOpen, kind, &half); code != SQLITE_OK) return code;
  RealOf(file)->pMethods = nullptr;
  const int code = g_real->xOpen(g_real, path, RealOf(file), flags, out_flags);
  if (code != SQLITE_OK) return code;
  Of(file)->open = new Handle::Open{std::move(disk), kind};
  file->pMethods = &kMethods;
  return SQLITE_OK;
}

int Delete(sqlite3_vfs*, const char* path, int sync_folder) {
  if (const std::shared_ptr<State> disk = DiskOf(path)) {
    bool half = false;
    if (const int code = disk->Check(Op::kDelete, KindOf(path), &half); code != SQLITE_OK)
      return code;
  }
  return g_real->xDelete(g_real, path, sync_folder);
}

/// Before main: whoever asks for the default VFS first (storage/wal_vfs) must find this one.
const bool g_registered = [] {
  g_real = sqlite3_vfs_find(nullptr);
  static sqlite3_vfs vfs = *g_real;
  vfs.zName = "patina-fault";
  vfs.pNext = nullptr;
  vfs.szOsFile = static_cast<int>(sizeof(Handle)) + g_real->szOsFile;
  vfs.xOpen = Open;
  vfs.xDelete = Delete;
  return sqlite3_vfs_register(&vfs, 1) == SQLITE_OK;
}();

}  // namespace

FaultDisk::FaultDisk(const std::string& database_path)
    : path_(database_path), state_(std::make_shared<State>()) {
  state_->path = database_path;
  Disks& disks = AllDisks();
  const std::lock_guard lock(disks.mutex);
  disks.by_path[path_] = state_;
}

FaultDisk::~FaultDisk() {
  Disks& disks = AllDisks();
  const std::lock_guard lock(disks.mutex);
  disks.by_path.erase(path_);
}

void FaultDisk::Add(const Fault& fault) {
  const std::lock_guard lock(state_->mutex);
  state_->faults.push_back(fault);
}

void FaultDisk::SetQuota(uint64_t bytes) {
  const std::lock_guard lock(state_->mutex);
  state_->quota = bytes;
}

void FaultDisk::FlipOnRead(File file, int64_t offset, uint8_t bits) {
  const std::lock_guard lock(state_->mutex);
  state_->flips.push_back({file, offset, bits});
}

void FaultDisk::Heal() {
  const std::lock_guard lock(state_->mutex);
  state_->faults.clear();
  state_->flips.clear();
  state_->quota = UINT64_MAX;
  state_->dead = false;
}

void FaultDisk::PullPlug() {
  const std::lock_guard lock(state_->mutex);
  state_->dead = true;
}

uint64_t FaultDisk::operations() const {
  const std::lock_guard lock(state_->mutex);
  return state_->operations;
}

uint64_t FaultDisk::failed() const {
  const std::lock_guard lock(state_->mutex);
  return state_->failed;
}

uint64_t FaultDisk::bytes() const {
  const std::lock_guard lock(state_->mutex);
  return state_->Bytes();
}

}  // namespace patina::storage

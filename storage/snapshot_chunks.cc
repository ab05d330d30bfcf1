#include "storage/snapshot_chunks.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/bytes.h"
#include "base/hash.h"
#include "base/log.h"

namespace patina::storage {
namespace {

constexpr uint64_t kRoomKept = 64u << 20;  // on the disk, for everything else
constexpr size_t kChunkHeaderBytes = 32;

std::string SystemError() { return std::generic_category().message(errno); }

void RemoveWithCompanions(const std::string& path) {
  for (const char* suffix : {"", "-wal", "-shm", "-journal", "-acked", ".partial"}) {
    (void)::unlink((path + suffix).c_str());
  }
}

}  // namespace

std::string ServedCopyPath(const std::string& path) { return path + ".copy"; }
std::string IncomingSnapshotPath(const std::string& path) { return path + ".incoming"; }

void RemoveSnapshotRemains(const std::string& path) {
  RemoveWithCompanions(ServedCopyPath(path));
  RemoveWithCompanions(IncomingSnapshotPath(path));
}

Result<std::shared_ptr<const SnapshotCopy>> SnapshotCopy::Make(Backup& backup,
                                                               const std::string& path) {
  BackupOptions options;
  options.lasting = false;
  ASSIGN_OR_RETURN(const BackupResult made, backup.CopyTo(path, options));
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return Internal(path + " cannot be opened: " + SystemError());
  (void)::unlink(path.c_str());
  return std::shared_ptr<const SnapshotCopy>(new SnapshotCopy(file, made.bytes));
}

SnapshotCopy::~SnapshotCopy() { ::close(file_); }

Result<SnapshotCopy::Chunk> SnapshotCopy::Read(uint64_t number, size_t chunk_bytes) const {
  const uint64_t offset = number * chunk_bytes;
  if (number > bytes_ / chunk_bytes || offset >= bytes_) {
    return OutOfRange(StrCat("the copy has no chunk ", number));
  }
  const size_t count = std::min<uint64_t>(chunk_bytes, bytes_ - offset);
  Chunk chunk;
  chunk.last = offset + count == bytes_;
  chunk.bytes.resize(kChunkHeaderBytes + count);
  char* const rest = chunk.bytes.data() + kChunkHeaderBytes;
  for (size_t done = 0; done < count;) {
    const ssize_t got =
        ::pread(file_, rest + done, count - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return DataLoss("the copy cannot be read: " + SystemError());
    done += static_cast<size_t>(got);
  }
  const Digest128 hash = Hash128({rest, count});
  std::string header;
  ByteWriter out(&header);
  out.U64(bytes_);
  out.U64(offset);
  out.U64(hash.low);
  out.U64(hash.high);
  chunk.bytes.replace(0, kChunkHeaderBytes, header);
  return chunk;
}

Result<std::unique_ptr<SnapshotStage>> SnapshotStage::Open(const std::string& path) {
  RemoveWithCompanions(path);
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (file < 0) return Internal(path + " cannot be created: " + SystemError());
  return std::unique_ptr<SnapshotStage>(new SnapshotStage(path, file));
}

SnapshotStage::~SnapshotStage() {
  ::close(file_);
  RemoveWithCompanions(path_);
}

Status SnapshotStage::Add(std::string_view chunk, bool last) {
  ByteReader in(chunk);
  const uint64_t total = in.U64();
  const uint64_t offset = in.U64();
  const Digest128 hash{in.U64(), in.U64()};
  if (!in.ok() || in.remaining() == 0) return InvalidArgument("a snapshot's chunk is malformed");
  const std::string_view rest = in.rest();
  if (offset == 0 && offset_ == 0) {
    RETURN_IF_ERROR(CheckRoom(total));
    total_ = total;
  }
  if (total != total_ || offset != offset_ || rest.size() > total_ - offset_ ||
      last != (offset_ + rest.size() == total_)) {
    return InvalidArgument("a snapshot's chunk is not the next one");
  }
  if (Hash128(rest) != hash) return DataLoss("a snapshot's chunk was damaged on its way");
  RETURN_IF_ERROR(Write(rest));
  offset_ += rest.size();
  return OkStatus();
}

Status SnapshotStage::CheckRoom(uint64_t bytes) const {
  struct statvfs disk {};
  if (::statvfs(FolderOf(path_).c_str(), &disk) != 0) return OkStatus();  // writing will tell
  const uint64_t room = static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize;
  if (bytes <= room && room - bytes >= kRoomKept) return OkStatus();
  return ResourceExhausted(StrCat("no room for a snapshot of ", bytes >> 20, " MiB in ",
                                  FolderOf(path_), " (", room >> 20, " MiB are free)"));
}

Status SnapshotStage::Write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      const std::string what = path_ + " cannot be written: " + SystemError();
      return errno == ENOSPC ? Status(ResourceExhausted(what)) : Status(Internal(what));
    }
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return OkStatus();
}

}  // namespace patina::storage

#include "storage/wal_holders.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace patina::storage {
namespace {

// Where SQLite's readers lock the file beside the log ("-shm"): one byte for each read mark.
constexpr uint64_t kFirstReadLock = 123, kLastReadLock = 127;

struct Lock {
  int64_t pid = 0;
  uint64_t inode = 0;
  uint64_t first = 0, last = 0;
};

/// "12: POSIX  ADVISORY  READ 4711 08:01:131079 123 123"
bool ParseLock(const std::string& line, Lock* lock) {
  std::istringstream words(line);
  std::string number, kind, mode, access, file, last;
  if (!(words >> number >> kind >> mode >> access >> lock->pid >> file >> lock->first >> last)) {
    return false;  // one that waits ("->"), too
  }
  // The device is another than stat's on some file systems (overlayfs, btrfs).
  const size_t colon = file.rfind(':');
  if (kind != "POSIX" || colon == std::string::npos) return false;
  lock->inode = std::strtoull(file.c_str() + colon + 1, nullptr, 10);
  lock->last = last == "EOF" ? UINT64_MAX : std::strtoull(last.c_str(), nullptr, 10);
  return true;
}

std::string CommandOf(int64_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/comm");
  std::string command;
  std::getline(file, command);
  return command.empty() ? "a process of unknown name" : command;
}

}  // namespace

std::vector<WalHolder> FindWalHolders(const std::string& path) {
  std::vector<WalHolder> holders;
  struct stat shared {};
  if (::stat((path + "-shm").c_str(), &shared) != 0) return holders;
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    Lock lock;
    if (!ParseLock(line, &lock) || lock.inode != shared.st_ino || lock.pid == ::getpid()) continue;
    if (lock.first > kLastReadLock || lock.last < kFirstReadLock) continue;
    const int64_t pid = std::max<int64_t>(0, lock.pid);
    const bool known = std::any_of(holders.begin(), holders.end(),
                                   [pid](const WalHolder& holder) { return holder.pid == pid; });
    if (!known) holders.push_back({pid, CommandOf(pid)});
  }
  return holders;
}

}  // namespace patina::storage

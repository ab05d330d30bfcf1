#include "agent/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace patina::agent {

FolderLock::~FolderLock() {
  if (file_ >= 0) ::close(file_);
}

Status FolderLock::Take(const std::string& folder) {
  const std::string path = folder + "/patina.lock";
  file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file_ < 0) {
    return FailedPrecondition(path +
                              ": cannot be opened: " + std::generic_category().message(errno));
  }
  if (::flock(file_, LOCK_EX | LOCK_NB) == 0) return OkStatus();
  return FailedPrecondition("node.data_dir " + folder +
                            " is in use by another agent: stop it, or give this one a folder of "
                            "its own");
}

}  // namespace patina::agent

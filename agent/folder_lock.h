#pragma once

#include <string>

#include "base/status.h"

namespace patina::agent {

/// A data folder is one process's at a time: the agent's, or that of a command that puts another
/// file in its place. Held as long as the object lives; the kernel lets go of it however the
/// process ends. One thread.
class FolderLock {
 public:
  FolderLock() = default;
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

  /// The folder must exist. FAILED_PRECONDITION when another process has it.
  Status Take(const std::string& folder);

 private:
  int file_ = -1;
};

}  // namespace patina::agent

#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace patina::storage {

struct WalHolder {
  int64_t pid = 0;  // 0: in another container
  std::string command;
};

/// The other processes that have a read of this SQLite file open now and so hold back its
/// write-ahead log (see WalStats::held_by_others_ms), as Linux tells in /proc/locks: none when it
/// does not. Opens no file of the database: closing one would let go of this process's own locks on
/// it. Any thread.
std::vector<WalHolder> FindWalHolders(const std::string& path);

}  // namespace patina::storage

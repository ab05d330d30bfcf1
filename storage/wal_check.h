#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace patina::storage {

class Db;

/// What the last process's write-ahead log was, and what is left of it.
struct WalFinding {
  uint64_t frames_known = 0;   // committed, as that process's index of it (-shm) says; 0: no index
  uint64_t frames_sound = 0;   // committed, and found with right checksums: what SQLite will take
  uint64_t frames_copied = 0;  // to the database
  uint64_t frames_begun = 0;   // to be copied: more than copied when it was at it
  bool damaged() const { return frames_sound < frames_known; }
};

/// Before the database is opened (that makes the index anew). Nothing is changed. A log without an
/// index, or whose process ended it cleanly, is not looked at: finds nothing. Formats:
/// sqlite.org/walformat.html.
WalFinding InspectWal(const std::string& database_path);

/// A log that lost its end, when pages of commits behind that are in the database already, is set
/// aside (as -wal.damaged) and the database taken as it is: the newest state that is whole. Else
/// SQLite's way, to take the sound part, is right. Says so in the log. True: it was damaged, and
/// what SQLite makes of it must be checked. Error: it cannot be renamed.
Result<bool> SetDamagedWalAside(const std::string& database_path);

/// DATA_LOSS with what SQLite's integrity check finds first, and what to do.
Status CheckSound(Db& db, const std::string& path);

}  // namespace patina::storage

#pragma once

#include <cstddef>
#include <cstdint>

namespace patina::storage {

/// The name of a SQLite VFS that gathers the frames of one commit into one write of the write-ahead
/// log. SQLite writes each frame's header (24 bytes) and page apart: a one-row transaction is a
/// dozen system calls otherwise, and they are a fifth of its cost (docs/decisions/0006).
///
/// The file is the same, byte for byte, and at the same moments as far as anybody can tell: what is
/// gathered is written before the write of the commit's last frame returns, and before any read,
/// sync or truncation of the log. An error (disk full) comes out of that write, so the commit fails
/// as it would have. Only the write-ahead log is wrapped; other files are the default VFS's own.
///
/// Registers it at the first call; any thread.
const char* WalVfsName();

struct WalVfsStats {
  uint64_t asked = 0;  // writes that SQLite asked for, of this process
  uint64_t done = 0;   // writes made
};
WalVfsStats GetWalVfsStats();

}  // namespace patina::storage

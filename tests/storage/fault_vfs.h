#pragma once

#include <cstdint>
#include <memory>
#include <string>

// A disk that misbehaves on purpose, below everything that storage/ does: SQLite's default VFS is
// wrapped for the whole test program, and the files of a database for which a FaultDisk exists fail
// as it says. Files of other databases are the operating system's own.

namespace patina::storage {

/// Any thread. Make it before the database is opened; files keep to the disk they were opened on.
class FaultDisk {
 public:
  enum class File : uint8_t { kAny, kDatabase, kWal, kSpill };
  enum class Op : uint8_t { kAny, kOpen, kRead, kWrite, kSync, kTruncate, kDelete };

  struct Fault {
    Op op = Op::kAny;
    File file = File::kAny;
    uint64_t skip = 0;            // matching operations that go well before
    uint64_t times = UINT64_MAX;  // then so many fail
    int code = 0;                 // SQLite's; 0: the I/O error of the operation
    bool half = false;            // of a failing write, the first half of the bytes arrives
  };

  explicit FaultDisk(const std::string& database_path);
  ~FaultDisk();
  FaultDisk(const FaultDisk&) = delete;
  FaultDisk& operator=(const FaultDisk&) = delete;

  void Add(const Fault& fault);
  /// A disk of this size for the database and its log (not the spill) together: what does not fit
  /// fails with SQLITE_FULL after the bytes that do. What lies inside the files may be written
  /// again.
  void SetQuota(uint64_t bytes);
  /// Reads of this byte of the file give it with these bits turned.
  void FlipOnRead(File file, int64_t offset, uint8_t bits);
  /// No fault, no quota, no flips.
  void Heal();
  /// The process is dead from here: nothing reaches the disk, every operation fails. Close what is
  /// open, then Heal() and open anew.
  void PullPlug();

  uint64_t operations() const;  // reads, writes, syncs, truncations, opens, deletions so far
  uint64_t failed() const;      // of them
  uint64_t bytes() const;       // of database and log now

  struct State;

 private:
  const std::string path_;
  const std::shared_ptr<State> state_;
};

}  // namespace patina::storage

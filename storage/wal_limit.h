#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "base/clock.h"
#include "storage/snapshots.h"

namespace patina::storage {

class Db;

struct WalStats {
  uint64_t used_bytes = 0;   // written since the log began anew; the file may be larger
  int64_t age_ms = 0;        // since it began anew (or since the start)
  uint64_t beginnings = 0;   // how often it did
  uint64_t checkpoints = 0;  // copies to the database's file
  uint64_t held = 0;         // those that a reader kept from copying all
  uint64_t failed = 0;       // those that failed (disk): tried again
  uint64_t writer_waits = 0;
  int64_t held_by_others_ms = 0;  // another process's read holds it, for that long; 0: none does
};

/// Keeps a connection's write-ahead log below a size.
///
/// SQLite begins the log anew only at a write that finds all of it copied to the database's file (a
/// checkpoint) and nobody who looks into it. A snapshot holds back both: the checkpoint does not go
/// beyond what the oldest one sees. Many short reads that overlap do so as well as one long read.
/// So, as the log grows:
///
/// 1. Each 2,000 pages (less if the limit is small): a checkpoint, as far as readers let it.
/// 2. From a quarter of the limit on, now and then: new snapshots wait for a moment (20 ms at
///    most), so that short ones end and the log begins anew.
/// 3. At three quarters: all of this process's snapshots are told to end, and new ones wait until
///    they have. At seven eighths the writer waits for them, too.
///
/// So one commit larger than an eighth of the limit may exceed it, and so may what another process
/// holds: that one cannot be ended from here, and it would not help to end ours. It is noticed (no
/// snapshot of ours is open, and yet the checkpoint did not get through) and told by stats().
///
/// In the place of SQLite's own automatic checkpoint. The store's thread; db outlives it.
class WalLimit {
 public:
  /// The connection is in WAL mode. clock outlives it.
  WalLimit(Db* db, uint64_t bytes_max, const Clock* clock, std::shared_ptr<Snapshots> snapshots);
  ~WalLimit();
  WalLimit(const WalLimit&) = delete;
  WalLimit& operator=(const WalLimit&) = delete;

  WalStats stats() const;

 private:
  void OnCommit(uint64_t frames);
  void OnBeginning();
  void Shut(Instant now, Duration at_most);
  void Drain(Instant now);
  void EndDrain();
  enum class Copied : uint8_t { kAll, kPart, kFailed };
  Copied Checkpoint();
  void NoteOthers(Instant now);

  Db* const db_;
  const Clock* const clock_;
  const std::shared_ptr<Snapshots> snapshots_;
  uint64_t frame_bytes_ = 0;
  uint64_t step_ = 0, shut_from_ = 0, end_from_ = 0, wait_from_ = 0;  // in frames

  uint64_t frames_ = 0;                      // in use
  uint64_t next_look_ = 0, next_drain_ = 0;  // in frames
  bool draining_ = false;                    // the door is shut …
  bool ending_ = false;                      // … and those inside are told to end
  Instant drain_until_{};
  uint64_t copied_ = 0;  // frames, by the last checkpoint
  /// Another process lets no checkpoint pass this frame.
  std::optional<uint64_t> others_hold_;
  Instant others_since_{};
  Instant began_at_{};
  WalStats stats_;
};

}  // namespace patina::storage

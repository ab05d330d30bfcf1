#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <utility>

#include "base/clock.h"
#include "base/status.h"

namespace patina::storage {

/// The read snapshots that are open on one file in this process: while there is one that looks into
/// the write-ahead log, SQLite cannot begin the log anew. The store shuts the door for a moment, or
/// has all of them ended, see storage/wal_limit.h.
///
/// Invariant: a snapshot is counted from before it is taken until after it has ended. Any thread;
/// whoever waits here waits for a bounded time.
class Snapshots {
 public:
  explicit Snapshots(uint64_t wal_bytes_max) : wal_bytes_max_(wal_bytes_max) {}
  Snapshots(const Snapshots&) = delete;
  Snapshots& operator=(const Snapshots&) = delete;

  /// One reader's place among them, for one snapshot at a time. Its thread alone; MustEnd: any
  /// thread.
  class Place {
   public:
    /// all: null for a reader that is not counted and never told to end.
    explicit Place(std::shared_ptr<Snapshots> all, bool may_be_ended = true)
        : all_(std::move(all)), may_be_ended_(may_be_ended) {}
    ~Place() { Leave(); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

    /// Before the snapshot is taken; waits while the door is shut.
    void EnterWhenOpen();
    /// The same at once: for the thread that opens the door.
    void EnterNow();
    /// After the snapshot has ended; also when there was none.
    void Leave();
    /// The snapshot keeps the log too large: whoever holds it gives it up.
    bool MustEnd() const { return must_end_.load(std::memory_order_relaxed); }
    /// What the reader's client is told then: RESOURCE_EXHAUSTED with the limit's name.
    Error WhyEnded() const;

   private:
    friend class Snapshots;
    const std::shared_ptr<Snapshots> all_;
    const bool may_be_ended_;
    std::atomic<bool> must_end_{false};
    bool entered_ = false;
    Instant since_{};
  };

  // The store's thread.
  /// New snapshots wait, at most this long.
  void ShutDoor(Duration at_most);
  void OpenDoor();
  /// Tells those that are open, and may be, to end.
  void EndAll();
  /// False: some were still open after that time.
  bool WaitUntilNone(Duration at_most);

  struct Stats {
    uint64_t open = 0;
    int64_t oldest_ms = 0;  // 0 when none is open
    uint64_t ended = 0;     // told to end
    uint64_t waited = 0;    // at the door
  };
  Stats stats() const;
  size_t open() const;

 private:
  void Enter(Place* place, bool wait);
  void Leave(Place* place);

  const uint64_t wal_bytes_max_;
  mutable std::mutex mutex_;  // guards what follows, and Place::entered_ and since_
  std::set<Place*> places_;
  Instant shut_until_{};
  uint64_t ended_ = 0, waited_ = 0;
  std::condition_variable door_, none_;
};

}  // namespace patina::storage

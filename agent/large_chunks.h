#pragma once

#include <algorithm>
#include <atomic>
#include <string_view>

#include "agent/writer_queue.h"
#include "storage/store.h"

namespace patina::agent {

/// How long the large transaction that runs has done so, and how far it is. Set by the writer's
/// thread, read by any.
class LargeWatch {
 public:
  void Begin(Instant now) { since_ms_ = std::max<int64_t>(1, Ms(now)); }
  void SetRows(uint64_t rows) { rows_ = rows; }
  void End() { since_ms_ = 0; }

  /// 0: none runs.
  uint64_t RunningMs(Instant now) const {
    const int64_t since = since_ms_;
    return since == 0 ? 0 : static_cast<uint64_t>(std::max<int64_t>(1, Ms(now) - since));
  }
  uint64_t rows() const { return rows_; }

 private:
  static int64_t Ms(Instant instant) { return ToMs(instant.time_since_epoch()); }

  std::atomic<int64_t> since_ms_{0};
  std::atomic<uint64_t> rows_{0};
};

/// The first chunk that is missing; a refusal is logged: it is asked for again. The writer's
/// thread.
Result<uint64_t> StageLargeManifest(storage::Store& store, std::string_view manifest);

/// What became of a chunk of a peer's large transaction.
struct LargeOutcome {
  /// storage::kNeedsSnapshot: it is from before the horizon.
  Status status = OkStatus();
  bool parked = false;  // it is received, and waits
};

/// Stages it, and after the last merges the whole transaction. The writer's thread.
LargeOutcome TakeLargeChunk(storage::Store& store, const WriterQueue::Chunk& chunk,
                            storage::CommitEffects* effects);

}  // namespace patina::agent

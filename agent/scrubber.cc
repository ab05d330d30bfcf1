#include "agent/scrubber.h"

#include "base/log.h"
#include "storage/store.h"

namespace patina::agent {
namespace {

constexpr Duration kLogInterval = std::chrono::minutes(1);

}  // namespace

void Scrubber::RunIfDue(storage::Store& store) {
  const SystemClock clock;
  const Instant now = clock.Now();
  if (store.broken() || !store.damage().empty()) return pace_.Sliced(now, true);
  if (pace_.LookDue(now)) {
    const bool other_wrote = store.OtherClientWrote();
    pace_.Looked(now, other_wrote);
    if (other_wrote) {
      LogWarning("writer",
                 "another SQLite client has written in the node's file; looking for what");
      // Clocks of rows that it deleted must be in the file to be found without their rows.
      (void)store.Checkpoint();
    }
  }
  if (!pace_.SliceDue(now)) return;
  const Result<bool> ended = store.Scrub(ScrubPace::kRowsPerSlice);
  if (!ended.ok() && now >= log_at_) {
    log_at_ = now + kLogInterval;
    LogError("writer", "looking at the tables: ", ended.error().ToString());
  }
  // A part that cannot be read is a new pass: others can, and the next tells it again.
  pace_.Sliced(clock.Now(), !ended.ok() || *ended);
}

}  // namespace patina::agent

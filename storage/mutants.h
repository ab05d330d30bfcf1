#pragma once

#include <cstdint>

namespace patina::storage {

/// Rules of the store that a test may break, one at a time, to show that the model test finds it
/// (tests/storage/mutants_test.cc). No configuration reaches this; kNone everywhere else.
enum class Mutant : uint8_t {
  kNone,
  kClaimRange,                 // a transfer of one actor's versions from current rows claims them
  kCollectWithoutHorizon,      // tombstones go, and older changes are merged afterwards
  kReuseActor,                 // the actor lives in the file and goes on after a restart
  kSkipHorizon,                // merges whatever comes, however old
  kParkedIsApplied,            // counts a parked change as applied
  kReplayWithoutStamps,        // replays the log by plain overwriting
  kMergeFutureAtOnce,          // does not wait until a change is due
  kApplyHalfOfTransaction,     // applies the tables that are known, parks nothing
  kTransferWithoutCollected,   // takes a transfer although it lacks what the sender has collected
  kPublishedNotInFile,         // a new process may write below a published clock
  kClockFromParked,            // a parked change from the future moves the clock
  kTombstoneTakesCells,        // a tombstone takes its later cells with it
  kOwnUnsentOnly,              // a snapshot keeps only what this node wrote itself
  kAnySchema,                  // takes a transfer from another schema
  kTransferWithoutCheckpoint,  // what a transfer claims is in memory only
  kStaleTransfer,              // merges what the receiver lacked when it asked, not what it lacks
  kLivesNotLookedAt,           // a column is its name, however often that was dropped
  kUnparkedNotLogged,          // applies a parked change without a log entry
};

}  // namespace patina::storage

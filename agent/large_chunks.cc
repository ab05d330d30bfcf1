#include "agent/large_chunks.h"

#include "base/log.h"

namespace patina::agent {

Result<uint64_t> StageLargeManifest(storage::Store& store, std::string_view manifest) {
  Result<uint64_t> next = store.StageLarge(manifest);
  if (!next.ok()) {
    LogWarning("writer", "a peer's large transaction is not fetched: ", next.error().ToString());
  }
  return next;
}

LargeOutcome TakeLargeChunk(storage::Store& store, const WriterQueue::Chunk& chunk,
                            storage::CommitEffects* effects) {
  LargeOutcome outcome;
  if (!chunk.bytes->empty()) {  // empty: all were there already
    outcome.status = store.StageLargeChunk(*chunk.large, chunk.number, *chunk.bytes);
  }
  if (!outcome.status.ok() || !chunk.last) return outcome;
  const Result<storage::MergeOutcome> merged = store.MergeLarge(*chunk.large, effects);
  if (!merged.ok()) {
    outcome.status = Error(merged.error());
  } else if (merged->state == storage::MergeState::kRejected) {
    outcome.status = ResourceExhausted("too much is parked already (" + merged->reason + ")");
  } else if (merged->state == storage::MergeState::kTooOld) {
    outcome.status = Error{storage::kNeedsSnapshot, merged->reason};
  }
  outcome.parked = merged.ok() && merged->state == storage::MergeState::kParked;
  return outcome;
}

}  // namespace patina::agent

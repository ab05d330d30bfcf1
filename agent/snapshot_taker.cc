#include "agent/snapshot_taker.h"

#include "base/log.h"

namespace patina::agent {

Status SnapshotTaker::Add(storage::Store& store, const gossip::Outputs::StageChunk& chunk) {
  const Status taken = Take(store, chunk);
  if (!taken.ok()) {
    LogWarning("writer", "taking a peer's file: ", taken.error().ToString());
    Drop();
  }
  return taken;
}

Status SnapshotTaker::Take(storage::Store& store, const gossip::Outputs::StageChunk& chunk) {
  if (chunk.number == 0) {
    stage_.reset();  // it would remove the new one's file
    ASSIGN_OR_RETURN(stage_, storage::SnapshotStage::Open(path_));
  }
  if (stage_ == nullptr) return FailedPrecondition("the snapshot was given up");
  RETURN_IF_ERROR(stage_->Add(*chunk.bytes, chunk.last));
  if (!chunk.last) return OkStatus();
  ASSIGN_OR_RETURN(const storage::SnapshotOutcome outcome, store.PrepareSnapshot(stage_->path()));
  taken_ = true;
  LogInfo("writer", "a peer's file was taken (horizon ", outcome.horizon.ToString(),
          "): ", outcome.kept, " changes of this node are kept, ", outcome.set_aside,
          " are set aside; a new process goes on with it");
  return OkStatus();
}

}  // namespace patina::agent

#pragma once

#include <memory>
#include <string>

#include "gossip/node.h"
#include "storage/snapshot_chunks.h"
#include "storage/store.h"

namespace patina::agent {

/// Puts another node's file together, beside the store's; when it is whole, the store makes it the
/// one that the next process begins with. The writer thread's.
class SnapshotTaker {
 public:
  /// database_path: the store's.
  explicit SnapshotTaker(const std::string& database_path)
      : path_(storage::IncomingSnapshotPath(database_path)) {}

  /// The next chunk; number 0 begins anew. An error ends it: nothing is left of the file.
  Status Add(storage::Store& store, const gossip::Outputs::StageChunk& chunk);
  /// The peer, or this node, has given it up.
  void Drop() { stage_.reset(); }
  /// The file is whole and prepared: this process is at its end.
  bool taken() const { return taken_; }

 private:
  Status Take(storage::Store& store, const gossip::Outputs::StageChunk& chunk);

  const std::string path_;
  std::unique_ptr<storage::SnapshotStage> stage_;
  bool taken_ = false;
};

}  // namespace patina::agent

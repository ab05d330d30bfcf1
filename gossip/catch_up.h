#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>

#include "crdt/version_set.h"

namespace patina::gossip {

/// Has this process once received all that some of its peers had when they first told it? What a
/// member that is forgotten wrote, nobody publishes any more: a node that lacks it (a new one, or
/// one with an old file) learns that only from its peers' sets. Until it has caught up it must not
/// take itself for complete: its horizon would rise above what it lacks, and the others would take
/// its file. One thread.
class CatchUp {
 public:
  static constexpr size_t kPeers = 3;  // or all, if there are fewer

  /// alone: may a node that reaches nobody take itself for complete?
  explicit CatchUp(bool alone) : alone_(alone) {}

  /// The peer has received what this node has.
  void OnEqual(const std::string& peer);
  /// What the peer has received.
  void OnTold(const std::string& peer, const crdt::VersionSet& theirs,
              const crdt::VersionSet& received);
  /// others: how many are reachable. Once true with others it stays so.
  bool Done(const crdt::VersionSet& received, size_t others,
            const std::function<bool(const std::string&)>& reachable);

 private:
  const bool alone_;
  bool done_ = false;
  /// What each had and this node lacked, less what it has no longer (lost with its file).
  std::map<std::string, crdt::VersionSet> lacking_;
};

}  // namespace patina::gossip

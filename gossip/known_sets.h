#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "crdt/version_set.h"
#include "gossip/messages.h"

namespace patina::gossip {

/// What two nodes know of each other's received sets, so that a SyncState between them carries what
/// was added since the last one instead of the whole set.
///
/// A state names the set it builds on (its base, by digest) and the set of the other side that the
/// sender holds (known). Both are checked against what is remembered: who has restarted, forgotten
/// or lost a message is noticed, and told everything anew. Sets are kept for the kPeersMax peers
/// spoken with last. One thread.
class KnownSets {
 public:
  static constexpr size_t kPeersMax = 64;

  /// The state to send to this peer now.
  SyncState Compose(const std::string& peer, const crdt::VersionSet& received, bool answer);

  /// What the peer has received, by its state; null if that builds on a set not held here: ask for
  /// all of it (Refuse). Valid until the next call.
  const crdt::VersionSet* Take(const std::string& peer, const SyncState& state);

  /// Says that nothing is known of the peer's set.
  static SyncState Refuse() { return {true, {}, {}, {}, true}; }

  /// The peer does not hold the set that our last state built on: the next one is complete.
  void OnRefused(const std::string& peer) { Use(peer).told = {}; }
  void Forget(const std::string& peer) { pairs_.erase(peer); }
  /// Peers given up for others since the start: beyond kPeersMax, the one spoken with longest ago.
  uint64_t forgotten() const { return forgotten_; }

 private:
  struct Pair {
    crdt::VersionSet sent;    // ours, as last composed for it
    crdt::VersionSet told;    // ours, as it has acknowledged
    crdt::VersionSet theirs;  // as it has told us
    uint64_t used = 0;
  };
  Pair& Use(const std::string& peer);

  std::map<std::string, Pair> pairs_;
  uint64_t uses_ = 0, forgotten_ = 0;
};

}  // namespace patina::gossip

#include "gossip/known_sets.h"

#include <algorithm>

#include "gossip/ranges.h"

namespace patina::gossip {

KnownSets::Pair& KnownSets::Use(const std::string& peer) {
  if (pairs_.size() >= kPeersMax && !pairs_.contains(peer)) {
    ++forgotten_;
    pairs_.erase(std::min_element(pairs_.begin(), pairs_.end(), [](const auto& a, const auto& b) {
      return a.second.used < b.second.used;
    }));
  }
  Pair& pair = pairs_[peer];
  pair.used = ++uses_;
  return pair;
}

SyncState KnownSets::Compose(const std::string& peer, const crdt::VersionSet& received,
                             bool answer) {
  Pair& pair = Use(peer);
  SyncState state;
  state.answer = answer;
  state.base = pair.told.digest();
  state.received = ToSet(pair.told.Lacking(received));
  state.known = pair.theirs.digest();
  pair.sent = received;
  return state;
}

const crdt::VersionSet* KnownSets::Take(const std::string& peer, const SyncState& state) {
  Pair& pair = Use(peer);
  if (state.known == pair.sent.digest()) {
    pair.told = pair.sent;
  } else if (state.known != pair.told.digest()) {
    pair.told = {};
  }
  if (state.base == Digest128()) {  // all of it
    pair.theirs = state.received;
  } else if (state.base == pair.theirs.digest()) {
    pair.theirs.Union(state.received);
  } else {
    pair.theirs = {};
    return nullptr;
  }
  return &pair.theirs;
}

}  // namespace patina::gossip

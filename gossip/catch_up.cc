#include "gossip/catch_up.h"

#include <algorithm>

namespace patina::gossip {

void CatchUp::OnEqual(const std::string& peer) {
  if (!done_ && (lacking_.size() < kPeers || lacking_.contains(peer))) lacking_[peer] = {};
}

void CatchUp::OnTold(const std::string& peer, const crdt::VersionSet& theirs,
                     const crdt::VersionSet& received) {
  if (done_) return;
  const auto found = lacking_.find(peer);
  if (found != lacking_.end()) {
    found->second = found->second.Without(found->second.Without(theirs));
  } else if (lacking_.size() < kPeers) {
    lacking_[peer] = theirs.Without(received);
  }
}

bool CatchUp::Done(const crdt::VersionSet& received, size_t others,
                   const std::function<bool(const std::string&)>& reachable) {
  if (done_) return true;
  if (others == 0) return alone_;
  std::erase_if(lacking_, [&](const auto& entry) { return !reachable(entry.first); });
  done_ = lacking_.size() >= std::min(kPeers, others) &&
          std::all_of(lacking_.begin(), lacking_.end(),
                      [&](const auto& entry) { return entry.second.IsSubsetOf(received); });
  if (done_) lacking_.clear();
  return done_;
}

}  // namespace patina::gossip

#pragma once

#include <map>
#include <string>
#include <vector>

#include "gossip/shared.h"
#include "gossip/transfer.h"

namespace patina::gossip {

/// When two histories differ before a horizon, nothing can be merged any more: the one with the
/// lower horizon (of equal ones: the lower name) takes a snapshot of the other. Here the two find
/// out who that is. Also says when a new node should begin with a snapshot. One thread.
class Settlement {
 public:
  Settlement(Shared& shared, Transfer& transfer)
      : shared_(shared), transfer_(transfer), began_empty_(shared.received.Empty()) {}

  /// Storage refused these as too old.
  void OnTooOld(const std::vector<ChangeId>& ids);
  /// What storage refused as too old: not to be asked for again.
  const crdt::VersionSet& too_old() const { return too_old_; }
  /// The peer has received this: does it have what we refused?
  void OnPeerHas(const Member& peer, const crdt::VersionSet& theirs, Instant now, Outputs& out);
  /// The peer has so many versions, and this node lacks so many of them. If this node is new and
  /// lacks much, it asks for a snapshot, once. True: wait for what comes of it.
  bool OnLacking(const Member& peer, uint64_t versions, uint64_t lacking, Instant now,
                 Outputs& out);

  /// Not more often than kInterval with each peer.
  void Begin(const Member& peer, Instant now, Outputs& out);
  void OnSettle(const Member& from, const Settle& settle, Instant now, Outputs& out);

 private:
  Shared& shared_;
  Transfer& transfer_;
  crdt::VersionSet too_old_;
  std::map<std::string, Instant> begun_;
  /// The process began with an empty file; what it has written or was sent since does not count.
  const bool began_empty_;
  bool new_asked_ = false;
};

}  // namespace patina::gossip

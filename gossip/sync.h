#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gossip/known_sets.h"
#include "gossip/settlement.h"
#include "gossip/shared.h"
#include "gossip/transfer.h"

namespace patina::gossip {

/// Anti-entropy, the asking side. Digests that differ lead to an exchange of received sets, at most
/// so often per peer; what a peer has and we lack is asked for, each version from one peer at a
/// time. What is only just missing is left to the broadcast. One thread.
class Sync {
 public:
  Sync(Shared& shared, Transfer& transfer, Settlement& settlement)
      : shared_(shared), transfer_(transfer), settlement_(settlement) {}

  /// Of each datagram.
  void OnDigest(Member& from, const Digest128& digest, Instant now, Outputs& out);
  void OnState(Member& from, const SyncState& state, Instant now, Outputs& out);
  void OnChanges(const std::string& from, const SyncChanges& changes, Instant now, Outputs& out);
  /// Storage did not take these: not asked for again too soon.
  void OnRefused(const std::vector<ChangeId>& ids, Instant now);
  void OnPeerLost(const std::string& name, Instant now);
  /// There is room in flight again, or less is missing.
  void OnProgress(Instant now, Outputs& out);

  void Tick(Instant now, Outputs& out);
  Instant NextDeadline() const;
  uint64_t VersionsLacking() const;

 private:
  struct Peer {
    Instant next_exchange{};
    Duration interval{};
    Instant next_answer{};
    /// What it has and we lacked when it told us (the newest of it, if too much), and when to ask
    /// for it.
    crdt::VersionSet lacking;
    bool truncated = false;
    Instant due = Instant::max();
    bool useful = false;           // something came of asking it
    crdt::VersionSet unavailable;  // it does not have these at hand
  };
  struct Request {
    std::string peer;
    crdt::VersionSet wanted;
    Instant deadline{};
    bool useful = false;
  };

  void Exchange(Member& peer, Peer& state, Instant now, Outputs& out);
  void SendState(Member& to, bool answer, Outputs& out);
  void ExchangeWithOthers(const std::string& except, Instant now, Outputs& out);
  void BackOff(Peer& peer, Instant now);
  Peer& Obtain(const std::string& name);
  void SetDue(const std::string& name, Peer& peer, Instant due);
  void Clear(const std::string& name, Peer& peer);
  void Advance(Instant now, Outputs& out);
  std::vector<std::string> DuePeers(Instant now);
  uint64_t AskFor(const std::string& name, crdt::VersionSet& busy, size_t slots, Instant now,
                  Outputs& out);
  bool TakeManifest(const std::string& from, const Change& change, Instant now, Outputs& out);
  void Settle(const std::string& name, Instant now, Outputs& out);
  crdt::VersionSet Here() const;
  bool Asking(const std::string& name) const;
  void ForgetGone();

  Shared& shared_;
  Transfer& transfer_;
  Settlement& settlement_;
  KnownSets known_;
  std::map<std::string, Peer> peers_;
  std::set<std::pair<Instant, std::string>> due_;  // peers with a due time
  Instant next_while_busy_{};                      // exchange, while changes keep coming in
  std::map<uint64_t, Request> requests_;
  uint64_t next_request_ = 1;
  crdt::VersionSet refused_;
  Instant refused_until_{};
  bool blocked_ = false;  // too much in flight to ask for more
};

}  // namespace patina::gossip

#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gossip/recent_changes.h"
#include "gossip/shared.h"
#include "gossip/tree.h"

namespace patina::gossip {

/// Spreads fresh changes: own ones at once to relays and the own region's tree, those of others on
/// down the tree in the same call that received them. Notes and gaps lead to pulls. One thread.
class Broadcast {
 public:
  explicit Broadcast(Shared& shared)
      : shared_(shared),
        recent_(shared.config.recent_bytes_max, shared.config.recent_changes_max),
        tree_(shared.members, shared.self, shared.config.tree_width,
              shared.config.relays_per_region) {}

  void OnLocalCommit(std::vector<Change> changes, Outputs& out);
  void OnFresh(const std::string& from, FreshChanges fresh, Instant now, Outputs& out);
  void OnIHave(const std::string& from, const IHave& have, Instant now);
  void OnPull(const Member& from, const Pull& pull, Outputs& out);

  void Tick(Instant now, Outputs& out);
  Instant NextDeadline() const;

 private:
  /// A change that somebody has and we lack.
  struct Missing {
    std::string provider;
    Instant due{};
    bool pulled = false;  // asked; forgotten when due
  };

  void Send(const std::string& origin, uint32_t hops, std::vector<Change> changes,
            const std::string& except, Outputs& out);
  void SendBatch(const std::string& origin, uint32_t hops, std::vector<Change> changes,
                 const TreePlan& plan, const std::string& except, Outputs& out);
  void NoteMissing(const ChangeId& id, const std::string& provider, Instant now);
  void NoteGap(const ChangeId& id, const std::string& provider, Instant now);
  void Forget(const ChangeId& id);

  Shared& shared_;
  RecentChanges recent_;
  Tree tree_;
  std::map<ChangeId, Missing> missing_;
  std::set<std::pair<Instant, ChangeId>> due_;
};

}  // namespace patina::gossip

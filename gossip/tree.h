#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "gossip/member.h"
#include "gossip/member_table.h"

// How a change spreads: from its origin to two relays in every other region, and within a region
// along a tree. Every node computes the same from the same membership; nothing is negotiated.
//
// Members of a region stand on a ring by the hash of their name. For an origin elsewhere, the two
// with the highest rendezvous hash of (origin, member) are the relays: positions 0 and 1 of the
// tree. The others follow in ring order, beginning behind relay 0. In its own region the origin
// itself is position 0. Position p feeds positions width*p + 1 .. width*p + width. Relay 1 gets the
// bytes from the origin, so relay 0 need not send them.
//
// Notes ("I have") go where the bytes would be missing if one node failed: each position notes the
// children of its neighbour on the same level, relay 1 those of relay 0, and the relays each other.

namespace patina::gossip {

/// Of one node, for changes of one origin: who gets the bytes, and who gets a note.
struct TreePlan {
  std::vector<const Member*> bytes;
  std::vector<const Member*> notes;
};

/// One thread (that of Node).
class Tree {
 public:
  Tree(MemberTable& members, const MemberInfo& self, int width, int relays)
      : members_(members),
        self_(self),
        width_(static_cast<uint64_t>(width)),
        relays_(static_cast<size_t>(relays)) {}

  /// Valid until the membership changes.
  const TreePlan& PlanFor(const std::string& origin);

 private:
  struct Place {
    uint64_t hash = 0;
    const std::string* name = nullptr;
    const Member* member = nullptr;  // nothing: this node itself
  };
  using Ring = std::vector<Place>;

  void Refresh();
  std::vector<size_t> Relays(const Ring& ring, const std::string& origin) const;
  TreePlan MakePlan(const std::string& origin) const;
  void PlanOwnRegion(const Ring& ring, const std::string& origin, TreePlan* plan) const;

  MemberTable& members_;
  const MemberInfo& self_;
  uint64_t width_;
  size_t relays_;
  uint64_t epoch_ = 0;
  std::map<std::string, Ring> regions_;
  std::map<std::string, TreePlan> plans_;  // by origin
};

}  // namespace patina::gossip

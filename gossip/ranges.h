#pragma once

#include <cstdint>
#include <vector>

#include "base/ids.h"
#include "crdt/version_set.h"

// Version ranges as they travel. What comes from a peer is cut to bounds here before anything grows
// by it. Pure functions, any thread.

namespace patina::gossip {

/// Versions above this are never made and never accepted.
inline constexpr uint64_t kVersionMax = uint64_t{1} << 48;

/// Ids (any order, duplicates allowed) as ranges, ascending by actor and version.
std::vector<crdt::ActorRanges> ToRanges(std::vector<ChangeId> ids);

/// At most max of the ids in the ranges; malformed ranges are skipped.
std::vector<ChangeId> ToIds(const std::vector<crdt::ActorRanges>& ranges, size_t max);

/// Sum of versions, saturating.
uint64_t CountVersions(const std::vector<crdt::ActorRanges>& ranges);

/// The part of the (untrusted) ranges that the set has: at most max_versions of them, newest of
/// each actor first.
std::vector<crdt::ActorRanges> IntersectWith(const crdt::VersionSet& set,
                                             const std::vector<crdt::ActorRanges>& ranges,
                                             uint64_t max_versions);

/// The newest versions of each actor, about equally many of each, at most max_versions in all.
/// Requires well-formed ranges (ascending, disjoint).
std::vector<crdt::ActorRanges> TakeNewest(std::vector<crdt::ActorRanges> ranges,
                                          uint64_t max_versions);

/// Requires ranges of a bounded number of versions.
crdt::VersionSet ToSet(const std::vector<crdt::ActorRanges>& ranges);

}  // namespace patina::gossip

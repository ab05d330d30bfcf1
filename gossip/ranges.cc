#include "gossip/ranges.h"

#include <algorithm>
#include <utility>

namespace patina::gossip {
namespace {

using crdt::ActorRanges;
using crdt::VersionRange;

uint64_t Size(const VersionRange& range) { return range.last - range.first + 1; }

bool WellFormed(const VersionRange& range) {
  return range.first >= 1 && range.first <= range.last && range.last <= kVersionMax;
}

/// The highest versions of one actor's ranges, at most max; the rest stays in *ranges.
std::vector<VersionRange> TakeTail(std::vector<VersionRange>* ranges, uint64_t max) {
  std::vector<VersionRange> taken;
  while (max > 0 && !ranges->empty()) {
    VersionRange& last = ranges->back();
    if (Size(last) <= max) {
      max -= Size(last);
      taken.push_back(last);
      ranges->pop_back();
    } else {
      taken.push_back({last.last - max + 1, last.last});
      last.last -= max;
      max = 0;
    }
  }
  std::reverse(taken.begin(), taken.end());
  return taken;
}

}  // namespace

std::vector<ActorRanges> ToRanges(std::vector<ChangeId> ids) {
  std::sort(ids.begin(), ids.end());
  std::vector<ActorRanges> result;
  for (const ChangeId& id : ids) {
    if (result.empty() || result.back().actor != id.actor) result.push_back({id.actor, {}});
    std::vector<VersionRange>& ranges = result.back().ranges;
    if (!ranges.empty() && id.version <= ranges.back().last + 1) {
      ranges.back().last = std::max(ranges.back().last, id.version);
    } else {
      ranges.push_back({id.version, id.version});
    }
  }
  return result;
}

std::vector<ChangeId> ToIds(const std::vector<ActorRanges>& ranges, size_t max) {
  std::vector<ChangeId> ids;
  for (const ActorRanges& actor : ranges) {
    for (const VersionRange& range : actor.ranges) {
      if (!WellFormed(range)) continue;
      for (uint64_t version = range.first; version <= range.last; ++version) {
        if (ids.size() >= max) return ids;
        ids.push_back({actor.actor, version});
      }
    }
  }
  return ids;
}

uint64_t CountVersions(const std::vector<ActorRanges>& ranges) {
  uint64_t count = 0;
  for (const ActorRanges& actor : ranges) {
    for (const VersionRange& range : actor.ranges) {
      if (WellFormed(range)) count = std::min(count + Size(range), uint64_t{1} << 62);
    }
  }
  return count;
}

std::vector<ActorRanges> IntersectWith(const crdt::VersionSet& set,
                                       const std::vector<ActorRanges>& ranges,
                                       uint64_t max_versions) {
  std::vector<ActorRanges> result;
  for (const ActorRanges& wanted : ranges) {
    if (set.Head(wanted.actor) == 0) continue;
    const std::vector<VersionRange> have = set.Ranges(wanted.actor);
    ActorRanges both{wanted.actor, {}};
    uint64_t above = 0;  // ascending and disjoint, whatever the peer sent
    for (const VersionRange& range : wanted.ranges) {
      if (!WellFormed(range) || range.first <= above) continue;
      above = range.last;
      auto at = std::lower_bound(
          have.begin(), have.end(), range.first,
          [](const VersionRange& held, uint64_t first) { return held.last < first; });
      for (; at != have.end() && at->first <= range.last; ++at) {
        both.ranges.push_back({std::max(at->first, range.first), std::min(at->last, range.last)});
      }
    }
    if (!both.ranges.empty()) result.push_back(std::move(both));
  }
  return TakeNewest(std::move(result), max_versions);
}

std::vector<ActorRanges> TakeNewest(std::vector<ActorRanges> ranges, uint64_t max_versions) {
  if (CountVersions(ranges) <= max_versions) return ranges;
  std::vector<ActorRanges> taken;
  uint64_t left = max_versions;
  for (size_t i = 0; i < ranges.size() && left > 0; ++i) {
    const uint64_t share = std::max<uint64_t>(1, left / (ranges.size() - i));
    ActorRanges part{ranges[i].actor, TakeTail(&ranges[i].ranges, share)};
    uint64_t size = 0;
    for (const VersionRange& range : part.ranges) size += Size(range);
    left -= size;
    if (size > 0) taken.push_back(std::move(part));
  }
  return taken;
}

crdt::VersionSet ToSet(const std::vector<ActorRanges>& ranges) {
  crdt::VersionSet set;
  for (const ActorRanges& actor : ranges) {
    for (const VersionRange& range : actor.ranges) set.AddRange(actor.actor, range);
  }
  return set;
}

}  // namespace patina::gossip

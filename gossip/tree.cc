#include "gossip/tree.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/hash.h"

namespace patina::gossip {
namespace {

constexpr size_t kPlansMax = 4096;  // origins come from peers
constexpr size_t kNowhere = SIZE_MAX;

/// Positions of a tree on the ring's indexes; see tree.h.
class Positions {
 public:
  /// second: the second relay's index, or kNowhere.
  Positions(size_t size, size_t first, size_t second)
      : size_(size),
        first_(first),
        shift_(second == kNowhere ? 0 : (second + size - first) % size) {}

  size_t PositionOf(size_t index) const {
    const size_t distance = (index + size_ - first_) % size_;
    if (shift_ == 0 || distance == 0 || distance > shift_) return distance;
    return distance == shift_ ? 1 : distance + 1;
  }
  size_t IndexOf(size_t position) const {
    size_t distance = position;
    if (shift_ != 0 && position != 0) {
      if (position == 1) {
        distance = shift_;
      } else if (position <= shift_) {
        distance = position - 1;
      }
    }
    return (first_ + distance) % size_;
  }

 private:
  size_t size_, first_, shift_;
};

/// The position on the same level whose children this one notes: the one before, around.
size_t NeighbourBefore(size_t position, size_t size, size_t width) {
  size_t first = 0, count = 1;
  while (position >= first + count) {
    first += count;
    count *= width;
  }
  const size_t last = std::min(first + count, size) - 1;
  return position == first ? last : position - 1;
}

}  // namespace

const TreePlan& Tree::PlanFor(const std::string& origin) {
  Refresh();
  const auto found = plans_.find(origin);
  if (found != plans_.end()) return found->second;
  if (plans_.size() >= kPlansMax) plans_.clear();
  return plans_.emplace(origin, MakePlan(origin)).first->second;
}

void Tree::Refresh() {
  if (epoch_ == members_.epoch()) return;
  epoch_ = members_.epoch();
  plans_.clear();
  regions_.clear();
  regions_[self_.region].push_back({Hash64(self_.name), &self_.name, nullptr});
  for (const Member* member : members_.Reachable()) {
    regions_[member->info.region].push_back(
        {Hash64(member->info.name), &member->info.name, member});
  }
  for (auto& [region, ring] : regions_) {
    std::sort(ring.begin(), ring.end(), [](const Place& a, const Place& b) {
      return a.hash != b.hash ? a.hash < b.hash : *a.name < *b.name;
    });
  }
}

std::vector<size_t> Tree::Relays(const Ring& ring, const std::string& origin) const {
  const uint64_t origin_hash = Hash64(origin, 1);
  std::vector<std::pair<uint64_t, size_t>> scores;
  scores.reserve(ring.size());
  for (size_t i = 0; i < ring.size(); ++i) {
    if (*ring[i].name != origin) scores.push_back({CombineHash(origin_hash, ring[i].hash), i});
  }
  const size_t count = std::min(scores.size(), relays_);
  std::partial_sort(scores.begin(), scores.begin() + static_cast<std::ptrdiff_t>(count),
                    scores.end(), std::greater<>());
  std::vector<size_t> relays;
  for (size_t i = 0; i < count; ++i) relays.push_back(scores[i].second);
  return relays;
}

TreePlan Tree::MakePlan(const std::string& origin) const {
  TreePlan plan;
  PlanOwnRegion(regions_.at(self_.region), origin, &plan);
  if (origin != self_.name) return plan;
  for (const auto& [region, ring] : regions_) {
    if (region == self_.region) continue;
    for (const size_t relay : Relays(ring, origin)) plan.bytes.push_back(ring[relay].member);
  }
  return plan;
}

void Tree::PlanOwnRegion(const Ring& ring, const std::string& origin, TreePlan* plan) const {
  const size_t size = ring.size();
  size_t self = kNowhere, first = kNowhere, second = kNowhere;
  for (size_t i = 0; i < size; ++i) {
    if (ring[i].member == nullptr) self = i;
    if (*ring[i].name == origin) first = i;
  }
  CHECK(self != kNowhere);
  if (first == kNowhere) {
    const std::vector<size_t> relays = Relays(ring, origin);
    if (relays.empty()) return;
    first = relays[0];
    if (relays.size() > 1) second = relays[1];
  }
  const Positions positions(size, first, second);
  const size_t position = positions.PositionOf(self);
  const auto children = [&](size_t of, std::vector<const Member*>* to) {
    for (size_t child = width_ * of + 1; child <= width_ * of + width_ && child < size; ++child) {
      if (child == position || (of == 0 && child == 1 && second != kNowhere)) continue;
      to->push_back(ring[positions.IndexOf(child)].member);
    }
  };
  children(position, &plan->bytes);
  if (second != kNowhere && position <= 1) {
    plan->notes.push_back(ring[positions.IndexOf(1 - position)].member);
    if (position == 1) children(0, &plan->notes);
  }
  const size_t neighbour = NeighbourBefore(position, size, width_);
  if (neighbour != position) children(neighbour, &plan->notes);
}

}  // namespace patina::gossip

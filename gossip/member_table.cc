#include "gossip/member_table.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace patina::gossip {
namespace {
constexpr size_t kRoundTripsKept = 7;
}  // namespace

void RoundTrips::Add(Duration round_trip) {
  recent_.push_back(round_trip);
  if (recent_.size() > kRoundTripsKept) recent_.pop_front();
}

std::optional<Duration> RoundTrips::Median() const {
  if (recent_.empty()) return std::nullopt;
  std::vector<Duration> sorted(recent_.begin(), recent_.end());
  std::sort(sorted.begin(), sorted.end());
  return sorted[sorted.size() / 2];
}

std::optional<Duration> RoundTrips::Longest() const {
  if (recent_.empty()) return std::nullopt;
  return *std::max_element(recent_.begin(), recent_.end());
}

MemberView Member::View() const {
  MemberView view;
  view.info = info;
  view.state = state;
  view.since = since;
  view.round_trip = round_trips.Median();
  view.versions_behind = versions_behind;
  view.stream_only = stream_only;
  return view;
}

Member* MemberTable::Find(const std::string& name) {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &found->second;
}

const Member* MemberTable::Find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &found->second;
}

Member& MemberTable::Insert(const std::string& name) {
  const auto [at, inserted] = by_name_.try_emplace(name);
  CHECK(inserted);
  Changed();
  return at->second;
}

void MemberTable::Erase(const std::string& name) {
  by_name_.erase(name);
  Changed();
}

const std::vector<Member*>& MemberTable::Reachable() {
  if (reachable_epoch_ != epoch_) {
    reachable_.clear();
    for (auto& [name, member] : by_name_) {
      if (member.Reachable()) reachable_.push_back(&member);
    }
    reachable_epoch_ = epoch_;
  }
  return reachable_;
}

std::vector<Member*> MemberTable::PickReachable(Rng& rng, size_t count, const std::string& except) {
  const std::vector<Member*>& from = Reachable();
  std::vector<Member*> picked;
  const size_t available =
      from.size() - (std::any_of(from.begin(), from.end(),
                                 [&](const Member* member) { return member->info.name == except; })
                         ? 1
                         : 0);
  if (available <= count) {
    for (Member* member : from) {
      if (member->info.name != except) picked.push_back(member);
    }
    rng.Shuffle(picked);
    return picked;
  }
  while (picked.size() < count) {
    Member* member = from[static_cast<size_t>(rng.Below(from.size()))];
    if (member->info.name == except) continue;
    if (std::find(picked.begin(), picked.end(), member) == picked.end()) picked.push_back(member);
  }
  return picked;
}

}  // namespace patina::gossip

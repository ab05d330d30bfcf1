#include "gossip/frontier.h"

#include <algorithm>
#include <utility>

namespace patina::gossip {
namespace {

constexpr size_t kBlockBytes = 64;  // of a set, per 65,536 versions above a gap

}  // namespace

bool Publication::operator==(const Publication& other) const {
  return node == other.node && serial == other.serial && clock == other.clock &&
         complete == other.complete && *own == *other.own;
}

size_t Publication::Bytes() const {
  size_t bytes = sizeof(Publication) + node.size();
  for (const crdt::ActorRanges& actor : own->AllRanges()) {
    bytes += sizeof actor.actor;
    for (const crdt::VersionRange& range : actor.ranges) {
      bytes += sizeof range + ((range.last >> 16) - (range.first >> 16)) * kBlockBytes;
    }
  }
  return bytes;
}

Frontier::Frontier(std::string self, FrontierConfig config)
    : self_(std::move(self)), config_(config) {}

Frontier::MemberState* Frontier::Count(const std::string& node, int64_t now_ms) {
  const auto found = members_.find(node);
  if (found != members_.end()) {
    found->second.last_heard_ms = std::max(found->second.last_heard_ms, now_ms);
    return &found->second;
  }
  if (members_.size() >= config_.members_max) {
    ++refused_;
    return nullptr;
  }
  if (forgotten_.erase(node) > 0) std::erase(forgotten_order_, node);
  ++epoch_;
  MemberState& member = members_[node];
  member.last_heard_ms = now_ms;
  return &member;
}

void Frontier::Heard(const std::string& node, int64_t now_ms) {
  if (!node.empty() && node != self_) Count(node, now_ms);
}

void Frontier::Named(const std::string& node, int64_t now_ms) {
  if (node.empty() || node == self_ || members_.contains(node) || forgotten_.contains(node)) return;
  Count(node, now_ms);
}

std::vector<std::string> Frontier::ForgetDead(
    const std::function<bool(const std::string&)>& reachable, int64_t now_ms) {
  std::vector<std::string> silent;
  size_t unreachable = 0;
  for (auto& [name, member] : members_) {
    if (reachable(name)) {
      member.last_heard_ms = std::max(member.last_heard_ms, now_ms);
      continue;
    }
    ++unreachable;
    if (member.last_heard_ms < now_ms - config_.forget_after_ms) silent.push_back(name);
  }
  // Of two halves that do not reach each other at most one may go on without the other.
  const auto all = static_cast<double>(members_.size() + 1);
  if (static_cast<double>(unreachable) >= config_.forget_unreachable_max * all) return {};
  for (const std::string& name : silent) {
    const Publication* newest = Newest(name);
    forgotten_[name] = newest == nullptr ? 0 : newest->serial;
    forgotten_order_.push_back(name);
    for (const Publication& publication : members_.at(name).publications) {
      bytes_ -= publication.Bytes();
    }
    members_.erase(name);
    ++epoch_;
  }
  while (forgotten_order_.size() > config_.forgotten_max) {
    forgotten_.erase(forgotten_order_.front());
    forgotten_order_.pop_front();
  }
  if (members_.size() < config_.members_max) refused_ = 0;
  return silent;
}

bool Frontier::Keep(std::vector<Publication>& kept, const Publication& publication) {
  if (!kept.empty() && kept.back().serial >= publication.serial) return false;
  const size_t bytes = publication.Bytes();
  if (bytes_ + bytes > config_.bytes_max) {
    ++publications_refused_;
    return false;
  }
  bytes_ += bytes;
  kept.push_back(publication);
  if (kept.size() > kKept) {
    bytes_ -= kept.front().Bytes();
    kept.erase(kept.begin());
  }
  return true;
}

bool Frontier::Hear(const Publication& publication, int64_t now_ms) {
  if (publication.node == self_) return Keep(own_, publication);
  const auto forgotten = forgotten_.find(publication.node);
  if (forgotten != forgotten_.end() && publication.serial <= forgotten->second) return false;
  const auto known = members_.find(publication.node);
  if (known != members_.end() && !known->second.publications.empty() &&
      known->second.publications.back().serial >= publication.serial) {
    return false;
  }
  MemberState* member = Count(publication.node, now_ms);
  return member != nullptr && Keep(member->publications, publication);
}

crdt::HlcTime Frontier::SatisfiedClock(const MemberState& member, const crdt::VersionSet& applied) {
  crdt::HlcTime best;
  for (const Publication& publication : member.publications) {
    if (publication.clock > best && publication.own->IsSubsetOf(applied)) {
      best = publication.clock;
    }
  }
  return best;
}

crdt::HlcTime Frontier::Complete(const crdt::VersionSet& applied, crdt::HlcTime published,
                                 std::optional<crdt::HlcTime> oldest_parked) const {
  if (!caught_up_) return {};
  crdt::HlcTime complete = published;
  if (oldest_parked) complete = std::min(complete, *oldest_parked);
  for (const auto& [name, member] : members_) {
    complete = std::min(complete, SatisfiedClock(member, applied));
  }
  return complete;
}

crdt::HlcTime Frontier::Get(crdt::HlcTime complete) const {
  if (refused_ > 0) return {};
  for (const auto& [name, member] : members_) {
    if (member.publications.empty()) return {};
    complete = std::min(complete, member.publications.back().complete);
  }
  return complete;
}

Frontier::Holder Frontier::HeldBackBy(const crdt::VersionSet& applied,
                                      crdt::HlcTime complete) const {
  if (refused_ > 0) return {"", {}, "more members than can be counted"};
  if (!caught_up_) return {self_, {}, "it has not received all that its peers had when it started"};
  Holder holder{self_, complete, "what this node has itself published, or has parked"};
  const auto take = [&](const std::string& name, crdt::HlcTime time, std::string_view reason) {
    if (time < holder.complete || (time == holder.complete && holder.node == self_)) {
      holder = {name, time, std::string(reason)};
    }
  };
  for (const auto& [name, member] : members_) {
    if (member.publications.empty()) {
      take(name, {}, "nothing published by it has come here yet");
      continue;
    }
    const crdt::HlcTime satisfied = SatisfiedClock(member, applied);
    const bool newest_satisfied = satisfied == member.publications.back().clock;
    take(name, satisfied,
         newest_satisfied ? "nothing newer published by it has come here"
                          : "this node lacks versions that it wrote");
    take(name, member.publications.back().complete, "it lacks, or has parked, what others wrote");
  }
  return holder;
}

const Publication* Frontier::Newest(const std::string& node) const {
  if (node == self_) return own_.empty() ? nullptr : &own_.back();
  const auto found = members_.find(node);
  if (found == members_.end() || found->second.publications.empty()) return nullptr;
  return &found->second.publications.back();
}

}  // namespace patina::gossip

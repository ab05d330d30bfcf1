#include "gossip/recent_changes.h"

namespace patina::gossip {

void RecentChanges::Add(const Change& change, const std::string& origin) {
  if (!entries_.emplace(change.id, Entry{change.bytes, origin}).second) return;
  by_age_.push_back(change.id);
  bytes_ += change.bytes->size();
  while (bytes_ > bytes_max_ || entries_.size() > changes_max_) {
    const auto oldest = entries_.find(by_age_.front());
    by_age_.pop_front();
    bytes_ -= oldest->second.bytes->size();
    entries_.erase(oldest);
  }
}

const RecentChanges::Entry* RecentChanges::Find(const ChangeId& id) const {
  const auto found = entries_.find(id);
  return found == entries_.end() ? nullptr : &found->second;
}

}  // namespace patina::gossip

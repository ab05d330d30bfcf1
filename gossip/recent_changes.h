#pragma once

#include <cstddef>
#include <deque>
#include <string>
#include <unordered_map>

#include "gossip/messages.h"

namespace patina::gossip {

/// The last changes made or received, at hand for peers that pull them. Bounded by bytes and
/// number; the oldest go first. One thread (that of Node).
class RecentChanges {
 public:
  struct Entry {
    SharedBytes bytes;
    std::string origin;
  };

  RecentChanges(size_t bytes_max, size_t changes_max)
      : bytes_max_(bytes_max), changes_max_(changes_max) {}

  void Add(const Change& change, const std::string& origin);
  /// Nothing if it is not there (any more). Lives until the next Add.
  const Entry* Find(const ChangeId& id) const;
  size_t bytes() const { return bytes_; }
  size_t size() const { return entries_.size(); }

 private:
  size_t bytes_max_;
  size_t changes_max_;
  size_t bytes_ = 0;
  std::unordered_map<ChangeId, Entry> entries_;  // looked up, never iterated
  std::deque<ChangeId> by_age_;
};

}  // namespace patina::gossip

#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "gossip/member.h"

namespace patina::gossip {

/// Bytes the update takes in a datagram, at most.
size_t EstimateBytes(const MemberUpdate& update);

/// News about members that still has to ride on datagrams: at most one piece per member, the
/// newest. Least sent goes first, then the newest. One thread (that of Node).
class Dissemination {
 public:
  void Add(MemberUpdate update);
  void Remove(const std::string& name);
  bool Empty() const { return by_name_.empty(); }
  bool Contains(const std::string& name) const { return by_name_.find(name) != by_name_.end(); }
  size_t size() const { return by_name_.size(); }

  /// Appends what fits into the bytes left (skipping members already in *updates) and counts it as
  /// sent once more; what was sent limit times is forgotten.
  void Fill(size_t bytes_left, int limit, std::vector<MemberUpdate>* updates);

 private:
  struct Entry {
    MemberUpdate update;
    int sent = 0;
    uint64_t age = 0;  // lower is newer
  };
  using Key = std::tuple<int, uint64_t, std::string>;
  static Key KeyOf(const Entry& entry) { return {entry.sent, entry.age, entry.update.info.name}; }

  std::map<std::string, Entry> by_name_;
  std::set<Key> order_;
  uint64_t next_age_ = UINT64_MAX;
};

/// factor * ceil(log10(members + 1)), at least factor.
int RetransmitLimit(int factor, size_t members);

}  // namespace patina::gossip

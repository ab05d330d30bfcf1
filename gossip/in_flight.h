#pragma once

#include <cstddef>
#include <unordered_map>

#include "base/ids.h"
#include "crdt/version_set.h"

namespace patina::gossip {

/// Changes handed to the writer that are not yet known to be durable. One thread (that of Node).
/// The map is looked up, never iterated where order could reach an output.
class InFlight {
 public:
  bool Contains(const ChangeId& id) const { return sizes_.find(id) != sizes_.end(); }
  size_t bytes() const { return bytes_; }
  bool empty() const { return sizes_.empty(); }

  void Add(const ChangeId& id, size_t size) {
    if (sizes_.emplace(id, size).second) bytes_ += size;
  }
  void Remove(const ChangeId& id) {
    const auto found = sizes_.find(id);
    if (found == sizes_.end()) return;
    bytes_ -= found->second;
    sizes_.erase(found);
  }
  void AddTo(crdt::VersionSet* set) const {
    for (const auto& [id, size] : sizes_) set->Add(id);
  }

 private:
  std::unordered_map<ChangeId, size_t> sizes_;
  size_t bytes_ = 0;
};

}  // namespace patina::gossip

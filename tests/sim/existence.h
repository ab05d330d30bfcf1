#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "crdt/hlc.h"

namespace patina::sim {

/// Which rows must exist: of all changes that say whether a row exists, the latest one tells. So a
/// deleted row that is back is found, whatever was forgotten meanwhile. One thread.
class Existence {
 public:
  void Add(const std::string& changeset);
  /// Compares with the tables of a file, leaving out the changes that were set aside. Empty if all
  /// is well.
  std::string Compare(const std::string& path, const std::set<ChangeId>& set_aside) const;

 private:
  struct Says {
    crdt::HlcTime time;
    ChangeId id;
    bool alive = false;
  };
  std::map<std::pair<std::string, std::string>, std::vector<Says>> rows_;  // table, packed key
};

}  // namespace patina::sim

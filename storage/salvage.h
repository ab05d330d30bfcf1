#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "storage/store.h"

// What can still be read of a damaged file: a node that is built anew from its peers gets the rest
// from them, but what only it had written and nobody had received is nowhere else. Any thread.

namespace patina::storage {

struct SalvageReport {
  uint64_t changes = 0;  // handed over
  /// Entries of the log and of what was parked that could not be read or made no sense. Whether
  /// they were the node's own cannot be known.
  uint64_t unreadable = 0;
  std::vector<std::string> problems;  // for people; not one per entry
};

/// Hands over, in batches of at most kSalvageBatchBytes (or one changeset), every changeset in the
/// file that was written under an actor of the node, and those of which the file no longer says
/// whose they are. The file is not changed, and it is read past pages that are damaged. Errors are
/// those of take only: a file of which nothing can be read gives none, and says so in problems.
Result<SalvageReport> SalvageOwnChanges(
    const std::string& path, const std::string& node_name,
    const std::function<Status(const std::vector<SharedBytes>&)>& take);

inline constexpr size_t kSalvageBatchBytes = 1u << 20;

}  // namespace patina::storage

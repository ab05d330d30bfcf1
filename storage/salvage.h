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

/// Who takes what is found. An error ends the reading.
struct SalvageTaker {
  /// Changesets: batches of at most kSalvageBatchBytes, or one.
  std::function<Status(const std::vector<SharedBytes>&)> changes;
  /// A large transaction: its manifest, and how to read its chunks; NOT_FOUND: it is not there or
  /// cannot be read. MergeSalvaged does it.
  using ReadChunk = std::function<Result<std::string>(uint64_t number)>;
  std::function<Status(const std::string& manifest, const ReadChunk& read)> large;
};

/// Hands over every change in the file that was written under an actor of the node, and those of
/// which the file no longer says whose they are. The file is not changed, and it is read past pages
/// that are damaged. Errors are those of the taker only: a file of which nothing can be read gives
/// none, and says so in problems.
Result<SalvageReport> SalvageOwnChanges(const std::string& path, const std::string& node_name,
                                        const SalvageTaker& take);

/// A salvaged large transaction into a store. Should a chunk be missing, those before it stay
/// staged: a peer may have the rest. The outcome is kRejected then.
Result<MergeOutcome> MergeSalvaged(Store& store, const std::string& manifest,
                                   const SalvageTaker::ReadChunk& read, CommitEffects* effects);

inline constexpr size_t kSalvageBatchBytes = 1u << 20;

}  // namespace patina::storage

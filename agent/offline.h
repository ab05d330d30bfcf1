#pragma once

#include <cstdint>
#include <string>

#include "agent/config.h"
#include "base/status.h"
#include "storage/file_check.h"
#include "storage/salvage.h"

// Putting another file in the place of a node's, while its agent is stopped: `patina restore` and
// `patina reseed`. The agent goes on as another actor, as at every start, so that no version is
// given out twice whatever file it finds. One thread; no agent may run in the folder, and none can
// start meanwhile (FAILED_PRECONDITION).
//
// The new file is made beside the old one, and takes its name when it is whole; the old one is kept
// under a name with the time. After an error the folder is as it was.

namespace patina::agent {

struct RestoreOptions {
  std::string backup;        // path of the file to restore
  bool new_cluster = false;  // it may be of another cluster, and becomes one of this node's
  /// False: the file is not opened with the configured schema (there is no configuration).
  bool check_schema = true;
};

struct RestoreOutcome {
  storage::FileReport report;  // of the backup
  std::string kept_as;         // the old file's new name; empty: there was none
};

/// Checks the backup, then restores it. DATA_LOSS when it is damaged, FAILED_PRECONDITION when it
/// is of another cluster or a newer release, or does not fit the schema.
Result<RestoreOutcome> RestoreBackup(const Config& config, const RestoreOptions& options);

struct ReseedOutcome {
  storage::SalvageReport salvage;
  uint64_t applied = 0, parked = 0, rejected = 0;  // of what was salvaged
  std::string kept_as;
};

/// A new file with nothing but what can still be read of the node's own changes; all else comes
/// from the peers when the agent runs.
Result<ReseedOutcome> Reseed(const Config& config);

}  // namespace patina::agent

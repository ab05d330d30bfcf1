#pragma once

#include <string>

#include "base/status.h"

// Taking another node's file in the place of one's own, see Store::PrepareSnapshot.
//
// While it is copied and merged the new file has a name of the caller's. Whole and synced, it is
// given the name below, in one step: from then on the old file counts no more, and whoever opens
// the store puts the new one in its place. The old file's write-ahead log goes first, because
// SQLite would read it into the new file.

namespace patina::storage {

/// Where the new file waits for the next start.
std::string PreparedSnapshotPath(const std::string& path);

/// Puts a prepared file, if there is one, in the place of the file at path. Nobody may have that
/// open. A crash at any point is made good by the next call.
Status AdoptPreparedSnapshot(const std::string& path);

}  // namespace patina::storage

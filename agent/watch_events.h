#pragma once

#include <string_view>

#include "base/status.h"
#include "storage/reader.h"

namespace patina::v1 {
class WatchResponse;
}

namespace patina::agent {

/// Appends what a log entry did to one table on this node, as events: only words that took effect.
/// A transfer's marker becomes KIND_RESET. DATA_LOSS when the entry cannot be read. Any thread.
Status AppendWatchEvents(const storage::LogEntry& entry, std::string_view table,
                         v1::WatchResponse* response);

}  // namespace patina::agent

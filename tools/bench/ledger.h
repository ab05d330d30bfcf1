#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/status.h"

namespace patina::tools::bench {

/// What was acknowledged last for a key.
struct LedgerEntry {
  int64_t value = 0;
  std::string actor;  // hex
  uint64_t version = 0;
};

/// By key: its newest acknowledged write. Values of a key grow from write to write.
using Ledger = std::map<std::string, LedgerEntry>;

/// One line, with its end: key,value,actor,version
std::string LedgerLine(const std::string& key, const LedgerEntry& entry);

/// An unfinished last line (its writer was killed) is ignored. Errors name the file and line.
Result<Ledger> ParseLedger(std::string_view text, std::string_view file_name);

/// Of one node: what it lacks of a ledger.
struct LedgerDifference {
  uint64_t keys = 0;     // in the ledger
  uint64_t missing = 0;  // no such row
  uint64_t stale = 0;    // an older value than the acknowledged one
  std::string first;     // the first of them, for people
};
LedgerDifference CompareLedger(const Ledger& ledger, const std::map<std::string, int64_t>& rows);

}  // namespace patina::tools::bench

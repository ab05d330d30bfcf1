#include "tools/bench/ledger.h"

#include <array>
#include <charconv>

namespace patina::tools::bench {
namespace {

template <class Integer>
bool ParseInteger(std::string_view text, Integer* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

/// Four fields between commas; false when there are not four.
bool SplitLine(std::string_view line, std::array<std::string_view, 4>* fields) {
  for (size_t i = 0; i < fields->size(); ++i) {
    const size_t comma = line.find(',');
    const bool last = i + 1 == fields->size();
    if (last != (comma == std::string_view::npos)) return false;
    (*fields)[i] = line.substr(0, comma);
    if (!last) line.remove_prefix(comma + 1);
  }
  return true;
}

}  // namespace

std::string LedgerLine(const std::string& key, const LedgerEntry& entry) {
  return key + "," + std::to_string(entry.value) + "," + entry.actor + "," +
         std::to_string(entry.version) + "\n";
}

Result<Ledger> ParseLedger(std::string_view text, std::string_view file_name) {
  Ledger ledger;
  for (size_t line = 1; !text.empty(); ++line) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) break;  // its writer was killed in the middle of it
    std::array<std::string_view, 4> fields;
    LedgerEntry entry;
    if (!SplitLine(text.substr(0, end), &fields) || !ParseInteger(fields[1], &entry.value) ||
        !ParseInteger(fields[3], &entry.version)) {
      return InvalidArgument(std::string(file_name) + ":" + std::to_string(line) +
                             ": not key,value,actor,version");
    }
    entry.actor = fields[2];
    LedgerEntry& newest = ledger[std::string(fields[0])];
    if (entry.value >= newest.value) newest = entry;
    text.remove_prefix(end + 1);
  }
  return ledger;
}

LedgerDifference CompareLedger(const Ledger& ledger, const std::map<std::string, int64_t>& rows) {
  LedgerDifference difference;
  difference.keys = ledger.size();
  for (const auto& [key, entry] : ledger) {
    const auto row = rows.find(key);
    const bool missing = row == rows.end();
    if (!missing && row->second >= entry.value) continue;
    ++(missing ? difference.missing : difference.stale);
    if (!difference.first.empty()) continue;
    difference.first = key + " = " + std::to_string(entry.value) + " (actor " + entry.actor +
                       ", version " + std::to_string(entry.version) + ") but " +
                       (missing ? "there is no such row" : "it is " + std::to_string(row->second));
  }
  return difference;
}

}  // namespace patina::tools::bench

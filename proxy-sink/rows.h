#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

// The rows of the fleet's tables as the sink reads them: queries, and checked, typed rows.
// Pure values and functions, any thread. Rows come from anybody who may write to the fleet's
// tables: a row is either understood in full or is nothing.

namespace patina::proxy_sink {

enum class TableId : uint8_t {
  kRegions,
  kHosts,
  kApps,
  kMachines,
  kServices,
  kChecks,
  kServiceLoad,
  kMachineLoad,
  kRegionRtt,
};
inline constexpr size_t kTableCount = 9;
inline constexpr size_t kTextBytesMax = 1024;  // of a name, address or state

/// What the sink needs to know of a table: the query has its key columns first.
struct TableSpec {
  TableId id;
  std::string_view name;
  std::string_view query;
  size_t key_columns;
  size_t columns;
};
const TableSpec& SpecOf(TableId id);
const std::array<TableSpec, kTableCount>& AllTables();

/// Null, blobs and text that is not UTF-8 are the empty alternative: no column we read may hold
/// them.
using Cell = std::variant<std::monostate, int64_t, double, std::string>;
using Cells = std::vector<Cell>;

enum class CheckStatus : uint8_t { kPassing, kWarning, kUnknown, kCritical };  // best first
std::string_view CheckStatusName(CheckStatus status);

struct RegionRow {
  std::string code;
  double latitude = 0;
  double longitude = 0;
};
struct HostRow {
  std::string id;
  std::string state;
};
struct AppRow {
  std::string name;
  std::string status;
};
struct MachineRow {
  std::string id;
  std::string app;
  std::string host;
  std::string region;
  std::string state;
  std::string desired_state;
};
struct ServiceRow {
  std::string machine;
  int64_t port = 0;
  std::string protocol;
  std::string address;
  int64_t soft_limit = 0;  // 0: none
  int64_t hard_limit = 0;  // 0: none
};
struct CheckRow {
  std::string machine;
  int64_t port = 0;
  std::string name;
  CheckStatus status = CheckStatus::kUnknown;
};
struct ServiceLoadRow {
  std::string machine;
  int64_t port = 0;
  int64_t inflight = 0;
  int64_t measured_ms = 0;
};
struct MachineLoadRow {
  std::string machine;
  double cpu_load = 0;
};
struct RegionRttRow {
  std::string source;
  std::string target;
  int64_t rtt_us = 0;
  int64_t measured_ms = 0;
};
/// In the order of TableId.
using ParsedRow = std::variant<RegionRow, HostRow, AppRow, MachineRow, ServiceRow, CheckRow,
                               ServiceLoadRow, MachineLoadRow, RegionRttRow>;

/// Nothing when malformed: wrong number or type of cells, text over kTextBytesMax or with NUL, an
/// empty key, negative limits, ports outside 1 to 65535, coordinates not on Earth, times or loads
/// below zero.
std::optional<ParsedRow> ParseRow(TableId table, const Cells& cells);

/// The key of a row, well-formed or not, as one string; nothing when the key itself is malformed.
std::optional<std::string> RowKey(TableId table, const Cells& cells);

}  // namespace patina::proxy_sink

#include "proxy-sink/rows.h"

#include <cmath>

namespace patina::proxy_sink {
namespace {

constexpr std::array<TableSpec, kTableCount> kTables = {{
    {TableId::kRegions, "regions", "SELECT code, latitude, longitude FROM regions", 1, 3},
    {TableId::kHosts, "hosts", "SELECT id, state FROM hosts", 1, 2},
    {TableId::kApps, "apps", "SELECT name, status FROM apps", 1, 2},
    {TableId::kMachines, "machines",
     "SELECT id, app, host, region, state, desired_state FROM machines", 1, 6},
    {TableId::kServices, "services",
     "SELECT machine, port, protocol, address, soft_limit, hard_limit FROM services", 2, 6},
    {TableId::kChecks, "checks", "SELECT machine, port, name, status FROM checks", 3, 4},
    {TableId::kServiceLoad, "service_load",
     "SELECT machine, port, inflight, measured_ms FROM service_load", 2, 4},
    {TableId::kMachineLoad, "machine_load", "SELECT machine, cpu_load FROM machine_load", 1, 2},
    {TableId::kRegionRtt, "region_rtt",
     "SELECT source, target, rtt_us, measured_ms FROM region_rtt", 2, 4},
}};

constexpr int64_t kCountMax = 1'000'000'000;
constexpr int64_t kRttUsMax = 60'000'000;
constexpr double kCpuMax = 1e5;

/// NUL separates the parts of a key, so it is not allowed in text.
bool IsShortText(const std::string& text) {
  return text.size() <= kTextBytesMax && text.find('\0') == std::string::npos;
}

/// Takes the cells of one row in order. After the first that does not fit, ok() is false.
class CellReader {
 public:
  explicit CellReader(const Cells& cells) : cells_(cells) {}

  bool ok() const { return ok_; }

  std::string Text() {
    const Cell* cell = Next();
    const std::string* text = cell == nullptr ? nullptr : std::get_if<std::string>(cell);
    if (text == nullptr || !IsShortText(*text)) {
      ok_ = false;
      return {};
    }
    return *text;
  }
  std::string Name() {
    std::string text = Text();
    if (text.empty()) ok_ = false;
    return text;
  }
  int64_t Integer(int64_t low, int64_t high) {
    const Cell* cell = Next();
    const int64_t* integer = cell == nullptr ? nullptr : std::get_if<int64_t>(cell);
    if (integer == nullptr || *integer < low || *integer > high) {
      ok_ = false;
      return 0;
    }
    return *integer;
  }
  int64_t Port() { return Integer(1, 65535); }
  int64_t Count() { return Integer(0, kCountMax); }
  int64_t TimeMs() { return Integer(0, INT64_MAX); }
  double Real(double low, double high) {
    const Cell* cell = Next();
    double real = NAN;
    if (cell != nullptr && std::holds_alternative<double>(*cell)) real = std::get<double>(*cell);
    if (cell != nullptr && std::holds_alternative<int64_t>(*cell)) {
      real = static_cast<double>(std::get<int64_t>(*cell));
    }
    if (!(real >= low && real <= high)) ok_ = false;  // NaN too
    return real;
  }

 private:
  const Cell* Next() { return next_ < cells_.size() ? &cells_[next_++] : nullptr; }

  const Cells& cells_;
  size_t next_ = 0;
  bool ok_ = true;
};

CheckStatus StatusFromName(std::string_view name) {
  if (name == "passing") return CheckStatus::kPassing;
  if (name == "warning") return CheckStatus::kWarning;
  if (name == "critical") return CheckStatus::kCritical;
  return CheckStatus::kUnknown;
}

ParsedRow Read(TableId table, CellReader& in) {
  // Braced lists are evaluated in order.
  switch (table) {
    case TableId::kRegions:
      return RegionRow{in.Name(), in.Real(-90, 90), in.Real(-180, 180)};
    case TableId::kHosts:
      return HostRow{in.Name(), in.Text()};
    case TableId::kApps:
      return AppRow{in.Name(), in.Text()};
    case TableId::kMachines:
      return MachineRow{in.Name(), in.Text(), in.Text(), in.Text(), in.Text(), in.Text()};
    case TableId::kServices:
      return ServiceRow{in.Name(), in.Port(), in.Text(), in.Text(), in.Count(), in.Count()};
    case TableId::kChecks:
      return CheckRow{in.Name(), in.Port(), in.Text(), StatusFromName(in.Text())};
    case TableId::kServiceLoad:
      return ServiceLoadRow{in.Name(), in.Port(), in.Count(), in.TimeMs()};
    case TableId::kMachineLoad:
      return MachineLoadRow{in.Name(), in.Real(0, kCpuMax)};
    case TableId::kRegionRtt:
      return RegionRttRow{in.Name(), in.Name(), in.Integer(0, kRttUsMax), in.TimeMs()};
  }
  return {};
}

}  // namespace

const TableSpec& SpecOf(TableId id) { return kTables[static_cast<size_t>(id)]; }
const std::array<TableSpec, kTableCount>& AllTables() { return kTables; }

std::string_view CheckStatusName(CheckStatus status) {
  switch (status) {
    case CheckStatus::kPassing:
      return "passing";
    case CheckStatus::kWarning:
      return "warning";
    case CheckStatus::kUnknown:
      return "unknown";
    case CheckStatus::kCritical:
      return "critical";
  }
  return "unknown";
}

std::optional<ParsedRow> ParseRow(TableId table, const Cells& cells) {
  if (cells.size() != SpecOf(table).columns) return std::nullopt;
  CellReader in(cells);
  ParsedRow row = Read(table, in);
  if (!in.ok()) return std::nullopt;
  return row;
}

std::optional<std::string> RowKey(TableId table, const Cells& cells) {
  const size_t count = SpecOf(table).key_columns;
  if (cells.size() < count) return std::nullopt;
  std::string key;
  for (size_t i = 0; i < count; ++i) {
    if (const auto* integer = std::get_if<int64_t>(&cells[i])) {
      key += std::to_string(*integer);
    } else if (const auto* text = std::get_if<std::string>(&cells[i])) {
      if (!IsShortText(*text)) return std::nullopt;
      key += *text;
    } else {
      return std::nullopt;
    }
    key.push_back('\0');
  }
  return key;
}

}  // namespace patina::proxy_sink

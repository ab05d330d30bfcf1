#include "tools/output.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>
#include <ostream>

#include "base/bytes.h"

namespace patina::tools {
namespace {

constexpr size_t kHeldRowsMax = 1'000;
constexpr size_t kPadMax = 60;  // a longer cell does not widen its whole column

nlohmann::ordered_json ToJson(const crdt::ValueView& value) {
  switch (value.type()) {
    case crdt::ValueType::kNull:
      return nullptr;
    case crdt::ValueType::kInteger:
      return value.integer();
    case crdt::ValueType::kReal:
      return value.real();
    case crdt::ValueType::kText:
      return std::string(value.bytes());
    case crdt::ValueType::kBlob:
      return ToHex(value.bytes());
  }
  return nullptr;
}

std::string Dump(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

bool IsNumber(const crdt::Value& value) {
  return value.type() == crdt::ValueType::kInteger || value.type() == crdt::ValueType::kReal;
}

/// Characters, not bytes: UTF-8 continuation bytes take no room.
size_t DisplayWidth(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & '\xc0') != '\x80'; }));
}

std::string CsvCell(const crdt::Value& value) {
  if (value.view().IsNull()) return {};
  if (value.type() == crdt::ValueType::kText) return std::string(value.view().bytes());
  return value.ToString();
}

std::string Quoted(std::string_view cell) {
  if (cell.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(cell);
  std::string quoted = "\"";
  for (char c : cell) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

template <class... Arguments>
std::string Printf(const char* format, Arguments... arguments) {
  std::array<char, 96> buffer{};
  const int size = std::snprintf(buffer.data(), buffer.size(), format, arguments...);
  return std::string(buffer.data(), static_cast<size_t>(std::max(0, size)));
}

}  // namespace

RowPrinter::RowPrinter(std::ostream& out, Format format, std::vector<std::string> columns,
                       bool streaming)
    : out_(out), format_(format), columns_(std::move(columns)), streaming_(streaming) {
  for (const std::string& column : columns_) {
    widths_.push_back(DisplayWidth(column));
    std::string name = column;
    for (int n = 2; std::find(json_names_.begin(), json_names_.end(), name) != json_names_.end();
         ++n) {
      name = column + ":" + std::to_string(n);
    }
    json_names_.push_back(std::move(name));
  }
}

RowPrinter::~RowPrinter() { Finish(); }

void RowPrinter::Print(const std::vector<crdt::Value>& values) {
  ++rows_;
  if (format_ == Format::kJson) {
    PrintJson(values);
  } else if (format_ == Format::kCsv) {
    if (!header_printed_) PrintCsvLine(columns_);
    header_printed_ = true;
    std::vector<std::string> cells;
    for (size_t i = 0; i < columns_.size(); ++i) {
      cells.push_back(i < values.size() ? CsvCell(values[i]) : std::string());
    }
    PrintCsvLine(cells);
  } else {
    Held held;
    for (size_t i = 0; i < columns_.size(); ++i) {
      held.cells.push_back(i < values.size() ? CellText(values[i]) : std::string());
      held.right.push_back(i < values.size() && IsNumber(values[i]));
      widths_[i] = std::max(widths_[i], std::min(kPadMax, DisplayWidth(held.cells[i])));
    }
    held_.push_back(std::move(held));
    if (streaming_ || held_.size() >= kHeldRowsMax) PrintHeld();
  }
  if (streaming_) out_.flush();
}

void RowPrinter::Finish() {
  if (finished_) return;
  finished_ = true;
  if (format_ == Format::kTable) PrintHeld();
  if (format_ == Format::kCsv && !header_printed_) PrintCsvLine(columns_);
  out_.flush();
}

void RowPrinter::PrintHeld() {
  if (!header_printed_ && !columns_.empty()) {
    // Names of numbers stand to the right, as the numbers do.
    PrintTableLine(columns_,
                   held_.empty() ? std::vector<bool>(columns_.size(), false) : held_[0].right);
    std::vector<std::string> rule;
    for (size_t width : widths_) rule.emplace_back(width, '-');
    PrintTableLine(rule, std::vector<bool>(columns_.size(), false));
  }
  header_printed_ = true;
  for (const Held& row : held_) PrintTableLine(row.cells, row.right);
  held_.clear();
}

void RowPrinter::PrintTableLine(const std::vector<std::string>& cells,
                                const std::vector<bool>& right) {
  std::string line;
  for (size_t i = 0; i < cells.size(); ++i) {
    if (i > 0) line += "  ";
    const size_t width = DisplayWidth(cells[i]);
    const std::string padding(width < widths_[i] ? widths_[i] - width : 0, ' ');
    line += right[i] ? padding + cells[i] : cells[i] + padding;
  }
  line.erase(line.find_last_not_of(' ') + 1);
  out_ << line << '\n';
}

void RowPrinter::PrintJson(const std::vector<crdt::Value>& values) {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  for (size_t i = 0; i < columns_.size(); ++i) {
    object[json_names_[i]] = i < values.size() ? ToJson(values[i]) : nlohmann::ordered_json();
  }
  out_ << Dump(object) << '\n';
}

void RowPrinter::PrintCsvLine(const std::vector<std::string>& cells) {
  for (size_t i = 0; i < cells.size(); ++i) out_ << (i > 0 ? "," : "") << Quoted(cells[i]);
  out_ << '\n';
}

void PrintFields(std::ostream& out, Format format, const std::vector<Field>& fields) {
  if (format == Format::kTable) {
    size_t width = 0;
    for (const Field& field : fields) width = std::max(width, DisplayWidth(field.first));
    for (const auto& [name, value] : fields) {
      out << "  " << name << std::string(width - DisplayWidth(name) + 2, ' ') << CellText(value)
          << '\n';
    }
    out.flush();
    return;
  }
  std::vector<std::string> names;
  std::vector<crdt::Value> values;
  for (const auto& [name, value] : fields) {
    names.push_back(name);
    values.push_back(value);
  }
  RowPrinter(out, format, std::move(names)).Print(values);
}

std::string CellText(const crdt::ValueView& value) {
  if (value.type() != crdt::ValueType::kText) return value.ToString();
  std::string text;
  for (char c : value.bytes()) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      text += "\\n";
    } else if (c == '\t') {
      text += "\\t";
    } else if (byte < 0x20 || byte == 0x7f) {
      text += Printf("\\x%02x", byte);
    } else {
      text += c;
    }
  }
  return text;
}

std::string JsonText(const crdt::ValueView& value) { return Dump(ToJson(value)); }

std::string HumanDuration(Duration duration) {
  const auto ns = static_cast<double>(duration.count());
  const long long seconds = static_cast<long long>(duration.count() / 1'000'000'000);
  if (ns < 1e6) return Printf("%.0f us", ns / 1e3);
  if (ns < 1e9) return Printf("%.*f ms", ns < 1e8 ? 1 : 0, ns / 1e6);
  if (seconds < 60) return Printf("%.1f s", ns / 1e9);
  if (seconds < 3600) return Printf("%lld min %lld s", seconds / 60, seconds % 60);
  if (seconds < 86400) return Printf("%lld h %lld min", seconds / 3600, seconds % 3600 / 60);
  return Printf("%lld d %lld h", seconds / 86400, seconds % 86400 / 3600);
}

std::string HumanBytes(uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  auto size = static_cast<double>(bytes);
  const char* unit = "";
  for (const char* next : {"KiB", "MiB", "GiB", "TiB"}) {
    size /= 1024;
    unit = next;
    if (size < 1023.95) break;
  }
  return Printf("%.1f %s", size, unit);
}

std::string HumanCount(uint64_t count) {
  std::string digits = std::to_string(count);
  for (size_t place = digits.size(); place > 3; place -= 3) digits.insert(place - 3, 1, ',');
  return digits;
}

std::string HumanTime(int64_t ns) {
  if (ns == 0) return {};
  const std::time_t seconds = ns / 1'000'000'000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 32> buffer{};
  const size_t size = std::strftime(buffer.data(), buffer.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  return std::string(buffer.data(), size) +
         Printf(".%03lldZ", static_cast<long long>(ns / 1'000'000 % 1000));
}

}  // namespace patina::tools

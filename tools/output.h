#pragma once

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "crdt/value.h"

// How commands print: tables for people, JSON (one object per line) and CSV for programs. One
// thread at a time.

namespace patina::tools {

enum class Format : uint8_t { kTable, kJson, kCsv };

/// Rows under column names. Null is NULL in tables, null in JSON, empty in CSV. Blobs are x'00ff',
/// in JSON as hex text. JSON repeats no name: a second column "a" becomes "a:2".
class RowPrinter {
 public:
  /// *out outlives the printer. streaming: every row goes out at once, and table columns have the
  /// widths of the header or of the row, whichever is larger; else a table is held back (up to
  /// 1,000 rows at a time) to find its widths.
  RowPrinter(std::ostream& out, Format format, std::vector<std::string> columns,
             bool streaming = false);
  /// Finish.
  ~RowPrinter();
  RowPrinter(const RowPrinter&) = delete;
  RowPrinter& operator=(const RowPrinter&) = delete;

  /// As many values as columns; missing ones are null.
  void Print(const std::vector<crdt::Value>& values);
  /// Prints what is held back and flushes. The header of an empty table is printed, too.
  void Finish();
  size_t rows() const { return rows_; }

 private:
  void PrintTableLine(const std::vector<std::string>& cells, const std::vector<bool>& right);
  void PrintHeld();
  void PrintJson(const std::vector<crdt::Value>& values);
  void PrintCsvLine(const std::vector<std::string>& cells);

  std::ostream& out_;
  const Format format_;
  const std::vector<std::string> columns_;
  std::vector<std::string> json_names_;
  const bool streaming_;
  bool header_printed_ = false, finished_ = false;
  size_t rows_ = 0;
  std::vector<size_t> widths_;
  struct Held {
    std::vector<std::string> cells;
    std::vector<bool> right;  // numbers stand to the right
  };
  std::vector<Held> held_;
};

/// "name: value" lines under each other for one thing, or one JSON object, or two CSV columns.
using Field = std::pair<std::string, crdt::Value>;
void PrintFields(std::ostream& out, Format format, const std::vector<Field>& fields);

/// As table cells show it: NULL, 12, 1.5, text as it is (control characters as \n, \t, \x1b),
/// x'00ff'.
std::string CellText(const crdt::ValueView& value);
/// A value as JSON text: null, 12, 1.5, "text", and a blob as hex text.
std::string JsonText(const crdt::ValueView& value);

/// "850 us", "12.3 ms", "4.2 s", "3 min 5 s", "2 h 10 min", "3 d 4 h".
std::string HumanDuration(Duration duration);
/// "812 B", "1.5 KiB", "3.2 MiB".
std::string HumanBytes(uint64_t bytes);
/// "1,234,567"
std::string HumanCount(uint64_t count);
/// "2026-11-21T01:02:03.456Z" of nanoseconds since the epoch; "" of 0.
std::string HumanTime(int64_t ns);

}  // namespace patina::tools

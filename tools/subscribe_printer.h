#pragma once

#include <cstdint>
#include <iosfwd>
#include <memory>
#include <string>
#include <vector>

#include "tools/output.h"

namespace patina::v1 {
class SubscribeEvent;
class SubscribeEvent_RowChange;
}  // namespace patina::v1

namespace patina::tools {

/// Prints a live query's events as they come: rows and changes as rows (event, row, change number,
/// then the query's columns); the end of the snapshot and resets as notes, or as JSON objects. One
/// thread.
class SubscribePrinter {
 public:
  /// Streams outlive the printer. events_max: rows and changes to print, 0 for no end.
  SubscribePrinter(std::ostream& out, std::ostream& notes, Format format, uint64_t events_max);

  void Print(const v1::SubscribeEvent& event);
  bool done() const { return events_max_ > 0 && events_ >= events_max_; }

 private:
  void PrintRow(const char* kind, const v1::SubscribeEvent_RowChange& row);
  void Note(const std::string& event, uint64_t change_number, const std::string& text);

  std::ostream& out_;
  std::ostream& notes_;
  const Format format_;
  const uint64_t events_max_;
  uint64_t events_ = 0;
  std::unique_ptr<RowPrinter> printer_;
  std::vector<std::string> columns_;
};

}  // namespace patina::tools

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "subscribe/engine.h"

namespace patina::subscribe {

/// The rows a query's answer has now, and what changes them. Not thread-safe.
///
/// Invariants: 1. a row's id follows from its key (or from its values, and which of the equal ones
/// it is) alone; 2. folding all events written since the set was empty gives the set.
class ResultSet {
 public:
  /// keyed: each row has a key of its own; else rows are told apart by their values, and rows that
  /// are equal are counted.
  explicit ResultSet(bool keyed) : keyed_(keyed) {}

  /// Keyed only: the row with this key is now that, or is not in the answer. Writes one event, or
  /// none.
  void Apply(std::string_view key, std::optional<std::string_view> values, uint64_t change_number,
             std::vector<Event>* events);

  /// A whole new answer: BeginRebuild, Add for each row, FinishRebuild writes what differs: deletes
  /// first, then updates and inserts in the order of Add. Without FinishRebuild the set is
  /// unusable.
  void BeginRebuild();
  /// `key` is not looked at unless keyed.
  void Add(std::string_view key, std::string_view values);
  void FinishRebuild(uint64_t change_number, std::vector<Event>* events);

  /// One kRow for each row, by row id: the same order in every run.
  void Snapshot(std::vector<Event>* events) const;

  size_t size() const { return size_; }

 private:
  struct Row {
    uint64_t row_id = 0;
    std::vector<uint64_t> twins;  // ids of further rows of equal values; none if keyed
    std::string values;           // packed; if keyed (else the map's key says them)
    uint64_t generation = 0;      // the rebuild that saw it last
    size_t seen = 0;              // how often it did
  };
  using Rows = std::unordered_map<std::string, Row>;

  std::string_view ValuesOf(const Rows::value_type& entry) const {
    return keyed_ ? entry.second.values : entry.first;
  }
  void AddNew(std::string key, std::string_view values);
  void DeleteUnseen(uint64_t change_number, std::vector<Event>* events);

  const bool keyed_;
  Rows rows_;
  size_t size_ = 0;  // twins counted
  uint64_t generation_ = 0;
  std::vector<Event> pending_;  // updates and inserts of the rebuild under way
};

/// Makes kInsert, kUpdate, kDelete and kRow events.
Event RowEvent(EventKind kind, uint64_t row_id, std::string_view values, uint64_t change_number);

}  // namespace patina::subscribe

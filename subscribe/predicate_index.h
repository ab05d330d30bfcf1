#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "crdt/value.h"
#include "storage/effects.h"
#include "subscribe/plan.h"

namespace patina::subscribe {

/// Of one table: which of the queries that look at its rows one by one a changed row may concern.
/// Queries with a condition `column = value` are found by the values the row had and has. Not
/// thread-safe.
class PredicateIndex {
 public:
  using QueryId = uint64_t;

  void Add(QueryId query, const std::optional<Plan::Equality>& equality);
  /// With the same equality as Add had.
  void Remove(QueryId query, const std::optional<Plan::Equality>& equality);

  /// Queries without such a condition: every row concerns them. By id.
  const std::vector<QueryId>& unconditional() const { return unconditional_; }

  /// Pairs of query and position in `rows`, for the others: sorted, no pair twice. False when a row
  /// is not of `columns` columns: then nothing is known.
  bool Match(const std::vector<const storage::RowEffect*>& rows, size_t columns,
             std::vector<std::pair<QueryId, uint32_t>>* matches) const;

  bool empty() const { return unconditional_.empty() && columns_.empty(); }

 private:
  struct ColumnIndex {
    size_t column = 0;
    std::unordered_map<std::string, std::vector<QueryId>> by_value;  // encoded
  };

  std::vector<QueryId> unconditional_;
  std::vector<ColumnIndex> columns_;
};

}  // namespace patina::subscribe

#include "subscribe/predicate_index.h"

#include <algorithm>

namespace patina::subscribe {
namespace {

std::string Encoded(const crdt::ValueView& value) {
  std::string bytes;
  ByteWriter out(&bytes);
  crdt::EncodeValue(value, out);
  return bytes;
}

bool Unpack(const std::optional<std::string>& row, size_t columns,
            std::vector<crdt::ValueView>* values) {
  values->clear();
  if (!row) return true;
  return crdt::UnpackValues(*row, columns, values) && values->size() == columns;
}

}  // namespace

void PredicateIndex::Add(QueryId query, const std::optional<Plan::Equality>& equality) {
  if (!equality) {
    unconditional_.insert(std::upper_bound(unconditional_.begin(), unconditional_.end(), query),
                          query);
    return;
  }
  auto index = std::find_if(columns_.begin(), columns_.end(), [&](const ColumnIndex& candidate) {
    return candidate.column == equality->column;
  });
  if (index == columns_.end()) index = columns_.insert(columns_.end(), {equality->column, {}});
  index->by_value[Encoded(equality->value)].push_back(query);
}

void PredicateIndex::Remove(QueryId query, const std::optional<Plan::Equality>& equality) {
  if (!equality) {
    std::erase(unconditional_, query);
    return;
  }
  for (auto index = columns_.begin(); index != columns_.end(); ++index) {
    if (index->column != equality->column) continue;
    const auto found = index->by_value.find(Encoded(equality->value));
    if (found == index->by_value.end()) return;
    std::erase(found->second, query);
    if (found->second.empty()) index->by_value.erase(found);
    if (index->by_value.empty()) columns_.erase(index);
    return;
  }
}

bool PredicateIndex::Match(const std::vector<const storage::RowEffect*>& rows, size_t columns,
                           std::vector<std::pair<QueryId, uint32_t>>* matches) const {
  matches->clear();
  if (columns_.empty()) return true;
  std::vector<crdt::ValueView> before, after;
  for (uint32_t i = 0; i < rows.size(); ++i) {
    if (!Unpack(rows[i]->before, columns, &before)) return false;
    if (!Unpack(rows[i]->after, columns, &after)) return false;
    for (const ColumnIndex& index : columns_) {
      const auto look_up = [&](const crdt::ValueView& value) {
        const auto found = index.by_value.find(Encoded(value));
        if (found == index.by_value.end()) return;
        for (const QueryId query : found->second) matches->emplace_back(query, i);
      };
      if (!before.empty()) look_up(before[index.column]);
      const bool same =
          !before.empty() && !after.empty() && before[index.column] == after[index.column];
      if (!after.empty() && !same) look_up(after[index.column]);
    }
  }
  std::sort(matches->begin(), matches->end());
  matches->erase(std::unique(matches->begin(), matches->end()), matches->end());
  return true;
}

}  // namespace patina::subscribe

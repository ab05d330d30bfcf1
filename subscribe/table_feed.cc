#include "subscribe/table_feed.h"

#include <algorithm>
#include <numeric>

#include "base/log.h"

namespace patina::subscribe {

void TableFeed::Add(QueryId query, const Plan& plan, ColumnMask columns) {
  if (!plan.incremental) {
    reruns_.insert({query, columns});
    return;
  }
  incremental_.insert(query);
  index_.Add(query, plan.equality);
}

void TableFeed::Remove(QueryId query, const Plan& plan) {
  reruns_.erase({query, 0});
  if (incremental_.erase(query) > 0) index_.Remove(query, plan.equality);
}

std::vector<TableFeed::QueryId> TableFeed::Incremental() const {
  return {incremental_.begin(), incremental_.end()};
}

ColumnMask TableFeed::ChangedColumns(const std::vector<const storage::RowEffect*>& rows) const {
  ColumnMask changed = 0;
  std::vector<crdt::ValueView> before, after;
  for (const auto* row : rows) {
    if (!row->before || !row->after ||
        !crdt::UnpackValues(*row->before, table_.order.size(), &before) ||
        !crdt::UnpackValues(*row->after, table_.order.size(), &after) ||
        before.size() != after.size()) {
      return kAllColumns;
    }
    for (size_t i = 0; i < after.size(); ++i) {
      if (before[i] != after[i]) changed |= ColumnBit(i);
    }
  }
  return changed;
}

bool TableFeed::FindConcerns(const std::vector<const storage::RowEffect*>& rows,
                             std::vector<Concern>* concerns) const {
  concerns->clear();
  if (rows.empty()) return true;
  std::vector<uint32_t> all(rows.size());
  std::iota(all.begin(), all.end(), 0u);
  for (const QueryId query : index_.unconditional()) concerns->push_back({query, all});

  std::vector<std::pair<QueryId, uint32_t>> matches;
  if (!index_.Match(rows, table_.order.size(), &matches)) return false;
  const size_t first = concerns->size();
  for (const auto& [query, row] : matches) {
    if (concerns->size() == first || concerns->back().query != query) {
      concerns->push_back({query, {}});
    }
    concerns->back().rows.push_back(row);
  }
  std::stable_sort(concerns->begin(), concerns->end(),
                   [](const Concern& a, const Concern& b) { return a.rows < b.rows; });
  return true;
}

Probe* TableFeed::Fill(const std::vector<const storage::RowEffect*>& rows) {
  if (!probe_) {
    auto probe = Probe::Open(table_);
    if (!probe.ok()) {
      LogError("subscribe", "table ", table_.name, ": ", probe.error().message);
      return nullptr;
    }
    probe_ = std::move(*probe);
  }
  std::vector<std::string_view> images;
  for (const auto* row : rows) {
    if (row->after) images.push_back(*row->after);
  }
  const Status filled = probe_->Fill(images);
  if (filled.ok()) return probe_.get();
  LogWarning("subscribe", "table ", table_.name, ": ", filled.error().message);
  return nullptr;
}

}  // namespace patina::subscribe

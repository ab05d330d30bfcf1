#include "subscribe/result_set.h"

#include <algorithm>
#include <utility>

#include "base/hash.h"

namespace patina::subscribe {

Event RowEvent(EventKind kind, uint64_t row_id, std::string_view values, uint64_t change_number) {
  Event event;
  event.kind = kind;
  event.row_id = row_id;
  event.values = values;
  event.change_number = change_number;
  return event;
}

namespace {

/// From what tells the row apart alone, so that a query that was forgotten and asked anew, here or
/// after a restart, gives the ids that a subscriber who resumes already has. 63 bits: an SQL
/// integer. Two rows of a million-row answer share an id once in some ten million such answers.
uint64_t RowIdOf(std::string_view identity, size_t occurrence) {
  return CombineHash(Hash64(identity), occurrence) >> 1;
}

}  // namespace

void ResultSet::Apply(std::string_view key, std::optional<std::string_view> values,
                      uint64_t change_number, std::vector<Event>* events) {
  std::string identity(key);
  const auto found = rows_.find(identity);
  if (found == rows_.end()) {
    if (!values) return;
    Row& row = rows_[std::move(identity)];
    row.row_id = RowIdOf(key, 0);
    row.values = *values;
    ++size_;
    events->push_back(RowEvent(EventKind::kInsert, row.row_id, *values, change_number));
    return;
  }
  Row& row = found->second;
  if (!values) {
    events->push_back(RowEvent(EventKind::kDelete, row.row_id, row.values, change_number));
    rows_.erase(found);
    --size_;
  } else if (row.values != *values) {
    row.values = *values;
    events->push_back(RowEvent(EventKind::kUpdate, row.row_id, *values, change_number));
  }
}

void ResultSet::BeginRebuild() {
  ++generation_;
  pending_.clear();
}

void ResultSet::AddNew(std::string key, std::string_view values) {
  Row row;
  row.row_id = RowIdOf(key, 0);
  row.generation = generation_;
  row.seen = 1;
  if (keyed_) row.values = values;
  pending_.push_back(RowEvent(EventKind::kInsert, row.row_id, values, 0));
  rows_.emplace(std::move(key), std::move(row));
  ++size_;
}

void ResultSet::Add(std::string_view key, std::string_view values) {
  std::string identity(keyed_ ? key : values);
  const auto found = rows_.find(identity);
  if (found == rows_.end()) return AddNew(std::move(identity), values);
  Row& row = found->second;
  if (row.generation != generation_) {
    row.generation = generation_;
    row.seen = 0;
  }
  ++row.seen;
  if (keyed_ && row.values != values) {
    row.values = values;
    pending_.push_back(RowEvent(EventKind::kUpdate, row.row_id, values, 0));
  }
  if (!keyed_ && row.seen > row.twins.size() + 1) {
    row.twins.push_back(RowIdOf(values, row.twins.size() + 1));
    pending_.push_back(RowEvent(EventKind::kInsert, row.twins.back(), values, 0));
    ++size_;
  }
}

void ResultSet::DeleteUnseen(uint64_t change_number, std::vector<Event>* events) {
  const auto say = [&](uint64_t row_id, std::string_view values) {
    events->push_back(RowEvent(EventKind::kDelete, row_id, values, change_number));
    --size_;
  };
  const size_t first = events->size();
  for (auto entry = rows_.begin(); entry != rows_.end();) {
    Row& row = entry->second;
    const size_t seen = row.generation == generation_ ? row.seen : 0;
    while (!row.twins.empty() && row.twins.size() + 1 > seen) {
      say(row.twins.back(), ValuesOf(*entry));
      row.twins.pop_back();
    }
    if (seen > 0) {
      ++entry;
      continue;
    }
    say(row.row_id, ValuesOf(*entry));
    entry = rows_.erase(entry);
  }
  // The map has no order that two runs would share.
  std::sort(events->begin() + static_cast<std::ptrdiff_t>(first), events->end(),
            [](const Event& a, const Event& b) { return a.row_id < b.row_id; });
}

void ResultSet::FinishRebuild(uint64_t change_number, std::vector<Event>* events) {
  DeleteUnseen(change_number, events);
  for (Event& event : pending_) {
    event.change_number = change_number;
    events->push_back(std::move(event));
  }
  pending_ = {};
}

void ResultSet::Snapshot(std::vector<Event>* events) const {
  const size_t first = events->size();
  events->reserve(first + size_);
  for (const auto& entry : rows_) {
    events->push_back(RowEvent(EventKind::kRow, entry.second.row_id, ValuesOf(entry), 0));
    for (const uint64_t twin : entry.second.twins) {
      events->push_back(RowEvent(EventKind::kRow, twin, ValuesOf(entry), 0));
    }
  }
  std::sort(events->begin() + static_cast<std::ptrdiff_t>(first), events->end(),
            [](const Event& a, const Event& b) { return a.row_id < b.row_id; });
}

}  // namespace patina::subscribe

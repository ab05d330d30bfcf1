#include "subscribe/history.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace patina::subscribe {

size_t BytesOf(const std::vector<Event>& events) {
  size_t bytes = events.size() * sizeof(Event);
  for (const Event& event : events) bytes += event.values.size();
  return bytes;
}

std::vector<EventBatch> IntoBatches(std::vector<Event> events) {
  std::vector<EventBatch> batches;
  if (events.size() <= kBatchEventsMax) {
    if (!events.empty()) {
      batches.push_back(std::make_shared<const std::vector<Event>>(std::move(events)));
    }
    return batches;
  }
  for (size_t start = 0; start < events.size(); start += kBatchEventsMax) {
    const size_t end = std::min(start + kBatchEventsMax, events.size());
    const auto at = [&](size_t index) {
      return std::make_move_iterator(events.begin() + static_cast<std::ptrdiff_t>(index));
    };
    batches.push_back(std::make_shared<const std::vector<Event>>(at(start), at(end)));
  }
  return batches;
}

void History::StartAt(uint64_t change_number) {
  entries_.clear();
  bytes_ = 0;
  floor_ = change_number;
}

void History::Add(uint64_t change_number, EventBatch batch) {
  CHECK(entries_.empty() || entries_.back().change_number <= change_number);
  const size_t bytes = BytesOf(*batch);
  entries_.push_back({change_number, bytes, std::move(batch)});
  bytes_ += bytes;
  // Half a change is of no use, but it goes by itself: nobody asks for what is at the floor.
  while (bytes_ > bytes_max_ && !entries_.empty()) {
    floor_ = entries_.front().change_number;
    bytes_ -= entries_.front().bytes;
    entries_.pop_front();
  }
}

std::vector<EventBatch> History::Since(uint64_t change_number) const {
  CHECK(ReachesBackTo(change_number));
  const auto first = std::partition_point(
      entries_.begin(), entries_.end(),
      [&](const Entry& entry) { return entry.change_number <= change_number; });
  std::vector<EventBatch> batches;
  for (auto entry = first; entry != entries_.end(); ++entry) batches.push_back(entry->batch);
  return batches;
}

}  // namespace patina::subscribe

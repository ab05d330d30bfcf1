#include "subscribe/subscriber_queue.h"

#include <utility>

#include "subscribe/history.h"

namespace patina::subscribe {
namespace {

bool IsSnapshot(const std::vector<Event>& events) {
  const EventKind kind = events.front().kind;
  return kind == EventKind::kColumns || kind == EventKind::kRow ||
         kind == EventKind::kEndOfSnapshot || kind == EventKind::kReset;
}

EventBatch TooSlow() {
  Event event;
  event.kind = EventKind::kReset;
  event.reason = "the reader was too slow: too many changes waited for it";
  return std::make_shared<const std::vector<Event>>(1, std::move(event));
}

}  // namespace

SubscriberQueue::SubscriberQueue(size_t bytes_max, std::function<void()> on_ready)
    : bytes_max_(bytes_max), on_ready_(std::move(on_ready)) {}

void SubscriberQueue::OnEvents(EventBatch events) {
  if (events->empty()) return;
  const size_t bytes = IsSnapshot(*events) ? 0 : BytesOf(*events);
  bool was_empty = false;
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || overflowed_) return;
    was_empty = entries_.empty();
    if (bytes_ + bytes > bytes_max_) {
      entries_.clear();
      bytes_ = 0;
      overflowed_ = true;
      entries_.push_back({TooSlow(), 0});
    } else {
      bytes_ += bytes;
      entries_.push_back({std::move(events), bytes});
    }
  }
  if (was_empty && on_ready_) on_ready_();
}

EventBatch SubscriberQueue::Take() {
  const std::lock_guard lock(mutex_);
  if (entries_.empty()) return nullptr;
  Entry entry = std::move(entries_.front());
  entries_.pop_front();
  bytes_ -= entry.bytes;
  return std::move(entry.batch);
}

bool SubscriberQueue::MustResubscribe() const {
  const std::lock_guard lock(mutex_);
  return overflowed_;
}

void SubscriberQueue::Restart() {
  const std::lock_guard lock(mutex_);
  entries_.clear();
  bytes_ = 0;
  overflowed_ = false;
}

void SubscriberQueue::Close() {
  const std::lock_guard lock(mutex_);
  entries_.clear();
  bytes_ = 0;
  closed_ = true;
}

size_t SubscriberQueue::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

}  // namespace patina::subscribe

#pragma once

#include <deque>
#include <functional>
#include <mutex>

#include "subscribe/engine.h"

namespace patina::subscribe {

/// Between the engine and one reader that may be slow: the engine's thread puts batches in, any
/// other thread takes them out.
///
/// Invariants: 1. the changes waiting never hold more than bytes_max; when they would, all is
/// dropped, a kReset is the last batch until Restart, and the reader subscribes anew. 2. Snapshots
/// do not count: they are bounded by EngineLimits::result_rows_max, and a reader of one could else
/// never begin.
class SubscriberQueue final : public Subscriber {
 public:
  /// on_ready is called when something came into an empty queue: on the engine's thread, without a
  /// lock held, not after Close returned on that thread. It must not block.
  SubscriberQueue(size_t bytes_max, std::function<void()> on_ready);

  /// The engine's thread.
  void OnEvents(EventBatch events) override;

  /// The next batch, or null when there is none. Any thread.
  EventBatch Take();
  /// It overflowed: after the kReset that Take hands out nothing comes until Restart. Any thread.
  bool MustResubscribe() const;
  /// Empty and open again; before the reader's new Subscribe, after Unsubscribe. The engine's
  /// thread.
  void Restart();
  /// Drops everything, and what still comes. Any thread.
  void Close();

  size_t bytes() const;

 private:
  struct Entry {
    EventBatch batch;
    size_t bytes = 0;
  };
  const size_t bytes_max_;
  const std::function<void()> on_ready_;
  mutable std::mutex mutex_;
  std::deque<Entry> entries_;
  size_t bytes_ = 0;
  bool overflowed_ = false;
  bool closed_ = false;
};

}  // namespace patina::subscribe

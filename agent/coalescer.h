#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "agent/asio_util.h"

namespace patina::agent {

/// Carries items from other threads to an Asio loop. The first goes at once; what comes within the
/// window after a delivery goes together at its end, so that a busy writer wakes the loop (and the
/// peers) at most once per window, and an idle one never waits. Bounded by what its users let be
/// outstanding.
template <class Item>
class Coalescer {
 public:
  using Deliver = std::function<void(std::vector<Item>)>;

  /// deliver runs on the loop's thread. The loop outlives this.
  Coalescer(asio::io_context& io, std::chrono::microseconds window, Deliver deliver)
      : timer_(io), window_(window), deliver_(std::move(deliver)) {}

  /// Any thread. True: post a call of Turn() to the loop.
  bool Add(std::vector<Item> items) {
    const std::lock_guard lock(mutex_);
    std::move(items.begin(), items.end(), std::back_inserter(items_));
    return !std::exchange(open_, true);
  }

  /// The loop's thread.
  void Turn() {
    std::vector<Item> items;
    {
      const std::lock_guard lock(mutex_);
      items.swap(items_);
      if (items.empty()) open_ = false;
    }
    if (items.empty()) return;
    deliver_(std::move(items));
    timer_.expires_after(window_);
    timer_.async_wait([this](boost::system::error_code error) {
      if (!error) Turn();
    });
  }

 private:
  asio::steady_timer timer_;
  const std::chrono::microseconds window_;
  const Deliver deliver_;
  std::mutex mutex_;
  std::vector<Item> items_;  // guarded
  bool open_ = false;        // guarded: a delivery is on its way, or its window lasts
};

}  // namespace patina::agent

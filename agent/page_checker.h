#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/status.h"

namespace patina::agent {

/// Looks through the database's pages now and then, table by table, in a thread and a connection of
/// its own: a page that went bad is found before somebody needs it. Construct from any thread.
class PageChecker {
 public:
  /// on_damage: called once, on its thread, with DATA_LOSS; after that it looks no more.
  PageChecker(std::string path, Duration interval, std::function<void(Error)> on_damage);
  ~PageChecker();

  void Stop();
  /// Rounds through all tables that found nothing.
  uint64_t rounds() const { return rounds_.load(std::memory_order_relaxed); }

 private:
  void Work();

  const std::string path_;
  const Duration interval_;
  const std::function<void(Error)> on_damage_;
  std::atomic<uint64_t> rounds_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::thread thread_;
};

}  // namespace patina::agent

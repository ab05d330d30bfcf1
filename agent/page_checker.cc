#include "agent/page_checker.h"

#include <utility>

#include "base/log.h"
#include "base/thread_checker.h"
#include "storage/file_check.h"

namespace patina::agent {

PageChecker::PageChecker(std::string path, Duration interval, std::function<void(Error)> on_damage)
    : path_(std::move(path)), interval_(interval), on_damage_(std::move(on_damage)) {
  thread_ = std::thread([this] {
    NameThread("pages");
    Work();
  });
}

PageChecker::~PageChecker() { Stop(); }

void PageChecker::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void PageChecker::Work() {
  while (true) {
    {
      std::unique_lock lock(mutex_);
      if (wake_.wait_for(lock, interval_, [this] { return stop_.load(); })) return;
    }
    const Status status = storage::CheckPages(path_, stop_);
    if (!status.ok() && status.error().code == Errc::kDataLoss) return on_damage_(status.error());
    if (status.ok()) {
      rounds_.fetch_add(1, std::memory_order_relaxed);
    } else {
      LogWarning("agent", "checking the pages of ", path_, ": ", status.error().ToString());
    }
  }
}

}  // namespace patina::agent

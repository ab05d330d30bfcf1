#include "base/thread_checker.h"

namespace patina {

bool ThreadChecker::IsCurrent() const {
  std::thread::id none;
  const std::thread::id self = std::this_thread::get_id();
  if (owner_.load(std::memory_order_relaxed) == self) return true;
  return owner_.compare_exchange_strong(none, self, std::memory_order_relaxed);
}

void ThreadChecker::Detach() { owner_.store(std::thread::id(), std::memory_order_relaxed); }

}  // namespace patina

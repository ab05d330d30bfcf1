#include "base/thread_checker.h"

#include <pthread.h>

namespace patina {

void NameThread(const char* name) { pthread_setname_np(pthread_self(), name); }

bool ThreadChecker::IsCurrent() const {
  std::thread::id none;
  const std::thread::id self = std::this_thread::get_id();
  if (owner_.load(std::memory_order_relaxed) == self) return true;
  return owner_.compare_exchange_strong(none, self, std::memory_order_relaxed);
}

}  // namespace patina

#pragma once

#include <atomic>
#include <thread>

namespace patina {

/// Gives the calling thread a name that top, gdb and perf show; at most 15 bytes count.
void NameThread(const char* name);

/// A class that belongs to one thread holds one of these and says CHECK(thread_.IsCurrent()).
/// It belongs to the first thread that asks.
class ThreadChecker {
 public:
  bool IsCurrent() const;

 private:
  mutable std::atomic<std::thread::id> owner_{};
};

}  // namespace patina

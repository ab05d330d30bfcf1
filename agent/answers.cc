#include "agent/answers.h"

#include <utility>

#include "base/thread_checker.h"

namespace patina::agent {
namespace {

constexpr size_t kApartFrom = 4;  // fewer are told sooner than another thread wakes up

}  // namespace

void Answers::Start() {
  thread_ = std::thread([this] {
    NameThread("answers");
    Loop();
  });
}

void Answers::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Answers::Tell(Group group) {
  if (group.results.size() < kApartFrom) return TellNow(group);
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(group));
  }
  wake_.notify_one();
}

void Answers::TellNow(Group& group) {
  queue_.DoneLocal(group.results.size(), group.bytes);
  for (size_t i = 0; i < group.results.size(); ++i) group.dones[i](std::move(group.results[i]));
}

void Answers::Loop() {
  std::vector<Group> groups;
  while (true) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stop_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      groups.swap(waiting_);
    }
    for (Group& group : groups) TellNow(group);
    groups.clear();
  }
}

}  // namespace patina::agent

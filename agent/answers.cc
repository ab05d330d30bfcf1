#include "agent/answers.h"

#include <utility>

#include "base/thread_checker.h"

namespace patina::agent {

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

void Answers::Add(Group group) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(group));
  }
  wake_.notify_one();
}

void Answers::Tell(Group& group) {
  queue_.DoneLocal(group.answers.size(), group.bytes);
  for (Answer& answer : group.answers) answer.done(std::move(answer.result));
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
    for (Group& group : groups) Tell(group);
    groups.clear();
  }
}

}  // namespace patina::agent

#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "agent/writer_queue.h"

namespace patina::agent {

/// The answers thread: tells clients what became of their transactions, so that the writer thread
/// can go on with the next group meanwhile (an answer is a system call).
///
/// What waits here counts in the writer's queue until it is told: its limits hold for both.
class Answers {
 public:
  struct Group {
    std::vector<Writer::ExecuteDone> dones;
    std::vector<Result<storage::Committed>> results;  // as many
    size_t bytes = 0;                                 // as charged to the queue
  };

  explicit Answers(WriterQueue& queue) : queue_(queue) {}
  ~Answers() { Stop(); }

  void Start();
  /// Tells what waits, then joins. Nothing is told after it.
  void Stop();

  /// The writer thread. A few are told at once, more on the answers thread.
  void Tell(Group group);

 private:
  void TellNow(Group& group);
  void Loop();

  WriterQueue& queue_;
  std::thread thread_;
  std::mutex mutex_;  // guards the two below
  std::vector<Group> waiting_;
  bool stop_ = false;
  std::condition_variable wake_;
};

}  // namespace patina::agent

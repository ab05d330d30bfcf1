#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "agent/writer.h"

namespace patina::agent {

/// What waits for the writer thread. Any thread adds; the writer thread takes everything at once.
///
/// 1. Transactions and merges are bounded, each by limits of their own (count and bytes for both):
/// neither
///    can keep the other out. What the writer has taken counts until it says Done.
/// 2. After Close nothing is added; what was added before is still handed out.
class WriterQueue {
 public:
  struct Local {
    storage::Transaction transaction;
    Writer::ExecuteDone done;
  };
  using Chunk = gossip::Outputs::StageChunk;
  using Task = std::function<void(storage::Store&)>;
  struct Batch {
    std::deque<Local> locals;
    std::deque<gossip::Change> merges;
    std::deque<Chunk> chunks;
    std::vector<Task> tasks;
    bool Empty() const {
      return locals.empty() && merges.empty() && chunks.empty() && tasks.empty();
    }
  };

  WriterQueue(size_t transactions_max, size_t bytes_max)
      : transactions_max_(transactions_max), bytes_max_(bytes_max) {}

  /// Nothing, or why it was not taken; then *local is untouched.
  std::optional<Error> AddLocal(Local* local);
  bool AddMerges(std::vector<gossip::Change> changes);
  bool AddChunk(Chunk chunk);
  bool AddTask(Task task);
  /// Waits until the task has run; false: closed, it will not. Not on the writer thread.
  bool RunAndWait(const Task& task);
  void Close();

  /// Appends what waits to *batch. Waits for it at most this long, unless closed; returns true if
  /// closed.
  bool Take(Duration wait, Batch* batch);
  void DoneLocal(size_t transactions, size_t bytes);
  void DoneMerges(size_t bytes);

  static size_t BytesOf(const storage::Transaction& transaction);

  uint64_t transactions() const { return transactions_.load(std::memory_order_relaxed); }
  uint64_t bytes() const {
    return local_bytes_.load(std::memory_order_relaxed) +
           merge_bytes_.load(std::memory_order_relaxed);
  }
  uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }
  uint64_t merges_refused() const { return merges_refused_.load(std::memory_order_relaxed); }

 private:
  template <class Add>
  bool Push(Add add);

  const size_t transactions_max_, bytes_max_;
  std::atomic<uint64_t> transactions_{0}, local_bytes_{0}, merge_bytes_{0};
  std::atomic<uint64_t> refused_{0}, merges_refused_{0};
  std::mutex mutex_;  // guards the three below
  Batch waiting_;
  bool closed_ = false;
  bool sleeping_ = false;
  std::condition_variable wake_;
};

}  // namespace patina::agent

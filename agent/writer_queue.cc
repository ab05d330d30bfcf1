#include "agent/writer_queue.h"

#include <iterator>
#include <utility>

#include "base/log.h"

namespace patina::agent {
namespace {

template <class Items>
void Append(Items& from, Items* to) {
  if (to->empty()) {
    to->swap(from);
    return;
  }
  to->insert(to->end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
  from.clear();
}

}  // namespace

size_t WriterQueue::BytesOf(const storage::Transaction& transaction) {
  size_t bytes = sizeof(Local);
  for (const storage::Statement& statement : transaction.statements) {
    bytes += sizeof statement + statement.sql.size();
    for (const crdt::Value& value : statement.positional) {
      bytes += sizeof value + value.view().bytes().size();
    }
    for (const auto& [name, value] : statement.named) {
      bytes += sizeof value + name.size() + value.view().bytes().size();
    }
  }
  return bytes;
}

/// add(waiting_) under the lock; false if closed. Wakes the writer only if it sleeps.
template <class Add>
bool WriterQueue::Push(Add add) {
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return false;
    add(waiting_);
    wake = std::exchange(sleeping_, false);
  }
  if (wake) wake_.notify_one();
  return true;
}

std::optional<Error> WriterQueue::AddLocal(Local* local) {
  const size_t bytes = BytesOf(local->transaction);
  if (transactions_.load(std::memory_order_relaxed) >= transactions_max_ ||
      local_bytes_.load(std::memory_order_relaxed) + bytes > bytes_max_) {
    refused_.fetch_add(1, std::memory_order_relaxed);
    return ResourceExhausted(StrCat(
        "too many transactions wait (limits.writer_queue_transactions_max = ", transactions_max_,
        ", limits.writer_queue_bytes_max = ", bytes_max_, "): try again later"));
  }
  transactions_.fetch_add(1, std::memory_order_relaxed);
  local_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  if (Push([&](Batch& batch) { batch.locals.push_back(std::move(*local)); })) return std::nullopt;
  DoneLocal(1, bytes);
  return Unavailable("the agent is stopping");
}

bool WriterQueue::AddMerges(std::vector<gossip::Change> changes) {
  size_t bytes = 0;
  for (const gossip::Change& change : changes) bytes += change.bytes->size() + sizeof change;
  const uint64_t queued = merge_bytes_.load(std::memory_order_relaxed);
  // One batch is always taken when nothing waits, however large: else it could never be.
  const bool taken = (queued == 0 || queued + bytes <= bytes_max_) && Push([&](Batch& batch) {
                       merge_bytes_.fetch_add(bytes, std::memory_order_relaxed);
                       std::move(changes.begin(), changes.end(), std::back_inserter(batch.merges));
                     });
  if (!taken) merges_refused_.fetch_add(1, std::memory_order_relaxed);
  return taken;
}

bool WriterQueue::AddChunk(Chunk chunk) {
  const size_t bytes = chunk.bytes->size();
  const uint64_t queued = merge_bytes_.load(std::memory_order_relaxed);
  if (queued != 0 && queued + bytes > bytes_max_) return false;
  return Push([&](Batch& batch) {
    merge_bytes_.fetch_add(bytes, std::memory_order_relaxed);
    batch.chunks.push_back(std::move(chunk));
  });
}

bool WriterQueue::AddTask(Task task) {
  return Push([&](Batch& batch) { batch.tasks.push_back(std::move(task)); });
}

bool WriterQueue::RunAndWait(const Task& task) {
  struct State {
    std::mutex mutex;
    std::condition_variable done_changed;
    bool done = false;
  } state;
  const bool added = AddTask([&](storage::Store& store) {
    task(store);
    const std::lock_guard lock(state.mutex);
    state.done = true;
    state.done_changed.notify_one();  // under the lock: the waiter owns the state
  });
  if (!added) return false;
  std::unique_lock lock(state.mutex);
  state.done_changed.wait(lock, [&] { return state.done; });
  return true;
}

void WriterQueue::Close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  wake_.notify_all();
}

bool WriterQueue::Take(Duration wait, Batch* batch) {
  std::unique_lock lock(mutex_);
  if (wait > Duration::zero() && waiting_.Empty() && !closed_) {
    sleeping_ = true;
    wake_.wait_for(lock, wait, [this] { return closed_ || !waiting_.Empty(); });
    sleeping_ = false;
  }
  Append(waiting_.locals, &batch->locals);
  Append(waiting_.merges, &batch->merges);
  Append(waiting_.chunks, &batch->chunks);
  Append(waiting_.tasks, &batch->tasks);
  return closed_;
}

void WriterQueue::DoneLocal(size_t transactions, size_t bytes) {
  transactions_.fetch_sub(transactions, std::memory_order_relaxed);
  local_bytes_.fetch_sub(bytes, std::memory_order_relaxed);
}

void WriterQueue::DoneMerges(size_t bytes) {
  merge_bytes_.fetch_sub(bytes, std::memory_order_relaxed);
}

}  // namespace patina::agent

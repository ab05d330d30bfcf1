#include "agent/reader_pool.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace patina::agent {

class ReaderPool::Impl {
 public:
  explicit Impl(size_t queue_max) : queue_max_(queue_max) {}

  Status Open(const std::string& path, size_t threads,
              const std::shared_ptr<storage::Snapshots>& snapshots) {
    for (size_t i = 0; i < threads; ++i) {
      ASSIGN_OR_RETURN(auto reader, storage::Reader::Open(path, {.snapshots = snapshots}));
      readers_.push_back(std::move(reader));
    }
    for (auto& reader : readers_) threads_.emplace_back([this, &reader] { Work(*reader); });
    return OkStatus();
  }

  Status Submit(std::function<void(storage::Reader&)> task) {
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return Unavailable("the agent is stopping");
      if (queue_.size() >= queue_max_) {
        return ResourceExhausted(
            "too many queries wait (limits.reader_queue_max): try again later");
      }
      queue_.push_back(std::move(task));
    }
    wake_.notify_one();
    return OkStatus();
  }

  void Stop() {
    std::deque<std::function<void(storage::Reader&)>> dropped;
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      dropped.swap(queue_);
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
    threads_.clear();
    readers_.clear();
  }

  size_t queued() const {
    const std::lock_guard lock(mutex_);
    return queue_.size();
  }

 private:
  void Work(storage::Reader& reader) {
    while (true) {
      std::function<void(storage::Reader&)> task;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
        if (stopping_) return;
        task = std::move(queue_.front());
        queue_.pop_front();
      }
      task(reader);
    }
  }

  const size_t queue_max_;
  std::vector<std::unique_ptr<storage::Reader>> readers_;
  std::vector<std::thread> threads_;
  mutable std::mutex mutex_;  // guards the two below
  std::deque<std::function<void(storage::Reader&)>> queue_;
  bool stopping_ = false;
  std::condition_variable wake_;
};

ReaderPool::ReaderPool(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ReaderPool::~ReaderPool() { impl_->Stop(); }

Result<std::unique_ptr<ReaderPool>> ReaderPool::Start(
    const std::string& path, size_t threads, size_t queue_max,
    std::shared_ptr<storage::Snapshots> snapshots) {
  auto impl = std::make_unique<Impl>(queue_max);
  RETURN_IF_ERROR(impl->Open(path, threads, snapshots));
  return std::unique_ptr<ReaderPool>(new ReaderPool(std::move(impl)));
}

Status ReaderPool::Submit(std::function<void(storage::Reader&)> task) {
  return impl_->Submit(std::move(task));
}
void ReaderPool::Stop() { impl_->Stop(); }
size_t ReaderPool::queued() const { return impl_->queued(); }

}  // namespace patina::agent

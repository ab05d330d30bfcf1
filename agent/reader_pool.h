#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/status.h"
#include "storage/reader.h"

namespace patina::agent {

/// A few threads, each with a read-only connection of its own, and one bounded queue. Any thread
/// may submit.
class ReaderPool {
 public:
  /// Opens the connections; the store must have been opened before. snapshots: its.
  static Result<std::unique_ptr<ReaderPool>> Start(const std::string& path, size_t threads,
                                                   size_t queue_max,
                                                   std::shared_ptr<storage::Snapshots> snapshots);
  ~ReaderPool();

  /// RESOURCE_EXHAUSTED when the queue is full, UNAVAILABLE when stopping: the task will not run.
  Status Submit(std::function<void(storage::Reader&)> task);
  /// Finishes what runs, drops what waits.
  void Stop();
  size_t queued() const;

 private:
  class Impl;
  explicit ReaderPool(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace patina::agent

#pragma once

#include <cstddef>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>

#include "base/status.h"

namespace patina::agent {

/// A call that lasts: it can be told to end. Called on any thread; must only note it and start to
/// finish.
class ApiStream {
 public:
  virtual void End(const Error& error) = 0;

 protected:
  ~ApiStream() = default;
};

/// The streams that are open, so that they are bounded and can be ended at a stop. Any thread.
class ApiStreams {
 public:
  explicit ApiStreams(size_t streams_max) : streams_max_(streams_max) {}

  /// RESOURCE_EXHAUSTED at the limit, EndAll's error after it. The stream must Remove itself (also
  /// if it was refused) before it is gone.
  Status Add(ApiStream* stream) {
    const std::lock_guard lock(mutex_);
    if (ended_) return *ended_;
    if (streams_.size() >= streams_max_) {
      return ResourceExhausted("too many open streams: limits.api_streams_max is " +
                               std::to_string(streams_max_));
    }
    streams_.insert(stream);
    return OkStatus();
  }
  void Remove(ApiStream* stream) {
    const std::lock_guard lock(mutex_);
    streams_.erase(stream);
  }
  /// Refuses new ones and ends those that are open. The lock keeps each alive while it is told.
  void EndAll(const Error& error) {
    const std::lock_guard lock(mutex_);
    ended_ = error;
    for (ApiStream* stream : streams_) stream->End(error);
  }
  size_t open() const {
    const std::lock_guard lock(mutex_);
    return streams_.size();
  }
  size_t streams_max() const { return streams_max_; }

 private:
  const size_t streams_max_;
  mutable std::mutex mutex_;
  std::unordered_set<ApiStream*> streams_;
  std::optional<Error> ended_;
};

}  // namespace patina::agent

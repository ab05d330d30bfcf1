#pragma once

#include <atomic>
#include <memory>
#include <utility>

#if defined(__SANITIZE_THREAD__)
#include <mutex>
#endif

namespace patina::proxy_sink {

/// An immutable value that one thread replaces and any thread reads. A reader holds the value it
/// got for as long as it likes and never waits while a new one is being built: only the pointer is
/// swapped.
template <class T>
class Published {
 public:
  std::shared_ptr<const T> Get() const;
  void Set(std::shared_ptr<const T> value);

 private:
#if defined(__SANITIZE_THREAD__)
  // libstdc++ 12 unlocks its atomic pointer with a relaxed store, which the sanitizer reports.
  mutable std::mutex mutex_;
  std::shared_ptr<const T> value_;
#else
  std::atomic<std::shared_ptr<const T> > value_;
#endif
};

#if defined(__SANITIZE_THREAD__)
template <class T>
std::shared_ptr<const T> Published<T>::Get() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return value_;
}
template <class T>
void Published<T>::Set(std::shared_ptr<const T> value) {
  std::lock_guard<std::mutex> lock(mutex_);
  value_.swap(value);
}
#else
template <class T>
std::shared_ptr<const T> Published<T>::Get() const {
  return value_.load();
}
template <class T>
void Published<T>::Set(std::shared_ptr<const T> value) {
  value_.store(std::move(value));
}
#endif

}  // namespace patina::proxy_sink

#pragma once

#include <functional>
#include <mutex>
#include <thread>

namespace patina::tools {

/// Takes the process's signals in a thread of its own: SIGTERM and SIGINT ask for a clean stop, a
/// second one ends the process at once; SIGHUP is logged (a schema is read at start). SIGPIPE is
/// ignored. Construct before other threads are started: they inherit the mask.
class SignalThread {
 public:
  SignalThread();
  /// Joins. The signals stay blocked.
  ~SignalThread();
  SignalThread(const SignalThread&) = delete;
  SignalThread& operator=(const SignalThread&) = delete;

  /// Called on the signal thread, once; at once and here if the signal came already.
  void OnTerminate(std::function<void()> stop);
  /// stop will not be called from now on (it may point to what is going).
  void Forget();

 private:
  void Run();
  void Terminate(int signal);

  std::mutex mutex_;
  std::function<void()> stop_;
  bool terminated_ = false;
  std::thread thread_;
};

}  // namespace patina::tools

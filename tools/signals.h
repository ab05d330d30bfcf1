#pragma once

#include <functional>
#include <mutex>
#include <thread>

namespace patina::tools {

/// Takes the process's signals in a thread of its own: SIGTERM and SIGINT ask for a clean stop, a
/// second one ends the process at once; SIGHUP asks for a reload. SIGPIPE is
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
  /// Called on the signal thread for each SIGHUP from now on.
  void OnHangup(std::function<void()> reload);
  /// Neither is called from now on (they may point to what is going).
  void Forget();
  /// A clean stop was asked for.
  bool terminated();

 private:
  void Run();
  void Terminate(int signal);
  void Hangup();

  std::mutex mutex_;
  std::function<void()> stop_, reload_;
  bool terminated_ = false;
  std::thread thread_;
};

}  // namespace patina::tools

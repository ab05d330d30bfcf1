#include "tools/signals.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <utility>

#include "base/check.h"
#include "base/log.h"

namespace patina::tools {
namespace {

constexpr int kEndThread = SIGUSR1;

sigset_t Watched() {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : {SIGTERM, SIGINT, SIGHUP, kEndThread}) sigaddset(&set, signal);
  return set;
}

}  // namespace

SignalThread::SignalThread() {
  const sigset_t watched = Watched();
  CHECK(pthread_sigmask(SIG_BLOCK, &watched, nullptr) == 0);
  ::signal(SIGPIPE, SIG_IGN);
  thread_ = std::thread([this] { Run(); });
}

SignalThread::~SignalThread() {
  pthread_kill(thread_.native_handle(), kEndThread);
  thread_.join();
}

void SignalThread::OnTerminate(std::function<void()> stop) {
  std::unique_lock lock(mutex_);
  if (terminated_) {
    lock.unlock();
    stop();
    return;
  }
  stop_ = std::move(stop);
}

void SignalThread::OnHangup(std::function<void()> reload) {
  const std::lock_guard lock(mutex_);
  reload_ = std::move(reload);
}

void SignalThread::Forget() {
  const std::lock_guard lock(mutex_);
  stop_ = reload_ = nullptr;
}

bool SignalThread::terminated() {
  const std::lock_guard lock(mutex_);
  return terminated_;
}

void SignalThread::Run() {
  const sigset_t watched = Watched();
  for (int signal = 0; sigwait(&watched, &signal) == 0;) {
    if (signal == kEndThread) return;
    if (signal == SIGHUP) {
      Hangup();
      continue;
    }
    Terminate(signal);
  }
}

void SignalThread::Hangup() {
  const std::lock_guard lock(mutex_);
  if (terminated_) return;
  LogInfo("agent", "SIGHUP: the schema is read again (the configuration only at start)");
  // It reads files and hands over, no more: Forget need not wait long.
  if (reload_) reload_();
}

void SignalThread::Terminate(int signal) {
  const std::lock_guard lock(mutex_);
  if (terminated_) ::_exit(128 + signal);
  terminated_ = true;
  LogInfo("agent", "signal ", signal, ": stopping; a second one ends at once");
  // RequestStop only wakes the main thread, so calling it under the lock is safe against Forget.
  if (stop_) stop_();
}

}  // namespace patina::tools

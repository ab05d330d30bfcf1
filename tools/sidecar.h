#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "tools/sidecar_load.h"
#include "tools/sidecar_service.h"
#include "tools/sidecar_writer.h"

namespace patina::tools {

struct SidecarOptions {
  std::vector<std::string> command;                  // empty: the service runs by itself
  bool keep = false;                                 // leave the machine started when told to stop
  bool verbose = false;                              // print load reports, too
  Duration stop_timeout = std::chrono::seconds(10);  // of the command, before it is killed
  Duration flush_timeout = std::chrono::seconds(2);  // for the last writes
};

/// A service's companion: registers it, probes it, reports its load, and, with a command, runs it.
///
/// Run: one thread, once; it starts a thread for the probes and one for the load, which meet in the
/// RowWriter. RequestStop: any thread. Prints on stdout one line per event: unix ms, then what;
/// notes go to stderr.
class Sidecar {
 public:
  Sidecar(ServiceFile file, SidecarOptions options, std::unique_ptr<RowTarget> target);
  ~Sidecar();
  Sidecar(const Sidecar&) = delete;
  Sidecar& operator=(const Sidecar&) = delete;

  /// Until RequestStop, or until the command has ended: then its status (128 + signal if a signal
  /// ended it). INTERNAL: the command cannot be started. UNAVAILABLE: the last state could not be
  /// written.
  Result<int> Run();
  void RequestStop();

 private:
  Status StartCommand();
  /// Exit status once the command has ended. Main thread.
  std::optional<int> ReapCommand();
  int StopCommand();
  void WaitForEnd(std::optional<int>* exit_status);
  void SetMachine(std::string_view state, const std::string& why);

  void RunChecks();
  void Probe();
  Status ProbeOnce(std::string* output) const;
  void RunLoad();
  void SampleLoad();
  void SampleProcess(bool force, std::vector<DesiredRow>* rows, std::string* text);
  void SampleInflight(bool force, std::vector<DesiredRow>* rows, std::string* text);
  int ProcessId() const;
  /// False when it is time to end.
  bool SleepUntil(Instant when);
  void Print(int64_t ms, const std::string& what);

  const ServiceFile file_;
  const SidecarOptions options_;
  const SystemClock clock_;
  RowWriter writer_;
  std::atomic<int> child_{0};  // pid; 0: none

  std::mutex mutex_;  // of stopping_ and ending_
  std::condition_variable changed_;
  bool stopping_ = false;                // asked to
  bool ending_ = false;                  // the other threads are to end
  std::atomic<bool> report_all_{false};  // a status flipped
  std::mutex print_mutex_;

  std::string machine_state_ = "created";  // main thread's
  CheckState check_;                       // check thread's
  CpuMeter cpu_;                           // load thread's from here on
  LoadReport reported_;
};

}  // namespace patina::tools

#include "tools/sidecar.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iostream>
#include <utility>

#include "base/log.h"
#include "tools/sidecar_http.h"

extern char** environ;

namespace patina::tools {
namespace {

constexpr Duration kReapInterval = std::chrono::milliseconds(20);
constexpr Duration kFirstInterval = std::chrono::milliseconds(200);
constexpr Duration kStubStatusTimeout = std::chrono::milliseconds(500);
constexpr uint64_t kMib = 1 << 20;

std::string ExitText(int status) {
  return status > 128 ? StrCat("command ended by signal ", status - 128)
                      : StrCat("command ended with status ", status);
}

}  // namespace

Sidecar::Sidecar(ServiceFile file, SidecarOptions options, std::unique_ptr<RowTarget> target)
    : file_(std::move(file)),
      options_(std::move(options)),
      writer_(std::move(target),
              [](const std::string& note) { std::cerr << "patina sidecar: " + note + "\n"; }),
      check_(file_.check.healthy_after, file_.check.unhealthy_after),
      cpu_(static_cast<double>(::sysconf(_SC_CLK_TCK))) {}

Sidecar::~Sidecar() = default;

Result<int> Sidecar::Run() {
  if (!options_.command.empty()) RETURN_IF_ERROR(StartCommand());
  writer_.Set(OwnerRows(file_));
  writer_.Set({ServiceRow(file_)});
  SetMachine("started", "registered");
  std::thread checks([this] { RunChecks(); });
  std::thread load([this] { RunLoad(); });

  std::optional<int> exit_status;
  WaitForEnd(&exit_status);
  const bool asked = !exit_status.has_value();
  if (asked && !options_.keep) {
    if (child_ != 0) {
      SetMachine("stopping", "asked to stop");
      exit_status = StopCommand();
    }
    SetMachine("stopped", "asked to stop");
  } else if (asked && child_ != 0) {
    StopCommand();
  } else if (!asked) {
    SetMachine("stopped", ExitText(*exit_status));
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  checks.join();
  load.join();
  if (!writer_.Flush(options_.flush_timeout)) {
    return Unavailable("the agent was not reached: machine " + file_.machine + " is not marked " +
                       machine_state_);
  }
  return asked ? 0 : *exit_status;
}

void Sidecar::RequestStop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
}

Status Sidecar::StartCommand() {
  std::vector<char*> arguments;
  for (const std::string& argument : options_.command) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  // Our signals are blocked for the thread that takes them; the command's must not be.
  sigset_t none, reset;
  sigemptyset(&none);
  sigemptyset(&reset);
  for (int signal : {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGUSR1}) sigaddset(&reset, signal);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &reset);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t pid = 0;
  const int failure =
      ::posix_spawnp(&pid, arguments[0], nullptr, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  if (failure != 0) {
    return Internal(StrCat("cannot start ", options_.command[0], ": ", std::strerror(failure)));
  }
  child_ = pid;
  return OkStatus();
}

std::optional<int> Sidecar::ReapCommand() {
  int status = 0;
  if (child_ == 0 || ::waitpid(child_, &status, WNOHANG) != child_) return std::nullopt;
  child_ = 0;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int Sidecar::StopCommand() {
  ::kill(child_, SIGTERM);
  const Instant deadline = clock_.Now() + options_.stop_timeout;
  for (bool killed = false;;) {
    if (const auto status = ReapCommand()) return *status;
    if (!killed && clock_.Now() >= deadline) {
      ::kill(child_, SIGKILL);
      killed = true;
    }
    std::this_thread::sleep_for(kReapInterval);
  }
}

void Sidecar::WaitForEnd(std::optional<int>* exit_status) {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    if (child_ == 0) {
      changed_.wait(lock, [&] { return stopping_; });
      return;
    }
    changed_.wait_for(lock, kReapInterval, [&] { return stopping_; });
    *exit_status = ReapCommand();
    if (exit_status->has_value()) return;
  }
}

void Sidecar::SetMachine(std::string_view state, const std::string& why) {
  const int64_t now_ms = clock_.WallMs();
  writer_.Set({MachineRow(file_, state, now_ms)});
  const std::string before = std::exchange(machine_state_, std::string(state));
  Print(now_ms, StrCat("machine ", file_.machine, " ", before, " -> ", state, ": ", why));
}

bool Sidecar::SleepUntil(Instant when) {
  std::unique_lock<std::mutex> lock(mutex_);
  return !changed_.wait_until(lock, when, [&] { return ending_; });
}

void Sidecar::RunChecks() {
  const Duration interval = std::chrono::milliseconds(file_.check.interval_ms);
  for (Instant next = clock_.Now();;) {
    Probe();
    // A service that has just been started is asked more often, until it is known to work or not.
    next += check_.status() == "unknown" ? std::min(interval, kFirstInterval) : interval;
    next = std::max(next, clock_.Now());  // late ones are left out, not made up for
    if (!SleepUntil(next)) return;
  }
}

void Sidecar::Probe() {
  std::string output;
  const Status probed = ProbeOnce(&output);
  const std::string before(check_.status());
  if (!check_.Update(probed.ok())) return;
  const int64_t now_ms = clock_.WallMs();
  writer_.Set({CheckRow(file_, check_.status(), output, now_ms)});
  report_all_ = true;
  Print(now_ms, StrCat("check ", file_.machine, "/", file_.port, "/", file_.check.name, " ", before,
                       " -> ", check_.status(), ": ", output));
}

Status Sidecar::ProbeOnce(std::string* output) const {
  std::string host;
  int port = 0;
  if (!SplitHostPort(file_.check.address, &host, &port)) return Internal("checked when read");
  const Duration timeout = std::chrono::milliseconds(file_.check.timeout_ms);
  if (file_.check.path.empty()) {
    const Status connected = TcpProbe(host, port, timeout);
    *output = connected.ok() ? "connected" : connected.error().message;
    return connected;
  }
  const Result<HttpAnswer> answer = HttpGet(host, port, file_.check.path, timeout);
  if (!answer.ok()) {
    *output = answer.error().message;
    return answer.error();
  }
  *output = "HTTP " + std::to_string(answer->status);
  if (answer->status >= 200 && answer->status < 400) return OkStatus();
  return Unavailable(*output);
}

void Sidecar::RunLoad() {
  const Duration interval = std::chrono::milliseconds(file_.load.interval_ms);
  for (Instant next = clock_.Now() + interval;; next += interval) {
    SampleLoad();
    next = std::max(next, clock_.Now());
    if (!SleepUntil(next)) return;
  }
}

int Sidecar::ProcessId() const {
  if (file_.load.pid != 0) return static_cast<int>(file_.load.pid);
  if (!file_.load.pid_file.empty()) return ReadPidFile(file_.load.pid_file).value_or(0);
  return child_;
}

void Sidecar::SampleLoad() {
  const bool force = report_all_.exchange(false);
  std::vector<DesiredRow> rows;
  std::string text;
  SampleProcess(force, &rows, &text);
  SampleInflight(force, &rows, &text);
  if (rows.empty()) return;
  writer_.Set(std::move(rows));
  if (options_.verbose) Print(clock_.WallMs(), StrCat("load ", file_.machine, text));
}

void Sidecar::SampleProcess(bool force, std::vector<DesiredRow>* rows, std::string* text) {
  const int pid = ProcessId();
  if (pid == 0) return;
  const std::map<int, ProcessUse> processes = ReadProcessTree(pid);
  const std::optional<double> cores = cpu_.Sample(processes, clock_.Now());
  if (!cores) return;
  uint64_t bytes = 0;
  for (const auto& [each, use] : processes) bytes += use.memory_bytes;
  const auto mib = static_cast<int64_t>((bytes + kMib / 2) / kMib);
  const bool news = !reported_.cpu_cores || CpuIsNews(file_.load, *reported_.cpu_cores, *cores) ||
                    MemoryIsNews(file_.load, *reported_.memory_mib, mib);
  if (!news && !force) return;
  const double rounded = static_cast<double>(static_cast<int64_t>(*cores * 100 + 0.5)) / 100;
  reported_.cpu_cores = rounded;
  reported_.memory_mib = mib;
  rows->push_back(MachineLoadRow(file_, rounded, mib, clock_.WallMs()));
  *text += StrCat(" cpu ", rounded, " memory ", mib, " MiB");
}

void Sidecar::SampleInflight(bool force, std::vector<DesiredRow>* rows, std::string* text) {
  std::string host, path;
  int port = 0;
  if (!SplitUrl(file_.load.stub_status, &host, &port, &path)) return;
  const Result<HttpAnswer> page = HttpGet(host, port, path, kStubStatusTimeout);
  const std::optional<int64_t> inflight =
      page.ok() ? ParseStubStatus(page->body) : std::optional<int64_t>();
  if (!inflight) return;
  const bool news = !reported_.inflight || InflightIsNews(file_, *reported_.inflight, *inflight);
  if (!news && !force) return;
  reported_.inflight = inflight;
  rows->push_back(ServiceLoadRow(file_, *inflight, clock_.WallMs()));
  *text += StrCat(" inflight ", *inflight);
}

void Sidecar::Print(int64_t ms, const std::string& what) {
  std::lock_guard<std::mutex> lock(print_mutex_);
  std::cout << ms << ' ' << what << std::endl;
}

}  // namespace patina::tools

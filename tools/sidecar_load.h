#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "tools/sidecar_service.h"

// How busy a service is, and when that is worth a write. One thread at a time.

namespace patina::tools {

/// Good and bad probes in, flips of the status out.
class CheckState {
 public:
  CheckState(int64_t healthy_after, int64_t unhealthy_after)
      : healthy_after_(healthy_after), unhealthy_after_(unhealthy_after) {}

  /// True when the status is another one now.
  bool Update(bool good);
  /// passing, critical, or unknown until enough probes agreed.
  std::string_view status() const { return status_; }

 private:
  const int64_t healthy_after_, unhealthy_after_;
  int64_t good_in_row_ = 0, bad_in_row_ = 0;
  std::string_view status_ = "unknown";
};

/// What is reported; absent: not measured.
struct LoadReport {
  std::optional<int64_t> inflight;
  std::optional<double> cpu_cores;
  std::optional<int64_t> memory_mib;
};

/// The rule of what is worth telling the fleet: see ServiceFile::Load. A first value always is; so
/// is crossing the soft or the hard limit, in either direction.
bool InflightIsNews(const ServiceFile& file, int64_t reported, int64_t now);
bool CpuIsNews(const ServiceFile::Load& rule, double reported, double now);
bool MemoryIsNews(const ServiceFile::Load& rule, int64_t reported, int64_t now);

/// Use of one process, from /proc.
struct ProcessUse {
  int parent = 0;
  uint64_t cpu_ticks = 0;  // user and system
  uint64_t memory_bytes = 0;
};

/// Of /proc/PID/stat; nothing when it does not look like one. memory_bytes from its rss field.
std::optional<ProcessUse> ParseProcStat(std::string_view stat);
std::optional<ProcessUse> ReadProcess(int pid);
/// The process and all below it (nginx has workers) that can be read, by pid; empty when it is
/// gone.
std::map<int, ProcessUse> ReadProcessTree(int pid);

/// Busy cores over the last second (and at least two samples), from sums that processes come to and
/// leave.
class CpuMeter {
 public:
  /// ticks_per_second: of sysconf(_SC_CLK_TCK).
  explicit CpuMeter(double ticks_per_second) : ticks_per_second_(ticks_per_second) {}
  std::optional<double> Sample(const std::map<int, ProcessUse>& processes, Instant now);

 private:
  const double ticks_per_second_;
  std::map<int, uint64_t> last_ticks_;
  uint64_t busy_ticks_ = 0;
  std::deque<std::pair<Instant, uint64_t>> history_;
};

/// Requests in flight from nginx's stub_status page, without the one that asked: Reading + Writing
/// - 1.
std::optional<int64_t> ParseStubStatus(std::string_view page);

/// Reads the file's pid each time it is asked, because services restart.
std::optional<int> ReadPidFile(const std::string& path);

}  // namespace patina::tools

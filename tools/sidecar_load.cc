#include "tools/sidecar_load.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <utility>

namespace patina::tools {
namespace {

constexpr Duration kCpuWindow = std::chrono::seconds(1);

std::optional<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

template <class Number>
std::optional<Number> ParseNumber(std::string_view text) {
  Number number{};
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc()) return std::nullopt;
  return number;
}

/// The number after "label " in a page.
std::optional<int64_t> NumberAfter(std::string_view page, std::string_view label) {
  const size_t found = page.find(label);
  if (found == std::string_view::npos) return std::nullopt;
  page.remove_prefix(found + label.size());
  page.remove_prefix(std::min(page.find_first_not_of(' '), page.size()));
  return ParseNumber<int64_t>(page);
}

/// Children by /proc/PID/task/TID/children where the kernel has it.
std::optional<std::vector<int>> ChildrenOf(int pid) {
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  std::error_code error;
  std::vector<int> children;
  for (const auto& task : std::filesystem::directory_iterator(tasks, error)) {
    const auto text = ReadFile(task.path().string() + "/children");
    if (!text) return std::nullopt;
    std::istringstream stream(*text);
    children.insert(children.end(), std::istream_iterator<int>(stream), {});
  }
  return children;
}

/// All processes of the host, for kernels without the file above.
std::map<int, ProcessUse> ReadAllProcesses() {
  std::map<int, ProcessUse> all;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const auto pid = ParseNumber<int>(entry.path().filename().string());
    if (!pid) continue;
    if (auto use = ReadProcess(*pid)) all.emplace(*pid, *use);
  }
  return all;
}

std::map<int, ProcessUse> TreeAmongAll(int root) {
  const std::map<int, ProcessUse> all = ReadAllProcesses();
  std::map<int, ProcessUse> tree;
  if (const auto found = all.find(root); found != all.end()) tree.insert(*found);
  for (bool grown = !tree.empty(); grown;) {
    grown = false;
    for (const auto& [pid, use] : all) {
      if (tree.contains(use.parent)) grown |= tree.emplace(pid, use).second;
    }
  }
  return tree;
}

bool Beyond(double reported, double now, double absolute, double percent) {
  return std::abs(now - reported) > std::max(absolute, std::abs(reported) * percent / 100);
}

}  // namespace

bool CheckState::Update(bool good) {
  good_in_row_ = good ? good_in_row_ + 1 : 0;
  bad_in_row_ = good ? 0 : bad_in_row_ + 1;
  std::string_view next = status_;
  if (good_in_row_ >= healthy_after_) next = "passing";
  if (bad_in_row_ >= unhealthy_after_) next = "critical";
  return std::exchange(status_, next) != next;
}

bool InflightIsNews(const ServiceFile& file, int64_t reported, int64_t now) {
  for (const int64_t limit : {file.soft_limit, file.hard_limit}) {
    if (limit > 0 && (reported >= limit) != (now >= limit)) return true;
  }
  return Beyond(static_cast<double>(reported), static_cast<double>(now),
                static_cast<double>(file.load.inflight), file.load.inflight_percent);
}

bool CpuIsNews(const ServiceFile::Load& rule, double reported, double now) {
  return Beyond(reported, now, rule.cpu_cores, rule.cpu_percent);
}

bool MemoryIsNews(const ServiceFile::Load& rule, int64_t reported, int64_t now) {
  // One MiB is the unit of the column.
  return Beyond(static_cast<double>(reported), static_cast<double>(now), 1, rule.memory_percent);
}

std::optional<ProcessUse> ParseProcStat(std::string_view stat) {
  // "12 (a name) with) S 1 ...": the name ends at the last parenthesis, state is field 3.
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string_view::npos) return std::nullopt;
  std::istringstream fields{std::string(stat.substr(name_end + 1))};
  std::vector<std::string> words{std::istream_iterator<std::string>(fields), {}};
  constexpr size_t kParent = 4 - 3, kUser = 14 - 3, kSystem = 15 - 3, kPages = 24 - 3;
  if (words.size() <= kPages) return std::nullopt;
  const auto parent = ParseNumber<int>(words[kParent]);
  const auto user = ParseNumber<uint64_t>(words[kUser]);
  const auto system = ParseNumber<uint64_t>(words[kSystem]);
  const auto pages = ParseNumber<int64_t>(words[kPages]);
  if (!parent || !user || !system || !pages) return std::nullopt;
  static const auto page_bytes = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const auto resident_pages = static_cast<uint64_t>(std::max<int64_t>(*pages, 0));
  return ProcessUse{
      .parent = *parent, .cpu_ticks = *user + *system, .memory_bytes = resident_pages * page_bytes};
}

std::optional<ProcessUse> ReadProcess(int pid) {
  const auto stat = ReadFile("/proc/" + std::to_string(pid) + "/stat");
  return stat ? ParseProcStat(*stat) : std::nullopt;
}

std::map<int, ProcessUse> ReadProcessTree(int root) {
  std::map<int, ProcessUse> tree;
  std::vector<int> next = {root};
  while (!next.empty()) {
    const int pid = next.back();
    next.pop_back();
    const auto use = ReadProcess(pid);
    if (!use || !tree.emplace(pid, *use).second) continue;
    const auto children = ChildrenOf(pid);
    if (!children) return TreeAmongAll(root);
    next.insert(next.end(), children->begin(), children->end());
  }
  return tree;
}

std::optional<double> CpuMeter::Sample(const std::map<int, ProcessUse>& processes, Instant now) {
  std::map<int, uint64_t> ticks;
  for (const auto& [pid, use] : processes) {
    ticks[pid] = use.cpu_ticks;
    // A process not seen before: what it used until now was before the window, or is soon to be
    // seen.
    const auto last = last_ticks_.find(pid);
    if (last != last_ticks_.end() && use.cpu_ticks > last->second) {
      busy_ticks_ += use.cpu_ticks - last->second;
    }
  }
  last_ticks_ = std::move(ticks);
  history_.emplace_back(now, busy_ticks_);
  while (history_.size() > 2 && now - history_[1].first >= kCpuWindow) history_.pop_front();
  const double seconds = std::chrono::duration<double>(now - history_.front().first).count();
  if (seconds <= 0) return std::nullopt;
  return static_cast<double>(busy_ticks_ - history_.front().second) / ticks_per_second_ / seconds;
}

std::optional<int64_t> ParseStubStatus(std::string_view page) {
  const auto reading = NumberAfter(page, "Reading:");
  const auto writing = NumberAfter(page, "Writing:");
  if (!reading || !writing) return std::nullopt;
  return std::max<int64_t>(*reading + *writing - 1, 0);
}

std::optional<int> ReadPidFile(const std::string& path) {
  const auto text = ReadFile(path);
  if (!text) return std::nullopt;
  const auto pid = ParseNumber<int>(*text);
  return pid && *pid > 0 ? pid : std::nullopt;
}

}  // namespace patina::tools

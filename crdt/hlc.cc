#include "crdt/hlc.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "base/check.h"

namespace patina::crdt {
namespace {

constexpr int64_t kMsMax = (int64_t{1} << 48) - 1;
constexpr int64_t kNsPerMs = 1'000'000;

}  // namespace

HlcTime HlcTime::FromMs(int64_t ms, uint16_t counter) {
  const auto clamped = static_cast<uint64_t>(std::clamp<int64_t>(ms, 0, kMsMax));
  return {(clamped << 16) | counter};
}

int64_t HlcTime::ns() const {
  // 48 bits of milliseconds reach beyond what 64 bits of nanoseconds can hold (the year 2262), and
  // a peer may send any bits.
  if (ms() > INT64_MAX / kNsPerMs - 1) return INT64_MAX;
  return ms() * kNsPerMs + counter();
}

std::string HlcTime::ToString() const {
  using std::chrono::days, std::chrono::milliseconds, std::chrono::sys_days;
  const std::chrono::sys_time<milliseconds> time{milliseconds(ms())};
  const sys_days day = std::chrono::floor<days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(time - day);
  char text[64];
  std::snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02d.%03dZ+%u",
                static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                static_cast<unsigned>(date.day()), static_cast<int>(clock.hours().count()),
                static_cast<int>(clock.minutes().count()),
                static_cast<int>(clock.seconds().count()),
                static_cast<int>(clock.subseconds().count()), static_cast<unsigned>(counter()));
  return text;
}

HlcTime HybridClock::Next(int64_t cluster_ms) {
  // Going back to zero would lose every write from here on; nobody may observe such a time.
  CHECK_MSG(last_.bits != UINT64_MAX, "hybrid clock is at the end of time");
  last_ = std::max(HlcTime{last_.bits + 1}, HlcTime::FromMs(cluster_ms));
  return last_;
}

}  // namespace patina::crdt

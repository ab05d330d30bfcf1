#include <algorithm>
#include <array>

#include "tests/storage/model_world.h"

// Histories of the cluster model: made from a seed, run, and shrunk when they fail.

namespace patina::storage::model {
namespace {

struct EventKind {
  Event event;
  const char* name;
  double weight;
  int feature;  // 0: in every history; others: a history has some of them
};

constexpr std::array<EventKind, 18> kEvents = {{
    {Event::kWrite, "write", 34, 0},
    {Event::kDeliver, "deliver", 34, 0},
    {Event::kPull, "pull", 12, 0},
    {Event::kRound, "round", 8, 0},
    {Event::kCheckpoint, "checkpoint", 4, 0},
    {Event::kSleep, "sleep", 3, 0},
    {Event::kStart, "start", 6, 0},
    {Event::kMeasure, "measure", 6, 0},
    {Event::kTrim, "trim", 8, 1},
    {Event::kCrash, "crash", 3, 2},
    {Event::kPowerCut, "power cut", 2, 3},
    {Event::kBackup, "backup", 2, 4},
    {Event::kRestore, "restore", 1, 4},
    {Event::kClockJump, "clock jump", 2, 5},
    {Event::kSchema, "schema", 3, 6},
    {Event::kPartition, "partition", 4, 7},
    {Event::kForget, "forget", 6, 8},
    {Event::kSnapshot, "snapshot", 1, 9},
}};
constexpr size_t kFeatures = 10;

}  // namespace

History HistoryOf(uint64_t seed) {
  Rng rng(seed);
  std::array<bool, kFeatures> has{};
  for (bool& feature : has) feature = rng.Chance(0.6);
  has[0] = true;
  std::vector<double> sums;
  double sum = 0;
  for (const EventKind& kind : kEvents) {
    const double factors[] = {0.3, 1, 3};
    const double factor = factors[rng.Below(3)];
    if (has[static_cast<size_t>(kind.feature)]) sum += kind.weight * factor;
    sums.push_back(sum);
  }
  History history;
  for (int64_t left = rng.Between(30, 250); left > 0; --left) {
    const auto at = std::upper_bound(sums.begin(), sums.end(), rng.Unit() * sum) - sums.begin();
    history.emplace_back(kEvents[static_cast<size_t>(at)].event, rng.Next() >> 34);
  }
  return history;
}

std::string ToString(const History& history) {
  std::string text;
  for (const auto& [event, seed] : history) {
    const auto kind = std::find_if(kEvents.begin(), kEvents.end(),
                                   [event](const EventKind& each) { return each.event == event; });
    text += StrCat(text.empty() ? "" : ", ", kind->name);
    if (history.size() > 1) text += StrCat(" ", seed);
  }
  return text;
}

Outcome RunHistory(const History& history, const RunOptions& options) {
  World world(history[0].second % 2 == 0, options);
  for (const auto& [event, seed] : history) {
    if (world.failed()) break;
    world.Step(event, seed);
  }
  if (!world.failed()) world.Heal();
  return {world.violation, world.count, world.trace};
}

History Shrink(History history, const RunOptions& options) {
  for (size_t size = history.size() / 2; size > 0; size /= 2) {
    for (size_t position = 0; position < history.size() && history.size() > 1;) {
      History shorter(history.begin(), history.begin() + static_cast<std::ptrdiff_t>(position));
      const size_t after = std::min(history.size(), position + size);
      shorter.insert(shorter.end(), history.begin() + static_cast<std::ptrdiff_t>(after),
                     history.end());
      if (!shorter.empty() && !RunHistory(shorter, options).violation.empty()) {
        history = std::move(shorter);
      } else {
        position += size;
      }
    }
  }
  return history;
}

}  // namespace patina::storage::model

#include "tests/sim/scenario.h"

namespace patina::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

void AddLoss(Scenario& scenario) {
  scenario.loss = 0.05;
  scenario.spike_chance = 0.01;
}

void AddPartitions(Scenario& scenario) { scenario.partition_every = seconds(6); }

void AddCrashes(Scenario& scenario) { scenario.crash_every = milliseconds(1500); }

void AddWrongClocks(Scenario& scenario) { scenario.wrong_clocks = 0.2; }

/// A log so short that who was away finds its beginning gone.
void AddShortLog(Scenario& scenario) {
  scenario.log_bytes_max = 4'000;
  scenario.crash_every = seconds(3);
  scenario.down_max = seconds(20);
  scenario.writes_per_second = 40;
  scenario.heal_bound = seconds(120);
}

/// Histories that differ before a horizon: who is away is away for longer than the scaled hour, and
/// is forgotten meanwhile.
void AddCollection(Scenario& scenario) {
  scenario.collect_after = seconds(3);
  scenario.forget_after = seconds(5);
  scenario.publish_interval = milliseconds(500);
  scenario.partition_every = seconds(25);
  scenario.crash_every = seconds(8);
  scenario.down_max = seconds(30);
  scenario.log_bytes_max = 40'000;
  scenario.fault_time = seconds(90);
  scenario.heal_bound = seconds(180);
}

}  // namespace

std::vector<std::string> ScenarioNames() {
  return {"calm",  "loss", "partition", "crash", "clock",
          "mixed", "all",  "transfer",  "large", "collect"};
}

std::optional<Scenario> MakeScenario(const std::string& name, Rng& rng) {
  Scenario scenario;
  scenario.name = name;
  if (name == "calm") return scenario;
  if (name == "loss") {
    AddLoss(scenario);
  } else if (name == "partition") {
    AddPartitions(scenario);
  } else if (name == "crash") {
    AddCrashes(scenario);
  } else if (name == "clock") {
    AddWrongClocks(scenario);
    scenario.partition_every = seconds(15);  // so long that the others are dead to who is alone
    scenario.fault_time = seconds(60);
  } else if (name == "transfer") {
    AddShortLog(scenario);
  } else if (name == "large") {
    scenario.large = 0.1;
    AddLoss(scenario);
    AddPartitions(scenario);
    scenario.crash_every = milliseconds(2500);
  } else if (name == "collect") {
    AddCollection(scenario);
  } else if (name == "all") {
    AddLoss(scenario);
    AddPartitions(scenario);
    AddCrashes(scenario);
    AddWrongClocks(scenario);
  } else if (name == "mixed") {
    if (rng.Chance(0.6)) AddLoss(scenario);
    if (rng.Chance(0.6)) AddPartitions(scenario);
    if (rng.Chance(0.6)) AddCrashes(scenario);
    if (rng.Chance(0.4)) AddWrongClocks(scenario);
    if (rng.Chance(0.2)) AddShortLog(scenario);
  } else {
    return std::nullopt;
  }
  return scenario;
}

}  // namespace patina::sim

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/log.h"
#include "tests/sim/scenario.h"
#include "tests/sim/simulator.h"

namespace {

int Usage() {
  std::fprintf(stderr,
               "usage: patina_sim [--seed S] [--nodes N] [--scenario NAME] [--runs R] "
               "[--folder F] [--log LEVEL]\n"
               "Runs R seeds from S on. Scenarios:");
  for (const std::string& name : patina::sim::ScenarioNames()) {
    std::fprintf(stderr, " %s", name.c_str());
  }
  std::fprintf(stderr, "\n");
  return 2;
}

void Print(const patina::sim::SimOptions& options, const patina::sim::SimResult& result,
           double real_seconds) {
  std::printf(
      "seed %llu scenario %s nodes %d: %s trace %016llx, %lld ms virtual in %.1f s, %llu events, "
      "%llu deliveries, %llu acknowledged of %llu writes, %llu crashes, %llu restarts, "
      "%llu partitions, %llu clock jumps, messages: %llu lost, %llu late, %llu cut, "
      "%llu by sync, %llu transfers, %llu snapshots, %llu set aside, %llu tombstones forgotten, "
      "%.2f copies, equal %lld ms after the heal\n",
      static_cast<unsigned long long>(options.seed), options.scenario.c_str(), options.nodes,
      result.ok ? "ok" : "FAILED", static_cast<unsigned long long>(result.trace_hash),
      static_cast<long long>(patina::ToMs(result.virtual_time)), real_seconds,
      static_cast<unsigned long long>(result.events),
      static_cast<unsigned long long>(result.deliveries),
      static_cast<unsigned long long>(result.acknowledged),
      static_cast<unsigned long long>(result.writes),
      static_cast<unsigned long long>(result.crashes),
      static_cast<unsigned long long>(result.restarts),
      static_cast<unsigned long long>(result.partitions),
      static_cast<unsigned long long>(result.clock_jumps),
      static_cast<unsigned long long>(result.messages_lost),
      static_cast<unsigned long long>(result.messages_late),
      static_cast<unsigned long long>(result.messages_cut),
      static_cast<unsigned long long>(result.sync_changes),
      static_cast<unsigned long long>(result.transfers),
      static_cast<unsigned long long>(result.snapshots),
      static_cast<unsigned long long>(result.set_aside),
      static_cast<unsigned long long>(result.tombstones_collected), result.copies_per_change,
      static_cast<long long>(patina::ToMs(result.healed_after)));
  if (!result.ok) {
    std::printf("  %s\n  replay: %s\n", result.failure.c_str(), result.replay.c_str());
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  patina::sim::SimOptions options;
  uint64_t runs = 1;
  patina::SetLogLevel(patina::LogLevel::kError);
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (i + 1 >= argc) return Usage();
    const char* value = argv[++i];
    if (flag == "--seed") {
      options.seed = std::strtoull(value, nullptr, 10);
    } else if (flag == "--nodes") {
      options.nodes = std::atoi(value);
    } else if (flag == "--scenario") {
      options.scenario = value;
    } else if (flag == "--runs") {
      runs = std::strtoull(value, nullptr, 10);
    } else if (flag == "--folder") {
      options.folder = value;
    } else if (flag != "--log" || !patina::SetLogLevel(value)) {
      return Usage();
    }
  }
  bool ok = true;
  for (; runs > 0; --runs, ++options.seed) {
    const auto start = std::chrono::steady_clock::now();
    const auto result = patina::sim::RunSimulation(options);
    const std::chrono::duration<double> real = std::chrono::steady_clock::now() - start;
    Print(options, result, real.count());
    ok = ok && result.ok;
  }
  return ok ? 0 : 1;
}

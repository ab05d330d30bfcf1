#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "proxy-sink/table.h"

// Where a request should go, and why. Pure functions, any thread.

namespace patina::proxy_sink {

struct PickQuery {
  std::string from_region;
  size_t count = 3;                  // candidates wanted, at least 1
  std::vector<std::string> exclude;  // machines already tried
};

struct PickOptions {
  /// A measured round trip is rewritten only when it changed, so that an old one is not a wrong
  /// one: beyond this age, however, whoever measured it is taken to be gone, and the great circle
  /// is used.
  int64_t rtt_age_ms_max = 24 * 3600 * 1000;
};

/// Round trip between two regions.
struct Distance {
  double ms = 0;
  bool measured = false;
  bool known = true;  // false: one of them has no row in regions; such machines come last
};

struct Candidate {
  std::string machine;
  std::string host;
  std::string region;
  Service service;
  double cpu_load = 0;
  Distance distance;
  int64_t load_age_ms = -1;  // -1: never reported
  std::string reason;        // one line for people
};

struct Rejection {
  std::string machine;
  std::string region;
  std::string reason;
};
inline constexpr size_t kRejectionsMax = 64;

struct PickAnswer {
  std::vector<Candidate> candidates;  // first the pick, then those for retries; one per machine
  std::vector<Rejection> rejected;    // at most kRejectionsMax: not usable, then not needed
  uint64_t rejected_total = 0;
};

double GreatCircleKm(double latitude_a, double longitude_a, double latitude_b, double longitude_b);

/// Measured in either direction if fresh; else 4 ms + 1 ms per 75 km of great circle; 0 within a
/// region.
Distance RoundTrip(const Geography& geography, const std::string& from, const std::string& to,
                   int64_t wall_ms, const PickOptions& options = {});

/// A machine may be used when it is started and meant to be, its host (if known) is up, the host's
/// agent is not known to be dead, and one of its services (the first by port) has an address, no
/// critical check, and is below its hard limit. Order of the candidates:
///   1. those whose host's agent is suspect or has left go after all others;
///   2. checks passing before warning before unknown;
///   3. nearest region first (a soft limit never moves traffic to another region, a hard limit
///      does);
///   4. below the soft limit first;
///   5. again and again the less loaded of two taken at random: in flight per soft limit, then CPU.
PickAnswer Pick(const AppBlock& app, const Geography& geography, const PickQuery& query,
                int64_t wall_ms, Rng& rng, const PickOptions& options = {});

/// "app web has no machine that may be used: web-ams-1 (ams): check critical; ...", at most ten of
/// them.
std::string WhyNone(const AppBlock& app, const PickAnswer& answer);

}  // namespace patina::proxy_sink

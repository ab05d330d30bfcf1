#include "proxy-sink/pick.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <numbers>
#include <optional>
#include <tuple>

#include "base/log.h"

namespace patina::proxy_sink {
namespace {

constexpr double kEarthRadiusKm = 6371.0;
constexpr double kFixedMs = 4;   // hops and detours of the shortest path abroad
constexpr double kKmPerMs = 75;  // there and back, on cables that are not straight
constexpr double kUnknownMs = 1e6;
constexpr int64_t kUsualSoftLimit = 20;  // the scale of load where a service names no limit

/// A usable machine, before the order within its group is drawn.
struct Usable {
  const Machine* machine = nullptr;
  const Service* service = nullptr;
  Distance distance;
  bool doubtful = false;  // the host's agent is suspect or has left
  bool over_soft = false;
  bool taken = false;

  auto Group() const {
    return std::tuple(doubtful, service->check, distance.ms, std::string_view(machine->region),
                      over_soft);
  }
  std::pair<double, double> Score() const {
    const int64_t scale = service->soft_limit > 0 ? service->soft_limit : kUsualSoftLimit;
    return {static_cast<double>(service->inflight) / static_cast<double>(scale), machine->cpu_load};
  }
};

/// Why the machine may not be used; empty if it may, so far.
std::string MachineProblem(const Machine& machine, const std::vector<std::string>& exclude) {
  if (std::find(exclude.begin(), exclude.end(), machine.id) != exclude.end()) {
    return "excluded by the request";
  }
  if (machine.state != "started") return "is " + machine.state;
  if (machine.desired_state != "started") return "is to be " + machine.desired_state;
  if (machine.member == MemberState::kDead) return "agent of host " + machine.host + " is dead";
  if (!machine.host_state.empty() && machine.host_state != "up") {
    return "host " + machine.host + " is " + machine.host_state;
  }
  if (machine.services.empty()) return "has no service";
  return {};
}

std::string ServiceProblem(const Service& service) {
  if (service.address.empty()) return "service has no address";
  if (service.check == CheckStatus::kCritical) return "check critical";
  if (service.hard_limit > 0 && service.inflight >= service.hard_limit) {
    return StrCat("at its hard limit: ", service.inflight, " in flight of ", service.hard_limit);
  }
  return {};
}

std::string MsText(double ms) {
  char text[32];
  std::snprintf(text, sizeof text, ms < 10 && ms != std::floor(ms) ? "%.1f ms" : "%.0f ms", ms);
  return text;
}

std::string DistanceText(const Distance& distance) {
  if (!distance.known) return "distance unknown";
  return distance.measured || distance.ms == 0 ? MsText(distance.ms)
                                               : "about " + MsText(distance.ms);
}

std::string_view MemberText(MemberState state) {
  return state == MemberState::kLeft ? "its host's agent has left" : "its host's agent is suspect";
}

/// rivals: how many of its group it was drawn from, itself included.
std::string ReasonText(const Usable& usable, bool first_region, size_t rivals) {
  const Service& service = *usable.service;
  std::string text = first_region ? "nearest " : "";
  text += service.check == CheckStatus::kPassing   ? "healthy: "
          : service.check == CheckStatus::kWarning ? "with a warning: "
                                                   : "without a check that passed: ";
  text += usable.machine->region + ", " + DistanceText(usable.distance) + "; ";
  if (service.load_measured_ms < 0) {
    text += "load not reported";
  } else {
    text += StrCat(service.inflight, " in flight");
    if (service.soft_limit > 0) text += StrCat(" of ", service.soft_limit);
  }
  if (usable.over_soft) text += ", at its soft limit";
  if (rivals > 2) text += "; least loaded of two drawn from " + std::to_string(rivals);
  if (rivals == 2) text += "; least loaded of two";
  if (usable.doubtful) text += StrCat("; ", MemberText(usable.machine->member), ": last resort");
  return text;
}

class Picker {
 public:
  Picker(const AppBlock& app, const PickQuery& query, int64_t wall_ms, Rng& rng)
      : app_(app), query_(query), wall_ms_(wall_ms), rng_(rng) {}

  PickAnswer Run(const Geography& geography, const PickOptions& options) {
    std::map<std::string_view, Distance> distances;
    for (const Machine& machine : app_.machines) Consider(machine, distances, geography, options);
    std::sort(usable_.begin(), usable_.end(),
              [](const Usable& a, const Usable& b) { return a.Group() < b.Group(); });
    const size_t wanted = std::max<size_t>(query_.count, 1);
    for (size_t begin = 0; begin < usable_.size();) {
      size_t end = begin + 1;
      while (end < usable_.size() && usable_[end].Group() == usable_[begin].Group()) ++end;
      TakeFrom(begin, end, wanted);
      begin = end;
    }
    for (const Usable& usable : usable_) {
      if (!usable.taken) RejectSpare(usable);
    }
    return std::move(answer_);
  }

 private:
  void Consider(const Machine& machine, std::map<std::string_view, Distance>& distances,
                const Geography& geography, const PickOptions& options) {
    std::string problem = MachineProblem(machine, query_.exclude);
    const Service* service = nullptr;
    if (problem.empty()) {
      for (const Service& each : machine.services) {
        std::string service_problem = ServiceProblem(each);
        if (service_problem.empty()) {
          service = &each;
          break;
        }
        if (problem.empty()) problem = std::move(service_problem);
      }
    }
    if (service == nullptr) return Reject(machine, std::move(problem));
    auto [known, added] = distances.try_emplace(machine.region);
    if (added) {
      known->second = RoundTrip(geography, query_.from_region, machine.region, wall_ms_, options);
    }
    Usable usable;
    usable.machine = &machine;
    usable.service = service;
    usable.distance = known->second;
    usable.doubtful =
        machine.member == MemberState::kSuspect || machine.member == MemberState::kLeft;
    usable.over_soft = service->soft_limit > 0 && service->inflight >= service->soft_limit;
    usable_.push_back(usable);
  }

  /// Draws candidates from [begin, end) of usable_, one group, until enough were taken.
  void TakeFrom(size_t begin, size_t end, size_t wanted) {
    while (begin < end && answer_.candidates.size() < wanted) {
      const size_t rivals = end - begin;
      size_t chosen = begin + static_cast<size_t>(rng_.Below(rivals));
      if (rivals > 1) {
        size_t other = begin + static_cast<size_t>(rng_.Below(rivals - 1));
        if (other >= chosen) ++other;
        if (usable_[other].Score() < usable_[chosen].Score()) chosen = other;
      }
      std::swap(usable_[begin], usable_[chosen]);
      AddCandidate(usable_[begin], rivals);
      ++begin;
    }
  }

  void AddCandidate(Usable& usable, size_t rivals) {
    usable.taken = true;
    const bool first_region =
        answer_.candidates.empty() || answer_.candidates.front().region == usable.machine->region;
    Candidate& candidate = answer_.candidates.emplace_back();
    candidate.machine = usable.machine->id;
    candidate.host = usable.machine->host;
    candidate.region = usable.machine->region;
    candidate.service = *usable.service;
    candidate.cpu_load = usable.machine->cpu_load;
    candidate.distance = usable.distance;
    const int64_t measured_ms = usable.service->load_measured_ms;
    if (measured_ms >= 0) candidate.load_age_ms = std::max<int64_t>(wall_ms_ - measured_ms, 0);
    candidate.reason = ReasonText(usable, first_region, rivals);
  }

  void RejectSpare(const Usable& usable) {
    if (usable.doubtful) {
      return Reject(*usable.machine, std::string(MemberText(usable.machine->member)));
    }
    const bool farther = answer_.candidates.back().distance.ms < usable.distance.ms;
    Reject(*usable.machine,
           StrCat("usable, not needed: ", farther ? "farther, " : "", DistanceText(usable.distance),
                  ", ", usable.service->inflight, " in flight"));
  }

  void Reject(const Machine& machine, std::string reason) {
    if (++answer_.rejected_total > kRejectionsMax) return;
    answer_.rejected.push_back({machine.id, machine.region, std::move(reason)});
  }

  const AppBlock& app_;
  const PickQuery& query_;
  const int64_t wall_ms_;
  Rng& rng_;
  std::vector<Usable> usable_;
  PickAnswer answer_;
};

}  // namespace

double GreatCircleKm(double latitude_a, double longitude_a, double latitude_b, double longitude_b) {
  constexpr double kRadians = std::numbers::pi / 180;
  const double half_latitude = (latitude_b - latitude_a) * kRadians / 2;
  const double half_longitude = (longitude_b - longitude_a) * kRadians / 2;
  const double haversine = std::pow(std::sin(half_latitude), 2) +
                           std::cos(latitude_a * kRadians) * std::cos(latitude_b * kRadians) *
                               std::pow(std::sin(half_longitude), 2);
  return 2 * kEarthRadiusKm * std::asin(std::sqrt(std::clamp(haversine, 0.0, 1.0)));
}

Distance RoundTrip(const Geography& geography, const std::string& from, const std::string& to,
                   int64_t wall_ms, const PickOptions& options) {
  for (const auto& key : {std::pair(from, to), std::pair(to, from)}) {
    const auto found = geography.round_trips.find(key);
    if (found == geography.round_trips.end()) continue;
    if (wall_ms - found->second.measured_ms > options.rtt_age_ms_max) continue;
    return {static_cast<double>(found->second.rtt_us) / 1000, true, true};
  }
  if (from == to) return {};
  const auto a = geography.regions.find(from);
  const auto b = geography.regions.find(to);
  if (a == geography.regions.end() || b == geography.regions.end()) {
    return {kUnknownMs, false, false};
  }
  const double km = GreatCircleKm(a->second.latitude, a->second.longitude, b->second.latitude,
                                  b->second.longitude);
  return {kFixedMs + km / kKmPerMs, false, true};
}

PickAnswer Pick(const AppBlock& app, const Geography& geography, const PickQuery& query,
                int64_t wall_ms, Rng& rng, const PickOptions& options) {
  return Picker(app, query, wall_ms, rng).Run(geography, options);
}

std::string WhyNone(const AppBlock& app, const PickAnswer& answer) {
  if (app.machines.empty()) return "app " + app.name + " has no machines";
  std::string text = "app " + app.name + " has no machine that may be used: ";
  constexpr size_t kNamed = 10;
  const size_t named = std::min(kNamed, answer.rejected.size());
  for (size_t i = 0; i < named; ++i) {
    const Rejection& rejection = answer.rejected[i];
    text += StrCat(i == 0 ? "" : "; ", rejection.machine, " (", rejection.region,
                   "): ", rejection.reason);
  }
  if (answer.rejected_total > named) {
    text += StrCat("; and ", answer.rejected_total - named, " more");
  }
  return text;
}

}  // namespace patina::proxy_sink

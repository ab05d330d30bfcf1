#include "tests/sim/simulator.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <queue>
#include <set>
#include <utility>

#include "base/hash.h"
#include "base/log.h"
#include "base/random.h"
#include "storage/db.h"
#include "tests/sim/existence.h"
#include "tests/sim/faults.h"
#include "tests/sim/network.h"
#include "tests/sim/scenario.h"
#include "tests/sim/sim_host.h"
#include "tests/sim/workload.h"
#include "tests/support/temporary_folder.h"

namespace patina::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kRegions = 5;
constexpr int kSeedHosts = 3;
constexpr Duration kStreamBreaks = seconds(1);
constexpr Duration kCheckInterval = milliseconds(500);
constexpr size_t kFailuresShown = 5;
constexpr int64_t kStampWrongMsMost = 500;  // what others would park

class World final : public HostWorld {
 public:
  World(const SimOptions& options, const Scenario& scenario, const std::string& folder);

  SimResult Run();

  Instant Now() const override { return now_; }
  Duration RandomTime(Duration low, Duration high) override {
    return Duration(rng_.Between(low.count(), high.count()));
  }
  void Later(SimHost& host, Duration delay, std::function<void()> run) override;
  void SendDatagram(SimHost& from, gossip::Outputs::DatagramOut datagram) override;
  void SendFrame(SimHost& from, gossip::Outputs::FrameOut frame) override;
  void Fail(const SimHost& host, const std::string& what) override {
    Fail(host.settings().name + ": " + what);
  }

 private:
  struct Event {
    Instant at;
    uint64_t order;
    std::function<void()> run;
    bool operator<(const Event& other) const {  // std::priority_queue: the largest is first
      return at != other.at ? at > other.at : order > other.order;
    }
  };

  void Fail(const std::string& what);
  void At(Instant at, std::function<void()> run) { events_.push({at, order_++, std::move(run)}); }
  void Trace(uint64_t what) { trace_ = CombineHash(trace_, what); }
  void TraceDelivery(const SimHost& from, const SimHost& to, uint64_t kind);
  void AddHosts(const SimOptions& options, const std::string& folder);
  void ScheduleWrite();
  void WriteSomewhere();
  void CheckStamp(SimHost& host, const gossip::Change& change);
  void RunFor(Duration time);
  bool AllReceivedAll() const;
  std::set<ChangeId> SetAside();
  std::string Differences();
  bool AllForgotten() const;
  void Settle(SimResult* result);
  void Count(SimResult* result);

  Scenario scenario_;
  storage::Schema schema_;
  Rng rng_;
  Network network_;
  std::vector<std::unique_ptr<SimHost>> hosts_;
  std::map<Endpoint, SimHost*> by_address_;
  Faults faults_;
  Instant now_{};
  uint64_t order_ = 0, trace_ = 0, events_run_ = 0, writes_ = 0, large_writes_ = 0, deliveries_ = 0,
           fresh_ = 0;
  std::priority_queue<Event> events_;
  bool writing_ = true;
  std::vector<ChangeId> acknowledged_;
  Existence existence_;
  std::string failure_;
};

World::World(const SimOptions& options, const Scenario& scenario, const std::string& folder)
    : scenario_(scenario),
      schema_(SimSchema()),
      rng_(options.seed),
      network_(options.seed + 1, options.nodes, kRegions),
      faults_(
          options.seed + 2, scenario_, network_, hosts_,
          [this](Duration delay, std::function<void()> run) { At(now_ + delay, std::move(run)); }) {
  AddHosts(options, folder);
}

void World::AddHosts(const SimOptions& options, const std::string& folder) {
  std::vector<Endpoint> seeds;
  for (int i = 0; i < options.nodes; ++i) {
    SimHost::Settings settings;
    char name[16];
    std::snprintf(name, sizeof name, "host%03d", i);
    settings.number = i;
    settings.name = name;
    settings.region = "region" + std::to_string(network_.RegionOf(i));
    settings.address =
        Endpoint::V4(10, 0, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i & 0xff), 7400);
    settings.path = folder + "/" + name + ".db";
    settings.limits.page_cache_kib = 512;
    settings.limits.row_cache_bytes = 1u << 20;
    settings.limits.large_memory_bytes = 2'000;
    settings.limits.large_chunk_bytes = 500;
    if (scenario_.log_bytes_max > 0) {
      settings.limits.log_bytes_max = scenario_.log_bytes_max;
      settings.limits.checkpoint_interval = seconds(1);
      settings.limits.dirty_rows_max = 50;
    }
    if (scenario_.collect_after > Duration::zero()) {
      settings.collect_after = scenario_.collect_after;
      settings.config.publish_interval = scenario_.publish_interval;
      settings.config.frontier.forget_after_ms = ToMs(scenario_.forget_after);
      settings.config.dead_probe_interval = milliseconds(500);
      settings.config.snapshots_taken = true;
      settings.config.seeded = true;
    }
    if (i < kSeedHosts) seeds.push_back(settings.address);
    hosts_.push_back(std::make_unique<SimHost>(*this, std::move(settings), schema_));
    by_address_[hosts_.back()->settings().address] = hosts_.back().get();
  }
  for (auto& host : hosts_) host->SetSeeds(seeds);
}

void World::Fail(const std::string& what) {
  if (failure_.empty()) {
    failure_ = "at " + std::to_string(ToMs(now_.time_since_epoch())) + " ms: " + what;
  }
}

void World::Later(SimHost& host, Duration delay, std::function<void()> run) {
  At(now_ + delay, [&host, life = host.life(), run = std::move(run)] {
    if (host.up() && host.life() == life) run();
  });
}

void World::TraceDelivery(const SimHost& from, const SimHost& to, uint64_t kind) {
  ++deliveries_;
  Trace(static_cast<uint64_t>(now_.time_since_epoch().count()));
  Trace(static_cast<uint64_t>(from.settings().number) << 40 |
        static_cast<uint64_t>(to.settings().number) << 20 | kind);
}

void World::SendDatagram(SimHost& from, gossip::Outputs::DatagramOut datagram) {
  const auto found = by_address_.find(datagram.to);
  if (found == by_address_.end()) return;
  SimHost& to = *found->second;
  const auto at = network_.Datagram(from.settings().number, to.settings().number, now_);
  if (!at) return;
  At(*at, [this, &from, &to, sent = std::move(datagram.datagram)] {
    if (!to.up()) return;
    TraceDelivery(from, to, 100 + sent.body.index() + (sent.updates.size() << 8));
    to.OnDatagram(from.settings().address, sent);
  });
}

void World::SendFrame(SimHost& from, gossip::Outputs::FrameOut frame) {
  const auto found = by_address_.find(frame.address);
  if (found == by_address_.end()) return;
  SimHost& to = *found->second;
  const auto at = network_.Frame(from.settings().number, to.settings().number,
                                 static_cast<int>(frame.lane), now_);
  if (!at) {
    return Later(from, kStreamBreaks, [&from, name = frame.to] { from.OnStreamLost(name); });
  }
  At(*at, [this, &from, &to, from_life = from.life(), sent = std::move(frame)] {
    if (!to.up()) {  // the connection is refused: the sender knows after a while
      if (from.up() && from.life() == from_life) from.OnStreamLost(sent.to);
      return;
    }
    TraceDelivery(from, to, 200 + sent.frame->index());
    if (const auto* fresh = std::get_if<gossip::FreshChanges>(sent.frame.get())) {
      fresh_ += fresh->changes.size();
    }
    to.OnFrame(from.settings().name, *sent.frame);
  });
}

void World::ScheduleWrite() {
  const Duration mean(static_cast<int64_t>(1e9 / scenario_.writes_per_second));
  At(now_ + RandomTime(Duration(0), 2 * mean), [this] {
    if (!writing_) return;
    WriteSomewhere();
    ScheduleWrite();
  });
}

void World::WriteSomewhere() {
  SimHost& host = *hosts_[static_cast<size_t>(rng_.Below(hosts_.size()))];
  const bool large = scenario_.large > 0 && rng_.Chance(scenario_.large);
  const auto transaction = large ? LargeTransaction(rng_, host.clock().WallMs())
                                 : RandomTransaction(rng_, host.clock().WallMs());
  if (!host.up()) return;
  ++writes_;
  const auto change = host.Write(transaction);
  if (!change) return;
  acknowledged_.push_back(change->id);
  CheckStamp(host, *change);
  if (change->bytes == nullptr) {
    ++large_writes_;
  } else {
    existence_.Add(*change->bytes);
  }
  Trace(change->bytes == nullptr ? change->id.version : Hash64(*change->bytes));
}

/// Where no host starts with a wrong clock, no jump of one shows in what is written.
void World::CheckStamp(SimHost& host, const gossip::Change& change) {
  if (scenario_.crash_every.count() > 0 || change.bytes == nullptr) return;
  const auto header = crdt::PeekChangesetHeader(*change.bytes);
  const int64_t true_ms = host.clock().WallMs() - host.clock().offset_ms;
  const int64_t wrong_by_ms = header.ok() ? header->time.ms() - true_ms : INT64_MAX;
  if (std::llabs(wrong_by_ms) > kStampWrongMsMost)
    Fail(host, "a write is stamped " + std::to_string(wrong_by_ms) + " ms wrong");
}

void World::RunFor(Duration time) {
  const Instant end = now_ + time;
  while (failure_.empty() && !events_.empty() && events_.top().at <= end) {
    const Event event = events_.top();
    events_.pop();
    now_ = event.at;
    ++events_run_;
    event.run();
  }
  now_ = end;
}

bool World::AllReceivedAll() const {
  const crdt::VersionSet& first = hosts_.front()->node().received();
  for (const auto& host : hosts_) {
    if (host->node().received().digest() != first.digest()) return false;
    if (!(host->store().applied().digest() == host->store().received().digest())) return false;
  }
  return true;
}

/// What snapshots dropped and nobody has: what one dropped and all received is not lost.
std::set<ChangeId> World::SetAside() {
  std::set<ChangeId> ids;
  for (const auto& host : hosts_) {
    const auto listed = host->store().SetAside();
    if (!listed.ok()) continue;
    for (const storage::SetAsideChange& change : *listed) {
      if (!hosts_.front()->node().received().Contains(change.id)) ids.insert(change.id);
    }
  }
  return ids;
}

/// SQLite's own words: "ok".
std::string IntegrityOf(const std::string& path) {
  auto db = storage::Db::Open(path, storage::Db::Mode::kReadOnly);
  if (!db.ok()) return db.error().ToString();
  auto check = db->Prepare("PRAGMA integrity_check", false);
  if (!check.ok()) return check.error().ToString();
  const auto row = check->Step();
  return row.ok() ? std::string(check->ColumnBytes(0)) : row.error().ToString();
}

/// What is not as it must be after the heal; empty if all is well.
std::string World::Differences() {
  const crdt::VersionSet& first = hosts_.front()->node().received();
  const auto digests = hosts_.front()->store().Digests();
  const std::set<ChangeId> set_aside = SetAside();
  std::string differences;
  size_t shown = 0;
  const auto say = [&](const SimHost& host, const std::string& what) {
    if (shown++ < kFailuresShown) differences += host.settings().name + " " + what + "; ";
  };
  for (const auto& host : hosts_) {
    const crdt::VersionSet& received = host->node().received();
    if (!(received == first)) {
      say(*host, "received " + received.ToString() + " unlike " + first.ToString());
    }
    if (!(received == first) && scenario_.collect_after > Duration::zero()) {
      const gossip::Counters& counters = host->node().counters();
      say(*host, StrCat("has horizon ", host->store().horizon().ToString(), ", ", host->too_old(),
                        " too old, ", counters.settlements, " settlements, ",
                        counters.snapshots_asked, " snapshots asked, ", counters.snapshots_failed,
                        " failed, ", counters.transfers_failed, " transfers failed"));
    }
    if (!(received == host->store().received())) say(*host, "has a file unlike its node");
    if (!host->store().Parked().empty()) {
      say(*host, "has parked: " + host->store().Parked().front().reason);
    }
    if (host->store().Digests() != digests) {
      say(*host, "has other rows than " + hosts_.front()->settings().name);
    }
    if (const std::string integrity = IntegrityOf(host->settings().path); integrity != "ok")
      say(*host, "has a file with " + integrity);
    const auto lost = std::count_if(
        acknowledged_.begin(), acknowledged_.end(),
        [&](const ChangeId& id) { return !received.Contains(id) && !set_aside.contains(id); });
    if (lost > 0) say(*host, "lacks " + std::to_string(lost) + " acknowledged changes");
  }
  if (large_writes_ > 0) return differences;  // whose rows the oracle does not know
  const std::string rows = existence_.Compare(hosts_.front()->settings().path, set_aside);
  if (!rows.empty()) say(*hosts_.front(), rows);
  return differences;
}

/// Where there is collection, no tombstone stays.
bool World::AllForgotten() const {
  if (scenario_.collect_after == Duration::zero()) return true;
  return std::all_of(hosts_.begin(), hosts_.end(),
                     [](const auto& host) { return host->store().Stats().tombstones == 0; });
}

void World::Settle(SimResult* result) {
  const Instant healed = now_;
  while (failure_.empty() && now_ - healed < scenario_.heal_bound) {
    RunFor(kCheckInterval);
    if (!failure_.empty() || (AllReceivedAll() && AllForgotten())) break;
  }
  result->healed_after = now_ - healed;
  if (failure_.empty()) {
    const std::string differences = Differences();
    if (!differences.empty()) Fail("after the heal: " + differences);
    if (failure_.empty() && !AllForgotten()) Fail("after the heal: tombstones are left");
  }
}

void World::Count(SimResult* result) {
  result->ok = failure_.empty();
  result->failure = failure_;
  result->trace_hash = trace_;
  result->virtual_time = now_.time_since_epoch();
  result->events = events_run_;
  result->writes = writes_;
  result->large_writes = large_writes_;
  result->acknowledged = acknowledged_.size();
  result->deliveries = deliveries_;
  result->crashes = faults_.crashes();
  result->restarts = faults_.restarts();
  result->partitions = faults_.partitions();
  result->clock_jumps = faults_.clock_jumps();
  result->hours = faults_.hours();
  result->messages_lost = network_.counts().lost;
  result->messages_late = network_.counts().late;
  result->messages_cut = network_.counts().cut;
  for (const auto& host : hosts_) {
    result->snapshots += host->snapshots_taken();
    result->too_old += host->too_old();
    if (!host->up()) continue;
    result->set_aside += host->store().Stats().set_aside;
    result->tombstones_collected += host->store().Stats().tombstones_collected;
    result->transfers += host->node().counters().transfers_merged;
    result->large_merged += host->node().counters().large_merged;
    result->sync_changes += host->node().counters().sync_changes;
  }
  if (!acknowledged_.empty() && hosts_.size() > 1) {
    result->copies_per_change = static_cast<double>(fresh_) /
                                static_cast<double>(acknowledged_.size() * (hosts_.size() - 1));
  }
}

SimResult World::Run() {
  SimResult result;
  for (auto& host : hosts_) {
    if (failure_.empty()) host->Start(faults_.NextSeed());
  }
  RunFor(seconds(5));  // they find each other
  ScheduleWrite();
  faults_.Begin();
  RunFor(scenario_.fault_time);
  if (failure_.empty()) faults_.HealAll();
  writing_ = false;
  Settle(&result);
  Count(&result);
  return result;
}

}  // namespace

SimResult RunSimulation(const SimOptions& options) {
  SimResult result;
  result.replay = StrCat("./dev sim --seed ", options.seed, " --nodes ", options.nodes,
                         " --scenario ", options.scenario);
  Rng rng(options.seed);
  const auto scenario = MakeScenario(options.scenario, rng);
  const std::filesystem::path parent = options.folder;
  const bool has_parent = parent.empty() || ::access(parent.c_str(), W_OK | X_OK) == 0;
  if (!scenario || options.nodes < 1 || options.nodes > 10'000 || !has_parent) {
    result.failure = "no such scenario, number of nodes, or folder";
    return result;
  }
  const std::string replay = result.replay;
  const test::TemporaryFolder folder(parent);
  World world(options, *scenario, folder.path());
  result = world.Run();
  result.replay = replay;
  return result;
}

}  // namespace patina::sim

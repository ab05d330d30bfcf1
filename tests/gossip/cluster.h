#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "gossip/node.h"

namespace patina::gossip {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// A scripted cluster in memory: real Nodes, virtual time, a network and storage that do what the
/// test says. Everything is deterministic.
class Cluster {
 public:
  /// What a node's storage does here, and what it saw.
  struct Host {
    std::string name;
    std::string region;
    Endpoint address;
    std::unique_ptr<Node> node;  // none while it is down
    std::map<ChangeId, SharedBytes> log;
    crdt::VersionSet received;
    ActorId actor;
    std::vector<ActorId> actors;  // all it ever had, this one included
    crdt::HlcTime line;           // how far the frontier came
    bool transfers_need_snapshot = false;
    std::set<ChangeId> too_old;  // its storage refuses these
    // Large transactions: chunks staged, chunks asked of it, and those it serves now.
    std::map<ChangeId, uint64_t> staged_large;
    uint64_t large_chunks_served = 0;
    std::map<uint64_t, ChangeId> serving_large;
    uint64_t snapshots_taken = 0;
    uint64_t rows = 0;  // what it says when asked for a snapshot
    uint64_t next_version = 1;
    bool persists = true;  // answers persist
    int64_t clock_offset_ms = 0;
    std::map<ChangeId, int> persisted;  // how often each change came out of the node
    std::vector<Outputs::MemberEvent> events;
    uint64_t copies = 0;  // of changes, in FreshChanges that arrived
    uint64_t transfers_merged = 0;
    Instant tick_at = Instant::max();
    uint64_t life = 0;  // of the process
  };

  explicit Cluster(uint64_t seed = 1);

  Config config;  // of nodes started from now on
  Duration latency_near = milliseconds(1);
  Duration latency_far = milliseconds(40);
  double loss = 0;  // of datagrams
  int64_t wall_ms_at_start = 1'700'000'000'000;

  /// Adds and starts a host with the seeds (default: the first host).
  Host& Add(const std::string& name, const std::string& region = "r1");
  /// count hosts "n00".. spread over regions r1..; then runs until they know each other.
  void AddMany(int count, int regions = 1);
  Host& host(const std::string& name) { return *hosts_.at(name); }
  Node& node(const std::string& name) { return *hosts_.at(name)->node; }
  std::vector<std::string> Names() const;

  void Crash(const std::string& name);
  /// The same name and file, a new process. boot_shift_ms: what its wall clock is off by at boot.
  void Restart(const std::string& name, int64_t boot_shift_ms = 0);
  void Leave(const std::string& name);
  /// The node writes count changes, one transaction each.
  std::vector<ChangeId> Write(const std::string& name, int count = 1);
  /// One large transaction of so many chunks.
  ChangeId WriteLarge(const std::string& name, uint64_t chunks);

  void Partition(const std::set<std::string>& a, const std::set<std::string>& b);
  void Cut(const std::string& from, const std::string& to) { cut_.insert({from, to}); }
  void CutDatagrams(const std::string& from, const std::string& to) {
    cut_datagrams_.insert({from, to});
  }
  void Heal() {
    cut_.clear();
    cut_datagrams_.clear();
  }
  /// Drops the frames for which it returns true.
  std::function<bool(const std::string& from, const std::string& to, const Frame& frame)>
      drop_frame;

  void Run(Duration time);
  /// Runs until the condition holds; how long that took, nothing if it did not within the limit.
  std::optional<Duration> RunUntil(const std::function<bool()>& condition, Duration limit);
  /// Calls a method of the node and performs its outputs.
  void Do(const std::string& name, const std::function<void(Node&, Instant, Outputs&)>& call);

  Instant now() const { return now_; }
  std::optional<MemberState> Sees(const std::string& viewer, const std::string& target);
  /// All running nodes see all of these in the state.
  bool AllSee(const std::set<std::string>& targets, MemberState state);
  bool AllAlive();
  /// All running nodes have received the same.
  bool Converged();
  uint64_t Deaths();

 private:
  struct Event {
    Instant at;
    uint64_t order;
    std::function<void()> run;
    bool operator<(const Event& other) const {  // std::priority_queue: the largest is first
      return at != other.at ? at > other.at : order > other.order;
    }
  };

  void At(Instant at, std::function<void()> run);
  void StartNode(Host& host, int64_t boot_shift_ms);
  void Begin(Host& host);
  void Perform(Host& host, Outputs& out);
  void PerformStorage(Host& host, const Outputs& out);
  void PerformPublish(Host& host, const Outputs& out);
  void PerformPersists(Host& host, const Outputs& out);
  void PerformLogReads(Host& host, const Outputs& out);
  void PerformTransfers(Host& host, const Outputs& out);
  void PerformLarge(Host& host, const Outputs& out);
  void SendLargeChunk(Host& host, uint64_t serving, const ChangeId& id, uint64_t number);
  void Send(Host& from, Outputs::DatagramOut datagram);
  void Send(Host& from, Outputs::FrameOut frame);
  void ScheduleTick(Host& host);
  Duration Latency(const Host& a, const Host& b) const;
  /// Later, if the process still lives then.
  void Later(Host& host, Duration delay, std::function<void(Node&, Instant, Outputs&)> call);

  Rng rng_;
  Instant now_{};
  uint64_t next_order_ = 0;
  uint64_t next_seed_;
  std::priority_queue<Event> events_;
  std::map<std::string, std::unique_ptr<Host>> hosts_;
  std::vector<std::string> by_age_;
  std::map<Endpoint, std::string> by_address_;
  std::set<std::pair<std::string, std::string>> cut_, cut_datagrams_;
};

}  // namespace patina::gossip

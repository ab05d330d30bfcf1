#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "gossip/node.h"
#include "storage/reader.h"
#include "storage/snapshot_chunks.h"
#include "storage/store.h"

namespace patina::sim {

class SimHost;

/// What a host needs of the world around it.
class HostWorld {
 public:
  virtual ~HostWorld() = default;
  virtual Instant Now() const = 0;
  /// A random time between, for work that takes a while.
  virtual Duration RandomTime(Duration low, Duration high) = 0;
  /// Runs it later; not if the host's process ended meanwhile.
  virtual void Later(SimHost& host, Duration delay, std::function<void()> run) = 0;
  virtual void SendDatagram(SimHost& from, gossip::Outputs::DatagramOut datagram) = 0;
  virtual void SendFrame(SimHost& from, gossip::Outputs::FrameOut frame) = 0;
  /// Something happened that must not: the run fails.
  virtual void Fail(const SimHost& host, const std::string& what) = 0;
};

/// The wall clock of one host: the world's time plus what it is wrong by.
class HostClock final : public Clock {
 public:
  explicit HostClock(const HostWorld& world) : world_(world) {}
  Instant Now() const override { return world_.Now(); }
  int64_t WallMs() const override {
    return kStartMs + ToMs(world_.Now().time_since_epoch()) + offset_ms;
  }
  int64_t offset_ms = 0;

 private:
  static constexpr int64_t kStartMs = 1'700'000'000'000;
  const HostWorld& world_;
};

/// One simulated host: the agent's Node and the real Store on a file, and the performer between
/// them, which the agent has as its net and writer threads.
class SimHost {
 public:
  struct Settings {
    int number = 0;
    std::string name;
    std::string region;
    Endpoint address;
    std::string path;
    storage::StoreLimits limits;
    gossip::Config config;
    Duration collect_after = std::chrono::hours(1);
    std::vector<Endpoint> seeds;
  };

  SimHost(HostWorld& world, Settings settings, const storage::Schema& schema);

  const Settings& settings() const { return settings_; }
  void SetSeeds(std::vector<Endpoint> seeds) { settings_.seeds = std::move(seeds); }
  HostClock& clock() { return clock_; }
  bool up() const { return node_ != nullptr; }
  /// Raised with each process.
  uint64_t life() const { return life_; }
  gossip::Node& node() { return *node_; }
  storage::Store& store() { return *store_; }

  /// A new process on the file as it is.
  void Start(uint64_t seed);
  /// Ends the process as a crash does: nothing is closed.
  void Crash();

  uint64_t snapshots_taken() const { return snapshots_taken_; }
  uint64_t too_old() const { return too_old_; }

  void OnDatagram(const Endpoint& from, const gossip::Datagram& datagram);
  void OnFrame(const std::string& from, const gossip::Frame& frame);
  void OnStreamLost(const std::string& member);
  /// Runs one transaction; the change if it committed one.
  std::optional<gossip::Change> Write(const storage::Transaction& transaction);

 private:
  using Outputs = gossip::Outputs;

  template <class Call>
  void Step(Call call);
  void Perform(Outputs& out);
  void ScheduleTick();
  void ScheduleUpkeep();
  void Upkeep();
  void ScheduleMerge();
  void MergeQueued();
  void ReadLog(const Outputs::LogRead& read);
  void OpenTransfer(const Outputs::OpenTransfer& open);
  void ReadChunk(uint64_t serving, uint64_t number);
  void Stage(const Outputs::StageChunk& chunk);
  void StageOfLarge(const Outputs::StageChunk& chunk);
  void StageLarge(const Outputs::StageLarge& large);
  void LargeFailed(uint64_t transfer, const Error& error, Instant now, Outputs& out);
  void Abandon();
  void TellParked();
  void Publish(const gossip::Frontier& frontier);
  void OpenSnapshot(const Outputs::OpenTransfer& open);
  void ReadSnapshot(uint64_t serving, uint64_t number);
  void StageSnapshot(const Outputs::StageChunk& chunk);

  HostWorld& world_;
  Settings settings_;
  const storage::Schema& schema_;
  HostClock clock_;
  uint64_t life_ = 0;
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<storage::Reader> reader_;
  std::unique_ptr<gossip::Node> node_;
  std::vector<gossip::Change> queued_;
  std::map<uint64_t, std::unique_ptr<storage::Reader>> serving_;
  std::map<uint64_t, ChangeId> serving_large_;
  std::map<uint64_t, std::shared_ptr<const storage::SnapshotCopy>> copies_;
  std::unique_ptr<storage::SnapshotStage> stage_;
  uint64_t seed_ = 0, snapshots_taken_ = 0, too_old_ = 0;
  /// As the agent keeps it in the file.
  std::vector<std::pair<std::string, int64_t>> known_members_;
  Instant tick_at_ = Instant::max();
};

}  // namespace patina::sim

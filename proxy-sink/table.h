#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "proxy-sink/published.h"
#include "proxy-sink/rows.h"

// The routing table: rows go in, an immutable block per app comes out. No I/O, no clock.

namespace patina::proxy_sink {

/// What the membership says of the host's agent. kUnknown: no member of that name was ever told of.
enum class MemberState : uint8_t { kUnknown, kAlive, kSuspect, kDead, kLeft };

struct Service {
  int64_t port = 0;
  std::string protocol;
  std::string address;  // host:port; may be empty
  int64_t soft_limit = 0;
  int64_t hard_limit = 0;
  CheckStatus check = CheckStatus::kUnknown;  // the worst of its checks
  int64_t inflight = 0;
  int64_t load_measured_ms = -1;  // -1: never reported

  bool operator==(const Service&) const = default;
};

struct Machine {
  std::string id;
  std::string region;
  std::string host;
  std::string state;
  std::string desired_state;
  std::string host_state;  // empty: the host has no row
  MemberState member = MemberState::kUnknown;
  double cpu_load = 0;
  std::vector<Service> services;  // by port

  bool operator==(const Machine&) const = default;
};

/// Everything a pick for one app needs, except distances. Immutable once published.
struct AppBlock {
  std::string name;
  bool declared = false;  // has a row in apps
  std::string status;
  std::vector<Machine> machines;  // by id

  bool operator==(const AppBlock&) const = default;
};

/// Where regions are and how far apart. Immutable once published.
struct Geography {
  struct Place {
    double latitude = 0;
    double longitude = 0;
    bool operator==(const Place&) const = default;
  };
  struct Measured {
    int64_t rtt_us = 0;
    int64_t measured_ms = 0;
    bool operator==(const Measured&) const = default;
  };
  std::map<std::string, Place, std::less<>> regions;
  std::map<std::pair<std::string, std::string>, Measured> round_trips;  // source, target

  bool operator==(const Geography&) const = default;
};

/// What one Publish made visible.
struct PublishedChanges {
  std::vector<std::string> apps;  // rebuilt or gone
  bool all_apps = false;          // distances changed: any app may be answered differently

  bool empty() const { return apps.empty() && !all_apps; }
};

/// One thread writes (the feed's, or a test); Find, geography and the counters are for any thread
/// and never wait for the writer.
///
/// 1. What readers see changes in Publish only, and only in apps touched since the last one.
/// 2. A malformed row counts in rows_ignored and changes nothing else: the last good version of
///    that row stays until the row is deleted or replaced by a good one. Other rows are not
///    affected.
/// 3. The published blocks depend on the rows present alone, not on the order in which they came.
class Table {
 public:
  Table();
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;

  /// A new or changed row. False: malformed, ignored.
  bool Upsert(TableId table, const Cells& cells);
  /// cells: of the old row; its key is what counts.
  void Erase(TableId table, const Cells& cells);

  /// Rows of a snapshot are kept aside, while the old ones stay in use; EndSnapshot swaps them in
  /// whole: rows that were not in the snapshot are gone. BeginSnapshot forgets an unfinished one.
  void BeginSnapshot(TableId table);
  void SnapshotRow(TableId table, const Cells& cells);
  void EndSnapshot(TableId table);
  void AbandonSnapshot(TableId table);

  /// Members told of one by one; a snapshot of them works as for tables.
  void SetMember(const std::string& name, MemberState state);
  void BeginMembers();
  void EndMembers();

  /// Rebuilds the apps touched and makes them visible.
  PublishedChanges Publish();

  /// Null: no such app, neither declared nor with machines.
  std::shared_ptr<const AppBlock> Find(std::string_view app) const;
  std::shared_ptr<const Geography> geography() const { return geography_.Get(); }

  uint64_t apps() const { return app_count_.load(std::memory_order_relaxed); }
  uint64_t endpoints() const { return endpoint_count_.load(std::memory_order_relaxed); }
  uint64_t updates() const { return updates_.load(std::memory_order_relaxed); }
  uint64_t rows_ignored() const { return rows_ignored_.load(std::memory_order_relaxed); }

 private:
  struct ServiceEntry {
    std::optional<ServiceRow> row;
    std::optional<ServiceLoadRow> load;
    std::map<std::string, CheckStatus> checks;

    bool empty() const { return !row && !load && checks.empty(); }
  };
  struct MachineEntry {
    std::optional<MachineRow> row;
    std::optional<MachineLoadRow> load;
    std::map<int64_t, ServiceEntry> services;

    bool empty() const { return !row && !load && services.empty(); }
  };
  struct HostEntry {
    std::optional<HostRow> row;
    MemberState member = MemberState::kUnknown;
    std::set<std::string> machines;

    bool empty() const { return !row && member == MemberState::kUnknown && machines.empty(); }
  };
  struct AppEntry {
    std::optional<AppRow> row;
    std::set<std::string> machines;
    size_t endpoints = 0;  // in the block published
  };
  struct Staging {
    bool active = false;
    std::vector<std::pair<std::string, ParsedRow>> rows;  // by key, in order of arrival
    std::unordered_set<std::string> keys;                 // malformed rows' too
  };
  using Directory = std::unordered_map<std::string, std::shared_ptr<const AppBlock>>;
  static constexpr size_t kShards = 256;  // publishing one app copies one shard of pointers

  void Apply(const ParsedRow& row);
  void Remove(TableId table, const std::string& key);
  void SetMachine(const std::string& id, std::optional<MachineRow> row);
  void TouchMachine(const std::string& id);
  void TouchHost(const std::string& id);
  void PruneMachine(const std::string& id, int64_t port);
  std::shared_ptr<const AppBlock> BuildBlock(const std::string& name, const AppEntry& entry) const;
  Machine BuildMachine(const MachineEntry& entry) const;
  static size_t ShardOf(std::string_view app);

  // Writer's.
  std::unordered_map<std::string, MachineEntry> machines_;
  std::unordered_map<std::string, HostEntry> hosts_;
  std::unordered_map<std::string, AppEntry> apps_;
  Geography geography_next_;
  std::array<std::unordered_set<std::string>, kTableCount> keys_;
  std::array<Staging, kTableCount> staging_;
  std::optional<std::map<std::string, MemberState>> members_staged_;
  std::set<std::string> members_;
  std::set<std::string> dirty_apps_;
  bool geography_dirty_ = false;

  // Readers'.
  std::array<Published<Directory>, kShards> directory_;
  Published<Geography> geography_;
  std::atomic<uint64_t> app_count_{0}, endpoint_count_{0}, updates_{0}, rows_ignored_{0};
};

}  // namespace patina::proxy_sink

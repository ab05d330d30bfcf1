#include "proxy-sink/table.h"

#include <algorithm>
#include <utility>

namespace patina::proxy_sink {
namespace {

/// The parts of a key made by RowKey.
std::vector<std::string> SplitKey(const std::string& key) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end = key.find('\0'); end != std::string::npos; end = key.find('\0', begin)) {
    parts.push_back(key.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

template <class... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};
template <class... Functions>
Overloaded(Functions...) -> Overloaded<Functions...>;

}  // namespace

Table::Table() {
  for (auto& shard : directory_) shard.Set(std::make_shared<const Directory>());
  geography_.Set(std::make_shared<const Geography>());
}

bool Table::Upsert(TableId table, const Cells& cells) {
  std::optional<ParsedRow> row = ParseRow(table, cells);
  const std::optional<std::string> key = RowKey(table, cells);
  if (!row || !key) {
    rows_ignored_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  keys_[static_cast<size_t>(table)].insert(*key);
  Apply(*row);
  updates_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

void Table::Erase(TableId table, const Cells& cells) {
  const std::optional<std::string> key = RowKey(table, cells);
  if (!key || keys_[static_cast<size_t>(table)].erase(*key) == 0) return;
  Remove(table, *key);
  updates_.fetch_add(1, std::memory_order_relaxed);
}

void Table::BeginSnapshot(TableId table) {
  staging_[static_cast<size_t>(table)] = Staging{.active = true, .rows = {}, .keys = {}};
}

void Table::SnapshotRow(TableId table, const Cells& cells) {
  Staging& staging = staging_[static_cast<size_t>(table)];
  std::optional<std::string> key = RowKey(table, cells);
  std::optional<ParsedRow> row = ParseRow(table, cells);
  if (row && key) {
    staging.rows.emplace_back(*key, std::move(*row));
  } else {
    rows_ignored_.fetch_add(1, std::memory_order_relaxed);
  }
  if (key) staging.keys.insert(std::move(*key));
}

void Table::EndSnapshot(TableId table) {
  Staging staging = std::exchange(staging_[static_cast<size_t>(table)], Staging());
  if (!staging.active) return;
  auto& keys = keys_[static_cast<size_t>(table)];
  std::vector<std::string> gone;
  for (const std::string& key : keys) {
    if (!staging.keys.contains(key)) gone.push_back(key);
  }
  for (const std::string& key : gone) {
    keys.erase(key);
    Remove(table, key);
  }
  for (const auto& [key, row] : staging.rows) {
    keys.insert(key);
    Apply(row);
  }
  updates_.fetch_add(gone.size() + staging.rows.size(), std::memory_order_relaxed);
}

void Table::AbandonSnapshot(TableId table) { staging_[static_cast<size_t>(table)] = Staging(); }

void Table::SetMember(const std::string& name, MemberState state) {
  if (members_staged_) {
    (*members_staged_)[name] = state;
    return;
  }
  members_.insert(name);
  HostEntry& host = hosts_[name];
  if (std::exchange(host.member, state) != state) TouchHost(name);
  if (host.empty()) hosts_.erase(name);
}

void Table::BeginMembers() { members_staged_.emplace(); }

void Table::EndMembers() {
  if (!members_staged_) return;
  const auto staged = *std::exchange(members_staged_, std::nullopt);
  const std::set<std::string> before = std::exchange(members_, {});
  for (const std::string& name : before) {
    if (!staged.contains(name)) SetMember(name, MemberState::kUnknown);
  }
  members_.clear();
  for (const auto& [name, state] : staged) SetMember(name, state);
}

void Table::Apply(const ParsedRow& parsed) {
  std::visit(
      Overloaded{
          [&](const RegionRow& row) {
            geography_next_.regions[row.code] = {row.latitude, row.longitude};
            geography_dirty_ = true;
          },
          [&](const HostRow& row) {
            hosts_[row.id].row = row;
            TouchHost(row.id);
          },
          [&](const AppRow& row) {
            apps_[row.name].row = row;
            dirty_apps_.insert(row.name);
          },
          [&](const MachineRow& row) { SetMachine(row.id, row); },
          [&](const ServiceRow& row) {
            machines_[row.machine].services[row.port].row = row;
            TouchMachine(row.machine);
          },
          [&](const CheckRow& row) {
            machines_[row.machine].services[row.port].checks[row.name] = row.status;
            TouchMachine(row.machine);
          },
          [&](const ServiceLoadRow& row) {
            machines_[row.machine].services[row.port].load = row;
            TouchMachine(row.machine);
          },
          [&](const MachineLoadRow& row) {
            machines_[row.machine].load = row;
            TouchMachine(row.machine);
          },
          [&](const RegionRttRow& row) {
            geography_next_.round_trips[{row.source, row.target}] = {row.rtt_us, row.measured_ms};
            geography_dirty_ = true;
          },
      },
      parsed);
}

void Table::Remove(TableId table, const std::string& packed) {
  const std::vector<std::string> key = SplitKey(packed);
  const std::string& id = key[0];
  // Ports of good rows are 1 to 65535; a malformed row's key may hold anything and then matches
  // nothing.
  const int64_t port = key.size() > 1 ? std::strtoll(key[1].c_str(), nullptr, 10) : 0;
  const auto service = [&]() -> ServiceEntry& { return machines_[id].services[port]; };
  switch (table) {
    case TableId::kRegions:
      geography_next_.regions.erase(id);
      geography_dirty_ = true;
      return;
    case TableId::kRegionRtt:
      geography_next_.round_trips.erase({id, key[1]});
      geography_dirty_ = true;
      return;
    case TableId::kHosts:
      hosts_[id].row.reset();
      TouchHost(id);
      if (hosts_[id].empty()) hosts_.erase(id);
      return;
    case TableId::kApps:
      apps_[id].row.reset();
      dirty_apps_.insert(id);
      return;
    case TableId::kMachines:
      SetMachine(id, std::nullopt);
      break;
    case TableId::kServices:
      service().row.reset();
      break;
    case TableId::kChecks:
      service().checks.erase(key[2]);
      break;
    case TableId::kServiceLoad:
      service().load.reset();
      break;
    case TableId::kMachineLoad:
      machines_[id].load.reset();
      break;
  }
  TouchMachine(id);
  PruneMachine(id, port);
}

void Table::SetMachine(const std::string& id, std::optional<MachineRow> row) {
  MachineEntry& entry = machines_[id];
  if (entry.row) {
    TouchMachine(id);
    apps_[entry.row->app].machines.erase(id);
    HostEntry& host = hosts_[entry.row->host];
    host.machines.erase(id);
    if (host.empty()) hosts_.erase(entry.row->host);
  }
  entry.row = std::move(row);
  if (!entry.row) return;
  apps_[entry.row->app].machines.insert(id);
  hosts_[entry.row->host].machines.insert(id);
  TouchMachine(id);
}

void Table::TouchMachine(const std::string& id) {
  const auto found = machines_.find(id);
  if (found != machines_.end() && found->second.row) dirty_apps_.insert(found->second.row->app);
}

void Table::TouchHost(const std::string& id) {
  const auto found = hosts_.find(id);
  if (found == hosts_.end()) return;
  for (const std::string& machine : found->second.machines) TouchMachine(machine);
}

void Table::PruneMachine(const std::string& id, int64_t port) {
  const auto found = machines_.find(id);
  if (found == machines_.end()) return;
  auto& services = found->second.services;
  const auto service = services.find(port);
  if (service != services.end() && service->second.empty()) services.erase(service);
  if (found->second.empty()) machines_.erase(found);
}

PublishedChanges Table::Publish() {
  PublishedChanges changes;
  if (std::exchange(geography_dirty_, false)) {
    geography_.Set(std::make_shared<const Geography>(geography_next_));
    changes.all_apps = true;
  }
  std::map<size_t, std::shared_ptr<Directory>> shards;  // those written to
  for (const std::string& name : std::exchange(dirty_apps_, {})) {
    auto& shard = shards[ShardOf(name)];
    if (!shard) shard = std::make_shared<Directory>(*directory_[ShardOf(name)].Get());
    const auto entry = apps_.find(name);
    if (entry == apps_.end()) continue;
    size_t endpoints = endpoint_count_ - entry->second.endpoints;
    if (!entry->second.row && entry->second.machines.empty()) {
      shard->erase(name);
      apps_.erase(entry);
    } else {
      auto block = BuildBlock(name, entry->second);
      entry->second.endpoints = 0;
      for (const Machine& machine : block->machines) {
        entry->second.endpoints += machine.services.size();
      }
      endpoints += entry->second.endpoints;
      (*shard)[name] = std::move(block);
    }
    endpoint_count_ = endpoints;
    changes.apps.push_back(name);
  }
  for (auto& [index, shard] : shards) directory_[index].Set(std::move(shard));
  app_count_ = apps_.size();
  return changes;
}

std::shared_ptr<const AppBlock> Table::BuildBlock(const std::string& name,
                                                  const AppEntry& entry) const {
  auto block = std::make_shared<AppBlock>();
  block->name = name;
  block->declared = entry.row.has_value();
  if (entry.row) block->status = entry.row->status;
  block->machines.reserve(entry.machines.size());
  for (const std::string& id : entry.machines) {
    block->machines.push_back(BuildMachine(machines_.at(id)));
  }
  return block;
}

Machine Table::BuildMachine(const MachineEntry& entry) const {
  Machine machine;
  machine.id = entry.row->id;
  machine.region = entry.row->region;
  machine.host = entry.row->host;
  machine.state = entry.row->state;
  machine.desired_state = entry.row->desired_state;
  const auto host = hosts_.find(machine.host);
  if (host != hosts_.end()) {
    machine.member = host->second.member;
    if (host->second.row) machine.host_state = host->second.row->state;
  }
  if (entry.load) machine.cpu_load = entry.load->cpu_load;
  for (const auto& [port, source] : entry.services) {
    if (!source.row) continue;
    Service& service = machine.services.emplace_back();
    service.port = port;
    service.protocol = source.row->protocol;
    service.address = source.row->address;
    service.soft_limit = source.row->soft_limit;
    service.hard_limit = source.row->hard_limit;
    if (!source.checks.empty()) service.check = CheckStatus::kPassing;
    for (const auto& [check, status] : source.checks) {
      service.check = std::max(service.check, status);
    }
    if (source.load) {
      service.inflight = source.load->inflight;
      service.load_measured_ms = source.load->measured_ms;
    }
  }
  return machine;
}

size_t Table::ShardOf(std::string_view app) { return std::hash<std::string_view>()(app) % kShards; }

std::shared_ptr<const AppBlock> Table::Find(std::string_view app) const {
  const auto directory = directory_[ShardOf(app)].Get();
  const auto found = directory->find(std::string(app));
  return found == directory->end() ? nullptr : found->second;
}

}  // namespace patina::proxy_sink

#include "tests/storage/model_world.h"

#include <algorithm>

namespace patina::storage::model {
namespace {

constexpr size_t kNodes = 4;

template <class T>
const T& PickOf(Rng& rng, const std::vector<T>& choices) {
  return choices[rng.Below(choices.size())];
}

}  // namespace

World::World(bool lossy, const RunOptions& run_options)
    : options(run_options), lossy_(lossy), group_(kNodes, 0) {
  for (size_t i = 0; i < kNodes; ++i) {
    nodes_.push_back(std::make_unique<Node>(this, i));
    for (size_t other = 0; other < kNodes; ++other) {
      if (other != i) nodes_[i]->last_heard_ms[other] = now_ms;
    }
  }
  for (const auto& node : nodes_) node->Start();
}

World::~World() = default;

// ---- Events -------------------------------------------------------------------------------------

bool World::Linked(const Node& one, const Node& other) const {
  return one.up && other.up && group_[one.name] == group_[other.name];
}

std::vector<std::pair<Node*, Node*>> World::Pairs() const {
  std::vector<std::pair<Node*, Node*>> pairs;
  for (const auto& one : nodes_) {
    for (const auto& other : nodes_) {
      if (one != other && Linked(*one, *other)) pairs.emplace_back(one.get(), other.get());
    }
  }
  return pairs;
}

void World::AdvanceMs(int64_t ms) {
  now_ms += ms;
  for (const auto& node : nodes_) node->SetClocks();
}

void World::Send(Node& sender, Node& receiver, const SharedBytes& change) {
  wires_.push_back({&sender, &receiver, change, nullptr, now_ms + kMessageLifeMs});
}

void World::Send(Node& sender, Node& receiver, Transfer transfer) {
  wires_.push_back({&sender, &receiver, nullptr,
                    std::make_shared<const Transfer>(std::move(transfer)),
                    now_ms + kMessageLifeMs});
}

bool World::Arrives(const Wire& wire) const {
  return now_ms < wire.end_of_life_ms && Linked(*wire.sender, *wire.receiver);
}

/// With others for the same node, now and then.
void World::Deliver(const Wire& wire) {
  if (!Arrives(wire)) return;
  if (wire.change == nullptr) return wire.receiver->TakeTransfer(*wire.transfer);
  std::vector<SharedBytes> changes = {wire.change};
  const size_t together = ReceivedTogether();
  for (const Wire& other : wires_) {
    if (changes.size() >= together) break;
    if (other.receiver == wire.receiver && other.change != nullptr && Arrives(other))
      changes.push_back(other.change);  // and once more, later
  }
  wire.receiver->Receive(changes);
}

size_t World::ReceivedTogether() {
  return options.sql == Sql::kPlain ? 1 : static_cast<size_t>(rng.Between(1, 6));
}

/// Some time of normal work: pull, publish, gossip, collect; each with a chance.
void World::Round(double thorough) {
  for (const auto& [node, peer] : Pairs()) {
    if (failed()) return;
    if (rng.Chance(thorough) && Linked(*node, *peer)) node->Pull(*peer, SIZE_MAX);
  }
  std::vector<Wire> arriving = std::exchange(wires_, {});
  for (const Wire& wire : arriving) {
    if (failed()) return;
    rng.Chance(thorough) ? Deliver(wire) : wires_.push_back(wire);
  }
  for (const auto& node : nodes_) {
    if (!node->up || failed() || !rng.Chance(thorough)) continue;
    node->SettleParked();
    node->Publish();
  }
  for (const auto& [node, peer] : Pairs()) {
    if (!failed() && rng.Chance(thorough)) node->Gossip(*peer);
  }
  for (const auto& node : nodes_) {
    if (node->up && !failed() && rng.Chance(thorough))
      node->Collect(thorough >= 1 || rng.Chance(0.5));
  }
}

void World::Step(Event event, uint64_t seed) {
  rng = Rng(seed);
  for (const auto& node : nodes_) node->touched = false;
  AdvanceMs(rng.Between(1, 120));
  for (const auto& [node, peer] : Pairs()) node->last_heard_ms[peer->name] = now_ms;
  const size_t index = rng.Below(kNodes), other = (index + 1 + rng.Below(kNodes - 1)) % kNodes;
  Node &node = *nodes_[index], &peer = *nodes_[other];
  if (Happen(event, node, peer)) ++count[ToString({{event, 0}})];
  for (const auto& each : nodes_) {
    if (each->touched && !failed()) Check(*each);
  }
  if ((event == Event::kCheckpoint || event == Event::kTrim) && node.up && !failed())
    CheckStamps(node);
}

bool World::Happen(Event event, Node& node, Node& peer) {
  Say("  ", ToString({{event, 0}}), " node ", node.name, node.up ? "" : " (down)", ", peer ",
      peer.name);
  switch (event) {
    case Event::kWrite:
      if (node.up) WriteSomething(node);
      return node.up;
    case Event::kDeliver: {
      if (wires_.empty()) return false;
      const auto at = wires_.begin() + static_cast<std::ptrdiff_t>(rng.Below(wires_.size()));
      const Wire wire = *at;
      wires_.erase(at);
      Deliver(wire);
      return true;
    }
    case Event::kPull:
      if (!Linked(node, peer)) return false;
      node.Pull(peer, PickOf(rng, std::vector<size_t>{1, 2, SIZE_MAX}));
      return true;
    case Event::kSnapshot:
      if (!Linked(node, peer)) return false;
      node.TakeSnapshot(peer);
      return true;
    case Event::kRound:
      for (uint64_t rounds = 1 + rng.Below(4); rounds > 0 && !failed(); --rounds) {
        AdvanceMs(rng.Between(1, kHourMs / 4));
        Round(PickOf(rng, std::vector<double>{0.3, 0.9, 1}));
      }
      return true;
    case Event::kSleep:
      AdvanceMs(PickOf(rng, std::vector<int64_t>{kHourMs / 4, kHourMs, kForgetAfterMs}));
      return true;
    case Event::kMeasure: {
      std::vector<Node*> peers;
      for (const auto& [one, linked] : Pairs()) {
        if (one == &node) peers.push_back(linked);
      }
      if (peers.empty()) return false;
      node.MeasureOffsets(peers);
      return true;
    }
    case Event::kPartition:
      Partition(node);
      return true;
    case Event::kForget:
      for (const auto& each : nodes_) {
        if (each->up) each->ForgetDead();
      }
      return true;
    case Event::kSchema: {
      const int newest = static_cast<int>(Schemas(options.sql).size()) - 1;
      if (node.level >= newest) return false;
      node.UseSchema(std::min(newest, node.level + PickOf(rng, std::vector<int>{1, 1, 1, 2, 3})));
      return true;
    }
    default:
      return HappenToProcess(event, node);
  }
}

bool World::HappenToProcess(Event event, Node& node) {
  switch (event) {
    case Event::kCheckpoint:
    case Event::kTrim:  // the log is trimmed at checkpoints, as the process's limit says
      if (node.up) node.Checkpoint();
      return node.up;
    case Event::kStart:
      if (node.up) return false;
      node.Start();
      return true;
    case Event::kCrash:
      if (!node.up) return false;
      node.Stop();
      return true;
    case Event::kPowerCut:
      if (!node.up) return false;
      RollBack(node, node.ImageBeforeCommits(1 + rng.Below(6)));
      return true;
    case Event::kBackup:
      node.backup = node.Image();
      return true;
    case Event::kRestore:
      RollBack(node, node.backup);
      return true;
    case Event::kClockJump:
      node.wall_error_ms = PickOf(
          rng, std::vector<int64_t>{0, 50, 800, -800, 2 * kHourMs, -2 * kHourMs, -4 * kHourMs});
      node.SetClocks();
      if (node.up && rng.Chance(0.5)) {  // it was a reboot
        node.Stop();
        node.Start();
      }
      return true;
    default:
      return false;
  }
}

void World::Partition(const Node& node) {
  switch (rng.Below(3)) {
    case 0:
      group_.assign(kNodes, 0);
      break;
    case 1:
      for (size_t i = 0; i < kNodes; ++i) group_[i] = i == node.name ? 1 : 0;
      break;
    default:
      for (int& group : group_) group = static_cast<int>(rng.Below(2));
  }
}

void World::WriteSomething(Node& node) {
  written_.clear();
  const auto group = RandomGroup(options.sql, node.store->schema(), options.large, rng);
  if (group.empty()) return;
  for (const Transaction& transaction : group) {
    for (const Statement& statement : transaction.statements)
      Say(transaction.large ? "    large: " : "    ", statement.sql);
    Say("    ;");
  }
  node.Write(group);
  for (const SharedBytes& change : written_) {
    for (const auto& receiver : nodes_) {
      if (receiver.get() == &node) continue;
      const uint64_t copies = lossy_ ? PickOf(rng, std::vector<uint64_t>{0, 0, 1, 1, 2}) : 1;
      for (uint64_t i = 0; i < copies; ++i) Send(node, *receiver, change);
    }
  }
}

/// The file is an older one. What no other file has received is lost.
void World::RollBack(Node& node, const FileImage& image) {
  lost_commits_ = excuse_ = true;
  node.PutImage(image);
  node.Start();  // to see what it has; a process that writes nothing leaves no trace
  if (failed()) return;
  crdt::VersionSet left;
  for (const auto& each : nodes_) {
    left.Union(each->store != nullptr ? each->store->received() : each->received_when_down);
  }
  node.Stop();
  for (const auto& [id, record] : record_) {
    if (!left.Contains(id)) lost_.insert(id);
  }
}

}  // namespace patina::storage::model

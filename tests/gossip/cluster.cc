#include "tests/gossip/cluster.h"

#include <cstdio>

#include "base/check.h"
#include "crdt/manifest.h"

namespace patina::gossip {
namespace {
constexpr Duration kPersistTime = std::chrono::microseconds(500);
constexpr Duration kReadTime = std::chrono::milliseconds(1);
constexpr Duration kStreamBreaks = std::chrono::milliseconds(500);
constexpr uint64_t kChunks = 3;
}  // namespace

Cluster::Cluster(uint64_t seed) : rng_(seed), next_seed_(seed * 1'000'003) {}

void Cluster::At(Instant at, std::function<void()> run) {
  events_.push({at, next_order_++, std::move(run)});
}

Cluster::Host& Cluster::Add(const std::string& name, const std::string& region) {
  auto added = std::make_unique<Host>();
  Host& host = *added;
  const size_t number = hosts_.size() + 1;
  host.name = name;
  host.region = region;
  host.address = Endpoint::V4(10, 0, static_cast<uint8_t>(number >> 8),
                              static_cast<uint8_t>(number & 0xff), 7400);
  hosts_[name] = std::move(added);
  by_age_.push_back(name);
  by_address_[host.address] = name;
  StartNode(host, 0);
  return host;
}

void Cluster::AddMany(int count, int regions) {
  for (int i = 0; i < count; ++i) {
    char name[16];
    std::snprintf(name, sizeof name, "n%02d", i);
    Add(name, "r" + std::to_string(1 + i % regions));
  }
  CHECK(RunUntil([this] { return AllAlive(); }, seconds(30)).has_value());
  Run(seconds(10));
}

void Cluster::StartNode(Host& host, int64_t boot_shift_ms) {
  ++host.life;
  host.actor = rng_.NextActorId();
  host.actors.push_back(host.actor);
  host.next_version = 1;
  Self self;
  self.name = host.name;
  self.region = host.region;
  self.address = host.address;
  self.schema = 1;
  self.boot_wall_ms = wall_ms_at_start + ToMs(now_.time_since_epoch()) + boot_shift_ms;
  host.node = std::make_unique<Node>(config, self, host.received, next_seed_++);
  host.node->SetSeeds({hosts_.at(by_age_.front())->address});
  host.tick_at = Instant::max();
  Do(host.name, [](Node& node, Instant now, Outputs& out) { node.Start(now, out); });
}

std::vector<std::string> Cluster::Names() const { return by_age_; }

void Cluster::Crash(const std::string& name) { host(name).node.reset(); }

void Cluster::Restart(const std::string& name, int64_t boot_shift_ms) {
  StartNode(host(name), boot_shift_ms);
}

void Cluster::Leave(const std::string& name) {
  Do(name, [](Node& node, Instant now, Outputs& out) { node.Leave(now, out); });
}

std::vector<ChangeId> Cluster::Write(const std::string& name, int count) {
  Host& writer = host(name);
  std::vector<ChangeId> ids;
  for (int i = 0; i < count; ++i) {
    const ChangeId id{writer.actor, writer.next_version++};
    const auto bytes = std::make_shared<const std::string>(100, 'x');
    writer.log[id] = bytes;
    writer.received.Add(id);
    ids.push_back(id);
    Do(name, [&](Node& node, Instant now, Outputs& out) {
      node.OnLocalCommit({{id, bytes}}, now, out);
    });
  }
  return ids;
}

ChangeId Cluster::WriteLarge(const std::string& name, uint64_t chunks) {
  Host& writer = host(name);
  crdt::Manifest manifest;
  manifest.header.id = {writer.actor, writer.next_version++};
  manifest.rows = manifest.bytes = manifest.chunks = chunks;
  const ChangeId id = manifest.header.id;
  writer.log[id] = std::make_shared<const std::string>(crdt::EncodeManifest(manifest));
  writer.received.Add(id);
  Do(name, [&](Node& node, Instant now, Outputs& out) {
    node.OnLocalCommit({{id, nullptr}}, now, out);
  });
  return id;
}

void Cluster::Partition(const std::set<std::string>& a, const std::set<std::string>& b) {
  for (const std::string& x : a) {
    for (const std::string& y : b) {
      Cut(x, y);
      Cut(y, x);
    }
  }
}

void Cluster::Do(const std::string& name,
                 const std::function<void(Node&, Instant, Outputs&)>& call) {
  Host& target = host(name);
  if (target.node == nullptr) return;
  target.node->SetWallMs(wall_ms_at_start + ToMs(now_.time_since_epoch()) + target.clock_offset_ms);
  Outputs out;
  call(*target.node, now_, out);
  Perform(target, out);
  ScheduleTick(target);
}

void Cluster::Later(Host& target, Duration delay,
                    std::function<void(Node&, Instant, Outputs&)> call) {
  At(now_ + delay, [this, &target, life = target.life, call = std::move(call)] {
    if (target.life == life) Do(target.name, call);
  });
}

void Cluster::ScheduleTick(Host& target) {
  const Instant at = std::max(target.node->NextDeadline(), now_);
  if (at >= target.tick_at) return;
  target.tick_at = at;
  At(at, [this, &target, at, life = target.life] {
    if (target.life != life || target.tick_at != at) return;
    target.tick_at = Instant::max();
    Do(target.name, [](Node& node, Instant now, Outputs& out) { node.Tick(now, out); });
  });
}

void Cluster::Perform(Host& from, Outputs& out) {
  PerformStorage(from, out);
  for (auto& datagram : out.datagrams) Send(from, std::move(datagram));
  for (auto& frame : out.frames) Send(from, std::move(frame));
  for (auto& event : out.events) from.events.push_back(event);
}

void Cluster::PerformStorage(Host& from, const Outputs& out) {
  PerformPublish(from, out);
  PerformPersists(from, out);
  PerformLogReads(from, out);
  PerformTransfers(from, out);
  PerformLarge(from, out);
}

void Cluster::PerformPublish(Host& from, const Outputs& out) {
  if (out.publish == nullptr) return;
  Later(from, kPersistTime, [frontier = out.publish, &from](Node& node, Instant now, Outputs&) {
    Publication publication;
    publication.clock =
        crdt::HlcTime::FromMs(node.ClusterMinusSteadyMs() + ToMs(now.time_since_epoch()));
    crdt::VersionSet own;
    for (const ActorId& actor : from.actors) {
      for (const auto& range : from.received.Ranges(actor)) own.AddRange(actor, range);
    }
    publication.own = std::make_shared<const crdt::VersionSet>(std::move(own));
    publication.complete = frontier->Complete(from.received, publication.clock, std::nullopt);
    from.line = std::max(from.line, frontier->Get(publication.complete));
    node.OnPublished(std::move(publication), now);
  });
}

void Cluster::PerformPersists(Host& from, const Outputs& out) {
  std::vector<ChangeId> ids;
  for (const Change& change : out.persist) {
    ++from.persisted[change.id];
    ids.push_back(change.id);
    if (!from.persists) continue;
    from.log[change.id] = change.bytes;
  }
  std::vector<ChangeId> refused;
  std::erase_if(ids, [&](const ChangeId& id) {
    if (!from.too_old.contains(id)) return false;
    refused.push_back(id);
    return true;
  });
  if (!refused.empty()) {
    Later(from, kPersistTime, [refused](Node& node, Instant now, Outputs& outputs) {
      node.OnTooOld(refused, now, outputs);
    });
  }
  if (!ids.empty() && from.persists) {
    Later(from, kPersistTime, [ids, &from](Node& node, Instant now, Outputs& outputs) {
      for (const ChangeId& id : ids) from.received.Add(id);
      node.OnPersisted(ids, now, outputs);
    });
  }
}

void Cluster::PerformLogReads(Host& from, const Outputs& out) {
  for (const auto& read : out.log_reads) {
    Later(from, kReadTime, [read, &from](Node& node, Instant now, Outputs& outputs) {
      std::vector<Change> changes;
      std::vector<crdt::ActorRanges> not_at_hand;
      for (const crdt::ActorRanges& actor : read.wanted) {
        for (const crdt::VersionRange& range : actor.ranges) {
          for (uint64_t v = range.first; v <= range.last; ++v) {
            const auto found = from.log.find({actor.actor, v});
            if (found != from.log.end()) {
              changes.push_back({found->first, found->second});
            } else {
              not_at_hand.push_back({actor.actor, {{v, v}}});
            }
          }
        }
      }
      node.OnLogRead(read.read, std::move(changes), std::move(not_at_hand), true, now, outputs);
    });
  }
}

void Cluster::PerformTransfers(Host& from, const Outputs& out) {
  const auto send_chunk = [this, &from](uint64_t serving, uint64_t number) {
    if (const auto large = from.serving_large.find(serving); large != from.serving_large.end()) {
      return SendLargeChunk(from, serving, large->second, number);
    }
    Later(from, kReadTime, [serving, number, &from](Node& node, Instant now, Outputs& outputs) {
      std::string bytes;
      ByteWriter writer(&bytes);
      from.received.Encode(writer);
      node.OnTransferChunkRead(serving, number, std::make_shared<const std::string>(bytes),
                               number + 1 == kChunks, now, outputs);
    });
  };
  for (const auto& open : out.open_transfers) {
    if (open.large) {
      from.serving_large[open.serving] = *open.large;
      send_chunk(open.serving, open.first);
      continue;
    }
    if (!open.snapshot || from.rows >= open.rows_min) {
      send_chunk(open.serving, 0);
      continue;
    }
    Later(from, kReadTime, [open](Node& node, Instant now, Outputs& outputs) {
      node.OnTransferReadFailed(open.serving, "not worth it", now, outputs);
    });
  }
  for (const auto& read : out.read_chunks) send_chunk(read.serving, read.number);
  for (const auto& stage : out.stage) {
    if (stage.large) continue;
    Later(from, kPersistTime, [this, stage, &from](Node& node, Instant now, Outputs& outputs) {
      if (!stage.last) return node.OnTransferStaged(stage.transfer, stage.number, now, outputs);
      crdt::VersionSet theirs;
      ByteReader reader(*stage.bytes);
      CHECK(crdt::VersionSet::Decode(reader, {}, &theirs));
      if (!stage.snapshot && from.transfers_need_snapshot) {
        return node.OnTransferNeedsSnapshot(stage.transfer, now, outputs);
      }
      if (stage.snapshot) {
        ++from.snapshots_taken;
        crdt::VersionSet refused;
        for (const auto& [name, each] : hosts_) {
          for (const ChangeId& id : each->too_old) refused.Add(id);
        }
        theirs.Union(from.received.Without(refused));  // what only it had is kept
        from.received = theirs;
        return Begin(from);
      }
      from.received.Union(theirs);
      ++from.transfers_merged;
      node.OnTransferMerged(stage.transfer, from.received, now, outputs);
    });
  }
}

void Cluster::SendLargeChunk(Host& from, uint64_t serving, const ChangeId& id, uint64_t number) {
  const auto manifest = crdt::DecodeManifest(*from.log.at(id));
  CHECK(manifest.ok());
  ++from.large_chunks_served;
  Later(from, kReadTime,
        [=, last = number + 1 == manifest->chunks](Node& node, Instant now, Outputs& outputs) {
          node.OnTransferChunkRead(serving, number, std::make_shared<const std::string>("chunk"),
                                   last, now, outputs);
        });
}

void Cluster::PerformLarge(Host& from, const Outputs& out) {
  for (const auto& large : out.stage_large) {
    Later(from, kPersistTime, [large, &from](Node& node, Instant now, Outputs& outputs) {
      const auto manifest = crdt::DecodeManifest(*large.manifest);
      CHECK(manifest.ok());
      from.log[manifest->header.id] = large.manifest;
      node.OnLargeStaged(large.transfer, from.staged_large[manifest->header.id], now, outputs);
    });
  }
  for (const auto& stage : out.stage) {
    if (!stage.large) continue;
    Later(from, kPersistTime, [stage, &from](Node& node, Instant now, Outputs& outputs) {
      uint64_t& staged = from.staged_large[*stage.large];
      if (!stage.bytes->empty()) {
        CHECK(stage.number == staged);
        ++staged;
      }
      if (!stage.last) return node.OnTransferStaged(stage.transfer, stage.number, now, outputs);
      from.received.Add(*stage.large);
      node.OnTransferMerged(stage.transfer, from.received, now, outputs);
    });
  }
}

/// The file was taken: a new process goes on with it.
void Cluster::Begin(Host& host) {
  At(now_, [this, &host] {
    Crash(host.name);
    host.too_old.clear();
    Restart(host.name);
  });
}

Duration Cluster::Latency(const Host& a, const Host& b) const {
  return a.region == b.region ? latency_near : latency_far;
}

void Cluster::Send(Host& from, Outputs::DatagramOut datagram) {
  const auto found = by_address_.find(datagram.to);
  if (found == by_address_.end()) return;
  Host& to = host(found->second);
  if (cut_.contains({from.name, to.name}) || cut_datagrams_.contains({from.name, to.name})) return;
  if (rng_.Chance(loss)) return;
  At(now_ + Latency(from, to),
     [this, &to, address = from.address, sent = std::move(datagram.datagram)] {
       Do(to.name,
          [&](Node& node, Instant now, Outputs& out) { node.OnDatagram(address, sent, now, out); });
     });
}

void Cluster::Send(Host& from, Outputs::FrameOut frame) {
  const auto found = by_address_.find(frame.address);
  if (found == by_address_.end()) return;
  Host& to = host(found->second);
  if (drop_frame && drop_frame(from.name, to.name, *frame.frame)) return;
  const bool cut = cut_.contains({from.name, to.name}) || cut_.contains({to.name, from.name});
  if (cut || to.node == nullptr || to.name != frame.to) {
    Later(from, kStreamBreaks, [name = frame.to](Node& node, Instant now, Outputs& out) {
      node.OnStreamLost(name, now, out);
    });
    return;
  }
  At(now_ + Latency(from, to), [this, &to, name = from.name, sent = frame.frame] {
    if (to.node == nullptr) return;
    if (const auto* fresh = std::get_if<FreshChanges>(sent.get())) {
      to.copies += fresh->changes.size();
    }
    Do(to.name,
       [&](Node& node, Instant now, Outputs& out) { node.OnFrame(name, *sent, now, out); });
  });
}

void Cluster::Run(Duration time) {
  const Instant end = now_ + time;
  while (!events_.empty() && events_.top().at <= end) {
    const Event event = events_.top();
    events_.pop();
    now_ = event.at;
    event.run();
  }
  now_ = end;
}

std::optional<Duration> Cluster::RunUntil(const std::function<bool()>& condition, Duration limit) {
  const Instant start = now_;
  while (!condition()) {
    if (now_ - start >= limit) return std::nullopt;
    Run(milliseconds(20));
  }
  return now_ - start;
}

std::optional<MemberState> Cluster::Sees(const std::string& viewer, const std::string& target) {
  const auto member = node(viewer).Member(target);
  if (!member) return std::nullopt;
  return member->state;
}

bool Cluster::AllSee(const std::set<std::string>& targets, MemberState state) {
  for (const auto& [name, viewer] : hosts_) {
    if (viewer->node == nullptr) continue;
    for (const std::string& target : targets) {
      if (target != name && Sees(name, target) != state) return false;
    }
  }
  return true;
}

bool Cluster::AllAlive() {
  std::set<std::string> running;
  for (const auto& [name, each] : hosts_) {
    if (each->node != nullptr) running.insert(name);
  }
  return AllSee(running, MemberState::kAlive);
}

bool Cluster::Converged() {
  const crdt::VersionSet* first = nullptr;
  for (const auto& [name, each] : hosts_) {
    if (each->node == nullptr) continue;
    if (first == nullptr) first = &each->node->received();
    if (!(each->node->received() == *first)) return false;
  }
  return true;
}

uint64_t Cluster::Deaths() {
  uint64_t deaths = 0;
  for (const auto& [name, each] : hosts_) {
    if (each->node != nullptr) deaths += each->node->counters().deaths;
  }
  return deaths;
}

}  // namespace patina::gossip

#include "gossip/shared.h"

#include <algorithm>
#include <utility>

#include "crdt/manifest.h"
#include "gossip/ranges.h"

namespace patina::gossip {
namespace {

size_t TargetBytes(const DatagramBody& body) {
  if (const auto* ping = std::get_if<Ping>(&body)) return ping->target.size();
  if (const auto* request = std::get_if<PingRequest>(&body)) return request->target.size();
  return 0;
}

}  // namespace

Shared::Shared(const Config& config_in, const Self& self_in, crdt::VersionSet received_in,
               uint64_t seed)
    : config(config_in),
      rng(seed),
      clock(config_in.clock_offset_tolerated_ms),
      received(std::move(received_in)),
      catch_up(!config_in.seeded) {
  self.name = self_in.name;
  self.incarnation = static_cast<uint64_t>(std::max<int64_t>(1, self_in.boot_wall_ms));
  self.boot = rng.Next();
  self.address = self_in.address;
  self.region = self_in.region;
  self.api_address = self_in.api_address;
  self.schema = self_in.schema;
}

MemberView Shared::SelfView() const {
  MemberView view;
  view.info = self;
  view.state = self_state;
  view.self = true;
  view.since = started_at;
  view.versions_behind = 0;
  return view;
}

void Shared::ChangeLocalHealth(int by) {
  local_health = std::clamp(local_health + by, 0, config.local_health_max);
}

void Shared::SendDatagram(const Destination& to, DatagramBody body, Instant now, Outputs& out) {
  constexpr size_t kFixed = 120;  // digest, time, incarnation, sequence, lengths, an address
  Datagram datagram;
  datagram.cluster = config.cluster;
  datagram.from = self.name;
  datagram.from_incarnation = self.incarnation;
  datagram.received = received.digest();
  datagram.wall_ms = clock.WallMs(now);
  size_t used = kFixed + config.cluster.size() + self.name.size() + TargetBytes(body);
  const auto put = [&](const MemberUpdate& update) {
    used += EstimateBytes(update);
    datagram.updates.push_back(update);
  };
  const bool not_alive = to.member != nullptr && to.member->state != MemberState::kAlive;
  if (not_alive || to.correct) put(to.member->Update());
  if (not_alive || to.introduce) put(SelfUpdate());
  if (used < config.datagram_bytes_max) {
    const int limit = RetransmitLimit(config.retransmit_factor, members.size() + 1);
    rumors.Fill(config.datagram_bytes_max - used, limit, &datagram.updates);
  }
  datagram.body = std::move(body);
  ++counters.datagrams_out;
  out.datagrams.push_back({to.address, std::move(datagram)});
}

void Shared::SendFrame(const Member& to, Lane lane, std::shared_ptr<const Frame> frame,
                       Outputs& out) {
  ++counters.frames_out;
  out.frames.push_back({to.info.name, to.info.address, lane, std::move(frame)});
}

void Shared::SendFrame(const Member& to, Lane lane, Frame frame, Outputs& out) {
  SendFrame(to, lane, std::make_shared<const Frame>(std::move(frame)), out);
}

bool Shared::TakeIn(const Change& change, Outputs& out) {
  if (change.bytes == nullptr || change.id.version == 0 || change.id.version > kVersionMax) {
    return false;
  }
  if (crdt::IsManifest(*change.bytes)) return false;
  if (Has(change.id)) {
    ++counters.changes_duplicate;
    return false;
  }
  if (in_flight.bytes() + change.bytes->size() > config.in_flight_bytes_max) {
    ++counters.changes_dropped_in_flight_full;
    return false;
  }
  in_flight.Add(change.id, change.bytes->size());
  out.persist.push_back(change);
  return true;
}

}  // namespace patina::gossip

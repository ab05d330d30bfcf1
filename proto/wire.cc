#include "proto/wire.h"

#include <algorithm>
#include <cstring>

#include "patina/peer/v1/peer.pb.h"
#include "proto/convert.h"

namespace patina::proto::wire {

std::string EncodeAddress(const Endpoint& endpoint) {
  std::string bytes;
  if (endpoint.IsUnset()) return bytes;
  const size_t skip = endpoint.IsV4() ? 12 : 0;
  bytes.assign(reinterpret_cast<const char*>(endpoint.ip.data()) + skip, 16 - skip);
  bytes.push_back(static_cast<char>(endpoint.port >> 8));
  bytes.push_back(static_cast<char>(endpoint.port & 0xff));
  return bytes;
}

std::optional<Endpoint> DecodeAddress(std::string_view bytes) {
  if (bytes.empty()) return Endpoint();
  if (bytes.size() != 6 && bytes.size() != 18) return std::nullopt;
  const auto at = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  const auto port = static_cast<uint16_t>((at(bytes.size() - 2) << 8) | at(bytes.size() - 1));
  if (bytes.size() == 6) return Endpoint::V4(at(0), at(1), at(2), at(3), port);
  Endpoint endpoint;
  std::memcpy(endpoint.ip.data(), bytes.data(), 16);
  endpoint.port = port;
  return endpoint;
}

bool IsName(std::string_view name, const PeerLimits& limits) {
  return !name.empty() && IsText(name, limits.name_bytes_max);
}

bool IsText(std::string_view text, size_t bytes_max) {
  return text.size() <= bytes_max && IsUtf8(text);
}

void ToMessage(const gossip::MemberUpdate& update, peer::v1::MemberUpdate* message) {
  const gossip::MemberInfo& info = update.info;
  message->set_name(info.name);
  message->set_incarnation(info.incarnation);
  message->set_boot(info.boot);
  message->set_address(EncodeAddress(info.address));
  message->set_region(info.region);
  message->set_api_address(info.api_address);
  message->set_schema(info.schema);
  if (info.actor != ActorId()) {
    message->set_actor(info.actor.bytes.data(), info.actor.bytes.size());
  }
  message->set_state(static_cast<uint32_t>(update.state));
  message->set_accuser(update.accuser);
}

Result<gossip::MemberUpdate> FromMessage(const peer::v1::MemberUpdate& message,
                                         const PeerLimits& limits) {
  gossip::MemberUpdate update;
  gossip::MemberInfo& info = update.info;
  if (!IsName(message.name(), limits)) return InvalidArgument("a member's name is empty or long");
  if (!IsText(message.region(), limits.name_bytes_max) ||
      !IsText(message.api_address(), limits.name_bytes_max) ||
      !IsText(message.accuser(), limits.name_bytes_max)) {
    return InvalidArgument("a member's region, address or accuser is too long or not UTF-8");
  }
  const auto address = DecodeAddress(message.address());
  if (!address) return InvalidArgument("a member's address is malformed");
  if (message.state() > static_cast<uint32_t>(gossip::MemberState::kLeft)) {
    return InvalidArgument("a member's state is unknown");
  }
  if (!message.actor().empty()) {
    const auto actor = ActorId::FromBytes(message.actor());
    if (!actor) return InvalidArgument("a member's actor does not have 16 bytes");
    info.actor = *actor;
  }
  info.name = message.name();
  info.incarnation = message.incarnation();
  info.boot = message.boot();
  info.address = *address;
  info.region = message.region();
  info.api_address = message.api_address();
  info.schema = message.schema();
  update.state = static_cast<gossip::MemberState>(message.state());
  update.accuser = message.accuser();
  return update;
}

void EncodeRanges(const std::vector<crdt::ActorRanges>& actors, ByteWriter& out) {
  out.Varint(actors.size());
  for (const crdt::ActorRanges& actor : actors) {
    out.Raw(actor.actor.AsBytes());
    out.Varint(actor.ranges.size());
    uint64_t before = 0;
    for (const crdt::VersionRange& range : actor.ranges) {
      out.Varint(range.first - before);
      out.Varint(range.last - range.first);
      before = range.last;
    }
  }
}

namespace {

bool DecodeRangesOf(ByteReader& in, size_t ranges_left, crdt::ActorRanges* actor) {
  const auto id = ActorId::FromBytes(in.Raw(16));
  const uint64_t count = in.Varint();
  // Each range takes two bytes or more: a claimed count is believed only as far as there are bytes.
  if (!in.ok() || !id || count > ranges_left || count > in.remaining() / 2) return false;
  actor->actor = *id;
  actor->ranges.reserve(static_cast<size_t>(count));
  uint64_t before = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t gap = in.Varint(), length = in.Varint();
    if (!in.ok() || gap < (i == 0 ? 1u : 2u)) return false;
    if (gap > crdt::kMaxVersion || length > crdt::kMaxVersion) return false;
    const uint64_t first = before + gap, last = first + length;
    if (last > crdt::kMaxVersion) return false;
    actor->ranges.push_back({first, last});
    before = last;
  }
  return true;
}

}  // namespace

bool DecodeRanges(ByteReader& in, const PeerLimits& limits,
                  std::vector<crdt::ActorRanges>* actors) {
  const uint64_t count = in.Varint();
  if (!in.ok() || count > limits.range_actors_max || count > in.remaining() / 17) return false;
  actors->reserve(static_cast<size_t>(count));
  size_t ranges_left = limits.ranges_max;
  for (uint64_t i = 0; i < count; ++i) {
    crdt::ActorRanges actor;
    if (!DecodeRangesOf(in, ranges_left, &actor)) return false;
    ranges_left -= actor.ranges.size();
    actors->push_back(std::move(actor));
  }
  return true;
}

}  // namespace patina::proto::wire

#include <algorithm>

#include "patina/peer/v1/peer.pb.h"
#include "proto/peer_codec.h"
#include "proto/wire.h"

namespace patina::proto {
namespace {

constexpr char kMagic = 'P';

void BodyToMessage(const gossip::DatagramBody& body, peer::v1::Datagram* message) {
  if (const auto* ping = std::get_if<gossip::Ping>(&body)) {
    message->mutable_ping()->set_sequence(ping->sequence);
    message->mutable_ping()->set_target(ping->target);
  } else if (const auto* ack = std::get_if<gossip::Ack>(&body)) {
    message->mutable_ack()->set_sequence(ack->sequence);
  } else if (const auto* request = std::get_if<gossip::PingRequest>(&body)) {
    message->mutable_ping_request()->set_sequence(request->sequence);
    message->mutable_ping_request()->set_target(request->target);
    message->mutable_ping_request()->set_target_address(
        wire::EncodeAddress(request->target_address));
  } else if (const auto* nack = std::get_if<gossip::Nack>(&body)) {
    message->mutable_nack()->set_sequence(nack->sequence);
  }
}

Result<gossip::DatagramBody> BodyFromMessage(peer::v1::Datagram& message,
                                             const PeerLimits& limits) {
  switch (message.body_case()) {
    case peer::v1::Datagram::kPing:
      if (!wire::IsText(message.ping().target(), limits.name_bytes_max)) break;
      return gossip::DatagramBody(gossip::Ping{
          message.ping().sequence(), std::move(*message.mutable_ping()->mutable_target())});
    case peer::v1::Datagram::kAck:
      return gossip::DatagramBody(gossip::Ack{message.ack().sequence()});
    case peer::v1::Datagram::kPingRequest: {
      auto& request = *message.mutable_ping_request();
      const auto address = wire::DecodeAddress(request.target_address());
      if (!address || !wire::IsName(request.target(), limits)) break;
      return gossip::DatagramBody(
          gossip::PingRequest{request.sequence(), std::move(*request.mutable_target()), *address});
    }
    case peer::v1::Datagram::kNack:
      return gossip::DatagramBody(gossip::Nack{message.nack().sequence()});
    case peer::v1::Datagram::BODY_NOT_SET:
      return gossip::DatagramBody(gossip::Rumor{});
  }
  return InvalidArgument("a datagram's name or address is malformed");
}

}  // namespace

std::string EncodeDatagram(const gossip::Datagram& datagram) {
  peer::v1::Datagram message;
  message.set_cluster(datagram.cluster);
  message.set_from(datagram.from);
  message.set_from_incarnation(datagram.from_incarnation);
  message.set_received_low(datagram.received.low);
  message.set_received_high(datagram.received.high);
  message.set_wall_ms(datagram.wall_ms);
  for (const gossip::MemberUpdate& update : datagram.updates) {
    wire::ToMessage(update, message.add_updates());
  }
  BodyToMessage(datagram.body, &message);
  std::string bytes;
  bytes.push_back(kMagic);
  bytes.push_back(static_cast<char>(kProtocolVersion));
  message.AppendToString(&bytes);
  return bytes;
}

Result<gossip::Datagram> DecodeDatagram(std::string_view bytes, const PeerLimits& limits) {
  if (bytes.size() < 2 || bytes.size() > kDatagramBytesMax || bytes[0] != kMagic) {
    return InvalidArgument("not a datagram of this protocol");
  }
  const auto version = static_cast<uint8_t>(bytes[1]);
  if (version < kProtocolVersionMin || version > kProtocolVersion) {
    return Error{Errc::kUnimplemented, "a datagram of protocol version " + std::to_string(version)};
  }
  peer::v1::Datagram message;
  if (!message.ParseFromArray(bytes.data() + 2, static_cast<int>(bytes.size() - 2))) {
    return InvalidArgument("a datagram is malformed");
  }
  if (!wire::IsName(message.from(), limits) ||
      !wire::IsText(message.cluster(), limits.name_bytes_max)) {
    return InvalidArgument("a datagram's sender or cluster is empty or long");
  }
  gossip::Datagram datagram;
  datagram.updates.reserve(static_cast<size_t>(message.updates_size()));
  for (const auto& update : message.updates()) {
    ASSIGN_OR_RETURN(auto decoded, wire::FromMessage(update, limits));
    datagram.updates.push_back(std::move(decoded));
  }
  ASSIGN_OR_RETURN(datagram.body, BodyFromMessage(message, limits));
  datagram.cluster = std::move(*message.mutable_cluster());
  datagram.from = std::move(*message.mutable_from());
  datagram.from_incarnation = message.from_incarnation();
  datagram.received = {message.received_low(), message.received_high()};
  datagram.wall_ms = message.wall_ms();
  return datagram;
}

}  // namespace patina::proto

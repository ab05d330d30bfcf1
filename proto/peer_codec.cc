#include "proto/peer_codec.h"

#include <memory>

#include "patina/peer/v1/peer.pb.h"
#include "proto/wire.h"

namespace patina::proto {
namespace {

Error Malformed(std::string_view what) {
  return InvalidArgument(std::string(what) + " is malformed or over a limit");
}

template <class Message>
bool Parse(std::string_view body, Message* message) {
  return body.size() <= INT32_MAX &&
         message->ParseFromArray(body.data(), static_cast<int>(body.size()));
}

bool ParseRanges(std::string_view bytes, const PeerLimits& limits,
                 std::vector<crdt::ActorRanges>* ranges) {
  ByteReader in(bytes);
  return wire::DecodeRanges(in, limits, ranges) && in.AtEnd();
}

/// 16 bytes, or none for the zero digest.
bool ParseDigest(std::string_view bytes, Digest128* digest) {
  if (bytes.empty()) return true;
  ByteReader in(bytes);
  digest->low = in.U64();
  digest->high = in.U64();
  return in.ok() && in.remaining() == 0;
}

bool ParseSet(std::string_view bytes, const PeerLimits& limits, crdt::VersionSet* set) {
  ByteReader in(bytes);
  return crdt::VersionSet::Decode(in, limits.version_set, set) && in.AtEnd();
}

bool ReadChanges(ByteReader& in, const PeerLimits& limits, uint64_t* dropped,
                 std::vector<gossip::Change>* changes) {
  const uint64_t count = in.Varint();
  if (!in.ok() || count > limits.changes_max || count > in.remaining()) return false;
  for (uint64_t i = 0; i < count; ++i) {
    const std::string_view bytes = in.String();
    if (!in.ok() || bytes.size() > limits.changeset.bytes_max) return false;
    const auto header = crdt::PeekChangesetHeader(bytes);
    if (!header.ok()) {
      if (dropped != nullptr) ++*dropped;
      continue;
    }
    changes->push_back({header->id, std::make_shared<const std::string>(bytes)});
  }
  return in.ok() && in.AtEnd();
}

Result<PeerMessage> DecodeHello(std::string_view body, const PeerLimits& limits) {
  peer::v1::Hello message;
  if (!Parse(body, &message)) return Malformed("a hello");
  const auto address = wire::DecodeAddress(message.address());
  if (!address || !wire::IsName(message.name(), limits) ||
      !wire::IsText(message.cluster(), limits.name_bytes_max) || message.purpose() < 1 ||
      message.purpose() > 2 || static_cast<size_t>(message.features_size()) > limits.features_max) {
    return Malformed("a hello");
  }
  Hello hello;
  hello.protocol = message.protocol();
  hello.protocol_min = message.protocol_min();
  hello.cluster = message.cluster();
  hello.name = message.name();
  hello.incarnation = message.incarnation();
  hello.boot = message.boot();
  hello.address = *address;
  hello.features.assign(message.features().begin(), message.features().end());
  hello.purpose = static_cast<Purpose>(message.purpose());
  return PeerMessage(std::move(hello));
}

Result<PeerMessage> DecodeFresh(std::string_view body, const PeerLimits& limits,
                                uint64_t* dropped) {
  ByteReader in(body);
  gossip::FreshChanges frame;
  const uint64_t hops = in.Varint();
  frame.origin = in.String().substr(0, limits.name_bytes_max + 1);
  if (hops > 1'000 || !wire::IsName(frame.origin, limits) ||
      !ReadChanges(in, limits, dropped, &frame.changes)) {
    return Malformed("a frame of fresh changes");
  }
  frame.hops = static_cast<uint32_t>(hops);
  return PeerMessage(gossip::Frame(std::move(frame)));
}

Result<PeerMessage> DecodeSyncChanges(std::string_view body, const PeerLimits& limits,
                                      uint64_t* dropped) {
  ByteReader in(body);
  gossip::SyncChanges frame;
  frame.request = in.Varint();
  frame.done = in.U8() != 0;
  if (!wire::DecodeRanges(in, limits, &frame.not_at_hand) ||
      !ReadChanges(in, limits, dropped, &frame.changes)) {
    return Malformed("a frame of changes");
  }
  return PeerMessage(gossip::Frame(std::move(frame)));
}

Result<PeerMessage> DecodeTransferChunk(std::string_view body) {
  ByteReader in(body);
  gossip::TransferChunk frame;
  frame.transfer = in.Varint();
  frame.number = in.Varint();
  frame.last = in.U8() != 0;
  if (!in.ok()) return Malformed("a transfer's chunk");
  frame.bytes = std::make_shared<const std::string>(in.rest());
  return PeerMessage(gossip::Frame(std::move(frame)));
}

Result<PeerMessage> DecodeMemberList(std::string_view body, const PeerLimits& limits) {
  ByteReader in(body);
  gossip::MemberList frame;
  frame.answer = in.U8() != 0;
  const uint64_t count = in.Varint();
  if (!in.ok() || count > limits.members_max || count > in.remaining()) {
    return Malformed("a list of members");
  }
  peer::v1::MemberUpdate message;
  for (uint64_t i = 0; i < count; ++i) {
    const std::string_view bytes = in.String();
    message.Clear();
    if (!in.ok() || !Parse(bytes, &message)) return Malformed("a list of members");
    ASSIGN_OR_RETURN(auto update, wire::FromMessage(message, limits));
    frame.members.push_back(std::move(update));
  }
  if (!in.AtEnd()) return Malformed("a list of members");
  return PeerMessage(gossip::Frame(std::move(frame)));
}

Result<PeerMessage> DecodePublicationsPull(std::string_view body, const PeerLimits& limits) {
  ByteReader in(body);
  gossip::PublicationsPull frame;
  const uint64_t count = in.Varint();
  if (!in.ok() || count > limits.members_max + 1 || count > in.remaining()) {
    return Malformed("a pull of publications");
  }
  for (uint64_t i = 0; i < count; ++i) {
    const std::string_view node = in.String();
    const uint64_t serial = in.Varint();
    if (!in.ok() || !wire::IsName(node, limits)) return Malformed("a pull of publications");
    frame.known.emplace_back(node, serial);
  }
  if (!in.AtEnd()) return Malformed("a pull of publications");
  return PeerMessage(gossip::Frame(std::move(frame)));
}

Result<PeerMessage> DecodePublications(std::string_view body, const PeerLimits& limits) {
  ByteReader in(body);
  gossip::Publications frame;
  const uint64_t count = in.Varint();
  if (!in.ok() || count > limits.publications_max || count > in.remaining()) {
    return Malformed("a list of publications");
  }
  for (uint64_t i = 0; i < count; ++i) {
    gossip::Publication publication;
    const std::string_view node = in.String();
    publication.serial = in.Varint();
    publication.clock.bits = in.Varint();
    const uint64_t behind = in.Varint();
    ByteReader set_bytes(in.String());
    crdt::VersionSet own;
    if (!in.ok() || !wire::IsName(node, limits) || behind > publication.clock.bits ||
        !crdt::VersionSet::Decode(set_bytes, limits.publication, &own) || !set_bytes.AtEnd()) {
      return Malformed("a list of publications");
    }
    publication.node = node;
    publication.complete.bits = publication.clock.bits - behind;
    (void)own.digest();  // from now on several threads may look at it
    publication.own = std::make_shared<const crdt::VersionSet>(std::move(own));
    frame.publications.push_back(std::move(publication));
  }
  if (!in.AtEnd()) return Malformed("a list of publications");
  return PeerMessage(gossip::Frame(std::move(frame)));
}

Result<PeerMessage> DecodeSettle(std::string_view body) {
  peer::v1::Settle message;
  if (!Parse(body, &message)) return Malformed("a settlement");
  return PeerMessage(
      gossip::Frame(gossip::Settle{{message.horizon()}, message.schema(), message.answer()}));
}

Result<PeerMessage> DecodeSnapshotRequest(std::string_view body) {
  peer::v1::SnapshotRequest message;
  if (!Parse(body, &message)) return Malformed("a snapshot request");
  return PeerMessage(gossip::Frame(gossip::SnapshotRequest{
      message.transfer(), message.schema(), {message.horizon()}, message.rows_min()}));
}

template <class Frame>
Result<PeerMessage> DecodeRangesFrame(std::string_view body, const PeerLimits& limits) {
  peer::v1::Ranges message;
  Frame frame;
  if (!Parse(body, &message) || !ParseRanges(message.ranges(), limits, &frame.ranges)) {
    return Malformed("a frame of version ranges");
  }
  return PeerMessage(gossip::Frame(std::move(frame)));
}

template <class Frame>
Result<PeerMessage> DecodeProbe(std::string_view body) {
  peer::v1::StreamProbe message;
  if (!Parse(body, &message)) return Malformed("a probe");
  return PeerMessage(gossip::Frame(Frame{message.sequence()}));
}

Result<PeerMessage> DecodeSyncState(std::string_view body, const PeerLimits& limits) {
  peer::v1::SyncState message;
  gossip::SyncState frame;
  if (!Parse(body, &message) || !ParseSet(message.received(), limits, &frame.received) ||
      !ParseDigest(message.base(), &frame.base) || !ParseDigest(message.known(), &frame.known)) {
    return Malformed("a sync state");
  }
  frame.answer = message.answer();
  frame.refused = message.refused();
  return PeerMessage(gossip::Frame(std::move(frame)));
}

Result<PeerMessage> DecodeSyncRequest(std::string_view body, const PeerLimits& limits) {
  peer::v1::SyncRequest message;
  gossip::SyncRequest frame;
  if (!Parse(body, &message) || !ParseRanges(message.wanted(), limits, &frame.wanted)) {
    return Malformed("a sync request");
  }
  frame.request = message.request();
  frame.bytes_max = message.bytes_max();
  return PeerMessage(gossip::Frame(std::move(frame)));
}

Result<PeerMessage> DecodeTransferRequest(std::string_view body, const PeerLimits& limits) {
  peer::v1::TransferRequest message;
  gossip::TransferRequest frame;
  if (!Parse(body, &message) || !ParseSet(message.applied(), limits, &frame.applied)) {
    return Malformed("a transfer request");
  }
  if (!message.large_actor().empty()) {
    const auto actor = ActorId::FromBytes(message.large_actor());
    if (!actor || *actor == ActorId() || message.large_version() == 0 ||
        message.large_version() > crdt::kMaxVersion) {
      return Malformed("a transfer request");
    }
    frame.large = ChangeId{*actor, message.large_version()};
    frame.first = message.first();
  }
  frame.transfer = message.transfer();
  frame.schema = message.schema();
  return PeerMessage(gossip::Frame(std::move(frame)));
}

Result<PeerMessage> DecodeTransferNext(std::string_view body) {
  peer::v1::TransferNext message;
  if (!Parse(body, &message)) return Malformed("a transfer's next");
  return PeerMessage(gossip::Frame(gossip::TransferNext{message.transfer(), message.number()}));
}

Result<PeerMessage> DecodeTransferRefused(std::string_view body, const PeerLimits& limits) {
  peer::v1::TransferRefused message;
  if (!Parse(body, &message) || message.reason().size() > limits.reason_bytes_max) {
    return Malformed("a transfer's refusal");
  }
  return PeerMessage(gossip::Frame(gossip::TransferRefused{message.transfer(), message.reason()}));
}

Result<PeerMessage> DecodeInquiry(std::string_view body) {
  peer::v1::Inquiry message;
  if (!Parse(body, &message)) return Malformed("an inquiry");
  return PeerMessage(Inquiry{message.id(), std::move(*message.mutable_payload())});
}

Result<PeerMessage> DecodeInquiryReply(std::string_view body, const PeerLimits& limits) {
  peer::v1::InquiryReply message;
  if (!Parse(body, &message) || !wire::IsText(message.node(), limits.name_bytes_max)) {
    return Malformed("an inquiry's answer");
  }
  return PeerMessage(
      InquiryAnswer{message.id(), message.node(), std::move(*message.mutable_payload())});
}

}  // namespace

Result<PeerMessage> DecodeFrame(uint8_t type, std::string_view body, const PeerLimits& limits,
                                uint64_t* changes_dropped) {
  if (body.size() + 1 > limits.frame_bytes_max) return Malformed("a frame");
  switch (static_cast<FrameType>(type)) {
    case FrameType::kHello:
      return DecodeHello(body, limits);
    case FrameType::kFreshChanges:
      return DecodeFresh(body, limits, changes_dropped);
    case FrameType::kIHave:
      return DecodeRangesFrame<gossip::IHave>(body, limits);
    case FrameType::kPull:
      return DecodeRangesFrame<gossip::Pull>(body, limits);
    case FrameType::kSyncState:
      return DecodeSyncState(body, limits);
    case FrameType::kSyncRequest:
      return DecodeSyncRequest(body, limits);
    case FrameType::kSyncChanges:
      return DecodeSyncChanges(body, limits, changes_dropped);
    case FrameType::kTransferRequest:
      return DecodeTransferRequest(body, limits);
    case FrameType::kTransferChunk:
      return DecodeTransferChunk(body);
    case FrameType::kTransferNext:
      return DecodeTransferNext(body);
    case FrameType::kTransferRefused:
      return DecodeTransferRefused(body, limits);
    case FrameType::kMemberList:
      return DecodeMemberList(body, limits);
    case FrameType::kStreamPing:
      return DecodeProbe<gossip::StreamPing>(body);
    case FrameType::kStreamAck:
      return DecodeProbe<gossip::StreamAck>(body);
    case FrameType::kInquiry:
      return DecodeInquiry(body);
    case FrameType::kInquiryReply:
      return DecodeInquiryReply(body, limits);
    case FrameType::kPublicationsPull:
      return DecodePublicationsPull(body, limits);
    case FrameType::kPublications:
      return DecodePublications(body, limits);
    case FrameType::kSettle:
      return DecodeSettle(body);
    case FrameType::kSnapshotRequest:
      return DecodeSnapshotRequest(body);
  }
  return Error{Errc::kUnimplemented, "a frame of unknown type " + std::to_string(type)};
}

Status CheckProtocol(const Hello& ours, const Hello& theirs) {
  if (theirs.protocol >= ours.protocol_min && ours.protocol >= theirs.protocol_min) {
    return OkStatus();
  }
  return FailedPrecondition("we speak protocol " + std::to_string(ours.protocol_min) + " to " +
                            std::to_string(ours.protocol) + ", the peer " +
                            std::to_string(theirs.protocol_min) + " to " +
                            std::to_string(theirs.protocol));
}

}  // namespace patina::proto

#include "proto/peer_codec.h"

#include <cstring>
#include <memory>
#include <type_traits>

#include "base/check.h"
#include "patina/peer/v1/peer.pb.h"
#include "proto/wire.h"

namespace patina::proto {
namespace {

constexpr FrameType kTypes[] = {FrameType::kFreshChanges,
                                FrameType::kIHave,
                                FrameType::kPull,
                                FrameType::kSyncState,
                                FrameType::kSyncRequest,
                                FrameType::kSyncChanges,
                                FrameType::kTransferRequest,
                                FrameType::kTransferChunk,
                                FrameType::kTransferNext,
                                FrameType::kTransferRefused,
                                FrameType::kMemberList,
                                FrameType::kStreamPing,
                                FrameType::kStreamAck,
                                FrameType::kPublicationsPull,
                                FrameType::kPublications,
                                FrameType::kSettle,
                                FrameType::kSnapshotRequest};
static_assert(std::size(kTypes) == std::variant_size_v<gossip::Frame>);

// ---- Encoding ----------------------------------------------------------------------------------

std::string RangesToBytes(const std::vector<crdt::ActorRanges>& ranges) {
  std::string bytes;
  ByteWriter out(&bytes);
  wire::EncodeRanges(ranges, out);
  return bytes;
}

std::string DigestToBytes(const Digest128& digest) {
  std::string bytes;
  ByteWriter out(&bytes);
  out.U64(digest.low);
  out.U64(digest.high);
  return bytes;
}

std::string SetToBytes(const crdt::VersionSet& set) {
  std::string bytes;
  ByteWriter out(&bytes);
  set.Encode(out);
  return bytes;
}

void AppendChanges(const std::vector<gossip::Change>& changes, std::string* out) {
  size_t bytes = out->size() + 10;
  for (const gossip::Change& change : changes) bytes += change.bytes->size() + 5;
  out->reserve(bytes);
  ByteWriter writer(out);
  writer.Varint(changes.size());
  for (const gossip::Change& change : changes) writer.String(*change.bytes);
}

struct BodyEncoder {
  std::string* out;

  void operator()(const gossip::FreshChanges& frame) const {
    ByteWriter writer(out);
    writer.Varint(frame.hops);
    writer.String(frame.origin);
    AppendChanges(frame.changes, out);
  }
  void operator()(const gossip::IHave& frame) const { Ranges(frame.ranges); }
  void operator()(const gossip::Pull& frame) const { Ranges(frame.ranges); }
  void operator()(const gossip::SyncState& frame) const {
    peer::v1::SyncState message;
    message.set_answer(frame.answer);
    message.set_received(SetToBytes(frame.received));
    if (frame.base != Digest128()) message.set_base(DigestToBytes(frame.base));
    if (frame.known != Digest128()) message.set_known(DigestToBytes(frame.known));
    message.set_refused(frame.refused);
    message.AppendToString(out);
  }
  void operator()(const gossip::SyncRequest& frame) const {
    peer::v1::SyncRequest message;
    message.set_request(frame.request);
    message.set_wanted(RangesToBytes(frame.wanted));
    message.set_bytes_max(frame.bytes_max);
    message.AppendToString(out);
  }
  void operator()(const gossip::SyncChanges& frame) const {
    ByteWriter writer(out);
    writer.Varint(frame.request);
    writer.U8(frame.done ? 1 : 0);
    wire::EncodeRanges(frame.not_at_hand, writer);
    AppendChanges(frame.changes, out);
  }
  void operator()(const gossip::TransferRequest& frame) const {
    peer::v1::TransferRequest message;
    message.set_transfer(frame.transfer);
    message.set_schema(frame.schema);
    message.set_applied(SetToBytes(frame.applied));
    message.AppendToString(out);
  }
  void operator()(const gossip::TransferChunk& frame) const {
    ByteWriter writer(out);
    writer.Varint(frame.transfer);
    writer.Varint(frame.number);
    writer.U8(frame.last ? 1 : 0);
    if (frame.bytes) writer.Raw(*frame.bytes);
  }
  void operator()(const gossip::TransferNext& frame) const {
    peer::v1::TransferNext message;
    message.set_transfer(frame.transfer);
    message.set_number(frame.number);
    message.AppendToString(out);
  }
  void operator()(const gossip::TransferRefused& frame) const {
    peer::v1::TransferRefused message;
    message.set_transfer(frame.transfer);
    message.set_reason(frame.reason.substr(0, PeerLimits().reason_bytes_max));
    message.AppendToString(out);
  }
  void operator()(const gossip::MemberList& frame) const {
    ByteWriter writer(out);
    writer.U8(frame.answer ? 1 : 0);
    writer.Varint(frame.members.size());
    peer::v1::MemberUpdate message;
    for (const gossip::MemberUpdate& update : frame.members) {
      message.Clear();
      wire::ToMessage(update, &message);
      writer.Varint(message.ByteSizeLong());
      message.AppendToString(out);
    }
  }
  void operator()(const gossip::PublicationsPull& frame) const {
    ByteWriter writer(out);
    writer.Varint(frame.known.size());
    for (const auto& [node, serial] : frame.known) {
      writer.String(node);
      writer.Varint(serial);
    }
  }
  void operator()(const gossip::Publications& frame) const {
    ByteWriter writer(out);
    writer.Varint(frame.publications.size());
    for (const gossip::Publication& publication : frame.publications) {
      writer.String(publication.node);
      writer.Varint(publication.serial);
      writer.Varint(publication.clock.bits);
      writer.Varint(publication.clock.bits - publication.complete.bits);
      writer.String(SetToBytes(*publication.own));
    }
  }
  void operator()(const gossip::Settle& frame) const {
    peer::v1::Settle message;
    message.set_horizon(frame.horizon.bits);
    message.set_schema(frame.schema);
    message.set_answer(frame.answer);
    message.AppendToString(out);
  }
  void operator()(const gossip::SnapshotRequest& frame) const {
    peer::v1::SnapshotRequest message;
    message.set_transfer(frame.transfer);
    message.set_schema(frame.schema);
    message.set_horizon(frame.horizon.bits);
    message.set_rows_min(frame.rows_min);
    message.AppendToString(out);
  }
  void operator()(const gossip::StreamPing& frame) const { Probe(frame.sequence); }
  void operator()(const gossip::StreamAck& frame) const { Probe(frame.sequence); }

  void Ranges(const std::vector<crdt::ActorRanges>& ranges) const {
    peer::v1::Ranges message;
    message.set_ranges(RangesToBytes(ranges));
    message.AppendToString(out);
  }
  void Probe(uint64_t sequence) const {
    peer::v1::StreamProbe message;
    message.set_sequence(sequence);
    message.AppendToString(out);
  }
};

std::string BeginFrame(FrameType type) {
  std::string bytes(kFramePrefixBytes, '\0');
  bytes[4] = static_cast<char>(type);
  return bytes;
}

std::string EndFrame(std::string bytes) {
  const size_t length = bytes.size() - 4;
  CHECK(length <= UINT32_MAX);  // batches are bounded by the configuration, far below
  const auto word = static_cast<uint32_t>(length);
  std::memcpy(bytes.data(), &word, sizeof word);
  return bytes;
}

// ---- Decoding ----------------------------------------------------------------------------------

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

std::string EncodeFrame(const gossip::Frame& frame) {
  std::string bytes = BeginFrame(kTypes[frame.index()]);
  std::visit(BodyEncoder{&bytes}, frame);
  return EndFrame(std::move(bytes));
}

std::string EncodeFrame(const Hello& hello) {
  peer::v1::Hello message;
  message.set_protocol(hello.protocol);
  message.set_protocol_min(hello.protocol_min);
  message.set_cluster(hello.cluster);
  message.set_name(hello.name);
  message.set_incarnation(hello.incarnation);
  message.set_boot(hello.boot);
  message.set_address(wire::EncodeAddress(hello.address));
  for (const std::string& feature : hello.features) message.add_features(feature);
  message.set_purpose(static_cast<uint32_t>(hello.purpose));
  std::string bytes = BeginFrame(FrameType::kHello);
  message.AppendToString(&bytes);
  return EndFrame(std::move(bytes));
}

std::string EncodeFrame(const Inquiry& inquiry) {
  peer::v1::Inquiry message;
  message.set_id(inquiry.id);
  message.set_payload(inquiry.payload);
  std::string bytes = BeginFrame(FrameType::kInquiry);
  message.AppendToString(&bytes);
  return EndFrame(std::move(bytes));
}

std::string EncodeFrame(const InquiryAnswer& answer) {
  peer::v1::InquiryReply message;
  message.set_id(answer.id);
  message.set_node(answer.node);
  message.set_payload(answer.payload);
  std::string bytes = BeginFrame(FrameType::kInquiryReply);
  message.AppendToString(&bytes);
  return EndFrame(std::move(bytes));
}

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

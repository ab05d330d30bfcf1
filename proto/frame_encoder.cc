#include <cstring>
#include <type_traits>

#include "base/check.h"
#include "patina/peer/v1/peer.pb.h"
#include "proto/peer_codec.h"
#include "proto/wire.h"

// Frames as bytes: the half of peer_codec.h that writes.

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
    if (frame.large) {
      message.set_large_actor(std::string(frame.large->actor.AsBytes()));
      message.set_large_version(frame.large->version);
      message.set_first(frame.first);
    }
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

}  // namespace patina::proto

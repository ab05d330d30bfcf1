#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/endpoint.h"
#include "base/status.h"
#include "crdt/changeset.h"
#include "crdt/version_set.h"
#include "gossip/messages.h"

// Peer messages as bytes and back; the format is described in patina/peer/v1/peer.proto. Any
// thread.
//
// 1. A decoder takes any bytes whatever: it answers with a message within the limits or an error,
// and takes
//    memory in proportion to the bytes it was given, never to a count they claim.
// 2. What the core is handed is well-formed: names are not empty and not long, ranges ascend and do
// not
//    touch, a change's id is that of its changeset.

namespace patina::proto {

/// Spoken, and the oldest still understood.
inline constexpr uint32_t kProtocolVersion = 1;
inline constexpr uint32_t kProtocolVersionMin = 1;
/// Length (u32 little-endian, of type and body) and type.
inline constexpr size_t kFramePrefixBytes = 5;
inline constexpr size_t kDatagramBytesMax = 65'507;

struct PeerLimits {
  size_t frame_bytes_max = 64u << 20;
  size_t name_bytes_max = 255;  // names, regions, clusters, addresses
  size_t reason_bytes_max = 1'024;
  size_t members_max = 20'000;   // in one list
  size_t changes_max = 200'000;  // in one frame
  size_t ranges_max = 200'000;   // over all actors
  size_t range_actors_max = 100'000;
  size_t features_max = 64;
  crdt::ChangesetLimits changeset;
  crdt::VersionSetLimits version_set;
  size_t publications_max = 2'000;  // in one frame
  crdt::VersionSetLimits publication{4'096, 65'536, 256};
};

enum class FrameType : uint8_t {
  kHello = 1,
  kFreshChanges = 2,
  kIHave = 3,
  kPull = 4,
  kSyncState = 5,
  kSyncRequest = 6,
  kSyncChanges = 7,
  kTransferRequest = 8,
  kTransferChunk = 9,
  kTransferNext = 10,
  kTransferRefused = 11,
  kMemberList = 12,
  kStreamPing = 13,
  kStreamAck = 14,
  kInquiry = 15,
  kInquiryReply = 16,
  kPublicationsPull = 17,
  kPublications = 18,
  kSettle = 19,
  kSnapshotRequest = 20,
};

/// What a connection is for.
enum class Purpose : uint8_t { kFresh = 1, kRepair = 2 };

/// First frame in both directions.
struct Hello {
  uint32_t protocol = kProtocolVersion;
  uint32_t protocol_min = kProtocolVersionMin;
  std::string cluster;
  std::string name;
  uint64_t incarnation = 0;
  uint64_t boot = 0;
  Endpoint address;
  std::vector<std::string> features;
  Purpose purpose = Purpose::kFresh;
};

struct Inquiry {
  uint64_t id = 0;
  std::string payload;
};

struct InquiryAnswer {
  uint64_t id = 0;
  std::string node;
  std::string payload;
};

using PeerMessage = std::variant<gossip::Frame, Hello, Inquiry, InquiryAnswer>;

std::string EncodeDatagram(const gossip::Datagram& datagram);
/// INVALID_ARGUMENT: malformed or over a limit; UNIMPLEMENTED: another protocol version.
Result<gossip::Datagram> DecodeDatagram(std::string_view bytes, const PeerLimits& limits = {});

/// With the prefix: ready to be written to a stream. Changeset bytes are copied once.
std::string EncodeFrame(const gossip::Frame& frame);
std::string EncodeFrame(const Hello& hello);
std::string EncodeFrame(const Inquiry& inquiry);
std::string EncodeFrame(const InquiryAnswer& answer);

/// The body of one frame of this type (without the prefix). Changesets whose header cannot be read
/// (rot, a newer format) are left out and counted in *changes_dropped, so that one of them does not
/// stop the others. INVALID_ARGUMENT: malformed or over a limit; UNIMPLEMENTED: no such type.
Result<PeerMessage> DecodeFrame(uint8_t type, std::string_view body, const PeerLimits& limits = {},
                                uint64_t* changes_dropped = nullptr);

/// May two ends that said this talk? Otherwise FAILED_PRECONDITION, with the versions.
Status CheckProtocol(const Hello& ours, const Hello& theirs);

}  // namespace patina::proto

#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/endpoint.h"
#include "gossip/messages.h"
#include "proto/peer_codec.h"

namespace patina::peer::v1 {
class MemberUpdate;
}

// Pieces that datagrams and frames share; only for proto/'s own .cc files. Any thread.

namespace patina::proto::wire {

/// 4 or 16 bytes, then the port, big-endian; empty when unset.
std::string EncodeAddress(const Endpoint& endpoint);
std::optional<Endpoint> DecodeAddress(std::string_view bytes);

void ToMessage(const gossip::MemberUpdate& update, peer::v1::MemberUpdate* message);
Result<gossip::MemberUpdate> FromMessage(const peer::v1::MemberUpdate& message,
                                         const PeerLimits& limits);

/// Valid UTF-8, not too long.
bool IsText(std::string_view text, size_t bytes_max);
/// The same, and not empty.
bool IsName(std::string_view name, const PeerLimits& limits);

void EncodeRanges(const std::vector<crdt::ActorRanges>& actors, ByteWriter& out);
/// False when malformed or over the limits.
bool DecodeRanges(ByteReader& in, const PeerLimits& limits, std::vector<crdt::ActorRanges>* actors);

}  // namespace patina::proto::wire

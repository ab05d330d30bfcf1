#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/hash.h"
#include "base/ids.h"
#include "crdt/version_set.h"
#include "gossip/frontier.h"
#include "gossip/member.h"

// What nodes say to each other, as plain values. proto/peer_codec.h turns them into bytes and back
// and checks every size and count before the core sees them. Datagrams are membership (SWIM);
// frames travel on streams.

namespace patina::gossip {

/// An encoded changeset (crdt/changeset.h), shared: it is never copied on its way through a node.
using SharedBytes = std::shared_ptr<const std::string>;

// ---- Datagrams
// ---------------------------------------------------------------------------------------------

struct Ping {
  uint64_t sequence = 0;
  std::string target;  // who is meant: an address may have been reused
};
struct Ack {
  uint64_t sequence = 0;
};
/// Please ping the target for me, and pass its answer on.
struct PingRequest {
  uint64_t sequence = 0;
  std::string target;
  Endpoint target_address;
};
/// I did ping it for you and got no answer in time: so at least we two are well.
struct Nack {
  uint64_t sequence = 0;
};
/// Only the updates that ride on it.
struct Rumor {};

using DatagramBody = std::variant<Ping, Ack, PingRequest, Nack, Rumor>;

struct Datagram {
  std::string cluster;
  std::string from;  // name of the sender
  uint64_t from_incarnation = 0;
  /// Of the set of changesets the sender has received: equal digests mean there is nothing to
  /// repair.
  Digest128 received;
  int64_t wall_ms = 0;  // the sender's wall clock, when it sent
  DatagramBody body;
  std::vector<MemberUpdate> updates;
};

// ---- Frames
// ------------------------------------------------------------------------------------------------

struct Change {
  ChangeId id;
  SharedBytes bytes;
};

/// Fresh changes on their way through the broadcast tree.
struct FreshChanges {
  std::string origin;  // name of the node that wrote them: it decides the tree
  uint32_t hops = 0;
  std::vector<Change> changes;
};

/// "I have": ids only, to tree neighbours that get the bytes from somebody else.
struct IHave {
  std::vector<crdt::ActorRanges> ranges;
};

/// Please send these (some may not be there: only what is at hand comes back, as FreshChanges).
struct Pull {
  std::vector<crdt::ActorRanges> ranges;
};

/// Anti-entropy: what I have received. Asks for the same in return unless it is an answer.
/// gossip/known_sets.h says how both sides remember what they told each other.
struct SyncState {
  bool answer = false;
  /// All of it, or what was added since base.
  crdt::VersionSet received;
  Digest128 base;   // of the set this builds on; zero: nothing
  Digest128 known;  // of your set, as far as I know it; zero: not at all
  /// I do not hold the set that your state builds on: send all of it. The rest does not count.
  bool refused = false;
};

/// Send me these from your log, up to about bytes_max.
struct SyncRequest {
  uint64_t request = 0;
  std::vector<crdt::ActorRanges> wanted;
  uint64_t bytes_max = 0;
};

struct SyncChanges {
  uint64_t request = 0;
  std::vector<Change> changes;
  /// Asked for, received by the sender, but no longer in its log: only a transfer has it.
  std::vector<crdt::ActorRanges> not_at_hand;
  /// The answer is complete: what was asked and neither sent nor listed did not fit.
  bool done = false;
};

/// The whole difference, from one read snapshot of the sender. Pulled chunk by chunk by the
/// receiver.
struct TransferRequest {
  uint64_t transfer = 0;  // chosen by the receiver, unique in its process
  uint64_t schema = 0;
  crdt::VersionSet applied;
  /// Not the whole difference but the chunks of this large transaction, from this one on; their
  /// numbers are the transaction's own.
  std::optional<ChangeId> large = std::nullopt;
  uint64_t first = 0;
};
struct TransferChunk {
  uint64_t transfer = 0;
  uint64_t number = 0;  // from 0
  SharedBytes bytes;    // storage's own format
  bool last = false;
};
/// The chunk before `number` is safely staged: send that one.
struct TransferNext {
  uint64_t transfer = 0;
  uint64_t number = 0;
};
struct TransferRefused {
  uint64_t transfer = 0;
  std::string reason;
};

/// Our histories differ before a horizon: this is mine. Who has the lower one (of equal ones: the
/// lower name) takes a snapshot of the other.
struct Settle {
  crdt::HlcTime horizon;
  uint64_t schema = 0;
  bool answer = false;  // to a Settle; not to be answered again
};
/// A copy of your file, please: it comes as the chunks of a transfer.
struct SnapshotRequest {
  uint64_t transfer = 0;  // as in TransferRequest
  uint64_t schema = 0;
  crdt::HlcTime horizon;  // of the receiver: the sender's must not be below
  uint64_t rows_min = 0;  // not worth it if the sender holds fewer
};

/// Please send me the publications that are newer than these: member and serial.
struct PublicationsPull {
  std::vector<std::pair<std::string, uint64_t>> known;
};
/// The newest publications that the sender knows, of whoever.
struct Publications {
  std::vector<Publication> publications;
};

/// All members the sender knows: when two nodes meet, and after a healed split.
struct MemberList {
  bool answer = false;
  std::vector<MemberUpdate> members;
};

/// A probe over the stream, when UDP fails.
struct StreamPing {
  uint64_t sequence = 0;
};
struct StreamAck {
  uint64_t sequence = 0;
};

using Frame =
    std::variant<FreshChanges, IHave, Pull, SyncState, SyncRequest, SyncChanges, TransferRequest,
                 TransferChunk, TransferNext, TransferRefused, MemberList, StreamPing, StreamAck,
                 PublicationsPull, Publications, Settle, SnapshotRequest>;

/// In order of importance; each has its own budget and, from kRepair on, its own connection.
enum class Lane : uint8_t { kMembership = 0, kFresh = 1, kRepair = 2, kBulk = 3 };

}  // namespace patina::gossip

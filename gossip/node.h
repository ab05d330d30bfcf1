#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/random.h"
#include "crdt/version_set.h"
#include "gossip/config.h"
#include "gossip/messages.h"

namespace patina::gossip {

/// Everything the core wants done, in this order: persist, then send, then notify. The performer
/// (the agent's net thread, or the simulator) owns one, hands it to each call and empties it
/// afterwards.
struct Outputs {
  /// Changesets from peers: to be merged by the writer, then reported by OnPersisted or
  /// OnPersistFailed.
  std::vector<Change> persist;

  /// A transfer's chunk to be staged by the writer; then OnTransferStaged, or after the last one
  /// OnTransferMerged; or OnTransferFailed.
  struct StageChunk {
    uint64_t transfer = 0;
    uint64_t number = 0;
    SharedBytes bytes;
    bool last = false;
    /// Of another node's file; after the last one the process goes on as a new one, with it.
    bool snapshot = false;
    /// Of this large transaction; the last one has no bytes if all were there already.
    std::optional<ChangeId> large = std::nullopt;
  };
  std::vector<StageChunk> stage;
  /// A large transaction's chunks are about to be fetched: answered by OnLargeStaged with the
  /// number of the first that is missing, or OnTransferFailed.
  struct StageLarge {
    uint64_t transfer = 0;
    SharedBytes manifest;
  };
  std::vector<StageLarge> stage_large;
  std::vector<uint64_t> abandon_staged;  // transfers whose staged chunks can go

  struct DatagramOut {
    Endpoint to;
    Datagram datagram;
  };
  std::vector<DatagramOut> datagrams;

  struct FrameOut {
    std::string to;  // member's name
    Endpoint address;
    Lane lane = Lane::kFresh;
    std::shared_ptr<const Frame> frame;  // shared when several members get the same
  };
  std::vector<FrameOut> frames;

  /// Work for a storage reader. Answered by OnLogRead.
  struct LogRead {
    uint64_t read = 0;
    std::vector<crdt::ActorRanges> wanted;
    uint64_t bytes_max = 0;
  };
  std::vector<LogRead> log_reads;

  /// Serve a transfer: open one read snapshot. Answered by OnTransferChunkRead or
  /// OnTransferReadFailed; further chunks are asked for by read_chunk; close_transfer ends it at
  /// any time.
  struct OpenTransfer {
    uint64_t serving = 0;
    uint64_t schema = 0;
    crdt::VersionSet receiver_applied;
    bool snapshot = false;  // a copy of the file instead
    uint64_t rows_min = 0;  // of a snapshot: to be refused if the tables hold fewer
    std::optional<ChangeId> large = std::nullopt;  // the chunks of this large transaction instead …
    uint64_t first = 0;  // … from this one on; the answers count from there
  };
  std::vector<OpenTransfer> open_transfers;
  struct ReadChunk {
    uint64_t serving = 0;
    uint64_t number = 0;
  };
  std::vector<ReadChunk> read_chunks;
  std::vector<uint64_t> close_transfers;

  /// Time to publish: to be answered by OnPublished with W (committed before), T and the own
  /// versions, and to collect what lies behind the frontier. Null: not now. The frontier is a copy
  /// that another thread may use.
  std::shared_ptr<const Frontier> publish;

  /// A member's state or data changed (old state nothing: it is new).
  struct MemberEvent {
    MemberView member;
    std::optional<MemberState> before;
  };
  std::vector<MemberEvent> events;

  void Clear();
  bool Empty() const;
};

/// Monotonic; read by metrics and status.
struct Counters {
  uint64_t datagrams_in = 0, datagrams_out = 0, frames_in = 0, frames_out = 0;
  uint64_t foreign_cluster = 0, not_for_us = 0, from_unknown = 0;
  uint64_t probes = 0, probe_failures = 0, indirect_probes = 0, stream_probes = 0;
  uint64_t suspicions = 0, refutations = 0, deaths = 0, name_conflicts = 0;
  uint64_t changes_fresh = 0, changes_duplicate = 0, changes_forwarded = 0;
  uint64_t changes_dropped_in_flight_full = 0;
  uint64_t changes_left_to_repair = 0;  // own ones that came faster than they could be broadcast
  uint64_t pulls = 0, pulled_changes = 0;
  uint64_t syncs = 0, sync_changes = 0, sync_timeouts = 0;
  uint64_t publications = 0, publications_heard = 0, publications_refused = 0;
  uint64_t members_forgotten = 0;
  uint64_t settlements = 0, snapshots_asked = 0, snapshots_served = 0, snapshots_failed = 0;
  uint64_t snapshots_refused = 0;  // to peers: too many at once, another schema, a higher horizon
  uint64_t snapshots_impossible = 0;  // one was needed, and this process cannot take it
  // Of the states exchanged (gossip/known_sets.h): whole sets sent, ours that the peer could not
  // build on, peers whose sets were given up for others'.
  uint64_t sync_states_full = 0, sync_states_refused = 0, sync_peers_forgotten = 0;
  // Large transactions of peers: fetches begun, merged, waiting for the one that runs.
  uint64_t large_asked = 0, large_merged = 0, large_waiting = 0;
  uint64_t large_chunks_here = 0, large_chunks_of = 0;  // of the one that is being fetched
  uint64_t transfers_asked = 0, transfers_merged = 0, transfers_served = 0, transfers_failed = 0;
};

/// Who a node is. boot_wall_ms becomes its first incarnation.
struct Self {
  std::string name;
  std::string region;
  Endpoint address;
  std::string api_address;
  uint64_t schema = 0;
  int64_t boot_wall_ms = 0;
};

/// The whole of gossip on one node: membership, broadcast and anti-entropy, without I/O, threads or
/// clocks of its own. Not thread-safe: the net thread (or the simulator) owns it.
///
/// Every call that may produce outputs takes `now` (never going back) and an Outputs to append to.
///
/// Invariants: what is in received() is durable here. Nothing is asked for, forwarded or persisted
/// twice while it is in flight. The same calls with the same seed give the same outputs: no
/// unordered iteration.
class Node {
 public:
  /// received: from storage at start.
  Node(const Config& config, const Self& self, crdt::VersionSet received, uint64_t seed);
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  /// Begins probing and joins through the seeds (addresses; resolved by the performer, may be
  /// called again with newly resolved ones). Members known from before a restart may be given, too.
  void SetSeeds(std::vector<Endpoint> seeds);
  void Start(Instant now, Outputs& out);
  /// Says goodbye; done when LeaveDone() or config.leave_deadline has passed.
  void Leave(Instant now, Outputs& out);
  bool LeaveDone() const;

  // From the network. The sender's name of a frame comes from the stream's handshake.
  void OnDatagram(const Endpoint& from, const Datagram& datagram, Instant now, Outputs& out);
  void OnFrame(const std::string& from, Frame frame, Instant now, Outputs& out);
  /// A stream to the member broke or could not be opened: what was queued on it is gone.
  void OnStreamLost(const std::string& member, Instant now, Outputs& out);

  // From storage.
  /// Own transactions, durable: they are broadcast. In version order. One without bytes is only
  /// noted as received: the performer had too much waiting, and repair brings it to the others from
  /// the log.
  void OnLocalCommit(std::vector<Change> changes, Instant now, Outputs& out);
  /// Changes of Outputs::persist (or parts of a transfer) are durable.
  void OnPersisted(const std::vector<ChangeId>& ids, Instant now, Outputs& out);
  /// They are not, and the writer does not have them: they may be fetched again later.
  void OnPersistFailed(const std::vector<ChangeId>& ids, Instant now, Outputs& out);
  /// Storage did not take these: they are from before its horizon. Who has them and this node
  /// settle it by a snapshot.
  void OnTooOld(const std::vector<ChangeId>& ids, Instant now, Outputs& out);
  void OnLogRead(uint64_t read, std::vector<Change> changes,
                 std::vector<crdt::ActorRanges> not_at_hand, bool complete, Instant now,
                 Outputs& out);
  void OnTransferChunkRead(uint64_t serving, uint64_t number, SharedBytes bytes, bool last,
                           Instant now, Outputs& out);
  void OnTransferReadFailed(uint64_t serving, const std::string& reason, Instant now, Outputs& out);
  void OnTransferStaged(uint64_t transfer, uint64_t number, Instant now, Outputs& out);
  void OnLargeStaged(uint64_t transfer, uint64_t next, Instant now, Outputs& out);
  /// received: all of this node's received set after the merge.
  void OnTransferMerged(uint64_t transfer, const crdt::VersionSet& received, Instant now,
                        Outputs& out);
  /// The transfer (or large transaction) cannot be merged, because the histories differ before a
  /// horizon.
  void OnTransferNeedsSnapshot(uint64_t transfer, Instant now, Outputs& out);
  void OnTransferFailed(uint64_t transfer, const std::string& reason, Instant now, Outputs& out);

  /// Members known before the restart, with the cluster time when they were heard last: they count
  /// for the frontier until they are forgotten. Before Start.
  void SetKnownMembers(const std::vector<std::pair<std::string, int64_t>>& members);
  void OnPublished(Publication publication, Instant now);
  /// Storage's horizon: at the start, and when it was raised.
  void SetHorizon(crdt::HlcTime horizon);

  /// Changes of what the node says of itself (its actor after the first write, schema after a
  /// reload).
  void SetActor(const ActorId& actor, Instant now, Outputs& out);
  void SetSchema(uint64_t schema, Instant now, Outputs& out);
  /// Which changes are received but not applied now (all of them; usually none): a transfer that is
  /// asked for has to bring them again. To be called when that changes, and after the start.
  void SetParked(std::vector<ChangeId> parked);
  /// The host's wall clock, just before other calls: used for offsets to the peers, nothing else.
  void SetWallMs(int64_t wall_ms);

  void Tick(Instant now, Outputs& out);
  /// When Tick wants to be called next, at the latest.
  Instant NextDeadline() const;

  // Looking.
  std::vector<MemberView> Members() const;  // by name, self included
  std::optional<MemberView> Member(const std::string& name) const;
  const crdt::VersionSet& received() const;
  /// Versions some reachable peer has and we lack, as far as told.
  uint64_t VersionsLacking() const;
  /// What to add to the wall clock to get cluster time: 0 while the median offset to the peers is
  /// tolerated.
  int64_t ClockCorrectionMs() const;
  /// What to add to the steady clock to get cluster time. Requires that Start was called.
  int64_t ClusterMinusSteadyMs() const;
  size_t InFlightBytes() const;
  const Frontier& frontier() const;
  const Counters& counters() const;
  const MemberInfo& self() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace patina::gossip

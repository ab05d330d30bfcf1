#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/collection.h"
#include "agent/config.h"
#include "agent/reader_pool.h"
#include "agent/writer.h"
#include "base/status.h"
#include "gossip/node.h"

namespace patina::agent {

class FaultClock;  // faults.h

/// What one member answers to `patina verify`.
struct InquiryReply {
  std::string node;
  std::string payload;  // verify.h's own format
};

struct FaultCommand {
  enum class Kind { kCut, kHeal, kDelay, kDrop, kClock, kShow };
  Kind kind = Kind::kShow;
  std::vector<std::string> peers;  // empty: all
  uint32_t delay_ms = 0;
  double drop_fraction = 0;
  int64_t clock_ms = 0;
};

/// The net thread: one Asio loop that owns the gossip::Node, the UDP socket, the TCP connections to
/// peers and all timers. Others reach it by the calls below, from any thread.
class Net {
 public:
  /// Opens the sockets (so that the port is known), nothing runs yet. received: the store's, at
  /// start. clock: shared with the store, so that both live by the same (injected) error; a new one
  /// if null.
  static Result<std::unique_ptr<Net>> Open(const Config& config, uint64_t schema_hash,
                                           crdt::VersionSet received,
                                           std::shared_ptr<FaultClock> clock = nullptr);
  ~Net();

  /// What the file knows from before this process: its horizon, and who was a member (and when it
  /// was heard last). Before Start.
  void SetHistory(crdt::HlcTime horizon,
                  const std::vector<std::pair<std::string, int64_t>>& members);
  /// Wires gossip to the others and starts the thread. All outlive the net thread.
  void Start(Writer* writer, ReaderPool* readers, Collection* collection);
  /// Tells the members that this node leaves, and stays reachable for those who ask it. Any thread.
  void LeaveCluster();
  /// Leaves the cluster (within the leave deadline), closes, joins.
  void Stop();

  /// The address peers reach us at.
  Endpoint advertised() const;

  // Called by the writer's listeners.
  void OnLocalCommit(std::vector<gossip::Change> changes);
  void OnPersisted(std::vector<ChangeId> ids);
  void OnPersistFailed(std::vector<ChangeId> ids);
  void OnTooOld(std::vector<ChangeId> ids);
  void OnStaged(uint64_t transfer, uint64_t number, Status status);
  void OnLargeStaged(uint64_t transfer, Result<uint64_t> next);
  void OnTransferMerged(uint64_t transfer, Result<crdt::VersionSet> received);
  void OnParked(std::vector<ChangeId> ids);
  void OnActor(ActorId actor);
  void OnSchema(uint64_t schema_hash);

  /// The members now: a snapshot kept for readers, at most some ms old.
  std::vector<gossip::MemberView> Members() const;
  struct Stats {
    gossip::Counters gossip;
    uint64_t versions_lacking = 0;
    int64_t clock_correction_ms = 0;
    uint64_t in_flight_bytes = 0;
    uint64_t connections = 0, garbage = 0, peer_queue_drops = 0, bytes_in = 0, bytes_out = 0;
    /// Handshakes of another cluster, protocol or name; connections that could not be opened;
    /// datagrams the system did not take; changesets whose header could not be read; inquiries not
    /// answered (too many).
    uint64_t refused_peers = 0, connect_failures = 0, datagrams_unsent = 0, changes_unreadable = 0;
    uint64_t inquiries_refused = 0;
  };
  Stats stats() const;

  /// on_change is called on the net thread for every member event until the returned token is
  /// dropped (a call that has begun may still be running when another thread drops it).
  std::shared_ptr<void> WatchMembers(std::function<void(const gossip::MemberView&)> on_change);

  /// Asks a member something over its stream (repair lane) and calls done once, on the net thread:
  /// with the reply, or DEADLINE_EXCEEDED / UNAVAILABLE. Inquiries from others go to the handler,
  /// which answers by calling reply (any thread, once).
  void Ask(const std::string& member, std::string payload, Duration deadline,
           std::function<void(Result<InquiryReply>)> done);
  using InquiryHandler =
      std::function<void(std::string payload, std::function<void(std::string)> reply)>;
  void SetInquiryHandler(InquiryHandler handler);  // before Start

  /// FAILED_PRECONDITION unless the configuration allows it. Answers the faults in force.
  Result<std::vector<std::string>> Fault(const FaultCommand& command);
  /// The wall clock with the injected error, as the store must see it.
  const Clock& clock() const;

  int64_t LastTurnMs() const;

 private:
  class Impl;
  explicit Net(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace patina::agent

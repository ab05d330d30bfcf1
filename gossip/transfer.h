#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gossip/shared.h"

namespace patina::gossip {

/// Whole-difference transfers, for what no log has any more, and snapshots (copies of the whole
/// file), for histories that differ before a horizon and for new nodes, and the chunks of large
/// transactions: receiver and sender. What was staged of the last stays when it breaks off. Chunks
/// are pulled one by one, so a slow receiver holds back its sender and nobody else; snapshots have
/// a rate and a deadline besides. One thread.
class Transfer {
 public:
  explicit Transfer(Shared& shared) : shared_(shared) {}

  // Receiver.
  /// Asks the member for a transfer, unless one runs or the last failed just now.
  void Want(const Member& from, Instant now, Outputs& out);
  /// The same for a snapshot; a transfer that runs is given up for it: what that would bring comes
  /// with the file. False: not now (or never: this node cannot take one).
  bool WantSnapshot(const Member& from, uint64_t rows_min, Instant now, Outputs& out);
  /// The chunks of a large transaction, of which the member sent the manifest: now, or when those
  /// before it are here. Until then it counts as in flight. False: too many wait.
  bool WantLarge(const Member& from, const Change& manifest, Instant now, Outputs& out);
  bool Running() const { return asked_.has_value(); }
  bool TakingSnapshot() const { return asked_ && asked_->snapshot; }
  /// Whom the transfer was asked from; nothing if that is not the one that runs.
  std::optional<std::string> PeerOf(uint64_t transfer) const;
  /// Of which large transaction it fetches the chunks; nothing if it does not, or does not run.
  std::optional<ChangeId> LargeOf(uint64_t transfer) const;
  void OnChunk(const std::string& from, const TransferChunk& chunk, Instant now, Outputs& out);
  void OnRefused(const std::string& from, const TransferRefused& refused, Instant now,
                 Outputs& out);
  void OnLargeStaged(uint64_t transfer, uint64_t next, Instant now, Outputs& out);
  void OnStaged(uint64_t transfer, uint64_t number, Instant now, Outputs& out);
  void OnMerged(uint64_t transfer, const crdt::VersionSet& received, Instant now, Outputs& out);
  void OnFailed(uint64_t transfer, Instant now, Outputs& out);
  /// Received, but not applied here: a transfer has to bring them again.
  void SetParked(std::vector<ChangeId> parked) { parked_ = std::move(parked); }

  // Sender.
  void OnRequest(const Member& from, const TransferRequest& request, Instant now, Outputs& out);
  void OnSnapshotRequest(const Member& from, const SnapshotRequest& request, Instant now,
                         Outputs& out);
  void OnNext(const std::string& from, const TransferNext& next, Instant now, Outputs& out);
  void OnChunkRead(uint64_t serving, uint64_t number, SharedBytes bytes, bool last, Instant now,
                   Outputs& out);
  void OnReadFailed(uint64_t serving, const std::string& reason, Outputs& out);

  void OnPeerLost(const std::string& name, Instant now, Outputs& out);
  void Tick(Instant now, Outputs& out);
  Instant NextDeadline() const;

 private:
  struct Asked {
    uint64_t transfer = 0;
    std::string peer;
    uint64_t next_number = 0;
    bool staging = false;
    bool merging = false;
    bool snapshot = false;
    Instant deadline{};
    Instant ends_at = Instant::max();  // whatever comes
    std::optional<ChangeId> large = std::nullopt;
    uint64_t chunks = 0;  // of the large transaction
  };
  struct Waiting {
    std::string peer;
    Change manifest;
  };
  struct Serving {
    std::string peer;
    uint64_t transfer = 0;
    uint64_t next_number = 0;
    bool reading = true;
    Instant deadline{};
    bool snapshot = false;
    Instant ends_at = Instant::max();
    Instant next_at{};     // of a snapshot: not before, for its rate
    bool waiting = false;  // the next chunk is asked for, and not due
  };

  crdt::VersionSet Applied() const;
  void Merge(Instant now, SharedBytes last_chunk, Outputs& out);
  void Fail(Instant now, bool abandon, Outputs* out);
  void BeginLarge(Instant now, Outputs& out);
  void CountLarge();
  void CloseServings(const std::string& peer, Outputs& out);
  void Serve(const Member& from, Serving serving, Outputs::OpenTransfer open, std::string refusal,
             Outputs& out);
  void ReadNext(uint64_t serving, Serving& entry, Instant now, Outputs& out);
  std::map<uint64_t, Serving>::iterator FindServing(const std::string& peer, uint64_t transfer);

  Shared& shared_;
  std::vector<ChangeId> parked_;
  std::optional<Asked> asked_;
  std::deque<Waiting> waiting_;  // large transactions
  uint64_t next_transfer_ = 1;
  Instant not_before_{}, snapshot_not_before_{};
  int failures_ = 0;
  std::map<uint64_t, Serving> serving_;
  uint64_t next_serving_ = 1;
};

}  // namespace patina::gossip

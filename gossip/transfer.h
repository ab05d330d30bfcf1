#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gossip/shared.h"

namespace patina::gossip {

/// Whole-difference transfers, for what no log has any more: receiver and sender. Chunks are pulled
/// one by one, so a slow receiver holds back its sender and nobody else. One thread.
class Transfer {
 public:
  explicit Transfer(Shared& shared) : shared_(shared) {}

  // Receiver.
  /// Asks the member for a transfer, unless one runs or the last failed just now.
  void Want(const Member& from, Instant now, Outputs& out);
  bool Running() const { return asked_.has_value(); }
  void OnChunk(const std::string& from, const TransferChunk& chunk, Instant now, Outputs& out);
  void OnRefused(const std::string& from, const TransferRefused& refused, Instant now,
                 Outputs& out);
  void OnStaged(uint64_t transfer, uint64_t number, Instant now, Outputs& out);
  void OnMerged(uint64_t transfer, const crdt::VersionSet& received, Instant now);
  void OnFailed(uint64_t transfer, Instant now, Outputs& out);
  /// Received, but not applied here: a transfer has to bring them again.
  void SetParked(std::vector<ChangeId> parked) { parked_ = std::move(parked); }

  // Sender.
  void OnRequest(const Member& from, const TransferRequest& request, Instant now, Outputs& out);
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
    Instant deadline{};
  };
  struct Serving {
    std::string peer;
    uint64_t transfer = 0;
    uint64_t next_number = 0;
    bool reading = true;
    Instant deadline{};
  };

  crdt::VersionSet Applied() const;
  void Fail(Instant now, bool abandon, Outputs* out);
  std::map<uint64_t, Serving>::iterator FindServing(const std::string& peer, uint64_t transfer);

  Shared& shared_;
  std::vector<ChangeId> parked_;
  std::optional<Asked> asked_;
  uint64_t next_transfer_ = 1;
  Instant not_before_{};
  int failures_ = 0;
  std::map<uint64_t, Serving> serving_;
  uint64_t next_serving_ = 1;
};

}  // namespace patina::gossip

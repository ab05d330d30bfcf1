#pragma once

#include <map>
#include <string>
#include <vector>

#include "gossip/shared.h"

namespace patina::gossip {

/// Answers peers' SyncRequests from this node's log, by way of a storage reader. One thread.
class SyncServer {
 public:
  explicit SyncServer(Shared& shared) : shared_(shared) {}

  void OnRequest(const Member& from, const SyncRequest& request, Instant now, Outputs& out);
  void OnLogRead(uint64_t read, std::vector<Change> changes,
                 std::vector<crdt::ActorRanges> not_at_hand, Outputs& out);

 private:
  struct Read {
    std::string peer;
    uint64_t request = 0;
    Instant since{};
  };

  Shared& shared_;
  std::map<uint64_t, Read> reads_;
  uint64_t next_read_ = 1;
};

}  // namespace patina::gossip

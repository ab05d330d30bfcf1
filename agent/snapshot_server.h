#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/transfer_server.h"
#include "storage/snapshot_chunks.h"

namespace patina::agent {

/// Serves copies of the node's file to peers. A copy is made once for all who ask while it is made
/// or within kShared after, and removed when nobody reads it any more. The net thread's.
class SnapshotServer {
 public:
  SnapshotServer(const Config& config, Writer* writer, ReaderPool* readers,
                 TransferServer::Post post, TransferServer::Answers answers);
  ~SnapshotServer();

  /// Answers with chunk 0, or failed: the schemas differ, or the tables hold fewer rows than
  /// rows_min.
  void Open(const gossip::Outputs::OpenTransfer& open);
  bool Serves(uint64_t serving) const { return asked_.contains(serving); }
  void Read(uint64_t serving, uint64_t number);
  void Close(uint64_t serving);
  /// Lets an old copy go. Now and then.
  void Sweep();

 private:
  using Copy = std::shared_ptr<const storage::SnapshotCopy>;
  struct Asked {
    uint64_t schema = 0;
    uint64_t rows_min = 0;
    Copy copy;  // none until it is made
  };
  /// A copy that was made, and what it is of.
  struct Made {
    Copy copy;
    uint64_t rows = 0;
    uint64_t schema = 0;
  };

  void Make();
  void OnMade(const Result<Made>& made);
  void Begin(uint64_t serving);

  const Config& config_;
  const std::string path_;
  Writer* const writer_;
  ReaderPool* const readers_;
  const TransferServer::Post post_;
  const TransferServer::Answers answers_;
  std::map<uint64_t, Asked> asked_;
  bool making_ = false;
  Made made_;
  Instant made_at_{};
};

}  // namespace patina::agent

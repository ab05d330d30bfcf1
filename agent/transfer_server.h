#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "agent/reader_pool.h"
#include "agent/writer.h"
#include "gossip/node.h"

namespace patina::agent {

/// Serves whole-difference transfers: each has a storage reader of its own that holds one read
/// snapshot, taken on the writer thread right after a checkpoint, so that no commit comes between.
/// And the chunks of large transactions, each read for itself.
/// The net thread's.
class TransferServer {
 public:
  /// Runs something on the net thread; after the net has stopped: never. Any thread may call it.
  using Post = std::function<void(std::function<void()>)>;
  struct Answers {  // on the net thread
    std::function<void(uint64_t serving, uint64_t number, gossip::SharedBytes, bool last)> chunk;
    std::function<void(uint64_t serving, std::string reason)> failed;
  };

  TransferServer(std::string path, Writer* writer, ReaderPool* readers, Post post, Answers answers);
  ~TransferServer();

  /// Answers with chunk 0.
  void Open(gossip::Outputs::OpenTransfer open);
  /// The next chunk, or the last one again.
  void Read(uint64_t serving, uint64_t number);
  void Close(uint64_t serving);
  /// Now and then: gives up those that wait for their receiver while their snapshot keeps the
  /// write-ahead log too large (storage::Snapshots).
  void EndTold();

 private:
  struct Session;
  void Begin(const std::shared_ptr<Session>& session);
  void ReadNext(const std::shared_ptr<Session>& session);
  void Fail(uint64_t serving, std::string reason);
  void OnChunk(uint64_t serving, Result<storage::Reader::TransferChunk> chunk);

  const std::string path_;
  Writer* const writer_;
  ReaderPool* const readers_;
  const Post post_;
  const Answers answers_;
  std::map<uint64_t, std::shared_ptr<Session>> sessions_;
};

}  // namespace patina::agent

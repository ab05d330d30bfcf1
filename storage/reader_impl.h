#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "crdt/actor_table.h"
#include "storage/db.h"
#include "storage/log.h"
#include "storage/reader.h"

namespace patina::storage {

class TransferSource;

/// What client SQL touches while it is prepared.
struct ReadWatch {
  std::set<QueryReads::Read> reads;
  std::set<std::string> functions;
};

/// The authorizer's context: it looks at client SQL only. It is set once, because setting it makes
/// SQLite prepare every statement anew.
struct ReadGuard {
  bool client_sql = false;
  ReadWatch* watch = nullptr;
};

class Reader::Impl {
 public:
  Impl(Db connection, ReaderOptions options);
  ~Impl();

  Status PrepareLog();
  /// Where entries after the checkpoint stand: the log's index does not know them yet.
  Status ReadTail();
  Result<LogRange> ReadLog(const std::vector<crdt::ActorRanges>& wanted, uint64_t bytes_max);
  /// -1 if the file does not know the actor.
  Result<int64_t> ActorIndexOf(const ActorId& actor);
  Result<SharedBytes> LogBytes(int64_t seq);
  /// Adds what the log has of the range, and to gone what it has not.
  Status ReadLogRange(const ActorId& actor, int64_t actor_index, crdt::VersionRange range,
                      uint64_t bytes_max, uint64_t* bytes, LogRange* answer,
                      std::vector<crdt::VersionRange>* gone);
  Status BeginTransfer(const Schema& schema, const crdt::VersionSet& receiver_applied);
  Result<TransferChunk> NextTransferChunk(size_t bytes_max);
  void EndTransfer();

  Snapshots::Place place;
  Db db;
  Stmt log_index_range, log_bytes, log_after, actor_index, parked_range;
  struct TailEntry {
    int64_t actor_index;
    uint64_t version;
    int64_t seq;
    auto operator<=>(const TailEntry&) const = default;
  };
  std::vector<TailEntry> tail;  // of the snapshot that is read, in order
  std::unique_ptr<TransferSource> transfer;
  std::unique_ptr<ReadGuard> guard = std::make_unique<ReadGuard>();
};

}  // namespace patina::storage

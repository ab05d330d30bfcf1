#pragma once

#include <memory>
#include <string>
#include <vector>

#include "crdt/actor_table.h"
#include "storage/db.h"
#include "storage/log.h"
#include "storage/reader.h"

namespace patina::storage {

class TransferSource;

class Reader::Impl {
 public:
  explicit Impl(Db connection);
  ~Impl();

  Status PrepareLog();
  /// -1 if the file does not know the actor.
  Result<int64_t> ActorIndexOf(const ActorId& actor);
  /// Adds what the log has of the range, and to gone what it has not.
  Status ReadLogRange(const ActorId& actor, int64_t actor_index, crdt::VersionRange range, uint64_t bytes_max,
                      uint64_t* bytes, LogRange* answer, std::vector<crdt::VersionRange>* gone);
  Status BeginTransfer(const Schema& schema, const crdt::VersionSet& receiver_applied);
  Result<TransferChunk> NextTransferChunk(size_t bytes_max);
  void EndTransfer();

  Db db;
  Stmt log_range, log_after, actor_index, parked_range;
  std::unique_ptr<TransferSource> transfer;
};

}  // namespace patina::storage

#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "crdt/actor_table.h"
#include "crdt/row_clock.h"
#include "crdt/version_set.h"
#include "storage/db.h"
#include "storage/schema.h"

namespace patina::storage {

/// Reads from one read snapshot what another node lacks, as the stream of transfer_format.h. Its
/// thread is the reader's; the connection must stay in the snapshot while it lives.
class TransferSource {
 public:
  /// db is in a read transaction, right after a checkpoint. Both outlive the source.
  static Result<std::unique_ptr<TransferSource>> Open(Db* db, const Schema& schema,
                                                      const crdt::VersionSet& receiver_applied);

  /// About bytes_max of the stream; *last when it is the end of it.
  Result<std::string> Next(size_t bytes_max, bool* last);

 private:
  TransferSource(Db* db, const Schema& schema, const crdt::VersionSet& receiver_applied)
      : db_(db), schema_(schema), receiver_(receiver_applied) {}

  Status WriteHeader();
  Status BeginTable();
  Status OpenRows(bool dead);
  /// False at the end of the rows that are open.
  Result<bool> NextRow(std::string* out);
  Status ReadLive(std::string* key, std::vector<crdt::ValueView>* values, crdt::RowClock* clock);
  void WriteRow(std::string_view key, const std::vector<crdt::ValueView>& values,
                const crdt::RowClock& clock, std::string* out);
  bool Lacks(const crdt::Stamp& stamp) const {
    return !stamp.IsNever() && !receiver_.Contains({actors_.Get(stamp.actor), stamp.version});
  }

  Db* db_;
  Schema schema_;
  crdt::VersionSet receiver_;
  crdt::ActorTable actors_;
  std::unordered_map<crdt::ActorIndex, uint64_t> dictionary_;
  std::string pending_;  // header, waiting to be sent
  size_t table_ = 0;
  enum class Phase { kBegin, kLive, kDead, kDone } phase_ = Phase::kBegin;
  Stmt rows_;
  Stmt clock_of_key_;  // of a WITHOUT ROWID table
};

}  // namespace patina::storage

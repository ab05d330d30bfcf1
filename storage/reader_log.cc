#include "storage/reader_impl.h"

namespace patina::storage {

Status Reader::Impl::PrepareLog() {
  if (log_range) return OkStatus();
  ASSIGN_OR_RETURN(actor_index, db.Prepare("SELECT id FROM __patina_actor WHERE actor = ?"));
  // What is parked is received, too, and others may need it.
  ASSIGN_OR_RETURN(
      log_range,
      db.Prepare(
          "SELECT version, bytes FROM __patina_log WHERE actor = ?1 AND version BETWEEN ?2 AND ?3 "
          "AND kind = 0 UNION ALL "
          "SELECT version, bytes FROM __patina_parked WHERE actor = ?1 AND version BETWEEN ?2 "
          "AND ?3 ORDER BY version"));
  return OkStatus();
}

Result<int64_t> Reader::Impl::ActorIndexOf(const ActorId& actor) {
  StmtScope scope(actor_index);
  actor_index.BindBlob(1, actor.AsBytes());
  ASSIGN_OR_RETURN(const bool row, actor_index.Step());
  return row ? actor_index.ColumnInt(0) : -1;
}

Status Reader::Impl::ReadLogRange(const ActorId& actor, int64_t index, crdt::VersionRange range,
                                  uint64_t bytes_max, uint64_t* bytes, LogRange* answer,
                                  std::vector<crdt::VersionRange>* gone) {
  StmtScope scope(log_range);
  log_range.BindInt(1, index);
  log_range.BindInt(2, static_cast<int64_t>(range.first));
  log_range.BindInt(3, static_cast<int64_t>(range.last));
  uint64_t next = range.first;
  while (true) {
    ASSIGN_OR_RETURN(const bool row, log_range.Step());
    if (!row) break;
    const auto version = static_cast<uint64_t>(log_range.ColumnInt(0));
    if (version < next) continue;
    if (version > next) gone->push_back({next, version - 1});
    if (*bytes >= bytes_max) {
      answer->complete = false;
      return OkStatus();
    }
    answer->changes.emplace_back(ChangeId{actor, version},
                                 std::make_shared<const std::string>(log_range.ColumnBytes(1)));
    *bytes += answer->changes.back().second->size() + 32;
    next = version + 1;
  }
  if (next <= range.last) gone->push_back({next, range.last});
  return OkStatus();
}

}  // namespace patina::storage

#include <algorithm>

#include "base/log.h"
#include "storage/reader_impl.h"

// What the log holds of given versions: found by its index up to the checkpoint, by a scan after
// it.

namespace patina::storage {

Status Reader::Impl::PrepareLog() {
  if (log_index_range) return OkStatus();
  ASSIGN_OR_RETURN(actor_index, db.Prepare("SELECT id FROM __patina_actor WHERE actor = ?"));
  ASSIGN_OR_RETURN(log_bytes, db.Prepare("SELECT bytes FROM __patina_log WHERE seq = ?"));
  // What is parked is received, too, and others may need it.
  ASSIGN_OR_RETURN(parked_range,
                   db.Prepare("SELECT version, bytes FROM __patina_parked WHERE actor = ? AND "
                              "version BETWEEN ? AND ? ORDER BY version"));
  ASSIGN_OR_RETURN(log_index_range,
                   db.Prepare("SELECT version, seq FROM __patina_log_index WHERE actor = ? AND "
                              "version BETWEEN ? AND ? ORDER BY version"));
  return OkStatus();
}

Status Reader::Impl::ReadTail() {
  tail.clear();
  ASSIGN_OR_RETURN(
      Stmt scan,
      db.Prepare("SELECT actor, version, seq FROM __patina_log WHERE kind <> 1 AND seq > (SELECT "
                 "coalesce((SELECT value FROM __patina_state WHERE name = 'last_seq'), 0))",
                 false));
  while (true) {
    ASSIGN_OR_RETURN(const bool row, scan.Step());
    if (!row) break;
    tail.push_back(
        {scan.ColumnInt(0), static_cast<uint64_t>(scan.ColumnInt(1)), scan.ColumnInt(2)});
  }
  std::sort(tail.begin(), tail.end());
  return OkStatus();
}

Result<int64_t> Reader::Impl::ActorIndexOf(const ActorId& actor) {
  StmtScope scope(actor_index);
  actor_index.BindBlob(1, actor.AsBytes());
  ASSIGN_OR_RETURN(const bool row, actor_index.Step());
  return row ? actor_index.ColumnInt(0) : -1;
}

Result<SharedBytes> Reader::Impl::LogBytes(int64_t seq) {
  StmtScope scope(log_bytes);
  log_bytes.BindInt(1, seq);
  ASSIGN_OR_RETURN(const bool row, log_bytes.Step());
  if (!row) return DataLoss(StrCat("the log's index names entry ", seq, ", which is not there"));
  return std::make_shared<const std::string>(log_bytes.ColumnBytes(0));
}

Result<Reader::LogRange> Reader::Impl::ReadLog(const std::vector<crdt::ActorRanges>& wanted,
                                               uint64_t bytes_max) {
  RETURN_IF_ERROR(PrepareLog());
  RETURN_IF_ERROR(ReadTail());
  LogRange answer;
  uint64_t bytes = 0;
  for (const crdt::ActorRanges& actor : wanted) {
    ASSIGN_OR_RETURN(const int64_t index, ActorIndexOf(actor.actor));
    crdt::ActorRanges gone{actor.actor, {}};
    for (const crdt::VersionRange& range : actor.ranges) {
      if (bytes >= bytes_max) {
        answer.complete = false;
        break;
      }
      RETURN_IF_ERROR(
          ReadLogRange(actor.actor, index, range, bytes_max, &bytes, &answer, &gone.ranges));
    }
    if (!gone.ranges.empty()) answer.not_at_hand.push_back(std::move(gone));
  }
  return answer;
}

namespace {

/// The next row's version, UINT64_MAX after the last.
Result<uint64_t> StepVersion(Stmt& statement) {
  ASSIGN_OR_RETURN(const bool row, statement.Step());
  return row ? static_cast<uint64_t>(statement.ColumnInt(0)) : UINT64_MAX;
}

void BindRange(Stmt& statement, int64_t index, const crdt::VersionRange& range) {
  statement.BindInt(1, index);
  statement.BindInt(2, static_cast<int64_t>(range.first));
  statement.BindInt(3, static_cast<int64_t>(range.last));
}

}  // namespace

Status Reader::Impl::ReadLogRange(const ActorId& actor, int64_t index, crdt::VersionRange range,
                                  uint64_t bytes_max, uint64_t* bytes, LogRange* answer,
                                  std::vector<crdt::VersionRange>* gone) {
  // A version stands in one of three places, each in order.
  StmtScope index_scope(log_index_range), parked_scope(parked_range);
  BindRange(log_index_range, index, range);
  BindRange(parked_range, index, range);
  auto in_tail =
      std::lower_bound(tail.begin(), tail.end(), TailEntry{index, range.first, INT64_MIN});
  ASSIGN_OR_RETURN(uint64_t indexed, StepVersion(log_index_range));
  ASSIGN_OR_RETURN(uint64_t parked, StepVersion(parked_range));
  for (uint64_t next = range.first;;) {
    const uint64_t newer =
        in_tail != tail.end() && in_tail->actor_index == index && in_tail->version <= range.last
            ? in_tail->version
            : UINT64_MAX;
    const uint64_t version = std::min({indexed, parked, newer});
    if (version == UINT64_MAX) {
      if (next <= range.last) gone->push_back({next, range.last});
      return OkStatus();
    }
    if (version > next) gone->push_back({next, version - 1});
    if (*bytes >= bytes_max) {
      answer->complete = false;
      return OkStatus();
    }
    SharedBytes changeset;
    if (version == parked) {
      changeset = std::make_shared<const std::string>(parked_range.ColumnBytes(1));
    } else {
      ASSIGN_OR_RETURN(changeset,
                       LogBytes(version == newer ? in_tail->seq : log_index_range.ColumnInt(1)));
    }
    if (version == newer) ++in_tail;
    if (version == indexed) {
      ASSIGN_OR_RETURN(indexed, StepVersion(log_index_range));
    }
    if (version == parked) {
      ASSIGN_OR_RETURN(parked, StepVersion(parked_range));
    }
    *bytes += changeset->size() + 32;
    answer->changes.emplace_back(ChangeId{actor, version}, std::move(changeset));
    next = version + 1;
  }
}

}  // namespace patina::storage

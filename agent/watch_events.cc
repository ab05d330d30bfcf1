#include "agent/watch_events.h"

#include <limits>
#include <string>

#include "crdt/changeset.h"
#include "patina/v1/state.pb.h"
#include "proto/convert.h"
#include "storage/log.h"

namespace patina::agent {
namespace {

/// What is in the log passed the limits when it was written; they may have been lowered since.
crdt::ChangesetLimits NoLimits() {
  crdt::ChangesetLimits limits;
  limits.bytes_max = limits.rows_max = limits.tables_max = std::numeric_limits<size_t>::max();
  limits.name_bytes_max = limits.key_values_max = std::numeric_limits<size_t>::max();
  return limits;
}

Error Unreadable(const storage::LogEntry& entry, std::string_view why) {
  return DataLoss("log entry " + std::to_string(entry.seq) + ": " + std::string(why));
}

void FillCommon(const storage::LogEntry& entry, v1::WatchEvent* event) {
  if (entry.id.version > 0) proto::ToProto(entry.id, event->mutable_id());
  event->set_time_ns(proto::ToNs(entry.time));
  event->set_change_number(entry.seq);
}

/// One row. Reads its bits from effects whether the row is wanted or not.
Status AppendRow(const storage::LogEntry& entry, const crdt::TableChange& table,
                 const crdt::RowOp& row, bool wanted, storage::EffectReader& effects,
                 v1::WatchResponse* response) {
  const bool existence = row.says != crdt::Says::kNothing && effects.Next();
  v1::WatchEvent event;
  for (size_t i = 0; i < row.values.size(); ++i) {
    if (!effects.Next() || !wanted) continue;
    event.add_columns(std::string(table.columns[row.positions[i]].name));
    proto::ToProto(row.values[i], event.add_values());
  }
  if (!wanted || (!existence && event.columns_size() == 0)) return OkStatus();
  const bool deleted = existence && row.says == crdt::Says::kDeleted;
  event.set_kind(deleted     ? v1::WatchEvent::KIND_DELETE
                 : existence ? v1::WatchEvent::KIND_INSERT
                             : v1::WatchEvent::KIND_UPDATE);
  RETURN_IF_ERROR(proto::UnpackToProto(row.key, event.mutable_key()));
  FillCommon(entry, &event);
  *response->add_events() = std::move(event);
  return OkStatus();
}

}  // namespace

Status AppendWatchEvents(const storage::LogEntry& entry, std::string_view table,
                         v1::WatchResponse* response) {
  if (entry.rows_unknown) {
    v1::WatchEvent* event = response->add_events();
    event->set_kind(v1::WatchEvent::KIND_RESET);
    FillCommon(entry, event);
    return OkStatus();
  }
  if (!entry.bytes) return Unreadable(entry, "no changeset");
  Result<crdt::ChangesetReader> reader = crdt::ChangesetReader::Open(*entry.bytes, NoLimits());
  if (!reader.ok()) return Unreadable(entry, reader.error().message);
  storage::EffectReader effects(entry.effect);
  crdt::TableChange change;
  crdt::RowOp row;
  for (;;) {
    const Result<bool> has_table = reader->NextTable(&change);
    if (!has_table.ok()) return Unreadable(entry, has_table.error().message);
    if (!*has_table) return OkStatus();
    const bool wanted = change.name == table;
    if (!wanted && entry.effect.empty()) continue;  // no bits to count
    for (;;) {
      const Result<bool> has_row = reader->NextRow(&row);
      if (!has_row.ok()) return Unreadable(entry, has_row.error().message);
      if (!*has_row) break;
      RETURN_IF_ERROR(AppendRow(entry, change, row, wanted, effects, response));
    }
  }
}

}  // namespace patina::agent

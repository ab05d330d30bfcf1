#include "subscribe/query.h"

#include <algorithm>
#include <optional>
#include <span>

#include "base/bytes.h"
#include "base/check.h"
#include "base/log.h"

namespace patina::subscribe {
namespace {

using Values = std::span<const crdt::ValueView>;

/// As crdt::PackValues, of a part of a row.
void Pack(Values values, std::string* packed) {
  packed->clear();
  ByteWriter out(packed);
  out.Varint(values.size());
  for (const auto& value : values) crdt::EncodeValue(value, out);
}

/// Splits a row of the plan's SQL into the client's columns and the key.
class RowSplitter {
 public:
  explicit RowSplitter(const Plan& plan)
      : columns_(plan.columns.size()), key_columns_(plan.key_columns) {}

  bool Split(const std::vector<crdt::ValueView>& row) {
    if (row.size() != columns_ + key_columns_) return false;
    Pack(Values(row).first(columns_), &values);
    if (key_columns_ > 0) Pack(Values(row).last(key_columns_), &key);
    return true;
  }

  std::string values, key;  // of the last row

 private:
  const size_t columns_, key_columns_;
};

class Rebuilder final : public storage::RowSink {
 public:
  Rebuilder(const Plan& plan, ResultSet* result) : splitter_(plan), result_(*result) {}
  bool OnColumns(const std::vector<std::string>&) override { return true; }
  bool OnRow(const std::vector<crdt::ValueView>& row) override {
    well_formed = splitter_.Split(row);
    if (well_formed) result_.Add(splitter_.key, splitter_.values);
    return well_formed;
  }
  bool well_formed = true;

 private:
  RowSplitter splitter_;
  ResultSet& result_;
};

storage::Statement WithSql(storage::Statement statement, const std::string& sql) {
  statement.sql = sql;
  return statement;
}

/// What the subscriber is told instead of the reader's error.
Error Why(Error error, Duration deadline) {
  if (error.code == Errc::kDeadlineExceeded) {
    error.message = StrCat("the query took longer than ", ToMs(deadline),
                           " ms (limits.subscription_query_deadline_ms): live queries share one "
                           "thread; make it cheaper, or raise the limit");
  } else if (error.code == Errc::kCancelled) {
    error = Unavailable("the agent is stopping");
  }
  return error;
}

}  // namespace

Query::Query(uint64_t id, storage::Statement statement, Plan plan, const EngineLimits& limits)
    : id_(id),
      asked_(std::move(statement)),
      statement_(WithSql(asked_, plan.sql)),
      plan_(std::move(plan)),
      rows_max_(limits.result_rows_max),
      deadline_(limits.query_deadline),
      result_(plan_.key_columns > 0),
      history_(limits.history_bytes_max) {}

Status Query::Evaluate(storage::Reader& reader, const std::atomic<bool>* cancelled,
                       std::vector<Event>* events) {
  ASSIGN_OR_RETURN(const uint64_t seq, reader.BeginSnapshot());
  storage::QueryLimits limits;
  limits.deadline = deadline_;
  limits.rows_max = rows_max_;
  limits.cancelled = cancelled;
  result_.BeginRebuild();
  Rebuilder rebuilder(plan_, &result_);
  const Status status = reader.Query(statement_, limits, rebuilder);
  reader.EndSnapshot();
  if (!status.ok()) return Why(status.error(), deadline_);
  if (!rebuilder.well_formed) return Aborted("the tables' columns changed: subscribe again");
  as_of_ = std::max(as_of_, seq);
  dirty_ = false;
  result_.FinishRebuild(as_of_, events);
  return OkStatus();
}

Status Query::ApplyRows(const std::vector<const storage::RowEffect*>& rows, Probe& probe,
                        uint64_t change_number, std::vector<Event>* events) {
  CHECK(plan_.incremental && !dirty_);
  if (!probe_query_) {
    ASSIGN_OR_RETURN(probe_query_, probe.Prepare(plan_.sql));
  }
  std::vector<std::pair<std::string, std::string>> found;  // key, values
  RowSplitter splitter(plan_);
  bool well_formed = true;
  RETURN_IF_ERROR(probe.Run(*probe_query_, statement_, [&](const auto& row) {
    well_formed = well_formed && splitter.Split(row);
    if (well_formed) found.emplace_back(std::move(splitter.key), std::move(splitter.values));
  }));
  if (!well_formed) return Aborted("the tables' columns changed");
  std::sort(found.begin(), found.end());
  for (const auto* row : rows) {
    const auto entry = std::lower_bound(
        found.begin(), found.end(), row->key,
        [](const auto& candidate, const std::string& key) { return candidate.first < key; });
    std::optional<std::string_view> values;
    if (entry != found.end() && entry->first == row->key) values = entry->second;
    result_.Apply(row->key, values, change_number, events);
  }
  as_of_ = change_number;
  if (result_.size() <= rows_max_) return OkStatus();
  return ResourceExhausted(StrCat("the query's answer has more than ", rows_max_, " rows"));
}

void Query::Replan(Plan plan) {
  CHECK(plan.sql == plan_.sql && plan.columns == plan_.columns &&
        plan.key_columns == plan_.key_columns);
  plan_ = std::move(plan);
  probe_query_.reset();  // of a table that may be gone
}

std::vector<EventBatch> Query::SnapshotBatches(uint64_t change_number, bool without_rows) const {
  std::vector<Event> events = *ColumnsBatch();
  if (!without_rows) result_.Snapshot(&events);
  Event end;
  end.kind = EventKind::kEndOfSnapshot;
  end.change_number = change_number;
  events.push_back(std::move(end));
  return IntoBatches(std::move(events));
}

EventBatch Query::ColumnsBatch() const {
  std::vector<Event> events(1);
  events.front().kind = EventKind::kColumns;
  events.front().columns = plan_.columns;
  return std::make_shared<const std::vector<Event>>(std::move(events));
}

void Query::Publish(uint64_t change_number, std::vector<Event> events) {
  for (const EventBatch& batch : IntoBatches(std::move(events))) {
    history_.Add(change_number, batch);
    Tell(batch);
  }
}

void Query::Tell(const EventBatch& batch) const {
  for (const auto& [id, subscriber] : subscribers) subscriber->OnEvents(batch);
}

void Query::MarkDirty(uint64_t last_right) {
  if (dirty_) return;
  dirty_ = true;
  as_of_ = std::max(as_of_, last_right);
}

}  // namespace patina::subscribe

#include "tests/subscribe/test_support.h"

#include <algorithm>

#include "base/check.h"
#include "base/log.h"

namespace patina::subscribe {

namespace {

template <class T>
T Must(Result<T> result) {
  CHECK_MSG(result.ok(), result.error().message);
  return std::move(*result);
}
void Must(Status status) { CHECK_MSG(status.ok(), status.error().message); }

class Collect final : public storage::RowSink {
 public:
  bool OnColumns(const std::vector<std::string>&) override { return true; }
  bool OnRow(const std::vector<crdt::ValueView>& values) override {
    rows.push_back(crdt::PackValues(values));
    return true;
  }
  std::vector<std::string> rows;
};

}  // namespace

ModelStore::ModelStore(const std::string& schema_sql)
    : schema_(Must(storage::ParseSchema(schema_sql))) {
  const std::string path = folder_.File("model.db");
  db_ = Must(storage::Db::Open(path, storage::Db::Mode::kReadWriteCreate));
  Must(
      db_->Exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;"
                "CREATE TABLE __patina_log (seq INTEGER PRIMARY KEY);"
                "CREATE TABLE __patina_state (name TEXT PRIMARY KEY, value)"));
  for (const auto& table : schema_.tables) Must(db_->Exec(table.create_sql));
  reader_ = Must(storage::Reader::Open(path));
  wanted.assign(schema_.tables.size(), false);
}

ModelStore::Rows ModelStore::Dump(const storage::Table& table) {
  storage::Stmt statement =
      Must(db_->Prepare("SELECT * FROM " + storage::QuoteName(table.name), false));
  Rows rows;
  while (Must(statement.Step())) {
    std::vector<crdt::ValueView> row, key(table.key.size());
    for (int i = 0; i < statement.column_count(); ++i) row.push_back(statement.Column(i));
    for (size_t i = 0; i < row.size(); ++i) {
      if (table.order[i].in_key) key[table.order[i].index] = row[i];
    }
    rows[crdt::PackValues(key)] = crdt::PackValues(row);
  }
  return rows;
}

storage::CommitEffects ModelStore::Commit(const std::vector<std::string>& statements,
                                          uint64_t entries) {
  std::vector<Rows> before;
  for (const auto& table : schema_.tables) before.push_back(Dump(table));
  storage::CommitEffects effects;
  effects.first_seq = last_seq_ + 1;
  Must(db_->Exec("BEGIN IMMEDIATE"));
  for (const auto& sql : statements) (void)db_->Exec(sql);
  for (uint64_t i = 0; i < entries; ++i) {
    Must(db_->Exec(StrCat("INSERT INTO __patina_log VALUES (", ++last_seq_, ")")));
  }
  Must(db_->Exec("COMMIT"));
  effects.last_seq = last_seq_;
  for (uint32_t i = 0; i < schema_.tables.size(); ++i) {
    const Rows after = Dump(schema_.tables[i]);
    effects.tables_changed.push_back(after != before[i]);
    if (!wanted[i]) continue;
    for (const auto& [key, row] : before[i]) {
      const auto now = after.find(key);
      if (now == after.end()) {
        effects.rows.push_back({i, last_seq_, key, row, std::nullopt});
      } else if (now->second != row) {
        effects.rows.push_back({i, last_seq_, key, row, now->second});
      }
    }
    for (const auto& [key, row] : after) {
      if (!before[i].contains(key)) effects.rows.push_back({i, last_seq_, key, std::nullopt, row});
    }
  }
  return effects;
}

std::vector<std::string> Answer(storage::Reader& reader, const storage::Statement& statement) {
  Collect collect;
  Must(reader.Query(statement, {}, collect));
  std::sort(collect.rows.begin(), collect.rows.end());
  return std::move(collect.rows);
}

std::string Show(const std::vector<std::string>& rows) {
  std::string text;
  for (const auto& row : rows) {
    std::vector<crdt::ValueView> values;
    crdt::UnpackValues(row, 1000, &values);
    text += "(";
    for (const auto& value : values) text += value.ToString() + " ";
    text += ") ";
  }
  return text;
}

void Folder::OnEvents(EventBatch batch) {
  EXPECT_FALSE(batch->empty());
  for (const Event& event : *batch) OnEvent(event);
}

void Folder::OnEvent(const Event& event) {
  ++counts_[event.kind];
  EXPECT_TRUE(last_error.empty()) << "an event after an error";
  const auto number_grows = [&] {
    EXPECT_GE(event.change_number, position);
    position = std::max(position, event.change_number);
  };
  switch (event.kind) {
    case EventKind::kColumns:
      columns = event.columns;
      break;
    case EventKind::kReset:
      last_reset = event.reason;
      rows.clear();
      position = 0;
      complete = false;
      break;
    case EventKind::kRow:
      EXPECT_FALSE(complete);
      EXPECT_TRUE(rows.emplace(event.row_id, event.values).second) << "row id twice";
      break;
    case EventKind::kEndOfSnapshot:
      number_grows();
      complete = true;
      break;
    case EventKind::kInsert:
      number_grows();
      EXPECT_TRUE(rows.emplace(event.row_id, event.values).second) << "insert of a row known";
      changes.push_back(event);
      break;
    case EventKind::kUpdate:
      number_grows();
      EXPECT_TRUE(rows.contains(event.row_id)) << "update of a row unknown";
      EXPECT_NE(rows[event.row_id], event.values) << "update that changes nothing";
      rows[event.row_id] = event.values;
      changes.push_back(event);
      break;
    case EventKind::kDelete:
      number_grows();
      EXPECT_TRUE(rows.contains(event.row_id)) << "delete of a row unknown";
      EXPECT_EQ(rows[event.row_id], event.values) << "delete with other values";
      rows.erase(event.row_id);
      changes.push_back(event);
      break;
    case EventKind::kHeartbeat:
      number_grows();
      break;
    case EventKind::kError:
      last_error = event.reason;
      break;
  }
}

std::vector<std::string> Folder::Rows() const {
  std::vector<std::string> values;
  for (const auto& [id, row] : rows) values.push_back(row);
  std::sort(values.begin(), values.end());
  return values;
}

size_t Folder::Count(EventKind kind) const {
  const auto found = counts_.find(kind);
  return found == counts_.end() ? 0 : found->second;
}

storage::Statement Sql(std::string sql, std::vector<crdt::Value> positional) {
  return {std::move(sql), std::move(positional), {}};
}

}  // namespace patina::subscribe

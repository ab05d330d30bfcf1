#include "subscribe/probe.h"

#include <unordered_map>
#include <utility>

#include "base/log.h"
#include "storage/db.h"

namespace patina::subscribe {

class Probe::Query {
 public:
  explicit Query(storage::Stmt prepared) : statement(std::move(prepared)) {}
  storage::Stmt statement;
};

class Probe::Impl {
 public:
  explicit Impl(storage::Db db) : database(std::move(db)) {}

  storage::Db database;
  storage::Stmt insert, clear;
  size_t columns = 0;
  bool filled = false;
  std::unordered_map<std::string, std::weak_ptr<Query>> queries;
  size_t sweep_at = 64;  // queries.size() at which forgotten ones are taken out
  std::vector<crdt::ValueView> values;

  Status Insert(std::string_view row) {
    if (!crdt::UnpackValues(row, columns, &values) || values.size() != columns) {
      return Internal("subscription probe: a row of another number of columns");
    }
    for (size_t i = 0; i < columns; ++i) insert.Bind(static_cast<int>(i) + 1, values[i]);
    return insert.Run();
  }
};

Probe::Probe(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Probe::~Probe() = default;

Result<std::unique_ptr<Probe>> Probe::Open(const storage::Table& table) {
  ASSIGN_OR_RETURN(storage::Db database, storage::Db::Open(":memory:", storage::Db::Mode::kMemory));
  auto impl = std::make_unique<Impl>(std::move(database));
  impl->columns = table.order.size();
  // One transaction that never ends: nothing here is ever read by others or after a crash. Merges
  // do not ask CHECKs, so rows that break them exist.
  RETURN_IF_ERROR(
      impl->database.Exec("PRAGMA cache_size = -64; PRAGMA ignore_check_constraints = ON; PRAGMA "
                          "journal_mode = MEMORY; " +
                          table.create_sql + "; BEGIN"));
  const std::string name = storage::QuoteName(table.name);
  std::string insert = "INSERT INTO " + name + " VALUES (?";
  for (size_t i = 1; i < impl->columns; ++i) insert += ", ?";
  ASSIGN_OR_RETURN(impl->insert, impl->database.Prepare(insert + ")"));
  ASSIGN_OR_RETURN(impl->clear, impl->database.Prepare("DELETE FROM " + name));
  return std::unique_ptr<Probe>(new Probe(std::move(impl)));
}

Result<std::shared_ptr<Probe::Query>> Probe::Prepare(const std::string& sql) {
  const auto known = impl_->queries.find(sql);
  if (known != impl_->queries.end()) {
    if (auto query = known->second.lock()) return query;
  }
  ASSIGN_OR_RETURN(storage::Stmt statement, impl_->database.Prepare(sql));
  auto query = std::make_shared<Query>(std::move(statement));
  if (impl_->queries.size() >= impl_->sweep_at) {
    std::erase_if(impl_->queries, [](const auto& entry) { return entry.second.expired(); });
    impl_->sweep_at = 64 + 2 * impl_->queries.size();
  }
  impl_->queries[sql] = query;
  return query;
}

Status Probe::Fill(const std::vector<std::string_view>& rows) {
  if (impl_->filled) RETURN_IF_ERROR(impl_->clear.Run());
  impl_->filled = !rows.empty();
  for (const std::string_view row : rows) RETURN_IF_ERROR(impl_->Insert(row));
  return OkStatus();
}

Status Probe::Run(Query& query, const storage::Statement& parameters,
                  const std::function<void(const std::vector<crdt::ValueView>&)>& on_row) {
  storage::Stmt& statement = query.statement;
  const storage::StmtScope reset(statement);
  for (size_t i = 0; i < parameters.positional.size(); ++i) {
    statement.Bind(static_cast<int>(i) + 1, parameters.positional[i].view());
  }
  for (const auto& [name, value] : parameters.named) {
    const int index = sqlite3_bind_parameter_index(statement.get(), name.c_str());
    if (index > 0) statement.Bind(index, value.view());
  }
  std::vector<crdt::ValueView> row(static_cast<size_t>(statement.column_count()));
  while (true) {
    ASSIGN_OR_RETURN(const bool more, statement.Step());
    if (!more) return OkStatus();
    for (size_t i = 0; i < row.size(); ++i) row[i] = statement.Column(static_cast<int>(i));
    on_row(row);
  }
}

}  // namespace patina::subscribe

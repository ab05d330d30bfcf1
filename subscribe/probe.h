#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "crdt/value.h"
#include "storage/schema.h"
#include "storage/store.h"

namespace patina::subscribe {

/// A private table in memory, declared as the real one, that holds only the rows in question: a
/// query of one table, run here, says what it makes of them. SQLite's own affinities, collations,
/// functions and three-valued logic, without reading the file. Not thread-safe.
class Probe {
 public:
  /// A prepared query, shared by all queries of the same text. It must not outlive its probe.
  class Query;

  /// The table is copied.
  static Result<std::unique_ptr<Probe>> Open(const storage::Table& table);
  ~Probe();
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;

  /// Errors: INVALID_ARGUMENT with SQLite's message.
  Result<std::shared_ptr<Query>> Prepare(const std::string& sql);

  /// The table holds these rows (packed, all columns in declaration order) and no others. After an
  /// error it may hold some of them. Errors: INTERNAL or SQLite's (a row that the table does not
  /// take).
  Status Fill(const std::vector<std::string_view>& rows);

  /// Calls on_row for each row of the answer; its values live until it returns. Errors:
  /// INVALID_ARGUMENT (an evaluation that fails, such as an integer overflow).
  Status Run(Query& query, const storage::Statement& parameters,
             const std::function<void(const std::vector<crdt::ValueView>&)>& on_row);

 private:
  class Impl;
  explicit Probe(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace patina::subscribe

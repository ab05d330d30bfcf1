#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "crdt/value.h"
#include "storage/reader.h"
#include "storage/schema.h"
#include "storage/store.h"

// How a query is kept up to date, decided once from its text and from what SQLite says it reads.
// Any thread.

namespace patina::subscribe {

/// Bits for columns by declaration position; all from the 64th on share the last one.
using ColumnMask = uint64_t;
inline constexpr ColumnMask kAllColumns = ~ColumnMask{0};
inline ColumnMask ColumnBit(size_t position) {
  return ColumnMask{1} << (position < 63 ? position : 63);
}

struct Plan {
  /// One table, and each row of the answer depends on one row of it alone: a change is evaluated on
  /// the changed rows only. Else the query is run anew when something that it reads has changed.
  bool incremental = false;

  /// To run: the client's, with the key columns behind the select list.
  std::string sql;
  std::vector<std::string> columns;  // the client's
  /// How many columns `sql` has behind the client's: what tells rows of the answer apart. 0: they
  /// are told apart by their values.
  size_t key_columns = 0;

  struct TableRead {
    uint32_t table = 0;  // position in Schema::tables
    ColumnMask columns = 0;
  };
  std::vector<TableRead> tables;  // one if incremental

  /// Of an incremental query: no row is in the answer unless this column has this value, by the
  /// bytes of its encoding (affinity and collation have been seen to).
  struct Equality {
    size_t column = 0;  // declaration position
    crdt::Value value;
  };
  std::optional<Equality> equality;
};

/// Errors: INVALID_ARGUMENT, and the reason, for queries that cannot be kept up to date: answers
/// that change without a change of a table, tables that are not replicated, a wrong number of
/// parameters.
Result<Plan> MakePlan(const storage::Statement& statement, const storage::QueryReads& reads,
                      const storage::Schema& schema);

}  // namespace patina::subscribe

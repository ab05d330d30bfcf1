#pragma once

#include <optional>
#include <string>
#include <vector>

#include "subscribe/sql_tokens.h"

namespace patina::subscribe {

/// What can be said of SELECT … FROM tables and joins [WHERE …] [ORDER BY …]: each row of its
/// answer comes from one row of each of its tables (or none, in an outer join), and from nothing
/// else.
struct SimpleSelect {
  struct Source {
    std::string table;
    std::string alias;  // the table's name if it has no other
  };
  std::vector<Source> sources;
  size_t from_offset = 0;  // of the word FROM in the SQL

  /// column = value, each a condition that must hold for every row. Only if there is one source.
  struct EqualityTokens {
    std::string column;
    size_t value_token = 0;  // position of a literal or parameter
  };
  std::vector<EqualityTokens> equalities;
};

/// Nothing when the query is not of that kind, or when that is not certain. `functions` are those
/// it calls, in lower case (QueryReads::functions). Requires that SQLite took the query. Any
/// thread.
std::optional<SimpleSelect> ReadSimpleSelect(const std::vector<Token>& tokens,
                                             const std::vector<std::string>& functions);

}  // namespace patina::subscribe

#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace patina::storage {

/// What SQLite keeps of a CREATE TABLE statement in its text alone. Any thread.
struct Declaration {
  struct Column {
    std::string name;        // without quotes
    std::string definition;  // as written: "n INTEGER CHECK (n > 0)"
    std::string rules;       // its CHECK and COLLATE clauses in one spelling
  };
  std::vector<Column> columns;
  std::string rules;  // CHECK clauses of the whole table in one spelling

  const Column* Find(std::string_view column) const;
};

/// Requires that SQLite took the statement.
Declaration ReadDeclaration(std::string_view create_table_sql);

/// The same words in one spelling: no comments, one space between words, lower case, names without
/// quotes. Equal for statements that mean the same but for their layout.
std::string NormalSql(std::string_view sql);

/// Whether the name is a word or quoted name in the statement, in any case.
bool MentionsName(std::string_view sql, std::string_view name);

}  // namespace patina::storage

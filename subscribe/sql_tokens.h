#pragma once

#include <string>
#include <string_view>
#include <vector>

// Just enough of SQL's words to tell simple queries from others. Not a parser: SQLite is the judge
// of what a query means; whoever reads these tokens must answer "do not know" when in doubt. Any
// thread.

namespace patina::subscribe {

enum class TokenKind : uint8_t {
  kWord,        // a bare word: a name or a keyword
  kQuotedName,  // "name", [name] or `name`; a "name" may turn out to be a string
  kString,      // 'text'
  kBlob,        // x'00ff'
  kNumber,
  kParameter,  // ?, ?1, :name, @name, $name
  kSymbol,     // an operator or punctuation
  kBad,        // cannot be read: everything after it is left out
};

struct Token {
  TokenKind kind = TokenKind::kBad;
  /// Words in lower case (ASCII), names and strings without their quotes, others as written.
  std::string text;
  size_t offset = 0;  // of its first byte in the SQL
  int depth = 0;      // of parentheses around it; both parentheses of a pair have the outer depth

  bool IsWord(std::string_view lower_case) const {
    return kind == TokenKind::kWord && text == lower_case;
  }
  bool IsSymbol(std::string_view symbol) const {
    return kind == TokenKind::kSymbol && text == symbol;
  }
  bool IsName() const { return kind == TokenKind::kWord || kind == TokenKind::kQuotedName; }
};

/// Comments and white space are left out.
std::vector<Token> Tokenize(std::string_view sql);

/// Without white space and semicolons at the ends.
std::string_view TrimSql(std::string_view sql);

/// ASCII only, as SQLite compares names.
std::string LowerCase(std::string_view text);

}  // namespace patina::subscribe

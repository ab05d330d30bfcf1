#include "tools/parameters.h"

#include <sqlite3.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/bytes.h"

namespace patina::tools {
namespace {

constexpr std::string_view kTextPrefix = "text:";

template <class Number>
std::optional<Number> WholeNumber(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// Would printing the number lose what was typed? An id "007" is not 7.
bool HasLeadingZero(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  return text.size() > 1 && text[0] == '0' && text[1] != '.' && text[1] != 'e' && text[1] != 'E';
}

bool LooksNumeric(std::string_view text) {
  const bool characters = text.find_first_not_of("0123456789+-.eE") == std::string_view::npos;
  return characters && text.find_first_of("0123456789") != std::string_view::npos &&
         !HasLeadingZero(text);
}

/// The first place from `at` that is neither white space, comment nor a lone semicolon.
size_t SkipNothing(std::string_view sql, size_t at) {
  while (at < sql.size()) {
    if (sql.substr(at, 2) == "--") {
      at = std::min(sql.find('\n', at), sql.size());
    } else if (sql.substr(at, 2) == "/*") {
      const size_t end = sql.find("*/", at + 2);
      at = end == std::string_view::npos ? sql.size() : end + 2;
    } else if (std::string_view(" \t\r\n\f;").find(sql[at]) != std::string_view::npos) {
      ++at;
    } else {
      break;
    }
  }
  return at;
}

/// One past the semicolon that ends the statement beginning at `first`; nothing if none does.
std::optional<size_t> StatementEnd(std::string_view sql, size_t first) {
  for (size_t at = sql.find(';', first); at != std::string_view::npos; at = sql.find(';', at + 1)) {
    const std::string candidate(sql.substr(first, at + 1 - first));
    if (sqlite3_complete(candidate.c_str()) != 0) return at + 1;
  }
  return std::nullopt;
}

}  // namespace

crdt::Value ParseParameter(std::string_view text) {
  if (text.starts_with(kTextPrefix)) return crdt::Value::Text(text.substr(kTextPrefix.size()));
  if (text == "null" || text == "NULL") return crdt::Value::Null();
  if (text.size() >= 3 && (text[0] == 'x' || text[0] == 'X') && text[1] == '\'' &&
      text.back() == '\'') {
    if (auto blob = FromHex(text.substr(2, text.size() - 3))) return crdt::Value::Blob(*blob);
  }
  if (LooksNumeric(text)) {
    if (auto integer = WholeNumber<int64_t>(text)) return crdt::Value::Integer(*integer);
    const bool has_point = text.find_first_of(".eE") != std::string_view::npos;
    const auto real = has_point ? WholeNumber<double>(text) : std::nullopt;
    if (real && std::isfinite(*real)) return crdt::Value::Real(*real);
  }
  return crdt::Value::Text(text);
}

Result<std::vector<std::string>> SplitStatements(std::string_view sql) {
  std::vector<std::string> statements;
  for (size_t first = SkipNothing(sql, 0); first < sql.size(); first = SkipNothing(sql, first)) {
    const std::optional<size_t> end = StatementEnd(sql, first);
    statements.emplace_back(sql.substr(first, end ? *end - first : std::string_view::npos));
    if (!end) {
      // The last statement needs no semicolon, but it must be whole with one.
      if (sqlite3_complete((statements.back() + "\n;").c_str()) == 0) {
        const auto line =
            1 + std::count(sql.begin(), sql.begin() + static_cast<ptrdiff_t>(first), '\n');
        return InvalidArgument("the statement that begins in line " + std::to_string(line) +
                               " does not end: a quote, a comment or a trigger is open");
      }
      break;
    }
    first = *end;
  }
  return statements;
}

}  // namespace patina::tools

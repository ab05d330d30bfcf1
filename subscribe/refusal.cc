#include "subscribe/refusal.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "base/log.h"

namespace patina::subscribe {
namespace {

template <size_t kSize>
bool IsOneOf(std::string_view word, const std::array<std::string_view, kSize>& words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

constexpr std::array<std::string_view, 11> kUnsteady = {
    "random",       "randomblob",        "changes",      "total_changes", "last_insert_rowid",
    "current_time", "current_timestamp", "current_date", "sqlite_offset", "load_extension",
    "sqlite_log"};
constexpr std::array<std::string_view, 7> kDates = {
    "date", "time", "datetime", "julianday", "unixepoch", "strftime", "timediff"};

bool MeansNow(std::string_view text) {
  const std::string lower = LowerCase(text);
  return lower == "now" || lower == "subsec" || lower == "subsecond";
}

Status Refuse(std::string_view what) {
  return InvalidArgument(StrCat("cannot subscribe to a query that uses ", what,
                                ": its answer changes without a change of a table; pass the value "
                                "as a parameter"));
}

/// date() and strftime('%s') mean the present.
bool LacksTimeArgument(const std::vector<Token>& tokens, size_t function) {
  if (function + 1 >= tokens.size() || !tokens[function + 1].IsSymbol("(")) return false;
  const int depth = tokens[function + 1].depth;
  size_t arguments = 0;
  for (size_t i = function + 2; i < tokens.size(); ++i) {
    if (tokens[i].depth == depth && tokens[i].IsSymbol(")")) break;
    if (arguments == 0) arguments = 1;
    if (tokens[i].depth == depth + 1 && tokens[i].IsSymbol(",")) ++arguments;
  }
  return arguments < (tokens[function].text == "strftime" ? 2u : 1u);
}

Status RefusePresentTime(const storage::Statement& statement, const storage::QueryReads& reads,
                         const std::vector<Token>& tokens) {
  const auto date = std::find_if(reads.functions.begin(), reads.functions.end(),
                                 [](const auto& name) { return IsOneOf(name, kDates); });
  if (date == reads.functions.end()) return OkStatus();
  const std::string what = *date + "() of the present time";
  for (size_t i = 0; i < tokens.size(); ++i) {
    const bool text =
        tokens[i].kind == TokenKind::kString || tokens[i].kind == TokenKind::kQuotedName;
    if (text && MeansNow(tokens[i].text)) return Refuse(what);
    if (tokens[i].IsName() && IsOneOf(LowerCase(tokens[i].text), kDates) &&
        LacksTimeArgument(tokens, i)) {
      return Refuse(what);
    }
  }
  for (const auto& value : statement.positional) {
    if (MeansNow(value.view().bytes())) return Refuse(what);
  }
  for (const auto& [name, value] : statement.named) {
    if (MeansNow(value.view().bytes())) return Refuse(what);
  }
  return OkStatus();
}

}  // namespace

Status RefuseUnsteady(const storage::Statement& statement, const storage::QueryReads& reads,
                      const std::vector<Token>& tokens) {
  if (statement.sql.find('\0') != std::string::npos) {
    return InvalidArgument("cannot subscribe: the SQL has a NUL byte in it");
  }
  static constexpr std::array<std::string_view, 3> kFirstWords = {"select", "with", "values"};
  if (tokens.empty() || !IsOneOf(tokens.front().text, kFirstWords)) {
    return InvalidArgument("cannot subscribe: the statement is not a SELECT");
  }
  for (const auto& function : reads.functions) {
    if (IsOneOf(function, kUnsteady)) return Refuse(function + "()");
  }
  for (const Token& token : tokens) {
    if (token.kind == TokenKind::kWord && token.text.starts_with("current_") &&
        IsOneOf(token.text, kUnsteady)) {
      return Refuse(token.text);
    }
  }
  RETURN_IF_ERROR(RefusePresentTime(statement, reads, tokens));
  if (statement.named.empty() && statement.positional.size() != reads.parameters) {
    return InvalidArgument(StrCat("the query has ", reads.parameters, " parameters, but ",
                                  statement.positional.size(), " values came with it"));
  }
  return OkStatus();
}

}  // namespace patina::subscribe

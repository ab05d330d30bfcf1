#include "subscribe/simple_select.h"

#include <algorithm>
#include <string_view>

namespace patina::subscribe {
namespace {

using Words = std::initializer_list<std::string_view>;

bool IsOneOf(std::string_view word, Words words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}
template <size_t kSize>
bool IsOneOf(std::string_view word, const std::string_view (&words)[kSize]) {
  return std::find(std::begin(words), std::end(words), word) != std::end(words);
}

/// Functions of one row's values. Aggregates (min and max are both) and strangers are not among
/// them.
bool IsRowFunction(std::string_view name) {
  static constexpr std::string_view kNames[] = {
      "abs",          "acos",        "acosh",        "asin",
      "asinh",        "atan",        "atan2",        "atanh",
      "ceil",         "ceiling",     "char",         "coalesce",
      "concat",       "concat_ws",   "cos",          "cosh",
      "date",         "datetime",    "degrees",      "exp",
      "floor",        "format",      "glob",         "hex",
      "if",           "ifnull",      "iif",          "instr",
      "json",         "julianday",   "length",       "like",
      "likelihood",   "likely",      "ln",           "log",
      "log10",        "log2",        "lower",        "ltrim",
      "mod",          "nullif",      "pi",           "pow",
      "power",        "printf",      "quote",        "radians",
      "replace",      "round",       "rtrim",        "sign",
      "sin",          "sinh",        "sqrt",         "strftime",
      "substr",       "substring",   "tan",          "tanh",
      "time",         "timediff",    "trim",         "trunc",
      "typeof",       "unhex",       "unicode",      "unixepoch",
      "unlikely",     "upper",       "zeroblob",     "octet_length",
      "->",           "->>",         "json_array",   "json_array_length",
      "json_extract", "json_insert", "json_object",  "json_patch",
      "json_quote",   "json_remove", "json_replace", "json_set",
      "json_type",    "json_valid"};
  return IsOneOf(name, kNames);
}

/// Words that make an answer depend on more than one row, or name what has no stable meaning. They
/// may also be names of columns: then the query is called not simple, which is never wrong.
bool IsBarred(const Token& token) {
  static constexpr std::string_view kNames[] = {"rowid", "oid", "_rowid_"};
  static constexpr std::string_view kKeywords[] = {
      "distinct", "group",     "having",    "limit",   "offset", "union",
      "except",   "intersect", "with",      "over",    "window", "filter",
      "values",   "exists",    "recursive", "indexed", "raise",  "returning"};
  if (token.kind == TokenKind::kQuotedName) return IsOneOf(LowerCase(token.text), kNames);
  return token.kind == TokenKind::kWord &&
         (IsOneOf(token.text, kNames) || IsOneOf(token.text, kKeywords));
}

bool IsJoinWord(const Token& token) {
  return token.kind == TokenKind::kWord && IsOneOf(token.text, {"natural", "left", "right", "full",
                                                                "outer", "inner", "cross", "join"});
}

class Analysis {
 public:
  explicit Analysis(const std::vector<Token>& tokens) : tokens_(tokens) {}

  std::optional<SimpleSelect> Run() {
    if (!WordsAllow()) return std::nullopt;
    const size_t from = Find(1, {"from"});
    if (from == tokens_.size()) return std::nullopt;
    select_.from_offset = tokens_[from].offset;
    const size_t from_end = Find(from, {"where", "order"});
    if (!ReadSources(from + 1, from_end)) return std::nullopt;
    if (select_.sources.size() == 1 && from_end < tokens_.size() &&
        tokens_[from_end].IsWord("where")) {
      ReadEqualities(from_end, Find(from_end, {"order"}));
    }
    return std::move(select_);
  }

 private:
  bool WordsAllow() const {
    size_t selects = 0;
    for (size_t i = 0; i < tokens_.size(); ++i) {
      const Token& token = tokens_[i];
      if (token.kind == TokenKind::kBad || token.depth < 0 || IsBarred(token)) return false;
      if (token.IsSymbol(";")) return false;
      if (token.IsWord("select")) ++selects;
      // x IN table reads a table as a subquery does.
      const bool in_list = i + 1 < tokens_.size() && tokens_[i + 1].IsSymbol("(");
      if (token.IsWord("in") && !in_list) return false;
    }
    return selects == 1 && tokens_[0].IsWord("select");
  }

  /// The first of these words outside of parentheses, at or after `start`; or the end.
  size_t Find(size_t start, Words words) const {
    for (size_t i = start; i < tokens_.size(); ++i) {
      const Token& token = tokens_[i];
      if (token.depth == 0 && token.kind == TokenKind::kWord && IsOneOf(token.text, words)) {
        return i;
      }
    }
    return tokens_.size();
  }

  bool ReadSources(size_t position, size_t end) {
    while (true) {
      if (!ReadSource(position, end)) return false;
      if (position == end) return true;
      if (!SkipConstraint(position, end)) return false;
      if (position == end) return true;
      if (!SkipJoin(position, end)) return false;
    }
  }

  /// [schema .] table [[AS] alias]
  bool ReadSource(size_t& position, size_t end) {
    if (position >= end || !tokens_[position].IsName()) return false;
    SimpleSelect::Source source;
    source.table = tokens_[position++].text;
    if (position < end && tokens_[position].IsSymbol(".")) {
      if (source.table != "main" || position + 1 >= end || !tokens_[position + 1].IsName()) {
        return false;
      }
      source.table = tokens_[position + 1].text;
      position += 2;
    }
    source.alias = source.table;
    const bool as = position < end && tokens_[position].IsWord("as");
    if (as) ++position;
    const bool other_word =
        position < end && tokens_[position].kind == TokenKind::kWord &&
        (IsJoinWord(tokens_[position]) || IsOneOf(tokens_[position].text, {"on", "using", "not"}));
    if (position < end && tokens_[position].IsName() && !other_word) {
      source.alias = tokens_[position++].text;
    } else if (as) {
      return false;
    }
    select_.sources.push_back(std::move(source));
    return true;
  }

  /// ON expression, USING (columns), or nothing.
  bool SkipConstraint(size_t& position, size_t end) const {
    const bool on = tokens_[position].IsWord("on");
    if (!on && !tokens_[position].IsWord("using")) return true;
    ++position;
    while (position < end && !(tokens_[position].depth == 0 && tokens_[position].IsSymbol(",")) &&
           !IsJoinWord(tokens_[position])) {
      if (!on && tokens_[position].depth == 0 && !tokens_[position].IsSymbol("(") &&
          !tokens_[position].IsSymbol(")")) {
        return false;
      }
      ++position;
    }
    return true;
  }

  /// A comma, or [NATURAL] [LEFT|RIGHT|FULL [OUTER]|INNER|CROSS] JOIN.
  bool SkipJoin(size_t& position, size_t end) const {
    if (tokens_[position].IsSymbol(",")) {
      ++position;
      return true;
    }
    while (position < end && IsJoinWord(tokens_[position])) {
      if (tokens_[position++].IsWord("join")) return true;
    }
    return false;
  }

  /// Conditions that AND joins at the top, each exactly: [name .] column = value.
  void ReadEqualities(size_t where, size_t end) {
    for (size_t i = where; i < end; ++i) {
      const Token& token = tokens_[i];
      if (token.depth == 0 && token.kind == TokenKind::kWord &&
          IsOneOf(token.text, {"or", "between", "case"})) {
        select_.equalities.clear();
        return;
      }
      if (token.depth == 0 && (i == where || token.IsWord("and"))) ReadEquality(i + 1, end);
    }
  }

  void ReadEquality(size_t position, size_t end) {
    if (position + 4 < end && tokens_[position + 1].IsSymbol(".")) position += 2;
    if (position + 3 > end) return;
    if (position + 3 < end && !tokens_[position + 3].IsWord("and")) return;
    if (!tokens_[position + 1].IsSymbol("=") && !tokens_[position + 1].IsSymbol("==")) return;
    const Token& column = tokens_[position];
    const Token& value = tokens_[position + 2];
    if (!column.IsName() || IsOneOf(column.text, {"true", "false", "null"})) return;
    if (value.kind != TokenKind::kString && value.kind != TokenKind::kNumber &&
        value.kind != TokenKind::kParameter) {
      return;
    }
    select_.equalities.push_back({column.text, position + 2});
  }

  const std::vector<Token>& tokens_;
  SimpleSelect select_;
};

}  // namespace

std::optional<SimpleSelect> ReadSimpleSelect(const std::vector<Token>& tokens,
                                             const std::vector<std::string>& functions) {
  if (tokens.empty() || !std::all_of(functions.begin(), functions.end(), IsRowFunction)) {
    return std::nullopt;
  }
  return Analysis(tokens).Run();
}

}  // namespace patina::subscribe

#include "subscribe/sql_tokens.h"

namespace patina::subscribe {
namespace {

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
/// SQLite takes every byte above 0x7f as a letter.
bool IsWordStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool IsWordPart(char c) { return IsWordStart(c) || IsDigit(c) || c == '$'; }

class Tokenizer {
 public:
  explicit Tokenizer(std::string_view sql) : sql_(sql) {}

  std::vector<Token> Run() {
    while (SkipSpace() && position_ < sql_.size()) {
      Token token;
      token.offset = position_;
      Next(token);
      if (token.IsSymbol(")")) --depth_;
      token.depth = depth_;
      if (token.IsSymbol("(")) ++depth_;
      const bool bad = token.kind == TokenKind::kBad;
      tokens_.push_back(std::move(token));
      if (bad) break;
    }
    return std::move(tokens_);
  }

 private:
  char At(size_t ahead = 0) const {
    return position_ + ahead < sql_.size() ? sql_[position_ + ahead] : '\0';
  }

  /// False after a comment that does not end (SQLite takes the end of the text for its end).
  bool SkipSpace() {
    while (position_ < sql_.size()) {
      if (IsSpace(At())) {
        ++position_;
      } else if (At() == '-' && At(1) == '-') {
        while (position_ < sql_.size() && At() != '\n') ++position_;
      } else if (At() == '/' && At(1) == '*') {
        const size_t end = sql_.find("*/", position_ + 2);
        if (end == std::string_view::npos) return false;
        position_ = end + 2;
      } else {
        break;
      }
    }
    return true;
  }

  void Next(Token& token) {
    const char c = At();
    if ((c == 'x' || c == 'X') && At(1) == '\'') {
      ++position_;
      Quoted('\'', TokenKind::kBlob, token);
    } else if (IsWordStart(c)) {
      token.kind = TokenKind::kWord;
      token.text = LowerCase(TakeWord());
    } else if (IsDigit(c) || (c == '.' && IsDigit(At(1)))) {
      Number(token);
    } else if (c == '\'') {
      Quoted(c, TokenKind::kString, token);
    } else if (c == '"' || c == '`') {
      Quoted(c, TokenKind::kQuotedName, token);
    } else if (c == '[') {
      Quoted(']', TokenKind::kQuotedName, token);
    } else if (c == '?' || c == ':' || c == '@' || c == '$' || c == '#') {
      Parameter(token);
    } else {
      Symbol(token);
    }
  }

  std::string_view TakeWord() {
    const size_t start = position_;
    while (position_ < sql_.size() && IsWordPart(At())) ++position_;
    return sql_.substr(start, position_ - start);
  }

  void Quoted(char end, TokenKind kind, Token& token) {
    ++position_;
    while (position_ < sql_.size()) {
      const char c = At();
      if (c == end && end != ']' && At(1) == end) {
        token.text.push_back(c);
        position_ += 2;
        continue;
      }
      ++position_;
      if (c == end) {
        token.kind = kind;
        return;
      }
      token.text.push_back(c);
    }
    token.kind = TokenKind::kBad;
  }

  /// Digits with all that sticks to them: 12, 1.5e-3, 0x1f. Exactness is for whoever converts it.
  void Number(Token& token) {
    const size_t start = position_;
    const auto is_exponent_sign = [&] {
      const char before = position_ == start ? '\0' : sql_[position_ - 1];
      return (At() == '+' || At() == '-') && (before == 'e' || before == 'E') && IsDigit(At(1));
    };
    while (IsWordPart(At()) || At() == '.' || is_exponent_sign()) ++position_;
    token.kind = TokenKind::kNumber;
    token.text = sql_.substr(start, position_ - start);
  }

  void Parameter(Token& token) {
    const size_t start = position_++;
    TakeWord();
    token.text = sql_.substr(start, position_ - start);
    const bool named = token.text[0] != '?';
    // $name::suffix(…) of Tcl is left to those who do not look at parameters closely.
    const bool odd = token.text[0] == '#' || (named && token.text.size() == 1) || At() == ':';
    token.kind = odd ? TokenKind::kBad : TokenKind::kParameter;
  }

  void Symbol(Token& token) {
    static constexpr std::string_view kLong[] = {
        "->>", "->", "<>", "<=", ">=", "==", "!=", "||", "<<", ">>"};
    token.kind = TokenKind::kSymbol;
    for (const std::string_view symbol : kLong) {
      if (sql_.substr(position_, symbol.size()) == symbol) {
        token.text = symbol;
        position_ += symbol.size();
        return;
      }
    }
    token.text = std::string(1, At());
    ++position_;
  }

  std::string_view sql_;
  size_t position_ = 0;
  int depth_ = 0;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> Tokenize(std::string_view sql) { return Tokenizer(sql).Run(); }

std::string_view TrimSql(std::string_view sql) {
  while (!sql.empty() && (IsSpace(sql.front()) || sql.front() == ';')) sql.remove_prefix(1);
  while (!sql.empty() && (IsSpace(sql.back()) || sql.back() == ';')) sql.remove_suffix(1);
  return sql;
}

std::string LowerCase(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

}  // namespace patina::subscribe

#include "storage/declaration.h"

#include <algorithm>
#include <cctype>

namespace patina::storage {
namespace {

struct Token {
  std::string text;  // words and names in lower case, names without quotes, the rest as written
  std::string name;  // a word or name as written, without quotes
  size_t begin = 0, end = 0;
  char symbol = 0;  // of one that is no word, name, number or string
  int depth = 0;    // of parentheses around it; both of a pair have the outer depth
};

bool IsWordByte(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return std::isalnum(byte) != 0 || c == '_' || c == '$' || byte >= 0x80;
}

size_t SkipBlanks(std::string_view sql, size_t at) {
  while (at < sql.size()) {
    if (std::isspace(static_cast<unsigned char>(sql[at])) != 0) {
      ++at;
    } else if (sql.substr(at, 2) == "--") {
      at = std::min(sql.find('\n', at), sql.size());
    } else if (sql.substr(at, 2) == "/*") {
      const size_t end = sql.find("*/", at + 2);
      at = end == std::string_view::npos ? sql.size() : end + 2;
    } else {
      break;
    }
  }
  return at;
}

/// One past the closing quote; a quote is doubled inside.
size_t EndOfQuoted(std::string_view sql, size_t at) {
  const char close = sql[at] == '[' ? ']' : sql[at];
  for (++at; at < sql.size(); ++at) {
    if (sql[at] != close) continue;
    if (close == ']' || at + 1 == sql.size() || sql[at + 1] != close) return at + 1;
    ++at;
  }
  return at;
}

std::string Unquote(std::string_view quoted) {
  const char close = quoted.front() == '[' ? ']' : quoted.front();
  std::string name;
  for (size_t i = 1; i + 1 < quoted.size(); ++i) {
    name += quoted[i];
    if (quoted[i] == close && close != ']') ++i;
  }
  return name;
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

std::vector<Token> Tokenize(std::string_view sql) {
  std::vector<Token> tokens;
  int depth = 0;
  for (size_t at = SkipBlanks(sql, 0); at < sql.size(); at = SkipBlanks(sql, at)) {
    Token token;
    token.begin = at;
    const char c = sql[at];
    if (c == '\'' || c == '"' || c == '`' || c == '[') {
      token.end = EndOfQuoted(sql, at);
      token.text = sql.substr(at, token.end - at);
      token.name = Unquote(token.text);
      if (c != '\'') token.text = Lower(token.name);
    } else if (IsWordByte(c)) {
      token.end = at;
      while (token.end < sql.size() && IsWordByte(sql[token.end])) ++token.end;
      token.name = sql.substr(at, token.end - at);
      token.text = Lower(token.name);
    } else {
      token.end = at + 1;
      token.text = std::string(1, c);
      token.symbol = c;
    }
    if (token.symbol == ')') --depth;
    token.depth = depth;
    if (token.symbol == '(') ++depth;
    at = token.end;
    tokens.push_back(std::move(token));
  }
  return tokens;
}

using Tokens = std::vector<Token>::const_iterator;

std::string Join(Tokens from, Tokens to) {
  std::string text;
  for (; from != to; ++from) text += (text.empty() ? "" : " ") + from->text;
  return text;
}

/// CHECK (…) and COLLATE name among the tokens of one item of the list.
std::string RulesOf(Tokens from, Tokens to) {
  std::string rules;
  const int depth = from->depth;
  for (Tokens token = from; token != to; ++token) {
    if (token->depth != depth || (token->text != "check" && token->text != "collate")) continue;
    Tokens end = std::next(token);
    if (end != to && end->symbol == '(') {
      while (end != to && (end->symbol != ')' || end->depth != depth)) ++end;
    }
    if (end != to) ++end;
    rules += (rules.empty() ? "" : "; ") + Join(token, end);
  }
  return rules;
}

bool IsTableConstraint(const Token& first) {
  for (const char* word : {"constraint", "primary", "unique", "check", "foreign"}) {
    if (first.text == word) return true;
  }
  return false;
}

}  // namespace

const Declaration::Column* Declaration::Find(std::string_view column) const {
  for (const Column& candidate : columns) {
    if (candidate.name == column) return &candidate;
  }
  return nullptr;
}

Declaration ReadDeclaration(std::string_view sql) {
  Declaration declaration;
  const std::vector<Token> tokens = Tokenize(sql);
  Tokens item = std::find_if(tokens.begin(), tokens.end(),
                             [](const Token& token) { return token.symbol == '('; });
  if (item == tokens.end()) return declaration;
  ++item;
  for (Tokens end = item; end != tokens.end(); ++end) {
    const bool last = end->depth == 0 && end->symbol == ')';
    if (!last && (end->depth != 1 || end->symbol != ',')) continue;
    if (end != item) {
      const std::string rules = RulesOf(item, end);
      if (IsTableConstraint(*item)) {
        if (!rules.empty()) declaration.rules += (declaration.rules.empty() ? "" : "; ") + rules;
      } else {
        declaration.columns.push_back(
            {item->name, std::string(sql.substr(item->begin, std::prev(end)->end - item->begin)),
             rules});
      }
    }
    if (last) break;
    item = std::next(end);
  }
  return declaration;
}

std::string NormalSql(std::string_view sql) {
  const std::vector<Token> tokens = Tokenize(sql);
  return Join(tokens.begin(), tokens.end());
}

bool MentionsName(std::string_view sql, std::string_view name) {
  const std::string lower = Lower(name);
  const std::vector<Token> tokens = Tokenize(sql);
  return std::any_of(tokens.begin(), tokens.end(),
                     [&](const Token& token) { return token.text == lower; });
}

}  // namespace patina::storage

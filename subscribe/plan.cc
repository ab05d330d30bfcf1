#include "subscribe/plan.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/log.h"
#include "subscribe/refusal.h"
#include "subscribe/simple_select.h"
#include "subscribe/sql_tokens.h"

namespace patina::subscribe {
namespace {

size_t ColumnPosition(const storage::Table& table, std::string_view name) {
  const std::string lower = LowerCase(name);
  for (size_t i = 0; i < table.order.size(); ++i) {
    const auto& place = table.order[i];
    const auto& column = place.in_key ? table.key[place.index] : table.columns[place.index];
    if (LowerCase(column.name) == lower) return i;
  }
  return SIZE_MAX;
}

std::optional<uint32_t> TablePosition(const storage::Schema& schema, std::string_view name) {
  const std::string lower = LowerCase(name);
  for (size_t i = 0; i < schema.tables.size(); ++i) {
    if (LowerCase(schema.tables[i].name) == lower) return static_cast<uint32_t>(i);
  }
  return std::nullopt;
}

/// Table-valued functions whose answer follows from their arguments.
bool IsPureTableFunction(std::string_view name) {
  return name == "json_each" || name == "json_tree";
}

Result<std::vector<Plan::TableRead>> ReadTables(const storage::QueryReads& reads,
                                                const storage::Schema& schema,
                                                const std::vector<Token>& tokens) {
  // SQLite names a common table expression here, without a column, when only its rows are counted.
  const bool has_with = std::any_of(tokens.begin(), tokens.end(),
                                    [](const Token& token) { return token.IsWord("with"); });
  std::vector<Plan::TableRead> tables;
  for (const auto& read : reads.reads) {
    const auto position = TablePosition(schema, read.table);
    if (!position) {
      const std::string lower = LowerCase(read.table);
      const bool internal = lower.starts_with("sqlite_") || lower.starts_with("pragma_") ||
                            lower.starts_with("__patina_");
      if (IsPureTableFunction(lower) || (has_with && read.column.empty() && !internal)) continue;
      return InvalidArgument(StrCat("cannot subscribe to ", read.table,
                                    ": it is not a replicated table, so its changes are not told"));
    }
    auto found = std::find_if(tables.begin(), tables.end(),
                              [&](const auto& table) { return table.table == *position; });
    if (found == tables.end()) found = tables.insert(tables.end(), {*position, 0});
    if (read.column.empty()) continue;
    const size_t column = ColumnPosition(schema.tables[*position], read.column);
    found->columns |= column == SIZE_MAX ? kAllColumns : ColumnBit(column);
  }
  return tables;
}

/// The value that a parameter or literal stands for, if it is one that Equality can use.
std::optional<crdt::Value> ValueOf(const std::vector<Token>& tokens, size_t index,
                                   const storage::Statement& statement) {
  const Token& token = tokens[index];
  if (token.kind == TokenKind::kString) {
    if (token.text.find('\0') != std::string::npos) return std::nullopt;
    return crdt::Value::Text(token.text);
  }
  if (token.kind == TokenKind::kNumber) {
    const bool digits = token.text.find_first_not_of("0123456789") == std::string::npos;
    if (!digits || token.text.size() > 15) return std::nullopt;
    return crdt::Value::Integer(std::stoll(token.text));
  }
  if (token.kind != TokenKind::kParameter) return std::nullopt;
  if (token.text[0] != '?') {
    for (const auto& [name, value] : statement.named) {
      if (name == token.text) return value;
    }
    return std::nullopt;
  }
  size_t number = 0;  // from 1
  if (token.text.size() > 1) {
    if (token.text.size() > 6 ||
        token.text.find_first_not_of("0123456789", 1) != std::string::npos) {
      return std::nullopt;
    }
    number = std::stoul(token.text.substr(1));
  } else {
    // A bare ? counts on from the highest number before it: known only if all are bare.
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i].kind != TokenKind::kParameter) continue;
      if (tokens[i].text != "?") return std::nullopt;
      if (i <= index) ++number;
    }
  }
  if (number == 0 || number > statement.positional.size() || !statement.named.empty()) {
    return std::nullopt;
  }
  return statement.positional[number - 1];
}

/// Only pairs of affinity and value type for which SQLite's = says the same as equal bytes. Whole
/// numbers beyond 2^51 may also be equal to a stored real.
bool ComparesAsBytes(storage::Affinity affinity, const crdt::Value& value) {
  constexpr int64_t kExactMax = int64_t{1} << 50;
  if (value.type() == crdt::ValueType::kText) return affinity == storage::Affinity::kText;
  if (value.type() != crdt::ValueType::kInteger) return false;
  const int64_t integer = value.view().integer();
  return affinity == storage::Affinity::kInteger && integer < kExactMax && integer > -kExactMax;
}

std::optional<Plan::Equality> FindEquality(const SimpleSelect& select,
                                           const std::vector<Token>& tokens,
                                           const storage::Statement& statement,
                                           const storage::Table& table) {
  for (const Token& token : Tokenize(table.create_sql)) {
    if (token.IsWord("collate")) return std::nullopt;
  }
  std::optional<Plan::Equality> best;
  for (const auto& candidate : select.equalities) {
    const size_t position = ColumnPosition(table, candidate.column);
    if (position == SIZE_MAX) continue;
    const auto& place = table.order[position];
    const auto& column = place.in_key ? table.key[place.index] : table.columns[place.index];
    auto value = ValueOf(tokens, candidate.value_token, statement);
    if (!value || !ComparesAsBytes(column.affinity, *value)) continue;
    // A key column tells more rows apart than others do.
    if (!best || place.in_key) best = Plan::Equality{position, std::move(*value)};
    if (place.in_key) break;
  }
  return best;
}

/// The query with the key columns of its tables behind the select list.
std::string WithKeyColumns(std::string_view sql, const SimpleSelect& select,
                           const std::vector<const storage::Table*>& tables) {
  std::string keys;
  for (size_t i = 0; i < tables.size(); ++i) {
    for (const auto& column : tables[i]->key) {
      keys += StrCat(" , ", storage::QuoteName(select.sources[i].alias), ".",
                     storage::QuoteName(column.name));
    }
  }
  std::string rewritten(sql.substr(0, select.from_offset));
  rewritten += keys;
  rewritten += ' ';
  rewritten += sql.substr(select.from_offset);
  return rewritten;
}

}  // namespace

Result<Plan> MakePlan(const storage::Statement& statement, const storage::QueryReads& reads,
                      const storage::Schema& schema) {
  const std::string_view sql = TrimSql(statement.sql);
  const std::vector<Token> tokens = Tokenize(sql);
  RETURN_IF_ERROR(RefuseUnsteady(statement, reads, tokens));
  Plan plan;
  plan.sql = sql;
  plan.columns = reads.columns;
  ASSIGN_OR_RETURN(plan.tables, ReadTables(reads, schema, tokens));

  const auto select = ReadSimpleSelect(tokens, reads.functions);
  if (!select) return plan;
  std::vector<const storage::Table*> tables;
  for (const auto& source : select->sources) {
    const auto position = TablePosition(schema, source.table);
    if (!position) return plan;
    tables.push_back(&schema.tables[*position]);
    const bool is_read = std::any_of(plan.tables.begin(), plan.tables.end(),
                                     [&](const auto& read) { return read.table == *position; });
    if (!is_read) return plan;
  }
  if (plan.tables.size() > tables.size()) return plan;
  plan.sql = WithKeyColumns(sql, *select, tables);
  for (const auto* table : tables) plan.key_columns += table->key.size();
  plan.incremental = tables.size() == 1;
  if (plan.incremental) plan.equality = FindEquality(*select, tokens, statement, *tables[0]);
  return plan;
}

}  // namespace patina::subscribe

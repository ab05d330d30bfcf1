#include "storage/introspect.h"

#include <algorithm>
#include <cctype>

#include "base/log.h"
#include "storage/declaration.h"

namespace patina::storage {
namespace {

std::string Upper(std::string_view text) {
  std::string upper(text);
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return upper;
}

/// https://www.sqlite.org/datatype3.html 3.1, in its order.
Affinity AffinityOf(std::string_view declared_type, bool strict) {
  const std::string type = Upper(declared_type);
  auto has = [&](std::string_view part) { return type.find(part) != std::string::npos; };
  if (has("INT")) return Affinity::kInteger;
  if (has("CHAR") || has("CLOB") || has("TEXT")) return Affinity::kText;
  if (type.empty() || has("BLOB") || (strict && type == "ANY")) return Affinity::kBlob;
  if (has("REAL") || has("FLOA") || has("DOUB")) return Affinity::kReal;
  return Affinity::kNumeric;
}

bool IsConstantLiteral(std::string_view text) {
  if (text.empty()) return false;
  if (text.front() == '\'') return text.back() == '\'';
  if (text.front() == '-' || text.front() == '+') text.remove_prefix(1);
  if (text.empty()) return false;
  if (std::isdigit(static_cast<unsigned char>(text.front())) || text.front() == '.') {
    return std::all_of(text.begin(), text.end(), [](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '+' || c == '-';
    });
  }
  const std::string word = Upper(text);
  return word == "NULL" || word == "TRUE" || word == "FALSE" ||
         ((word.starts_with("X'")) && word.ends_with("'"));
}

/// What an INSERT that leaves the column out stores: the default after the column's affinity.
Result<crdt::Value> DefaultValue(const Column& column, const std::string& literal, bool strict) {
  ASSIGN_OR_RETURN(Db scratch, Db::Open(":memory:", Db::Mode::kMemory));
  const std::string type = column.declared_type;
  RETURN_IF_ERROR(scratch.Exec("CREATE TABLE d (k INTEGER, c " + type + " DEFAULT " + literal +
                               ")" + (strict ? " STRICT" : "")));
  RETURN_IF_ERROR(scratch.Exec("INSERT INTO d (k) VALUES (1)"));
  ASSIGN_OR_RETURN(Stmt select, scratch.Prepare("SELECT c FROM d"));
  RETURN_IF_ERROR(select.Step());
  return crdt::Value(select.Column(0));
}

struct RawColumn {
  Column column;
  int key_position = 0;  // from 1
};

Result<std::vector<RawColumn>> ReadColumns(Db& db, const Table& table,
                                           const Declaration& declaration) {
  ASSIGN_OR_RETURN(Stmt info, db.Prepare("SELECT name, type, \"notnull\", dflt_value, pk, hidden "
                                         "FROM pragma_table_xinfo(?)",
                                         false));
  info.BindText(1, table.name);
  std::vector<RawColumn> columns;
  while (true) {
    ASSIGN_OR_RETURN(const bool row, info.Step());
    if (!row) break;
    RawColumn raw;
    raw.column.name = info.ColumnBytes(0);
    raw.column.declared_type = info.ColumnBytes(1);
    raw.column.affinity = AffinityOf(raw.column.declared_type, table.strict);
    raw.column.not_null = info.ColumnInt(2) != 0;
    raw.key_position = static_cast<int>(info.ColumnInt(4));
    const std::string at = "table " + table.name + ", column " + raw.column.name + ": ";
    if (info.ColumnInt(5) != 0) {
      return InvalidArgument(at + "generated columns are not replicated; compute it in the query");
    }
    const Declaration::Column* declared = declaration.Find(raw.column.name);
    if (declared == nullptr) return InvalidArgument(at + "its declaration cannot be read");
    raw.column.definition = declared->definition;
    raw.column.rules = declared->rules;
    const std::string literal(info.ColumnBytes(3));
    if (!literal.empty()) {
      if (!IsConstantLiteral(literal)) {
        return InvalidArgument(at + "the default " + literal +
                               " is not a constant; every node must fill in the same value");
      }
      ASSIGN_OR_RETURN(raw.column.default_value, DefaultValue(raw.column, literal, table.strict));
    }
    columns.push_back(std::move(raw));
  }
  return columns;
}

Status CheckIndexes(Db& db, const Table& table) {
  ASSIGN_OR_RETURN(Stmt list,
                   db.Prepare("SELECT name, \"unique\", origin FROM pragma_index_list(?)", false));
  list.BindText(1, table.name);
  while (true) {
    ASSIGN_OR_RETURN(const bool row, list.Step());
    if (!row) break;
    const std::string name(list.ColumnBytes(0)), origin(list.ColumnBytes(2));
    const bool unique = list.ColumnInt(1) != 0;
    if (unique && origin != "pk") {
      return InvalidArgument(
          "table " + table.name + ": the unique constraint or index " + name +
          " cannot be kept across nodes that write at the same time; leave it out, "
          "or make the columns the primary key");
    }
    if (origin != "pk") continue;
    ASSIGN_OR_RETURN(Stmt columns,
                     db.Prepare("SELECT name, coll FROM pragma_index_xinfo(?) WHERE key", false));
    columns.BindText(1, name);
    while (true) {
      ASSIGN_OR_RETURN(const bool column, columns.Step());
      if (!column) break;
      if (columns.ColumnBytes(1) != "BINARY") {
        return InvalidArgument(
            "table " + table.name + ", key column " + std::string(columns.ColumnBytes(0)) +
            ": keys compare as bytes; remove COLLATE " + std::string(columns.ColumnBytes(1)));
      }
    }
  }
  ASSIGN_OR_RETURN(Stmt foreign,
                   db.Prepare("SELECT \"table\" FROM pragma_foreign_key_list(?)", false));
  foreign.BindText(1, table.name);
  ASSIGN_OR_RETURN(const bool has_foreign, foreign.Step());
  if (has_foreign) {
    return InvalidArgument("table " + table.name + ": foreign keys (to " +
                           std::string(foreign.ColumnBytes(0)) +
                           ") cannot be kept while rows arrive in any order; leave them out");
  }
  return OkStatus();
}

Status CheckKeyColumn(const Table& table, const Column& column, bool is_rowid) {
  const std::string at = "table " + table.name + ", key column " + column.name + ": ";
  if (!column.not_null && !is_rowid && !table.without_rowid && !table.strict) {
    return InvalidArgument(at + "may be NULL; add NOT NULL");
  }
  if (column.declared_type.empty() || Upper(column.declared_type) == "ANY") {
    return InvalidArgument(at +
                           "has no type, so 1 and '1' would be two keys here and one elsewhere; "
                           "declare TEXT, INTEGER or BLOB");
  }
  if (column.affinity == Affinity::kReal || column.affinity == Affinity::kNumeric) {
    return InvalidArgument(at + "is " + column.declared_type +
                           "; keys must be TEXT, INTEGER or BLOB, which compare as bytes");
  }
  return OkStatus();
}

Status ReadKind(Db& db, Table* table) {
  ASSIGN_OR_RETURN(
      Stmt list,
      db.Prepare("SELECT wr, strict FROM pragma_table_list(?) WHERE schema = 'main'", false));
  list.BindText(1, table->name);
  ASSIGN_OR_RETURN(const bool row, list.Step());
  if (!row) return NotFound("no such table: " + table->name);
  table->without_rowid = list.ColumnInt(0) != 0;
  table->strict = list.ColumnInt(1) != 0;
  ASSIGN_OR_RETURN(Stmt sql,
                   db.Prepare("SELECT type, sql, name FROM sqlite_schema WHERE tbl_name = ? AND "
                              "sql IS NOT NULL ORDER BY name",
                              false));
  sql.BindText(1, table->name);
  while (true) {
    ASSIGN_OR_RETURN(const bool more, sql.Step());
    if (!more) break;
    const std::string type(sql.ColumnBytes(0)), text(sql.ColumnBytes(1));
    if (type == "table") table->create_sql = text;
    if (type == "index") table->indexes.push_back({std::string(sql.ColumnBytes(2)), text});
    if (type == "trigger") {
      return InvalidArgument("table " + table->name +
                             ": triggers would run again on every node; leave them out");
    }
  }
  return OkStatus();
}

}  // namespace

Result<Table> IntrospectTable(Db& db, const std::string& name) {
  Table table;
  table.name = name;
  RETURN_IF_ERROR(ReadKind(db, &table));
  if (Upper(table.create_sql).find("AUTOINCREMENT") != std::string::npos) {
    return InvalidArgument("table " + name +
                           ": AUTOINCREMENT numbers are picked on each node anew "
                           "and would collide; use ids that writers choose");
  }
  const Declaration declaration = ReadDeclaration(table.create_sql);
  table.rules = declaration.rules;
  ASSIGN_OR_RETURN(std::vector<RawColumn> columns, ReadColumns(db, table, declaration));
  RETURN_IF_ERROR(CheckIndexes(db, table));
  const auto keys = static_cast<size_t>(std::count_if(
      columns.begin(), columns.end(), [](const RawColumn& c) { return c.key_position > 0; }));
  if (keys == 0) return InvalidArgument("table " + name + ": has no PRIMARY KEY; rows need a name");
  table.key.resize(keys);
  for (RawColumn& raw : columns) {
    if (raw.key_position > 0) {
      const auto index = static_cast<uint16_t>(raw.key_position - 1);
      const bool is_rowid =
          keys == 1 && !table.without_rowid && Upper(raw.column.declared_type) == "INTEGER";
      table.key_is_rowid = is_rowid;
      RETURN_IF_ERROR(CheckKeyColumn(table, raw.column, is_rowid));
      table.order.push_back({true, index});
      table.key[index] = std::move(raw.column);
      continue;
    }
    if (raw.column.not_null && raw.column.default_value.view().IsNull()) {
      return InvalidArgument(
          "table " + name + ", column " + raw.column.name +
          ": NOT NULL needs a DEFAULT, because a row may arrive before this cell");
    }
    table.order.push_back({false, static_cast<uint16_t>(table.columns.size())});
    table.columns.push_back(std::move(raw.column));
  }
  if (table.columns.size() > crdt::kMaxColumns) {
    return InvalidArgument(StrCat("table ", name, ": has ", table.columns.size(),
                                  " columns outside the key; at most ", crdt::kMaxColumns));
  }
  return table;
}

Result<std::vector<std::string>> UserTables(Db& db) {
  ASSIGN_OR_RETURN(
      Stmt list, db.Prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE "
                            "'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_\\_patina\\_%' "
                            "ESCAPE '\\' ORDER BY name",
                            false));
  std::vector<std::string> names;
  while (true) {
    ASSIGN_OR_RETURN(const bool row, list.Step());
    if (!row) return names;
    names.emplace_back(list.ColumnBytes(0));
  }
}

}  // namespace patina::storage

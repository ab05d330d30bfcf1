#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "crdt/row_clock.h"
#include "crdt/value.h"

// The declared tables: read from .sql files, checked against what replication can hold, compared by
// hash. Values, any thread.

namespace patina::storage {

/// What SQLite does to values stored in a column (https://www.sqlite.org/datatype3.html, 3.1).
enum class Affinity : uint8_t { kInteger, kReal, kText, kBlob, kNumeric };

struct Column {
  std::string name;
  std::string declared_type;
  Affinity affinity = Affinity::kBlob;
  bool not_null = false;
  crdt::Value default_value;  // null when none is declared
  uint32_t life = 0;          // how often the name was dropped before
};

/// One replicated table. Columns that are not in the key are numbered in declaration order: that
/// number is the crdt::ColumnIndex of clocks.
struct Table {
  std::string name;
  std::string create_sql;  // as SQLite keeps it
  std::vector<std::string> index_sql;
  std::vector<Column> key;      // in PRIMARY KEY order
  std::vector<Column> columns;  // without the key
  /// All columns in declaration order: position n is key[index] or columns[index].
  struct Place {
    bool in_key = false;
    uint16_t index = 0;
  };
  std::vector<Place> order;
  bool without_rowid = false;
  bool strict = false;
  bool merge_row = false;  // tables.toml: merge = "row"
  /// The key is one INTEGER PRIMARY KEY column: it is the rowid.
  bool key_is_rowid = false;

  /// Position in `columns`, or nothing.
  std::optional<crdt::ColumnIndex> FindColumn(std::string_view name) const;
  /// Names in declaration order.
  std::vector<std::string> AllColumnNames() const;
};

/// Something a schema may do but should be told of.
struct SchemaWarning {
  std::string text;  // with file and line
};

struct Schema {
  std::vector<Table> tables;  // by name
  std::vector<SchemaWarning> warnings;

  const Table* Find(std::string_view table) const;
  /// Of everything that decides whether two nodes understand each other's rows. Equal on every
  /// host.
  uint64_t Hash() const;
};

/// Reads files and folders (their *.sql by name, and tables.toml). Rejected with file, line and
/// reason: anything but CREATE TABLE and CREATE INDEX, tables without a key, unique indexes and
/// constraints, foreign keys, key columns that may be NULL or collate or are REAL or untyped, NOT
/// NULL without a default, defaults that are not constants, generated columns, AUTOINCREMENT, names
/// that begin with __patina_.
Result<Schema> LoadSchema(const std::vector<std::string>& paths);

/// The same from text, for tests and built-in schemas. file_name is for messages.
Result<Schema> ParseSchema(std::string_view sql, std::string_view file_name = "schema.sql",
                           std::string_view tables_toml = {});

/// What turning one schema into another means: printed by `patina schema diff`.
struct SchemaChange {
  enum class Kind {
    kAddTable,
    kAddColumn,
    kAddIndex,
    kDropIndex,
    kDropColumn,
    kDropTable,
    kRefused
  };
  Kind kind;
  std::string text;  // "add column machines.note TEXT"
  std::string sql;   // what would run; empty when refused
};
std::vector<SchemaChange> DiffSchemas(const Schema& from, const Schema& to);

/// "name" with quotes, for SQL.
std::string QuoteName(std::string_view name);

}  // namespace patina::storage

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
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
  std::string definition;     // as declared: "n INTEGER CHECK (n > 0)"
  std::string rules;          // its CHECK and COLLATE clauses in one spelling
};

struct Index {
  std::string name;
  std::string sql;  // as SQLite keeps it
};

/// How often each name was dropped. Ordered, so that it reads the same everywhere.
using Dropped = std::map<std::string, uint32_t, std::less<>>;

/// One replicated table. Columns that are not in the key are numbered in declaration order: that
/// number is the crdt::ColumnIndex of clocks.
struct Table {
  std::string name;
  std::string create_sql;  // as SQLite keeps it
  std::string rules;       // CHECK clauses of the whole table in one spelling
  std::vector<Index> indexes;
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
  uint32_t life = 0;  // how often a table of this name was dropped before
  Dropped dropped;    // its columns: tables.toml: dropped = ["b"]
  /// It stands in the file without our clocks: another program made it, and it can be adopted.
  bool plain = false;

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
  Dropped dropped_tables;     // tables.toml: dropped_tables = ["t"]
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
/// that begin with __patina_. A name of tables.toml may stand in `dropped` as often as it was
/// dropped.
Result<Schema> LoadSchema(const std::vector<std::string>& paths);

/// The same from text, for tests and built-in schemas. file_name is for messages.
Result<Schema> ParseSchema(std::string_view sql, std::string_view file_name = "schema.sql",
                           std::string_view tables_toml = {});

/// What turning one schema into another means: printed by `patina schema diff`.
struct SchemaChange {
  enum class Kind {
    kAddTable,
    kAdoptTable,  // one that another program made, with its rows
    kAddColumn,
    kAddIndex,
    kDropIndex,
    kDropColumn,
    kDropTable,
    kNote,  // nothing runs: a merge mode, a name that counts as dropped
    kRefused
  };
  Kind kind;
  std::string text;        // "add column machines.note"
  std::string sql;         // what would run; empty when nothing does
  std::string table = {};  // what it is about
  std::string column = {};

  /// Rows or cells are lost by it: done only when that is allowed.
  bool destructive() const { return kind == Kind::kDropColumn || kind == Kind::kDropTable; }
};
/// In the order in which they can run.
std::vector<SchemaChange> DiffSchemas(const Schema& from, const Schema& to);

/// Whether a change for this life of a name can still count: kUnknown ones wait for a schema.
enum class Life : uint8_t { kDropped, kUnknown };
Life LifeOf(const Dropped& dropped, std::string_view name, uint32_t life);

/// A table's name in changesets. One that was dropped and declared again is another table: its name
/// is followed by a byte that no name in SQL can hold, and the number of times.
std::string TravelName(const Table& table);
/// The name and life in it; a name that cannot be read is returned whole, with life 0.
std::pair<std::string_view, uint32_t> ReadTravelName(std::string_view travel_name);

/// "name" with quotes, for SQL.
std::string QuoteName(std::string_view name);
/// The same for tables.toml.
std::string QuoteToml(std::string_view name);

}  // namespace patina::storage

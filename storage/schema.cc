#include "storage/schema.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/hash.h"

namespace patina::storage {
namespace {

void HashColumn(const Column& column, ByteWriter& out) {
  out.String(column.name);
  out.U8(static_cast<uint8_t>(column.affinity));
  out.U8(column.not_null ? 1 : 0);
  out.Varint(column.life);
  crdt::EncodeValue(column.default_value, out);
}

std::string DescribeColumn(const Column& column) {
  std::string text = QuoteName(column.name);
  if (!column.declared_type.empty()) text += " " + column.declared_type;
  if (column.not_null) text += " NOT NULL";
  if (!column.default_value.view().IsNull()) text += " DEFAULT " + column.default_value.ToString();
  return text;
}

void DiffColumns(const Table& from, const Table& to, std::vector<SchemaChange>* changes) {
  using Kind = SchemaChange::Kind;
  auto same = [](const Column& a, const Column& b) {
    return a.affinity == b.affinity && a.not_null == b.not_null &&
           a.default_value == b.default_value && a.life == b.life;
  };
  auto same_key = [&] {
    if (from.key.size() != to.key.size()) return false;
    for (size_t i = 0; i < to.key.size(); ++i) {
      if (from.key[i].name != to.key[i].name || from.key[i].affinity != to.key[i].affinity)
        return false;
    }
    return true;
  };
  if (!same_key() || from.without_rowid != to.without_rowid || from.strict != to.strict) {
    changes->push_back(
        {Kind::kRefused,
         "table " + to.name +
             ": its key, STRICT or WITHOUT ROWID differ from the file; make a new table and copy",
         ""});
  }
  for (const Column& column : to.columns) {
    const auto index = from.FindColumn(column.name);
    if (!index) {
      changes->push_back(
          {Kind::kAddColumn, "add column " + to.name + "." + column.name,
           "ALTER TABLE " + QuoteName(to.name) + " ADD COLUMN " + DescribeColumn(column)});
    } else if (!same(from.columns[*index], column)) {
      changes->push_back(
          {Kind::kRefused,
           "table " + to.name + ", column " + column.name +
               ": its type, NOT NULL or default differ from the file; add a column of another name",
           ""});
    }
  }
  for (const Column& column : from.columns) {
    if (!to.FindColumn(column.name)) {
      changes->push_back({Kind::kDropColumn, "drop column " + to.name + "." + column.name, ""});
    }
  }
}

}  // namespace

std::string QuoteName(std::string_view name) {
  std::string quoted = "\"";
  for (char c : name) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::optional<crdt::ColumnIndex> Table::FindColumn(std::string_view column) const {
  for (size_t i = 0; i < columns.size(); ++i) {
    if (columns[i].name == column) return static_cast<crdt::ColumnIndex>(i);
  }
  return std::nullopt;
}

std::vector<std::string> Table::AllColumnNames() const {
  std::vector<std::string> names;
  for (const Place& place : order) {
    names.push_back(place.in_key ? key[place.index].name : columns[place.index].name);
  }
  return names;
}

const Table* Schema::Find(std::string_view table) const {
  for (const Table& candidate : tables) {
    if (candidate.name == table) return &candidate;
  }
  return nullptr;
}

uint64_t Schema::Hash() const {
  std::string bytes;
  ByteWriter out(&bytes);
  for (const Table& table : tables) {
    out.String(table.name);
    out.U8(static_cast<uint8_t>((table.merge_row ? 1 : 0) | (table.strict ? 2 : 0)));
    for (const Column& column : table.key) HashColumn(column, out);
    // By name: a column added to a file stands last there, wherever it is declared.
    std::vector<const Column*> sorted;
    for (const Column& column : table.columns) sorted.push_back(&column);
    std::sort(sorted.begin(), sorted.end(), [](auto* a, auto* b) { return a->name < b->name; });
    for (const Column* column : sorted) HashColumn(*column, out);
  }
  return Hash64(bytes);
}

std::vector<SchemaChange> DiffSchemas(const Schema& from, const Schema& to) {
  using Kind = SchemaChange::Kind;
  std::vector<SchemaChange> changes;
  for (const Table& table : to.tables) {
    const Table* old = from.Find(table.name);
    if (old == nullptr) {
      changes.push_back({Kind::kAddTable, "add table " + table.name, table.create_sql});
      for (const std::string& sql : table.index_sql) {
        changes.push_back({Kind::kAddIndex, "add index on " + table.name, sql});
      }
      continue;
    }
    DiffColumns(*old, table, &changes);
    for (const std::string& sql : table.index_sql) {
      if (std::find(old->index_sql.begin(), old->index_sql.end(), sql) == old->index_sql.end()) {
        changes.push_back({Kind::kAddIndex, "add index on " + table.name, sql});
      }
    }
    for (const std::string& sql : old->index_sql) {
      if (std::find(table.index_sql.begin(), table.index_sql.end(), sql) == table.index_sql.end()) {
        changes.push_back({Kind::kDropIndex, "drop an index of " + table.name, sql});
      }
    }
  }
  for (const Table& table : from.tables) {
    if (to.Find(table.name) == nullptr) {
      changes.push_back({Kind::kDropTable, "drop table " + table.name, ""});
    }
  }
  return changes;
}

}  // namespace patina::storage

#include "storage/schema.h"

#include <algorithm>
#include <charconv>
#include <system_error>

#include "base/bytes.h"
#include "base/hash.h"
#include "storage/declaration.h"

namespace patina::storage {
namespace {

constexpr char kLifeFollows = '\0';

void HashColumn(const Column& column, ByteWriter& out) {
  out.String(column.name);
  out.U8(static_cast<uint8_t>(column.affinity));
  out.U8(column.not_null ? 1 : 0);
  out.Varint(column.life);
  crdt::EncodeValue(column.default_value, out);
}

using Kind = SchemaChange::Kind;

uint32_t Times(const Dropped& dropped, std::string_view name) {
  const auto found = dropped.find(name);
  return found == dropped.end() ? 0 : found->second;
}

void HashDropped(const Dropped& dropped, ByteWriter& out) {
  for (const auto& [name, times] : dropped) {
    out.String(name);
    out.Varint(times);
  }
}

/// One name of a schema before and after, and what its changes are called.
class TableDiff {
 public:
  TableDiff(const Table& from, const Table& to, std::vector<SchemaChange>* changes)
      : from_(from), to_(to), changes_(changes) {}

  void Run() {
    CompareWhole();
    for (const auto& [name, times] : from_.dropped) {
      if (Times(to_.dropped, name) >= times) continue;
      Refuse("column " + name + " was dropped here " + std::to_string(times) +
                 " times: keep it in tables.toml, [" + to_.name + "] dropped, that often",
             name);
    }
    DropIndexes();
    for (const Column& column : from_.columns) Drop(column);
    for (const Column& column : to_.columns) Add(column);
    AddIndexes();
  }

 private:
  void Push(Kind kind, std::string text, std::string sql, const std::string& column = {}) {
    changes_->push_back({kind, std::move(text), std::move(sql), to_.name, column});
  }
  void Refuse(const std::string& why, const std::string& column = {}) {
    Push(Kind::kRefused, "table " + to_.name + ": " + why, "", column);
  }

  void CompareWhole() {
    bool same_key = from_.key.size() == to_.key.size();
    for (size_t i = 0; same_key && i < to_.key.size(); ++i) {
      same_key =
          from_.key[i].name == to_.key[i].name && from_.key[i].affinity == to_.key[i].affinity;
    }
    if (!same_key || from_.without_rowid != to_.without_rowid || from_.strict != to_.strict) {
      Refuse("its key, STRICT or WITHOUT ROWID differ from the file; make a new table and copy");
    }
    if (from_.rules != to_.rules) {
      Refuse("its CHECK clauses differ from the file, and SQLite changes none of a table that is " +
             std::string("there; put a new one on a new column, or make a new table and copy"));
    }
    if (from_.merge_row != to_.merge_row) {
      Push(Kind::kNote,
           "merge table " + to_.name + (to_.merge_row ? " by rows" : " by cells") + " from now on",
           "");
    }
  }

  /// Whether the column of the file is one that the new schema has no more.
  bool Goes(const Column& column) const {
    const auto index = to_.FindColumn(column.name);
    return !index || to_.columns[*index].life > column.life;
  }

  void Drop(const Column& column) {
    if (!Goes(column)) return;
    if (Times(to_.dropped, column.name) <= column.life) {
      return Refuse("column " + column.name +
                        " is not declared any more; to drop it everywhere, with its values, list "
                        "it in tables.toml: [" +
                        to_.name + "] dropped = [\"" + column.name + "\"]",
                    column.name);
    }
    Push(Kind::kDropColumn, "drop column " + to_.name + "." + column.name,
         "ALTER TABLE " + QuoteName(to_.name) + " DROP COLUMN " + QuoteName(column.name),
         column.name);
  }

  void Add(const Column& column) {
    const auto index = from_.FindColumn(column.name);
    if (!index || Goes(from_.columns[*index])) {
      Push(Kind::kAddColumn, "add column " + to_.name + "." + column.name,
           "ALTER TABLE " + QuoteName(to_.name) + " ADD COLUMN " + column.definition, column.name);
      return;
    }
    const Column& old = from_.columns[*index];
    if (old.affinity != column.affinity || old.not_null != column.not_null ||
        !(old.default_value == column.default_value) || old.rules != column.rules) {
      Push(Kind::kRefused,
           "table " + to_.name + ", column " + column.name +
               ": its type, NOT NULL, default, CHECK or COLLATE differ from the file; add a column "
               "of another name",
           "", column.name);
    }
  }

  /// SQLite drops no column that an index names.
  bool Stays(const Index& index) const {
    const std::string sql = NormalSql(index.sql);
    for (const Column& column : from_.columns) {
      if (Goes(column) && MentionsName(index.sql, column.name)) return false;
    }
    return std::any_of(to_.indexes.begin(), to_.indexes.end(),
                       [&](const Index& other) { return NormalSql(other.sql) == sql; });
  }
  void DropIndexes() {
    for (const Index& index : from_.indexes) {
      if (Stays(index)) continue;
      Push(Kind::kDropIndex, "drop index " + index.name + " of " + to_.name,
           "DROP INDEX " + QuoteName(index.name));
    }
  }
  void AddIndexes() {
    for (const Index& index : to_.indexes) {
      const std::string sql = NormalSql(index.sql);
      const bool there = std::any_of(
          from_.indexes.begin(), from_.indexes.end(),
          [&](const Index& other) { return NormalSql(other.sql) == sql && Stays(other); });
      if (!there) Push(Kind::kAddIndex, "add index " + index.name + " on " + to_.name, index.sql);
    }
  }

  const Table& from_;
  const Table& to_;
  std::vector<SchemaChange>* changes_;
};

void AddTable(const Table& table, std::vector<SchemaChange>* changes) {
  changes->push_back({Kind::kAddTable, "add table " + table.name, table.create_sql, table.name});
  for (const Index& index : table.indexes) {
    changes->push_back(
        {Kind::kAddIndex, "add index " + index.name + " on " + table.name, index.sql, table.name});
  }
}

void DropTable(const Table& table, const Schema& to, std::vector<SchemaChange>* changes) {
  if (Times(to.dropped_tables, table.name) <= table.life) {
    changes->push_back(
        {Kind::kRefused,
         "table " + table.name +
             " is not declared any more; to drop it everywhere, with its rows, list it at the top "
             "of tables.toml: dropped_tables = [\"" +
             table.name + "\"]",
         "", table.name});
    return;
  }
  changes->push_back({Kind::kDropTable, "drop table " + table.name,
                      "DROP TABLE " + QuoteName(table.name), table.name});
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

std::string QuoteToml(std::string_view name) {
  std::string quoted = "\"";
  for (char c : name) {
    if (c == '"' || c == '\\') quoted += '\\';
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
    HashDropped(table.dropped, out);
  }
  HashDropped(dropped_tables, out);
  return Hash64(bytes);
}

Life LifeOf(const Dropped& dropped, std::string_view name, uint32_t life) {
  return life < Times(dropped, name) ? Life::kDropped : Life::kUnknown;
}

std::string TravelName(const Table& table) {
  if (table.life == 0) return table.name;
  return table.name + kLifeFollows + std::to_string(table.life);
}

std::pair<std::string_view, uint32_t> ReadTravelName(std::string_view travel_name) {
  const size_t at = travel_name.find(kLifeFollows);
  if (at == std::string_view::npos) return {travel_name, 0};
  const std::string_view digits = travel_name.substr(at + 1);
  uint32_t life = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), life);
  if (error != std::errc() || end != digits.data() + digits.size()) return {travel_name, 0};
  return {travel_name.substr(0, at), life};
}

std::vector<SchemaChange> DiffSchemas(const Schema& from, const Schema& to) {
  std::vector<SchemaChange> changes;
  for (const auto& [name, times] : from.dropped_tables) {
    if (Times(to.dropped_tables, name) >= times) continue;
    changes.push_back({Kind::kRefused,
                       "table " + name + " was dropped here " + std::to_string(times) +
                           " times: keep it in tables.toml, dropped_tables, that often",
                       "", name});
  }
  for (const Table& table : from.tables) {
    const Table* next = to.Find(table.name);
    if (!table.plain && (next == nullptr || next->life > table.life)) {
      DropTable(table, to, &changes);
    }
  }
  for (const Table& table : to.tables) {
    const Table* old = from.Find(table.name);
    if (old == nullptr || (!old->plain && table.life > old->life)) {
      AddTable(table, &changes);
      continue;
    }
    if (old->plain) {
      changes.push_back(
          {Kind::kAdoptTable, "adopt table " + table.name + " with its rows", "", table.name});
    }
    TableDiff(*old, table, &changes).Run();
  }
  return changes;
}

}  // namespace patina::storage

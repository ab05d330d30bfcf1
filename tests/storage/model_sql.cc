#include "tests/storage/model_sql.h"

#include <initializer_list>

#include "base/log.h"

namespace patina::storage::model {
namespace {

// ---- Schemas ------------------------------------------------------------------------------------

std::vector<Schema> PlainSchemas() {
  const auto schema = [](bool has_b, bool b_was_dropped) {
    const std::string columns =
        StrCat(", a INTEGER DEFAULT 0", has_b ? ", b INTEGER DEFAULT 0" : "");
    const std::string dropped = b_was_dropped ? "dropped = [\"b\"]\n" : "";
    return MustParse(
        StrCat("CREATE TABLE services (id INTEGER NOT NULL PRIMARY KEY", columns,
               ");\nCREATE TABLE machines (id INTEGER NOT NULL PRIMARY KEY", columns, ");"),
        StrCat("[services]\n", dropped, "[machines]\nmerge = \"row\"\n", dropped));
  };
  return {schema(false, false), schema(true, false), schema(false, true), schema(true, true)};
}

/// `late` stands where the newer schemas add a column: in the middle, so an old file, which gets it
/// at its end, has another order than a new one.
Schema AnySchema(const std::string& late, const std::string& more_tables, const std::string& toml) {
  return MustParse(
      "CREATE TABLE words (id TEXT NOT NULL PRIMARY KEY, " + late +
          "a, b TEXT DEFAULT 'd', n INTEGER NOT NULL DEFAULT 5);\n"
          "CREATE TABLE numbers (id INTEGER PRIMARY KEY, a, " +
          late +
          "r REAL);\n"
          "CREATE TABLE pairs (v, x TEXT NOT NULL, " +
          late +
          "y INTEGER NOT NULL, w BLOB, PRIMARY KEY (y, x)) WITHOUT ROWID;\n"
          "CREATE TABLE strict (id TEXT PRIMARY KEY, i INTEGER, t TEXT, o ANY) STRICT;\n"
          "CREATE TABLE whole (id TEXT NOT NULL PRIMARY KEY, " +
          late +
          "a, b);\n"
          "CREATE TABLE checked (id TEXT NOT NULL PRIMARY KEY, lo INTEGER NOT NULL DEFAULT 0,\n"
          "                      hi INTEGER NOT NULL DEFAULT 10, CHECK (lo <= hi));\n"
          "CREATE TABLE keys_only (id TEXT NOT NULL PRIMARY KEY ON CONFLICT REPLACE);\n"
          "CREATE TABLE places (v, x TEXT NOT NULL, " +
          late +
          "y INTEGER NOT NULL, w BLOB, PRIMARY KEY (y, x));\n"
          "CREATE TABLE blobs (id BLOB NOT NULL PRIMARY KEY, a);\n" +
          more_tables,
      toml);
}

std::vector<Schema> AnySchemas() {
  const std::string late = "late INTEGER DEFAULT 7, ",
                    more = "CREATE TABLE newer (id TEXT NOT NULL PRIMARY KEY, a, b);";
  std::string was_dropped = "[whole]\nmerge = \"row\"\ndropped = [\"late\"]\n";
  for (const char* table : {"words", "numbers", "pairs", "places"})
    was_dropped += StrCat("[", table, "]\ndropped = [\"late\"]\n");
  return {AnySchema("", "", "[whole]\nmerge = \"row\"\n"),
          AnySchema(late, more, "[whole]\nmerge = \"row\"\n"), AnySchema("", more, was_dropped),
          AnySchema(late, more, was_dropped)};
}

// ---- Statements ---------------------------------------------------------------------------------

Transaction PlainTransaction(const Schema& schema, Rng& rng) {
  constexpr const char* kTables[] = {"services", "machines"};
  Transaction transaction;
  const uint64_t lengths[] = {1, 1, 2, 3};
  for (uint64_t left = lengths[rng.Below(4)]; left > 0; --left) {
    const std::string table = kTables[rng.Below(2)], key = StrCat(1 + rng.Below(2));
    std::string names, values, sets;
    for (const Column& column : schema.Find(table)->columns) {
      if (!rng.Chance(0.6)) continue;
      const std::string value = StrCat(rng.Between(1, 9));
      names += ", " + column.name;
      values += ", " + value;
      sets += (sets.empty() ? "" : ", ") + column.name + " = " + value;
    }
    const std::string into = table + " (id" + names + ") VALUES (" + key + values + ")";
    const uint64_t verb = rng.Below(6);
    std::string sql = verb < 2   ? "INSERT OR IGNORE INTO " + into
                      : verb < 4 ? "UPDATE " + table + " SET " + sets + " WHERE id = " + key
                      : verb < 5 ? "REPLACE INTO " + into
                                 : "DELETE FROM " + table + " WHERE id = " + key;
    if ((verb == 2 || verb == 3) && sets.empty()) continue;
    transaction.statements.push_back({std::move(sql), {}, {}});
  }
  return transaction;
}

/// Any statement for tables of AnySchema.
class AnyStatement {
 public:
  AnyStatement(const Schema& schema, Rng* rng)
      : rng_(*rng),
        table_(schema.tables[rng->Below(schema.tables.size())]),
        name_(table_.name),
        pair_key_(table_.key.size() == 2) {}

  std::string Make() {
    const std::string some = table_.columns.empty() ? "" : AnyColumn();
    const std::string insert =
        StrCat("INTO ", name_, " (", pair_key_ ? "x, y" : "id", some.empty() ? "" : ", " + some,
               ") VALUES (", Key(), some.empty() ? "" : ", " + Value(), ")");
    switch (rng_.Below(16)) {
      case 0:
      case 1:
        return "INSERT OR IGNORE " + insert;
      case 2:
        return "INSERT OR REPLACE " + insert;
      case 3:
        if (some.empty()) return "REPLACE " + insert;
        return "INSERT " + insert + " ON CONFLICT DO UPDATE SET " + some + " = excluded." + some;
      case 4:
        return "DELETE FROM " + name_ + Where();
      case 5:
        return "REPLACE INTO " + name_ + " SELECT * FROM " + name_ + Where();
      case 6:
        if (table_.without_rowid) return "INSERT OR IGNORE " + insert;
        return "UPDATE OR REPLACE " + name_ + " SET rowid = " + Pick({"1", "2", "7", "50"}) +
               Where();
      case 7:
        if (pair_key_) return "UPDATE OR REPLACE " + name_ + " SET y = 3 - y WHERE x = 'p'";
        return "UPDATE OR REPLACE " + name_ + " SET id = " + Key() + " WHERE id = " + Key();
      case 8:
        return "INSERT " + insert;
      case 9:
        return (rng_.Chance(0.3) ? "INSERT OR ROLLBACK " : "INSERT OR FAIL ") + insert;
      case 10:
        return "DELETE FROM " + name_ + Where() + " RETURNING *";
      case 11:
        if (some.empty()) return "INSERT OR IGNORE " + insert + " RETURNING *";
        return "UPDATE OR IGNORE " + name_ + " SET " + some + " = source.v FROM (SELECT " +
               Value() + " AS v) AS source" + Where();
      default:
        if (some.empty()) return "INSERT OR IGNORE " + insert;
        return "UPDATE OR IGNORE " + name_ + " SET " + some + " = " + Value() +
               (rng_.Chance(0.3) ? ", " + AnyColumn() + " = " + Value() : "") + Where();
    }
  }

 private:
  std::string Pick(std::initializer_list<const char*> choices) {
    return *(choices.begin() + rng_.Below(choices.size()));
  }

  std::string AnyColumn() { return table_.columns[rng_.Below(table_.columns.size())].name; }

  std::string Value() {
    if (rng_.Chance(0.2)) return UnusualValue();
    return Pick({"NULL", "1", "2", "1.0", "2.5", "'x'", "'12'", "x'00ff'", "'d'", "'late'", "7",
                 "3", "-9", "1.5"});
  }

  /// Text with a NUL and text that is no UTF-8, a blob over many pages, both zeros, NaN (a NULL to
  /// SQLite), infinity, an integer that no double holds, and what is empty.
  std::string UnusualValue() {
    return Pick({"CAST(x'610062' AS TEXT)", "CAST(x'ff41' AS TEXT)", "zeroblob(5000)", "0.0",
                 "-0.0", "0", "9e999 - 9e999", "-9e999", "9007199254740993", "''", "x''"});
  }

  std::string Key() {
    if (name_ == "numbers") return Pick({"0", "1", "2", "7"});
    if (name_ == "blobs") return Pick({"x''", "x'00ff'", "1", "1.0", "'k1'"});
    return pair_key_ ? Pick({"'p', 1", "'p', 2", "'q', 1"}) : Pick({"'k1'", "'k2'", "'k3'"});
  }

  std::string Where() {
    if (rng_.Chance(0.1)) return "";
    return pair_key_ ? " WHERE (x, y) = (" + Key() + ")" : " WHERE id = " + Key();
  }

  Rng& rng_;
  const Table& table_;
  const std::string& name_;
  const bool pair_key_;
};

/// With savepoints, unless the transaction is large.
Transaction AnyTransaction(const Schema& schema, bool large, Rng& rng) {
  Transaction transaction;
  transaction.large = large;
  const auto add = [&](std::string sql) {
    transaction.statements.push_back({std::move(sql), {}, {}});
  };
  bool open = false;
  for (uint64_t left = 1 + rng.Below(4); left > 0; --left) {
    if (!large && rng.Chance(0.15)) {
      add(open ? "ROLLBACK TO a" : "SAVEPOINT a");
      open = true;
    } else if (!large && rng.Chance(0.02)) {  // which may have none
      add(rng.Chance(0.5) ? "RELEASE a" : "ROLLBACK TO a");
    }
    add(AnyStatement(schema, &rng).Make());
  }
  return transaction;
}

}  // namespace

const std::vector<Schema>& Schemas(Sql sql) {
  static const std::vector<Schema> plain = PlainSchemas(), any = AnySchemas();
  return sql == Sql::kPlain ? plain : any;
}

std::vector<Transaction> RandomGroup(Sql sql, const Schema& schema, bool some_large, Rng& rng) {
  std::vector<Transaction> group;
  if (sql == Sql::kPlain) {
    group.push_back(PlainTransaction(schema, rng));
    if (group[0].statements.empty()) return {};
    group[0].large = some_large && rng.Chance(0.25);
    return group;
  }
  if (some_large && rng.Chance(0.2)) return {AnyTransaction(schema, true, rng)};
  for (uint64_t left = rng.Chance(0.5) ? 1 : 1 + rng.Below(3); left > 0; --left)
    group.push_back(AnyTransaction(schema, false, rng));
  return group;
}

std::string DescribeDifference(const Rows& have, const Rows& want) {
  std::string text;
  const auto describe = [](const Rows& rows, const Rows::key_type& name) {
    const auto row = rows.find(name);
    return row == rows.end() ? "none" : DescribeKey(row->second);
  };
  Rows all = have;
  all.insert(want.begin(), want.end());
  for (const auto& [name, row] : all) {
    const std::string has = describe(have, name), wants = describe(want, name);
    if (has != wants)
      text += StrCat(text.empty() ? "" : "; ", name.first, " ", has, " instead of ", wants);
  }
  return text;
}

}  // namespace patina::storage::model

#include "tests/sim/existence.h"

#include <tuple>

#include "base/check.h"
#include "base/log.h"
#include "crdt/changeset.h"
#include "storage/db.h"

namespace patina::sim {
namespace {

struct KeyQuery {
  const char* table;
  const char* sql;
  int columns;
};
constexpr KeyQuery kKeys[] = {{"machines", "SELECT id FROM machines", 1},
                              {"services", "SELECT machine, port FROM services", 2},
                              {"machine_load", "SELECT machine FROM machine_load", 1}};

}  // namespace

void Existence::Add(const std::string& changeset) {
  const auto header = crdt::PeekChangesetHeader(changeset);
  auto reader = crdt::ChangesetReader::Open(changeset);
  CHECK(header.ok() && reader.ok());
  crdt::TableChange table;
  crdt::RowOp row;
  for (auto more = reader->NextTable(&table); more.ok() && *more;
       more = reader->NextTable(&table)) {
    for (auto next = reader->NextRow(&row); next.ok() && *next; next = reader->NextRow(&row)) {
      if (row.says == crdt::Says::kNothing) continue;
      rows_[{std::string(table.name), std::string(row.key)}].push_back(
          {header->time, header->id, row.says == crdt::Says::kAlive});
    }
  }
}

std::string Existence::Compare(const std::string& path, const std::set<ChangeId>& set_aside) const {
  std::set<std::pair<std::string, std::string>> there;
  auto db = storage::Db::Open(path, storage::Db::Mode::kReadOnly);
  if (!db.ok()) return db.error().ToString();
  for (const KeyQuery& query : kKeys) {
    auto select = db->Prepare(query.sql, false);
    if (!select.ok()) return select.error().ToString();
    for (auto row = select->Step(); row.ok() && *row; row = select->Step()) {
      std::vector<crdt::Value> key;
      for (int i = 0; i < query.columns; ++i) key.emplace_back(select->Column(i));
      there.emplace(query.table, crdt::PackValues(key));
    }
  }
  for (const auto& [row, all] : rows_) {
    const Says* latest = nullptr;
    for (const Says& says : all) {
      if (set_aside.contains(says.id)) continue;
      if (latest == nullptr || std::tie(latest->time, latest->id) < std::tie(says.time, says.id)) {
        latest = &says;
      }
    }
    const bool alive = latest != nullptr && latest->alive;
    if (alive == there.contains(row)) continue;
    return StrCat(alive ? "lacks a row of " : "has a deleted row of ", row.first);
  }
  return {};
}

}  // namespace patina::sim

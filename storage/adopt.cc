#include <algorithm>
#include <utility>

#include "base/log.h"
#include "storage/store_impl.h"

// A table that another program made is declared: its rows become local writes, in parts, before
// anything else is written. How far that has come stands in __patina_state 'adopt:<table>' (the
// last packed key, empty at first), in the commit of each part: after a crash it goes on there.

namespace patina::storage {
namespace {

constexpr int64_t kRowsPerPart = 1'000;
constexpr size_t kBytesPerPart = 1u << 20;
constexpr const char* kPrefix = "adopt:";

}  // namespace

Status Store::Impl::NoteAdopting(const TableIo& table) {
  RETURN_IF_ERROR(CheckKeys(table));
  return SaveState(kPrefix + table.table().name, crdt::ValueView::Blob(""));
}

/// Keys that no host would take must not be half adopted first.
Status Store::Impl::CheckKeys(const TableIo& table) {
  if (!table.key_may_be_real()) return OkStatus();
  std::string reals;
  for (const Column& column : table.table().key)
    reals += (reals.empty() ? "" : " OR ") + ("typeof(" + QuoteName(column.name) + ") = 'real'");
  ASSIGN_OR_RETURN(Stmt find,
                   db->Prepare("SELECT " + table.KeyList() + " FROM " +
                                   QuoteName(table.table().name) + " WHERE " + reals + " LIMIT 1",
                               false));
  ASSIGN_OR_RETURN(const bool found, find.Step());
  if (!found) return OkStatus();
  std::vector<crdt::ValueView> key;
  for (size_t i = 0; i < table.table().key.size(); ++i)
    key.push_back(find.Column(static_cast<int>(i)));
  return FailedPrecondition("table " + table.table().name + ", " +
                            table.WhyNotLocalKey(crdt::PackValues(key)));
}

Status Store::Impl::AdoptTables(std::vector<ChangeId>* adopted) {
  std::vector<std::pair<std::string, std::string>> waiting;  // table, last key
  {
    ASSIGN_OR_RETURN(Stmt select, db->Prepare("SELECT substr(name, 7), value FROM __patina_state "
                                              "WHERE name > 'adopt:' AND name < 'adopt;'",
                                              false));
    while (true) {
      ASSIGN_OR_RETURN(const bool row, select.Step());
      if (!row) break;
      waiting.emplace_back(select.ColumnBytes(0), select.ColumnBytes(1));
    }
  }
  for (auto& [name, after] : waiting) {
    TableIo* table = FindTable(name);
    if (table == nullptr) return DataLoss("the table " + name + " that was to be adopted is gone");
    RETURN_IF_ERROR(AdoptTable(*table, std::move(after), adopted));
    LogInfo("storage", "adopted table ", name, " with ", table->digest.rows, " rows");
  }
  return OkStatus();
}

Status Store::Impl::AdoptTable(TableIo& table, std::string after, std::vector<ChangeId>* adopted) {
  // After a crash the replay has counted rows that are not adopted yet.
  const bool resumed = !after.empty() || table.digest.rows > 0;
  while (true) {
    std::vector<NetChange> rows;
    RETURN_IF_ERROR(ReadPart(table, after, &rows));
    if (rows.empty()) break;
    after = rows.back().key;
    RETURN_IF_ERROR(begin.Run());
    Status saved = SaveState(kPrefix + table.table().name, crdt::ValueView::Blob(after));
    if (saved.ok()) saved = AdoptPart(std::move(rows), "table " + table.table().name, adopted);
    if (!saved.ok()) {
      RollBack();
      return saved;
    }
    NoteProgress();
    RETURN_IF_ERROR(CheckpointIfDue());
  }
  if (resumed) {
    RETURN_IF_ERROR(Checkpoint());
    RETURN_IF_ERROR(table.RecomputeDigest(&hashers[table.number()], actors, {}));
    table.digest_dirty = true;
  }
  return ForgetState(kPrefix + table.table().name);
}

Status Store::Impl::ReadPart(TableIo& table, std::string_view after, std::vector<NetChange>* rows) {
  const Table& declared = table.table();
  const size_t keys = declared.key.size(), columns = declared.columns.size();
  const std::string key_list = table.KeyList();
  std::string places;
  for (size_t i = 0; i < keys; ++i) places += i == 0 ? "?" : ", ?";
  ASSIGN_OR_RETURN(
      Stmt scan,
      db->Prepare("SELECT " + (declared.without_rowid ? std::string("0") : table.rowid_name()) +
                      ", " + key_list + table.ColumnList() + " FROM " + QuoteName(declared.name) +
                      (after.empty() ? "" : " WHERE (" + key_list + ") > (" + places + ")") +
                      " ORDER BY " + key_list + StrCat(" LIMIT ", kRowsPerPart),
                  false));
  std::vector<crdt::ValueView> last;
  if (!after.empty() && !crdt::UnpackValues(after, keys, &last))
    return DataLoss("how far the adoption of table " + declared.name + " has come is damaged");
  for (size_t i = 0; i < last.size(); ++i) scan.Bind(static_cast<int>(i) + 1, last[i]);
  for (size_t bytes = 0; bytes < kBytesPerPart;) {
    ASSIGN_OR_RETURN(const bool found, scan.Step());
    if (!found) break;
    NetChange& row = rows->emplace_back();
    row.table = &table;
    row.says = crdt::Says::kAlive;
    row.has_row = true;
    row.new_rowid = scan.ColumnInt(0);
    int position = 1;
    ByteWriter key_out(&row.key), values_out(&row.new_values);
    key_out.Varint(keys);
    for (size_t i = 0; i < keys; ++i) crdt::EncodeValue(scan.Column(position++), key_out);
    values_out.Varint(columns);
    for (size_t i = 0; i < columns; ++i) {
      crdt::EncodeValue(scan.Column(position++), values_out);
      row.columns.push_back(static_cast<crdt::ColumnIndex>(i));
    }
    row.key_hash = RowCache::KeyHash(row.key);
    if (std::string why = table.WhyNotLocalKey(row.key); !why.empty())  // since CheckKeys
      return FailedPrecondition("table " + declared.name + ", " + why);
    bytes += row.key.size() + row.new_values.size();
  }
  return OkStatus();
}

Status Store::Impl::AdoptPart(std::vector<NetChange> rows, const std::string& what,
                              std::vector<ChangeId>* adopted) {
  next_version = version;
  next_seq = last_seq;
  log_bytes_uncommitted = 0;
  Pending pending;
  pending.net = std::move(rows);
  // Where the log's order wants them, see ClockInGroup.
  std::sort(pending.net.begin(), pending.net.end(), [](const NetChange& a, const NetChange& b) {
    return std::pair(a.table->number(), std::string_view(a.key)) <
           std::pair(b.table->number(), std::string_view(b.key));
  });
  RETURN_IF_ERROR(LogLocal(&pending));
  RETURN_IF_ERROR(SaveActors());
  RETURN_IF_ERROR(Commit("adopting " + what));
  actors_saved = actors.size();
  version = next_version;
  last_seq = next_seq;
  NoteAcked();
  if (pending.committed.version > 0) adopted->push_back({actor, version});
  CommitEffects not_told;  // whoever looks at the table looks anew
  BeginEffects(&not_told);
  ApplyLocal(pending, &not_told);
  cache.EvictIfNeeded();
  return OkStatus();
}

}  // namespace patina::storage

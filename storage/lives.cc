#include "storage/lives.h"

#include <cstdint>

#include "base/bytes.h"

namespace patina::storage {
namespace {

constexpr uint8_t kDroppedFormat = 1;

void EncodeNames(const Dropped& dropped, ByteWriter& out) {
  out.Varint(dropped.size());
  for (const auto& [name, times] : dropped) {
    out.String(name);
    out.Varint(times);
  }
}

void DecodeNames(ByteReader& in, Dropped* dropped) {
  const uint64_t count = in.Varint();
  for (uint64_t i = 0; i < count && in.ok(); ++i) {
    const std::string name(in.String());
    (*dropped)[name] = static_cast<uint32_t>(in.Varint());
  }
}

}  // namespace

Result<DroppedInFile> ReadDropped(Db& db) {
  DroppedInFile dropped;
  ASSIGN_OR_RETURN(Stmt select,
                   db.Prepare("SELECT value FROM __patina_state WHERE name = 'dropped'", false));
  ASSIGN_OR_RETURN(const bool row, select.Step());
  if (!row) return dropped;
  ByteReader in(select.ColumnBytes(0));
  const bool known = in.U8() == kDroppedFormat;
  DecodeNames(in, &dropped.tables);
  const uint64_t tables = in.Varint();
  for (uint64_t i = 0; i < tables && in.ok(); ++i) {
    const std::string name(in.String());
    DecodeNames(in, &dropped.columns[name]);
  }
  if (!known || !in.ok()) return DataLoss("the list of dropped names is damaged");
  return dropped;
}

std::string EncodeDropped(const Schema& schema) {
  std::string bytes;
  ByteWriter out(&bytes);
  out.U8(kDroppedFormat);
  EncodeNames(schema.dropped_tables, out);
  out.Varint(schema.tables.size());
  for (const Table& table : schema.tables) {
    out.String(table.name);
    EncodeNames(table.dropped, out);
  }
  return bytes;
}

void SetLives(const DroppedInFile& dropped, Table* table) {
  if (const auto life = dropped.tables.find(table->name); life != dropped.tables.end())
    table->life = life->second;
  if (const auto lives = dropped.columns.find(table->name); lives != dropped.columns.end())
    table->dropped = lives->second;
  for (Column& column : table->columns) {
    const auto life = table->dropped.find(column.name);
    if (life != table->dropped.end()) column.life = life->second;
  }
}

}  // namespace patina::storage

#include "tests/storage/model_node.h"
#include "tests/storage/model_world.h"

// What the oracle of the cluster model reads from a node: its rows, and its state with stamps.

namespace patina::storage::model {

namespace {

class RowsOfTable final : public RowSink {
 public:
  RowsOfTable(const Table* table, Rows* rows) : table_(table), rows_(rows) {}
  bool OnColumns(const std::vector<std::string>&) override { return true; }
  bool OnRow(const std::vector<crdt::ValueView>& values) override {
    std::vector<crdt::ValueView> key(table_->key.size());
    for (size_t i = 0; i < values.size(); ++i) {
      const Table::Place& place = table_->order[i];
      if (place.in_key) key[place.index] = values[i];
    }
    (*rows_)[{table_->name, crdt::PackValues(key)}] = crdt::PackValues(values);
    return true;
  }

 private:
  const Table* table_;
  Rows* rows_;
};

}  // namespace

Rows Node::Visible() {
  Rows rows;
  for (const Table& table : store->schema().tables) {
    std::string names;
    for (const std::string& column : table.AllColumnNames())
      names += (names.empty() ? "" : ", ") + QuoteName(column);
    const std::string sql = StrCat("SELECT ", names, " FROM ", QuoteName(table.name));
    RowsOfTable into(&table, &rows);
    world_->RequireOk(reader().Query({sql, {}, {}}, {}, into), sql);
  }
  return rows;
}

namespace {

/// Reads the stream of storage/transfer_format.h of a node to whom nothing is known.
OracleState ReadStream(const std::string& bytes, const Schema& schema) {
  OracleState state;
  ByteReader in(bytes);
  std::string table;
  std::vector<std::string> columns;
  std::vector<ActorId> actors;
  in.U8();  // kHeader
  const bool collected = in.U8() == 2;
  in.U64();
  crdt::VersionSet applied;
  EXPECT_TRUE(crdt::VersionSet::Decode(in, {}, &applied));
  if (collected) {
    in.Varint();
    for (uint64_t left = in.Varint(); left > 0; --left) {
      in.Raw(16);
      in.Varint();
    }
  }
  while (true) {
    const uint8_t record = in.U8();
    if (record == 0 || !in.ok()) return state;
    if (record == 2) {
      table = in.String();
      columns.clear();
      for (uint64_t left = in.Varint(); left > 0; --left) {
        const std::string column(in.String());
        const Table& declared = *schema.Find(table);
        const uint32_t life = declared.columns[*declared.FindColumn(column)].life;
        columns.push_back(life == 0 ? column : StrCat(column, "#", life));
      }
      continue;
    }
    OracleRow& row = state[{table, std::string(in.String())}];
    for (uint64_t groups = in.Varint(); groups > 0; --groups) {
      const uint64_t number = in.Varint();
      if (number == actors.size()) actors.push_back(*ActorId::FromBytes(in.Raw(16)));
      OracleStamp stamp;
      stamp.actor = actors[number];
      stamp.time = in.Varint();
      stamp.version = in.Varint();
      const auto says = static_cast<crdt::Says>(in.U8());
      if (says != crdt::Says::kNothing) row.exists = stamp;
      if (says != crdt::Says::kNothing) row.alive = says == crdt::Says::kAlive;
      for (uint64_t cells = in.Varint(); cells > 0; --cells) {
        const uint64_t position = in.Varint();
        row.cells[columns[position]] = {stamp, crdt::Value(crdt::DecodeValue(in))};
      }
    }
  }
}

}  // namespace

OracleState Node::State() {
  Checkpoint();
  std::string bytes;
  Status status = reader().BeginTransfer(store->schema(), crdt::VersionSet());
  for (bool last = false; status.ok() && !last;) {
    auto chunk = reader().NextTransferChunk(1u << 20);
    if (!chunk.ok()) {
      status = Error(chunk.error());
      break;
    }
    bytes += chunk->bytes;
    last = chunk->last;
  }
  reader().EndTransfer();
  world_->RequireOk(status, "reading all rows");
  return status.ok() ? ReadStream(bytes, store->schema()) : OracleState();
}

}  // namespace patina::storage::model

#include "storage/transfer_source.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "storage/reader_impl.h"
#include "storage/table_io.h"
#include "storage/transfer_format.h"

namespace patina::storage {

using crdt::ColumnIndex;
using crdt::Says;
using crdt::Stamp;
using crdt::ValueView;

Result<std::unique_ptr<TransferSource>> TransferSource::Open(
    Db* db, const Schema& schema, const crdt::VersionSet& receiver_applied) {
  std::unique_ptr<TransferSource> source(new TransferSource(db, schema, receiver_applied));
  ASSIGN_OR_RETURN(Stmt select,
                   db->Prepare("SELECT id, actor FROM __patina_actor ORDER BY id", false));
  while (true) {
    ASSIGN_OR_RETURN(const bool row, select.Step());
    if (!row) break;
    const auto id = ActorId::FromBytes(select.ColumnBytes(1));
    if (!id || select.ColumnInt(0) != source->actors_.size())
      return DataLoss("table __patina_actor is damaged");
    source->actors_.Restore(static_cast<crdt::ActorIndex>(select.ColumnInt(0)), *id);
  }
  RETURN_IF_ERROR(source->WriteHeader());
  return source;
}

Status TransferSource::WriteHeader() {
  ASSIGN_OR_RETURN(Stmt state, db_->Prepare("SELECT name, value FROM __patina_state", false));
  std::string applied, collected;
  uint64_t horizon = 0;
  while (true) {
    ASSIGN_OR_RETURN(const bool row, state.Step());
    if (!row) break;
    const std::string_view name = state.ColumnBytes(0);
    if (name == "applied") applied = state.ColumnBytes(1);
    if (name == "collected") collected = state.ColumnBytes(1);
    if (name == "horizon") horizon = static_cast<uint64_t>(state.ColumnInt(1));
  }
  ByteWriter out(&pending_);
  out.U8(static_cast<uint8_t>(TransferRecord::kHeader));
  out.U8(collected.empty() ? kTransferFormat : kTransferFormatCollected);
  out.U64(schema_.Hash());
  if (applied.empty()) {
    crdt::VersionSet().Encode(out);
  } else {
    out.Raw(applied);
  }
  if (collected.empty()) return OkStatus();
  out.Varint(horizon);
  out.Raw(collected);
  return OkStatus();
}

Status TransferSource::OpenRows(bool dead) {
  const TableIo io(db_, &schema_.tables[table_], 0);
  const Table& table = io.table();
  std::string sql;
  if (dead) {
    sql = "SELECT key, cells, clock FROM " + io.dead_table();
  } else if (table.without_rowid) {
    // The clock is looked up by the packed key, which SQL cannot make: row by row, in NextRow.
    sql = "SELECT " + io.KeyList() + io.ColumnList() + " FROM " + QuoteName(table.name);
    ASSIGN_OR_RETURN(
        clock_of_key_,
        db_->Prepare("SELECT clock FROM " + io.clock_table() + " WHERE key = ?", false));
  } else {
    sql = "SELECT " + io.KeyList() + io.ColumnList() + ", c.patina_clock FROM " +
          QuoteName(table.name) + " JOIN (SELECT id AS patina_id, clock AS patina_clock FROM " +
          io.clock_table() + ") c ON c.patina_id = " + QuoteName(table.name) + "." +
          io.rowid_name();
  }
  ASSIGN_OR_RETURN(rows_, db_->Prepare(sql, false));
  return OkStatus();
}

Status TransferSource::BeginTable() {
  ByteWriter out(&pending_);
  const Table& table = schema_.tables[table_];
  out.U8(static_cast<uint8_t>(TransferRecord::kTable));
  out.String(table.name);
  out.Varint(table.columns.size());
  for (const Column& column : table.columns) out.String(column.name);
  phase_ = Phase::kLive;
  return OpenRows(false);
}

void TransferSource::WriteRow(std::string_view key, const std::vector<ValueView>& values,
                              const crdt::RowClock& clock, std::string* out_bytes) {
  std::vector<Stamp> stamps;
  if (Lacks(clock.existence())) stamps.push_back(clock.existence());
  for (size_t i = 0; i < clock.ColumnLimit(); ++i) {
    const Stamp stamp = clock.Cell(static_cast<ColumnIndex>(i));
    if (Lacks(stamp) && std::find(stamps.begin(), stamps.end(), stamp) == stamps.end())
      stamps.push_back(stamp);
  }
  if (stamps.empty()) return;
  ByteWriter out(out_bytes);
  out.U8(static_cast<uint8_t>(TransferRecord::kRow));
  out.String(key);
  out.Varint(stamps.size());
  for (const Stamp& stamp : stamps) {
    const auto [found, is_new] = dictionary_.try_emplace(stamp.actor, dictionary_.size());
    out.Varint(found->second);
    if (is_new) out.Raw(actors_.Get(stamp.actor).AsBytes());
    out.Varint(stamp.time.bits);
    out.Varint(stamp.version);
    const bool existence = stamp == clock.existence();
    out.U8(static_cast<uint8_t>(!existence      ? Says::kNothing
                                : clock.alive() ? Says::kAlive
                                                : Says::kDeleted));
    std::vector<ColumnIndex> cells;
    for (size_t i = 0; i < clock.ColumnLimit() && i < values.size(); ++i) {
      if (clock.Cell(static_cast<ColumnIndex>(i)) == stamp)
        cells.push_back(static_cast<ColumnIndex>(i));
    }
    out.Varint(cells.size());
    for (ColumnIndex cell : cells) {
      out.Varint(cell);
      crdt::EncodeValue(values[cell], out);
    }
  }
}

Status TransferSource::ReadLive(std::string* key, std::vector<ValueView>* values,
                                crdt::RowClock* clock) {
  const Table& table = schema_.tables[table_];
  int position = 0;
  ByteWriter out(key);
  out.Varint(table.key.size());
  for (size_t i = 0; i < table.key.size(); ++i) crdt::EncodeValue(rows_.Column(position++), out);
  for (size_t i = 0; i < table.columns.size(); ++i) values->push_back(rows_.Column(position++));
  std::string looked_up;
  std::string_view bytes;
  if (table.without_rowid) {
    StmtScope scope(clock_of_key_);
    clock_of_key_.BindBlob(1, *key);
    ASSIGN_OR_RETURN(const bool found, clock_of_key_.Step());
    if (!found) return OkStatus();
    looked_up = clock_of_key_.ColumnBytes(0);
    bytes = looked_up;
  } else {
    bytes = rows_.ColumnBytes(position);
  }
  ByteReader in(bytes);
  if (in.U32() != static_cast<uint32_t>(RowCache::KeyHash(*key))) return OkStatus();
  if (!crdt::RowClock::Decode(in, actors_.size(), clock))
    return DataLoss("a clock of table " + table.name + " is damaged");
  return OkStatus();
}

Result<bool> TransferSource::NextRow(std::string* out) {
  ASSIGN_OR_RETURN(const bool row, rows_.Step());
  if (!row) return false;
  std::string key;
  std::vector<ValueView> values;
  crdt::RowClock clock;
  if (phase_ == Phase::kDead) {
    key = rows_.ColumnBytes(0);
    if (!rows_.ColumnBytes(1).empty() &&
        !crdt::UnpackValues(rows_.ColumnBytes(1), crdt::kMaxColumns, &values))
      return DataLoss("a tombstone is damaged");
    ByteReader in(rows_.ColumnBytes(2));
    if (!crdt::RowClock::Decode(in, actors_.size(), &clock))
      return DataLoss("a tombstone is damaged");
  } else {
    RETURN_IF_ERROR(ReadLive(&key, &values, &clock));
  }
  WriteRow(key, values, clock, out);
  return true;
}

Result<std::string> TransferSource::Next(size_t bytes_max, bool* last) {
  std::string out = std::exchange(pending_, std::string());
  *last = false;
  while (out.size() < bytes_max) {
    if (phase_ == Phase::kBegin) {
      if (table_ == schema_.tables.size()) {
        phase_ = Phase::kDone;
        continue;
      }
      RETURN_IF_ERROR(BeginTable());
      out += std::exchange(pending_, std::string());
    }
    if (phase_ == Phase::kDone) {
      out.push_back(static_cast<char>(TransferRecord::kEnd));
      *last = true;
      break;
    }
    ASSIGN_OR_RETURN(const bool more, NextRow(&out));
    if (more) continue;
    if (phase_ == Phase::kLive) {
      phase_ = Phase::kDead;
      RETURN_IF_ERROR(OpenRows(true));
    } else {
      rows_ = Stmt();
      ++table_;
      phase_ = Phase::kBegin;
    }
  }
  return out;
}

Reader::Impl::Impl(Db connection, ReaderOptions options)
    : place(std::move(options.snapshots), options.may_be_ended), db(std::move(connection)) {}
Reader::Impl::~Impl() = default;

Status Reader::Impl::BeginTransfer(const Schema& schema, const crdt::VersionSet& receiver_applied) {
  EndTransfer();
  place.EnterNow();
  RETURN_IF_ERROR(db.Exec("BEGIN"));
  Result<std::unique_ptr<TransferSource>> source =
      TransferSource::Open(&db, schema, receiver_applied);
  if (!source.ok()) {
    EndTransfer();
    return source.error();
  }
  transfer = std::move(*source);
  return OkStatus();
}

Result<Reader::TransferChunk> Reader::Impl::NextTransferChunk(size_t bytes_max) {
  if (transfer == nullptr) return FailedPrecondition("no transfer is open");
  if (place.MustEnd()) {
    Error why = place.WhyEnded();
    EndTransfer();
    return why;
  }
  TransferChunk chunk;
  ASSIGN_OR_RETURN(chunk.bytes, transfer->Next(bytes_max, &chunk.last));
  return chunk;
}

void Reader::Impl::EndTransfer() {
  transfer.reset();
  if (db.InTransaction()) (void)db.Exec("COMMIT");
  place.Leave();
}

}  // namespace patina::storage

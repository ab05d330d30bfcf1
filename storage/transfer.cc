#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "storage/store_impl.h"
#include "storage/transfer_format.h"

// Receiving a whole-difference transfer: staged chunk by chunk, merged in one commit that is a
// checkpoint.

namespace patina::storage {
namespace {

constexpr crdt::ColumnIndex kUnknownColumn = UINT16_MAX;  // only if a test breaks the rule

Error Malformed() { return InvalidArgument("the transfer is malformed"); }

}  // namespace

Status Store::Impl::StageTransferChunk(uint64_t transfer, uint64_t number, std::string_view bytes) {
  RETURN_IF_ERROR(MayWrite());
  ASSIGN_OR_RETURN(Stmt insert,
                   db->Prepare("INSERT OR REPLACE INTO __patina_staged VALUES (?, ?, ?)", false));
  insert.BindInt(1, static_cast<int64_t>(transfer));
  insert.BindInt(2, static_cast<int64_t>(number));
  insert.BindBlob(3, bytes);
  Status status = insert.Run();
  if (!status.ok()) NoteFailure(status.error());
  return status;
}

Status Store::Impl::AbandonTransfers() { return db->Exec("DELETE FROM __patina_staged"); }

Status Store::Impl::DecodeTransferRow(ByteReader& in, TransferDecode* decode, MergeBatch* batch) {
  if (decode->table == nullptr) return Malformed();
  const std::string_view key = in.String();
  if (!in.ok() || !decode->table->WhyNotKey(key).empty()) return Malformed();
  const uint64_t groups = in.Varint();
  if (!in.ok() || groups > in.remaining()) return Malformed();
  for (uint64_t g = 0; g < groups; ++g) {
    const uint64_t number = in.Varint();
    if (number > decode->dictionary.size()) return Malformed();
    if (number == decode->dictionary.size()) {
      const auto id = ActorId::FromBytes(in.Raw(sizeof(ActorId::bytes)));
      if (!id || *id == ActorId()) return Malformed();
      decode->dictionary.push_back(actors.Intern(*id));
    }
    MergeOp op{decode->table->number(),
               0,
               crdt::Says::kNothing,
               {},
               key,
               RowCache::KeyHash(key),
               static_cast<uint32_t>(batch->columns.size()),
               0,
               0};
    op.stamp.actor = decode->dictionary[number];
    op.stamp.time.bits = in.Varint();
    op.stamp.version = in.Varint();
    const uint8_t says = in.U8();
    const uint64_t cells = in.Varint();
    if (!in.ok() || says > 2 || cells > decode->columns.size() || op.stamp.version == 0 ||
        op.stamp.version > crdt::kMaxVersion) {
      return Malformed();
    }
    op.says = static_cast<crdt::Says>(says);
    op.count = static_cast<uint32_t>(cells);
    int previous = -1;
    for (uint64_t c = 0; c < cells; ++c) {
      const uint64_t position = in.Varint();
      const crdt::ValueView value = crdt::DecodeValue(in);
      if (!in.ok() || position >= decode->columns.size() || static_cast<int>(position) <= previous)
        return Malformed();
      previous = static_cast<int>(position);
      const crdt::ColumnIndex column = decode->columns[position];
      if (column == kUnknownColumn) {
        --op.count;
        continue;
      }
      if (std::string why = decode->table->WhyNotStorable(column, value); !why.empty())
        return InvalidArgument(why);
      batch->columns.push_back(column);
      batch->values.push_back(value);
    }
    RETURN_IF_ERROR(AddTransferOp(op, decode, batch));
  }
  return OkStatus();
}

Status Store::Impl::AddTransferOp(const MergeOp& op, TransferDecode* decode, MergeBatch* batch) {
  if (!decode->own_rows) {
    // What has been applied meanwhile is dropped: the transfer's word on it is older knowledge.
    const bool known = applied.Contains({actors.Get(op.stamp.actor), op.stamp.version});
    if (known && options.mutant != Mutant::kStaleTransfer) return OkStatus();
    if (options.mutant == Mutant::kClaimRange &&
        !decode->claimed.Contains({actors.Get(op.stamp.actor), op.stamp.version})) {
      return OkStatus();
    }
    if (FromTheFuture(op.stamp.time))
      return Unavailable("the transfer holds a write from the future; ask again later");
    if (op.stamp.time < horizon && !known) {
      return Error{kNeedsSnapshot,
                   StrCat("the transfer holds a write from ", op.stamp.time.ToString(),
                          ", before this node's horizon ", horizon.ToString())};
    }
  }
  decode->newest = std::max(decode->newest, op.stamp.time);
  batch->ops.push_back(op);
  return OkStatus();
}

Status Store::Impl::DecodeTransferHeader(ByteReader& in, TransferDecode* decode) {
  const uint8_t format = in.U8();
  if (format != kTransferFormat && format != kTransferFormatCollected) return Malformed();
  if (in.U64() != schema.Hash() && options.mutant != Mutant::kAnySchema)
    return FailedPrecondition("the transfer is of another schema");
  if (!crdt::VersionSet::Decode(in, {}, &decode->claimed)) return Malformed();
  if (options.mutant == Mutant::kClaimRange) {
    const auto lacking = applied.Lacking(decode->claimed);
    decode->claimed = crdt::VersionSet();
    for (size_t i = 0; i < lacking.size() && i < 1; ++i) {
      for (const auto& range : lacking[i].ranges) decode->claimed.AddRange(lacking[i].actor, range);
    }
  }
  decode->header = true;
  if (format == kTransferFormat) return OkStatus();
  crdt::HlcTime sender_horizon;
  sender_horizon.bits = in.Varint();
  Collected sender_collected;
  if (!DecodeCollected(in, &sender_collected)) return Malformed();
  if (decode->own_rows || options.mutant == Mutant::kTransferWithoutCollected) return OkStatus();
  if (HasAllCollected(sender_collected, decode->claimed, applied)) return OkStatus();
  return Error{
      kNeedsSnapshot,
      "this node lacks changes whose tombstones the sender has collected (its horizon is " +
          sender_horizon.ToString() + ")"};
}

Status Store::Impl::WriteThrough(CachedRow* row, bool present_before, uint64_t digest_change,
                                 bool was_dead) {
  TableIo& table = *tables[row->table];
  AddDigest(table, row->key_hash, digest_change, present_before, row->present);
  row->AddToSeal(digest_change);
  if (row->present && row->dead_in_file) {
    RETURN_IF_ERROR(table.DeleteDead(*row));
    --table.tombstones;
  }
  if (!row->present && !was_dead) ++table.tombstones;
  return table.WriteClock(row);
}

Status Store::Impl::WriteTransferred(MergeBatch* batch) {
  RETURN_IF_ERROR(WriteBatch(batch));
  // First what goes: a rowid may have been given to another row.
  for (size_t i = 0; i < batch->work_count(); ++i) {
    const MergeWork& work = batch->work(i);
    if (work.changed && !work.next.present)
      RETURN_IF_ERROR(tables[work.table]->DeleteClock(work.next));
  }
  for (size_t i = 0; i < batch->work_count(); ++i) {
    MergeWork& work = batch->work(i);
    if (!work.changed) continue;
    const bool was_dead = work.next.dead_in_file && !work.tombstone_is_new;
    RETURN_IF_ERROR(WriteThrough(&work.next, work.cached->present, DigestChange(work), was_dead));
    ++stats.rows_merged;
  }
  return OkStatus();
}

Status Store::Impl::ReadTransferChunk(std::string_view bytes, TransferDecode* decode,
                                      MergeBatch* batch) {
  ByteReader in(bytes);
  while (in.ok() && !in.AtEnd()) {
    if (decode->end) return Malformed();
    const auto record = static_cast<TransferRecord>(in.U8());
    if (decode->header == (record == TransferRecord::kHeader)) return Malformed();
    if (record == TransferRecord::kHeader) {
      RETURN_IF_ERROR(DecodeTransferHeader(in, decode));
    } else if (record == TransferRecord::kTable) {
      decode->table = FindTable(in.String());
      if (decode->table == nullptr) return Malformed();
      decode->columns.clear();
      const uint64_t count = in.Varint();
      for (uint64_t i = 0; i < count && in.ok(); ++i) {
        const auto column = decode->table->table().FindColumn(in.String());
        if (!column && options.mutant != Mutant::kAnySchema) return Malformed();
        if (!column) {
          decode->columns.push_back(kUnknownColumn);
          continue;
        }
        decode->columns.push_back(*column);
      }
    } else if (record == TransferRecord::kRow) {
      RETURN_IF_ERROR(DecodeTransferRow(in, decode, batch));
    } else if (record == TransferRecord::kEnd) {
      decode->end = true;
    } else {
      return Malformed();
    }
  }
  return in.ok() ? OkStatus() : Status(Malformed());
}

Status Store::Impl::MergeTransferChunk(std::string_view bytes, TransferDecode* decode) {
  MergeBatch batch;
  RETURN_IF_ERROR(ReadTransferChunk(bytes, decode, &batch));
  RETURN_IF_ERROR(MergeInMemory(&batch, Loading::kWithDead));
  RETURN_IF_ERROR(WriteTransferred(&batch));
  cache.Clear();  // what was loaded is as it was before
  return OkStatus();
}

Status Store::Impl::MergeStaged(uint64_t transfer, TransferDecode* decode) {
  ASSIGN_OR_RETURN(
      Stmt chunks,
      db->Prepare("SELECT bytes, number FROM __patina_staged WHERE transfer = ? ORDER BY number",
                  false));
  chunks.BindInt(1, static_cast<int64_t>(transfer));
  for (int64_t next = 0;; ++next) {
    ASSIGN_OR_RETURN(const bool row, chunks.Step());
    if (!row) break;
    if (chunks.ColumnInt(1) != next)
      return InvalidArgument(StrCat("chunk ", next, " of the transfer is missing"));
    const std::string bytes(chunks.ColumnBytes(0));
    RETURN_IF_ERROR(MergeTransferChunk(bytes, decode));
    NoteProgress();
  }
  // What was cut off must not be claimed.
  return decode->end ? OkStatus() : Status(InvalidArgument("the transfer's end is missing"));
}

Status Store::Impl::FinishTransfer(const TransferDecode& decode) {
  crdt::VersionSet all = applied;
  all.Union(decode.claimed);
  next_seq = last_seq;
  RETURN_IF_ERROR(AppendLog({{}, last_seq + 1, 0}, LogKind::kTransfer, {}, {}));
  // A broken rule leaves the set of before.
  const bool checkpoint = options.mutant != Mutant::kTransferWithoutCheckpoint;
  RETURN_IF_ERROR(SaveCheckpoint(checkpoint ? all : applied,
                                 std::max(newest_applied, decode.newest), next_seq));
  for (const auto& [id, change] : parked) {
    if (!all.Contains(id)) continue;
    delete_parked.BindInt(1, actors.Intern(id.actor));
    delete_parked.BindInt(2, static_cast<int64_t>(id.version));
    RETURN_IF_ERROR(delete_parked.Run());
  }
  RETURN_IF_ERROR(db->Exec("DELETE FROM __patina_staged"));
  RETURN_IF_ERROR(Commit("merging a transfer"));
  applied = std::move(all);
  return OkStatus();
}

void Store::Impl::AdoptTransfer(const TransferDecode& decode) {
  newest_applied = std::max(newest_applied, decode.newest);
  hlc.Observe(decode.newest);
  for (const auto& table : tables) table->digest_dirty = false;
  actors_saved = actors.size();
  last_seq = checkpoint_seq = next_seq;
  std::erase_if(parked, [&](const auto& entry) {
    if (!applied.Contains(entry.first)) return false;
    parked_bytes -= entry.second.bytes;
    return true;
  });
  received = applied;
  for (const auto& [id, change] : parked) received.Add(id);
}

Status Store::Impl::MergeTransfer(uint64_t transfer, CommitEffects* effects) {
  BeginEffects(effects);
  DigestsBefore before;
  RETURN_IF_ERROR(BeginPastCache(&before));
  TransferDecode decode;
  const crdt::ActorIndex known_actors = actors.size();
  IgnoreChecks(true);
  const Spilling spilling(*db);
  auto merge = [&]() -> Status {
    RETURN_IF_ERROR(begin.Run());
    RETURN_IF_ERROR(MergeStaged(transfer, &decode));
    return FinishTransfer(decode);
  };
  Status status = merge();
  if (!status.ok()) {
    UndoPastCache(status.error(), before);
    ForgetActors(known_actors);
  }
  IgnoreChecks(false);
  RETURN_IF_ERROR(status);
  AdoptTransfer(decode);
  NoteAcked();
  effects->last_seq = last_seq;
  effects->rows_unknown = true;
  effects->tables_changed.assign(tables.size(), true);
  return DropWhatCameOtherwise();
}

}  // namespace patina::storage

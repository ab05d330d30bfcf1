#include <algorithm>

#include "base/check.h"
#include "storage/capture.h"

// Capture of transactions whose rows do not fit into memory. What the hook notes goes to the spill
// when it grows too big; at the end each touched row is read again and handed over alone.

namespace patina::storage {

using crdt::ValueView;

Status Capture::SpillAll() {
  for (TableIo* table : tables_) {
    TouchedTable& touched = touched_[table->number()];
    touched.Sort();  // the spill is written in its own order
    for (const auto& [rowid, row] : touched.rows) {
      RETURN_IF_ERROR(spill_->Add(table->number(), ValueView::Integer(rowid), row));
    }
    std::vector<std::pair<std::string_view, Touched*>> keyed;
    keyed.reserve(touched.by_key.size());
    for (auto& [key, row] : touched.by_key) keyed.emplace_back(key, &row);
    std::sort(keyed.begin(), keyed.end());
    for (const auto& [key, row] : keyed) {
      RETURN_IF_ERROR(spill_->Add(table->number(), ValueView::Blob(key), *row));
    }
    touched = TouchedTable();
  }
  memory_bytes_ = 0;
  touched_count_ = spill_->rows();
  return OkStatus();
}

Status Capture::HandOver(TableIo& table, Image& image, LargeSink& sink) {
  handed_over_.clear();
  const crdt::RowClock* const clock = image.clock;
  RETURN_IF_ERROR(AddNet(table, image, &handed_over_));
  return handed_over_.empty() ? OkStatus() : sink.OnNet(handed_over_[0], clock);
}

/// Rows that are no longer where they were: gone, moved, or their key is another. Before anything
/// is handed over, because a row's clock is found by its rowid.
Status Capture::FindLeft(TableIo& table, LargeSink& sink) {
  std::string key, values;
  return spill_->ForEach(table.number(), [&](const ValueView& id, Touched touched) -> Status {
    if (!touched.had_row) return OkStatus();
    ASSIGN_OR_RETURN(const bool exists, table.ReadRow(id.integer(), &key, &values));
    if (exists && key == touched.old_key) return OkStatus();
    ASSIGN_OR_RETURN(std::string clock, sink.Leave(table, touched.old_key, id.integer()));
    return spill_->AddLeft(touched.old_key,
                           {id.integer(), std::move(touched.old_values), std::move(clock)});
  });
}

namespace {

Status DecodeLeft(const TableIo& table, std::string_view bytes, crdt::ActorIndex actor_limit,
                  crdt::RowClock* clock) {
  ByteReader in(bytes);
  if (crdt::RowClock::Decode(in, actor_limit, clock)) return OkStatus();
  return Internal("a clock of table " + table.table().name + " cannot be read from the spill");
}

}  // namespace

Status Capture::HandOverRows(TableIo& table, crdt::ActorIndex actor_limit, LargeSink& sink) {
  RETURN_IF_ERROR(FindLeft(table, sink));
  std::string key;
  crdt::RowClock clock;
  const auto hand_over = [&](const ValueView& id, Touched touched) -> Status {
    Image image;
    ASSIGN_OR_RETURN(image.has_row, table.ReadRow(id.integer(), &key, &image.new_values));
    if (!image.has_row) return OkStatus();
    image.new_rowid = id.integer();
    const bool same = touched.had_row && touched.old_key == key;
    image.inserted = touched.inserted != 0 || (touched.had_row && !same);
    Spill::Left left;
    if (same) {
      image.had_row = true;
      image.old_rowid = image.new_rowid;
      image.old_values = std::move(touched.old_values);
    } else {
      ASSIGN_OR_RETURN(image.had_row, spill_->TakeLeft(key, &left));
    }
    if (image.had_row && !same) {
      image.old_rowid = left.rowid;
      image.old_values = std::move(left.values);
      RETURN_IF_ERROR(DecodeLeft(table, left.clock, actor_limit, &clock));
      image.clock = &clock;
    }
    image.key = key;
    return HandOver(table, image, sink);
  };
  RETURN_IF_ERROR(spill_->ForEach(table.number(), hand_over));
  return spill_->TakeAllLeft([&](const std::string& gone, Spill::Left left) -> Status {
    Image image;
    image.key = gone;
    image.had_row = true;
    image.old_rowid = left.rowid;
    image.old_values = std::move(left.values);
    RETURN_IF_ERROR(DecodeLeft(table, left.clock, actor_limit, &clock));
    image.clock = &clock;
    return HandOver(table, image, sink);
  });
}

Status Capture::HandOverKeyed(TableIo& table, LargeSink& sink) {
  return spill_->ForEach(table.number(), [&](const ValueView& id, Touched touched) -> Status {
    Image image;
    image.key = id.bytes();
    ASSIGN_OR_RETURN(image.has_row, table.ReadRowByKey(image.key, &image.new_values));
    image.inserted = image.has_row && touched.inserted != 0;
    image.had_row = touched.had_row;
    image.old_values = std::move(touched.old_values);
    return HandOver(table, image, sink);
  });
}

Status Capture::FinishLarge(crdt::ActorIndex actor_limit, LargeSink& sink) {
  CHECK(spill_ != nullptr);
  active_ = false;
  RETURN_IF_ERROR(spill_status_);
  RETURN_IF_ERROR(SpillAll());
  for (TableIo* table : tables_) {
    RETURN_IF_ERROR(table->table().without_rowid ? HandOverKeyed(*table, sink)
                                                 : HandOverRows(*table, actor_limit, sink));
  }
  Discard();
  return OkStatus();
}

}  // namespace patina::storage

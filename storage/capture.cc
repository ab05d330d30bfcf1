#include "storage/capture.h"

#include <algorithm>

#include "base/check.h"

namespace patina::storage {

using crdt::ColumnIndex;
using crdt::Says;
using crdt::ValueType;
using crdt::ValueView;

namespace {

/// A REAL column's 1.0 is shown by the hook as the integer it is stored as.
ValueView AsStored(const Column& column, const ValueView& value) {
  if (column.affinity == Affinity::kReal && value.type() == ValueType::kInteger) {
    return ValueView::Real(static_cast<double>(value.integer()));
  }
  return value;
}

}  // namespace

ValueView Capture::HookValue(sqlite3* db, int position, bool old_image) {
  sqlite3_value* value = nullptr;
  const int code = old_image ? sqlite3_preupdate_old(db, position, &value)
                             : sqlite3_preupdate_new(db, position, &value);
  if (code != SQLITE_OK && read_error_ == SQLITE_OK) {
    read_error_ = code;
    sqlite3_interrupt(db);  // as for too many rows: the caller asks
  }
  if (code != SQLITE_OK || value == nullptr) return ValueView::Null();
  return ViewOfSqliteValue(value);
}

Capture::Capture(Db* db, std::vector<TableIo*> tables) : db_(db), tables_(std::move(tables)) {
  for (TableIo* table : tables_) by_name_[table->table().name] = table;
  touched_.resize(tables_.size());
  sqlite3_preupdate_hook(db_->get(), &Capture::Hook, this);
}

Capture::~Capture() { sqlite3_preupdate_hook(db_->get(), nullptr, nullptr); }

void Capture::Begin(size_t rows_max) {
  Discard();
  active_ = true;
  rows_max_ = rows_max;
}

void Capture::BeginLarge(size_t rows_max, size_t memory_bytes, Spill* spill) {
  Begin(rows_max);
  spill_ = spill;
  memory_bytes_max_ = memory_bytes;
}

void Capture::Discard() {
  active_ = too_many_ = false;
  read_error_ = SQLITE_OK;
  touched_count_ = memory_bytes_ = 0;
  epoch_ = 1;
  spill_ = nullptr;
  spill_status_ = OkStatus();
  for (TouchedTable& table : touched_) {
    if (!table.by_rowid.empty()) table.by_rowid.clear();
    if (!table.by_key.empty()) table.by_key.clear();
  }
}

void Capture::RollBackTo(uint64_t mark) {
  const auto forget = [mark](auto& rows) {
    for (auto& [id, row] : rows) {
      if (row.inserted > mark) row.inserted = 0;
    }
  };
  for (TouchedTable& table : touched_) {
    forget(table.by_rowid);
    forget(table.by_key);
  }
}

void Capture::Hook(void* context, sqlite3* db, int op, const char* database, const char* name,
                   sqlite3_int64 old_rowid, sqlite3_int64 new_rowid) {
  auto* self = static_cast<Capture*>(context);
  if (!self->active_ || database == nullptr || std::string_view(database) != "main") return;
  if (self->last_table_ == nullptr || self->last_table_->table().name != name) {
    const auto found = self->by_name_.find(name);
    if (found == self->by_name_.end()) return;
    self->last_table_ = found->second;
  }
  TableIo& table = *self->last_table_;
  if (self->too_many_ || self->read_error_ != SQLITE_OK) return;
  if (table.table().without_rowid) {
    self->OnKeyedRow(db, op, table);
  } else {
    self->OnRow(db, op, table, old_rowid, new_rowid);
  }
  if (self->spill_ != nullptr && self->memory_bytes_ > self->memory_bytes_max_) {
    if (const Status spilled = self->SpillAll(); !spilled.ok()) {
      self->spill_status_ =
          Error{spilled.error().code,
                "noting the large transaction's rows in a file: " + spilled.error().message};
      sqlite3_interrupt(db);
    }
  }
  if (self->touched_count_ > self->rows_max_) {
    self->too_many_ = true;
    sqlite3_interrupt(
        db);  // ends a long statement; a short one may still succeed: the caller asks too_many()
  }
}

Touched& Capture::TouchRowid(TableIo& table, int64_t rowid, bool* is_new) {
  auto [found, inserted] = touched_[table.number()].by_rowid.try_emplace(rowid);
  *is_new = inserted;
  if (inserted) NoteTouched(0);
  return found->second;
}

Touched& Capture::TouchKey(TableIo& table, const std::string& key, bool* is_new) {
  auto [found, inserted] = touched_[table.number()].by_key.try_emplace(key);
  *is_new = inserted;
  if (inserted) NoteTouched(key.size());
  return found->second;
}

std::string Capture::HookKey(sqlite3* db, const TableIo& table, bool old_image) {
  std::vector<ValueView> key(table.table().key.size());
  const auto& order = table.table().order;
  std::string packed;
  ByteWriter out(&packed);
  // One value at a time: a hook's value is only good until the next is asked for.
  out.Varint(key.size());
  for (size_t k = 0; k < key.size(); ++k) {
    for (size_t i = 0; i < order.size(); ++i) {
      if (order[i].in_key && order[i].index == k) {
        crdt::EncodeValue(
            AsStored(table.table().key[k], HookValue(db, static_cast<int>(i), old_image)), out);
      }
    }
  }
  return packed;
}

void Capture::ReadOld(sqlite3* db, const TableIo& table, Touched* touched) {
  touched->had_row = true;
  touched->old_key = HookKey(db, table, true);
  const Table& declared = table.table();
  ByteWriter out(&touched->old_values);
  out.Varint(declared.columns.size());
  for (size_t i = 0; i < declared.order.size(); ++i) {
    if (declared.order[i].in_key) continue;
    const Column& column = declared.columns[declared.order[i].index];
    ValueView value = AsStored(column, HookValue(db, static_cast<int>(i), true));
    // The hook shows NULL for a column added later that the stored row does not have yet.
    if (value.IsNull() && column.not_null) value = column.default_value;
    crdt::EncodeValue(value, out);
  }
  memory_bytes_ += touched->old_key.capacity() + touched->old_values.capacity();
}

void Capture::OnRow(sqlite3* db, int op, TableIo& table, int64_t old_rowid, int64_t new_rowid) {
  bool is_new = false;
  if (op == SQLITE_INSERT) {
    NoteInserted(&TouchRowid(table, new_rowid, &is_new));
    return;
  }
  Touched& touched = TouchRowid(table, old_rowid, &is_new);
  if (is_new) ReadOld(db, table, &touched);
  if (op != SQLITE_UPDATE || new_rowid == old_rowid) return;
  Touched& moved = TouchRowid(table, new_rowid, &is_new);
  // Another key is another row, inserted; the same key at another rowid only moved.
  if (moved.inserted == 0 && HookKey(db, table, true) != HookKey(db, table, false)) {
    NoteInserted(&moved);
  }
}

void Capture::OnKeyedRow(sqlite3* db, int op, TableIo& table) {
  bool is_new = false;
  std::string old_key;
  if (op != SQLITE_INSERT) {
    old_key = HookKey(db, table, true);
    Touched& touched = TouchKey(table, old_key, &is_new);
    if (is_new) ReadOld(db, table, &touched);
  }
  if (op == SQLITE_DELETE) return;
  const std::string new_key = HookKey(db, table, false);
  if (op == SQLITE_UPDATE && new_key == old_key) return;
  NoteInserted(&TouchKey(table, new_key, &is_new));
}

Status Capture::ImagesOf(TableIo& table, TouchedTable& touched,
                         std::unordered_map<std::string, Image>* images) {
  std::string key, values;
  images->reserve(touched.by_rowid.size() + touched.by_key.size());
  for (auto& [rowid, row] : touched.by_rowid) {
    ASSIGN_OR_RETURN(const bool exists, table.ReadRow(rowid, &key, &values));
    if (exists) {
      Image& image = (*images)[key];
      image.has_row = true;
      image.new_rowid = rowid;
      image.new_values = values;
      // A row whose key changed is another row that was inserted.
      image.inserted |= row.inserted != 0 || (row.had_row && row.old_key != key);
    }
    if (row.had_row) {
      Image& image = (*images)[row.old_key];
      image.had_row = true;
      image.old_rowid = rowid;
      image.old_values = std::move(row.old_values);
    }
  }
  for (auto& [name, row] : touched.by_key) {
    Image& image = (*images)[name];
    ASSIGN_OR_RETURN(image.has_row, table.ReadRowByKey(name, &image.new_values));
    if (!image.has_row) image.new_values.clear();
    image.inserted = image.has_row && row.inserted != 0;
    image.had_row = row.had_row;
    image.old_values = std::move(row.old_values);
  }
  return OkStatus();
}

Status Capture::FixDefaults(TableIo& table, const std::string& key, Image* image) {
  std::vector<ValueView> values;
  CHECK(crdt::UnpackValues(image->old_values, crdt::kMaxColumns, &values));
  bool doubtful = false;
  for (size_t i = 0; i < values.size(); ++i) {
    doubtful |= values[i].IsNull() && table.HasLateDefault(static_cast<ColumnIndex>(i));
  }
  if (!doubtful) return OkStatus();
  // An unstamped cell of a live row holds its column's default; a stamped NULL was really written.
  crdt::RowClock clock;
  if (image->clock != nullptr) {
    clock = *image->clock;
  } else {
    ASSIGN_OR_RETURN(clock, load_clock_(table, key, image->old_rowid));
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const auto column = static_cast<ColumnIndex>(i);
    if (values[i].IsNull() && table.HasLateDefault(column) && !clock.HasCell(column)) {
      values[i] = table.table().columns[i].default_value;
    }
  }
  image->old_values = crdt::PackValues(values);
  return OkStatus();
}

Status Capture::AddNet(TableIo& table, const std::string& key, Image& image,
                       std::vector<NetChange>* out) {
  NetChange net;
  const Table& declared = table.table();
  if (image.had_row && table.has_late_defaults()) RETURN_IF_ERROR(FixDefaults(table, key, &image));
  if (image.had_row && image.has_row) {
    if (image.old_values != image.new_values) {
      ByteReader old_in(image.old_values), new_in(image.new_values);
      old_in.Varint();
      new_in.Varint();
      for (size_t i = 0; i < declared.columns.size(); ++i) {
        if (crdt::DecodeValue(old_in) == crdt::DecodeValue(new_in)) continue;
        net.columns.push_back(static_cast<ColumnIndex>(i));
      }
    }
    if (net.columns.empty() && image.old_rowid == image.new_rowid) return OkStatus();
    if (image.inserted && !net.columns.empty()) net.says = Says::kAlive;
  } else if (image.has_row) {
    net.says = Says::kAlive;
  } else if (image.had_row) {
    net.says = Says::kDeleted;
  } else {
    return OkStatus();
  }
  if (net.says == Says::kAlive || (declared.merge_row && !net.columns.empty())) {
    net.columns.resize(declared.columns.size());
    for (size_t i = 0; i < net.columns.size(); ++i) net.columns[i] = static_cast<ColumnIndex>(i);
  }
  net.table = &table;
  net.key = key;
  net.key_hash = RowCache::KeyHash(key);
  net.had_row = image.had_row;
  net.has_row = image.has_row;
  net.old_rowid = image.old_rowid;
  net.new_rowid = image.new_rowid;
  net.old_values = std::move(image.old_values);
  net.new_values = std::move(image.new_values);
  out->push_back(std::move(net));
  return OkStatus();
}

Result<std::vector<NetChange>> Capture::Finish() {
  active_ = false;
  std::vector<NetChange> net;
  for (TableIo* table : tables_) {
    TouchedTable& touched = touched_[table->number()];
    if (touched.by_rowid.empty() && touched.by_key.empty()) continue;
    std::unordered_map<std::string, Image> images;
    RETURN_IF_ERROR(ImagesOf(*table, touched, &images));
    const size_t first = net.size();
    for (auto& [key, image] : images) RETURN_IF_ERROR(AddNet(*table, key, image, &net));
    std::sort(net.begin() + static_cast<std::ptrdiff_t>(first), net.end(),
              [](const NetChange& a, const NetChange& b) { return a.key < b.key; });
  }
  Discard();
  return net;
}

}  // namespace patina::storage

#include "storage/capture.h"

#include <algorithm>

#include "base/check.h"

namespace patina::storage {

using crdt::ColumnIndex;
using crdt::Says;
using crdt::ValueType;
using crdt::ValueView;

namespace {

constexpr size_t kRowsKept = 256;

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
    if (!table.empty()) table.Clear();
  }
}

void Capture::TouchedTable::Clear() {
  if (rows.size() > kRowsKept) {
    *this = TouchedTable();  // to clear a large map takes long, however little is in it
    return;
  }
  rows.clear();
  by_rowid.clear();
  by_key.clear();
}

void Capture::TouchedTable::Sort() {
  const auto by_rowid_then = [](const TouchedRow& a, const TouchedRow& b) {
    return a.rowid < b.rowid;
  };
  if (!std::is_sorted(rows.begin(), rows.end(), by_rowid_then)) {
    std::sort(rows.begin(), rows.end(), by_rowid_then);
  }
}

void Capture::RollBackTo(uint64_t mark) {
  const auto forget = [mark](Touched& touched) {
    if (touched.inserted > mark) touched.inserted = 0;
  };
  for (TouchedTable& table : touched_) {
    for (TouchedRow& row : table.rows) forget(row.touched);
    for (auto& [key, touched] : table.by_key) forget(touched);
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
  TouchedTable& touched = touched_[table.number()];
  const auto [found, inserted] =
      touched.by_rowid.try_emplace(rowid, static_cast<uint32_t>(touched.rows.size()));
  *is_new = inserted;
  if (inserted) {
    touched.rows.push_back({rowid, {}});
    NoteTouched(0);
  }
  return touched.rows[found->second].touched;
}

Touched& Capture::TouchKey(TableIo& table, const std::string& key, bool* is_new) {
  auto [found, inserted] = touched_[table.number()].by_key.try_emplace(key);
  *is_new = inserted;
  if (inserted) NoteTouched(key.size());
  return found->second;
}

const std::string& Capture::HookKey(sqlite3* db, const TableIo& table, bool old_image) {
  const size_t keys = table.table().key.size();
  const auto& order = table.table().order;
  hook_key_.clear();
  ByteWriter out(&hook_key_);
  // One value at a time: a hook's value is only good until the next is asked for.
  out.Varint(keys);
  for (size_t k = 0; k < keys; ++k) {
    for (size_t i = 0; i < order.size(); ++i) {
      if (order[i].in_key && order[i].index == k) {
        crdt::EncodeValue(
            AsStored(table.table().key[k], HookValue(db, static_cast<int>(i), old_image)), out);
      }
    }
  }
  return hook_key_;
}

void Capture::ReadOld(sqlite3* db, const TableIo& table, Touched* touched) {
  touched->had_row = true;
  touched->old_key = HookKey(db, table, true);
  const Table& declared = table.table();
  hook_values_.clear();
  ByteWriter out(&hook_values_);
  out.Varint(declared.columns.size());
  for (size_t i = 0; i < declared.order.size(); ++i) {
    if (declared.order[i].in_key) continue;
    const Column& column = declared.columns[declared.order[i].index];
    ValueView value = AsStored(column, HookValue(db, static_cast<int>(i), true));
    // The hook shows NULL for a column added later that the stored row does not have yet.
    if (value.IsNull() && column.not_null) value = column.default_value;
    crdt::EncodeValue(value, out);
  }
  touched->old_values = hook_values_;
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
  if (moved.inserted != 0) return;
  const std::string old_key = HookKey(db, table, true);
  if (old_key != HookKey(db, table, false)) NoteInserted(&moved);
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

Status Capture::ImagesOf(TableIo& table, TouchedTable& touched, std::vector<Image>* images) {
  std::string key, values;
  images->reserve(touched.rows.size() + touched.by_key.size());
  touched.Sort();
  for (auto& [rowid, row] : touched.rows) {
    ASSIGN_OR_RETURN(const bool exists, table.ReadRow(rowid, &key, &values));
    const bool same = exists && row.had_row && row.old_key == key;
    if (exists) {
      Image& image = images->emplace_back();
      image.key = key;
      image.has_row = true;
      image.new_rowid = rowid;
      image.new_values = values;
      // A row whose key changed is another row that was inserted.
      image.inserted = row.inserted != 0 || (row.had_row && !same);
    }
    if (row.had_row) {
      Image& image = same ? images->back() : images->emplace_back();
      if (!same) image.key = std::move(row.old_key);
      image.had_row = true;
      image.old_rowid = rowid;
      image.old_values = std::move(row.old_values);
    }
  }
  for (auto& [name, row] : touched.by_key) {
    Image& image = images->emplace_back();
    image.key = name;
    ASSIGN_OR_RETURN(image.has_row, table.ReadRowByKey(name, &image.new_values));
    if (!image.has_row) image.new_values.clear();
    image.inserted = image.has_row && row.inserted != 0;
    image.had_row = row.had_row;
    image.old_values = std::move(row.old_values);
  }
  SortByKey(images);
  return JoinHalves(table, images);
}

void Capture::SortByKey(std::vector<Image>* images) {
  const auto by_key = [](const Image& a, const Image& b) { return a.key < b.key; };
  if (std::is_sorted(images->begin(), images->end(), by_key)) return;
  // Pointers are cheaper to move about.
  std::vector<Image*> order;
  order.reserve(images->size());
  for (Image& image : *images) order.push_back(&image);
  std::sort(order.begin(), order.end(),
            [&](const Image* a, const Image* b) { return by_key(*a, *b); });
  std::vector<Image> sorted;
  sorted.reserve(images->size());
  for (Image* image : order) sorted.push_back(std::move(*image));
  *images = std::move(sorted);
}

/// A row that left its rowid and came back at another is in the list twice: as what was, and as
/// what is. Nothing else can be, unless the key's index is damaged.
Status Capture::JoinHalves(const TableIo& table, std::vector<Image>* images) {
  size_t kept = 0;
  for (size_t i = 0; i < images->size(); ++i) {
    Image& image = (*images)[i];
    Image* const last = kept == 0 ? nullptr : &(*images)[kept - 1];
    if (last == nullptr || last->key != image.key) {
      if (kept != i) (*images)[kept] = std::move(image);
      ++kept;
      continue;
    }
    Image& was = last->had_row ? *last : image;
    Image& is = last->had_row ? image : *last;
    if (!was.had_row || was.has_row || !is.has_row || is.had_row) {
      return DataLoss("table " + table.table().name +
                      " has a key twice: its index is damaged; `patina reseed` rebuilds the file");
    }
    is.had_row = true;
    is.old_rowid = was.old_rowid;
    is.old_values = std::move(was.old_values);
    if (&is != last) *last = std::move(is);
  }
  images->resize(kept);
  return OkStatus();
}

Status Capture::FixDefaults(TableIo& table, Image* image) {
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
    ASSIGN_OR_RETURN(clock, load_clock_(table, image->key, image->old_rowid));
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

Status Capture::AddNet(TableIo& table, Image& image, std::vector<NetChange>* out) {
  NetChange net;
  const Table& declared = table.table();
  if (image.had_row && table.has_late_defaults()) RETURN_IF_ERROR(FixDefaults(table, &image));
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
  if (table.key_may_be_real()) {
    const std::string why = table.WhyNotLocalKey(image.key);
    if (!why.empty() && image.has_row)
      return FailedPrecondition("table " + declared.name + ", " + why);
    if (!why.empty()) return OkStatus();  // another client's row goes; nobody else knew of it
  }
  net.table = &table;
  net.key_hash = RowCache::KeyHash(image.key);
  net.key = std::move(image.key);
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
    if (touched.empty()) continue;
    std::vector<Image> images;
    RETURN_IF_ERROR(ImagesOf(*table, touched, &images));
    net.reserve(net.size() + images.size());
    for (Image& image : images) RETURN_IF_ERROR(AddNet(*table, image, &net));
  }
  Discard();
  return net;
}

}  // namespace patina::storage

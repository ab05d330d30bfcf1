#include "crdt/changeset.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "crdt/version_set.h"

namespace patina::crdt {
namespace {

constexpr uint8_t kSaysMask = 3;
constexpr uint8_t kFlagAll = 4;

Error MalformedChangeset(ByteReader& in, std::string_view what) {
  in.Fail();
  return InvalidArgument(std::string("malformed changeset: ").append(what));
}

bool HasDuplicateNames(const std::vector<ColumnName>& columns) {
  constexpr size_t kFew = 16;
  if (columns.size() <= kFew) {
    for (size_t i = 1; i < columns.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        if (columns[i].name == columns[j].name) return true;
      }
    }
    return false;
  }
  std::vector<std::string_view> names;
  names.reserve(columns.size());
  for (const ColumnName& column : columns) names.push_back(column.name);
  std::sort(names.begin(), names.end());
  return std::adjacent_find(names.begin(), names.end()) != names.end();
}

}  // namespace

void WriteChangesetHeader(uint8_t format, const ChangesetHeader& header, ByteWriter& out) {
  out.U8(format);
  out.Raw(header.id.actor.AsBytes());
  out.Varint(header.id.version);
  out.U64(header.time.bits);
  out.Varint(header.scope);
}

Result<ChangesetHeader> ReadChangesetHeader(ByteReader& in) {
  ChangesetHeader header;
  const uint8_t format = in.U8();
  if (in.ok() && format != kChangesetFormat && format != kManifestFormat) {
    in.Fail();
    return Error{Errc::kUnimplemented, "changeset format " + std::to_string(format) +
                                           " is not known here: upgrade this node"};
  }
  const std::string_view actor = in.Raw(header.id.actor.bytes.size());
  if (in.ok()) std::memcpy(header.id.actor.bytes.data(), actor.data(), actor.size());
  header.id.version = in.Varint();
  header.time.bits = in.U64();
  const uint64_t scope = in.Varint();
  if (!in.ok()) return MalformedChangeset(in, "header");
  // Actor 0 means no actor in every stamp, and a version set could not hold these versions.
  if (header.id.actor == ActorId{}) return MalformedChangeset(in, "actor is zero");
  if (header.id.version == 0 || header.id.version > kMaxVersion) {
    return MalformedChangeset(in, "version");
  }
  if (scope > UINT32_MAX) return MalformedChangeset(in, "scope");
  header.scope = static_cast<uint32_t>(scope);
  return header;
}

ChangesetBuilder::ChangesetBuilder(const ChangesetHeader& header) : header_(header) {
  CHECK(header.id.version >= 1 && header.id.version <= kMaxVersion);
}

void ChangesetBuilder::BeginTable(std::string_view table, size_t key_columns,
                                  const std::vector<ColumnName>& columns) {
  CHECK(!table.empty() && key_columns >= 1 && columns.size() <= kMaxColumns);
  EndTable();
  ByteWriter head(&table_head_);
  head.String(table);
  head.Varint(key_columns);
  head.Varint(columns.size());
  for (const ColumnName& column : columns) {
    head.String(column.name);
    head.Varint(column.life);
  }
  table_column_count_ = columns.size();
}

void ChangesetBuilder::AddRow(Says says, std::string_view packed_key,
                              const std::vector<ColumnIndex>& positions,
                              const std::vector<ValueView>& values) {
  CHECK(!table_head_.empty() && positions.size() == values.size());
  CHECK(says != Says::kDeleted || positions.empty());
  CHECK(says != Says::kNothing || !positions.empty());
  const bool all = !positions.empty() && positions.size() == table_column_count_;
  ByteWriter out(&table_rows_);
  out.U8(static_cast<uint8_t>(static_cast<uint8_t>(says) | (all ? kFlagAll : 0)));
  out.String(packed_key);
  if (!all) out.Varint(positions.size());
  size_t next = 0;
  for (ColumnIndex position : positions) {
    CHECK(position >= next && position < table_column_count_);
    next = position + size_t{1};
    if (!all) out.Varint(position);
  }
  for (const ValueView& value : values) EncodeValue(value, out);
  ++table_row_count_;
  ++rows_;
}

void ChangesetBuilder::EndTable() {
  if (table_row_count_ > 0) {  // a table without rows leaves no trace
    body_ += table_head_;
    ByteWriter(&body_).Varint(table_row_count_);
    body_ += table_rows_;
    ++tables_;
  }
  table_head_.clear();
  table_rows_.clear();
  table_row_count_ = 0;
}

std::string ChangesetBuilder::Finish() && {
  EndTable();
  std::string bytes;
  bytes.reserve(body_.size() + 64);
  ByteWriter out(&bytes);
  WriteChangesetHeader(kChangesetFormat, header_, out);
  out.Varint(rows_);
  out.Varint(tables_);
  out.Raw(body_);
  return bytes;
}

Error ChangesetReader::Malformed(std::string_view what) { return MalformedChangeset(in_, what); }

Error ChangesetReader::TooLarge(std::string_view what, uint64_t count, uint64_t limit) {
  in_.Fail();
  return ResourceExhausted(std::string("changeset has ")
                               .append(std::to_string(count) + " ")
                               .append(what)
                               .append(", the limit is " + std::to_string(limit)));
}

Status ChangesetReader::CheckCount(std::string_view what, uint64_t count, uint64_t limit) {
  if (count > limit) return TooLarge(what, count, limit);
  if (!in_.ok() || count > in_.remaining()) return Malformed(what);
  return OkStatus();
}

Status ChangesetReader::ReadHeader() {
  if (!in_.AtEnd() && static_cast<uint8_t>(in_.rest()[0]) == kManifestFormat) {
    in_.Fail();
    return Error{Errc::kUnimplemented, "a large transaction's manifest holds no rows"};
  }
  ASSIGN_OR_RETURN(header_, ReadChangesetHeader(in_));
  return OkStatus();
}

Result<ChangesetReader> ChangesetReader::Open(std::string_view bytes,
                                              const ChangesetLimits& limits) {
  ChangesetReader reader(bytes, limits);
  if (bytes.size() > limits.bytes_max) {
    return reader.TooLarge("bytes", bytes.size(), limits.bytes_max);
  }
  RETURN_IF_ERROR(reader.ReadHeader());
  reader.rows_ = reader.in_.Varint();
  reader.tables_left_ = reader.in_.Varint();
  RETURN_IF_ERROR(reader.CheckCount("rows", reader.rows_, limits.rows_max));
  RETURN_IF_ERROR(reader.CheckCount("tables", reader.tables_left_, limits.tables_max));
  return reader;
}

Result<bool> ChangesetReader::NextTable(TableChange* table) {
  if (table_rows_left_ > 0) {
    RowOp skipped;
    while (table_rows_left_ > 0) {
      ASSIGN_OR_RETURN(const bool more, NextRow(&skipped));
      CHECK(more);
    }
  }
  if (!in_.ok()) return Malformed("read on after an error");
  if (tables_left_ == 0) {
    if (!in_.AtEnd()) return Malformed("bytes after the last table");
    if (rows_seen_ != rows_) return Malformed("number of rows");
    return false;
  }
  --tables_left_;
  table->name = in_.String();
  const uint64_t key_columns = in_.Varint();
  if (!in_.ok() || table->name.empty()) return Malformed("table name");
  if (table->name.size() > limits_.name_bytes_max) {
    return TooLarge("bytes in a table name", table->name.size(), limits_.name_bytes_max);
  }
  if (key_columns == 0) return Malformed("key columns");
  RETURN_IF_ERROR(CheckCount("key columns", key_columns, limits_.key_values_max));
  RETURN_IF_ERROR(ReadColumns(table));
  table->rows = in_.Varint();
  if (table->rows > rows_ - rows_seen_) return Malformed("number of rows");
  RETURN_IF_ERROR(CheckCount("rows", table->rows, limits_.rows_max));
  rows_seen_ += table->rows;
  table->key_columns = static_cast<size_t>(key_columns);
  table_rows_left_ = table->rows;
  table_key_columns_ = table->key_columns;
  table_column_count_ = table->columns.size();
  return true;
}

Status ChangesetReader::ReadColumns(TableChange* table) {
  const uint64_t count = in_.Varint();
  RETURN_IF_ERROR(CheckCount("columns", count, kMaxColumns));
  table->columns.resize(static_cast<size_t>(count));
  for (ColumnName& column : table->columns) {
    column.name = in_.String();
    const uint64_t life = in_.Varint();
    if (!in_.ok() || column.name.empty() || life > UINT32_MAX) return Malformed("column");
    if (column.name.size() > limits_.name_bytes_max) {
      return TooLarge("bytes in a column name", column.name.size(), limits_.name_bytes_max);
    }
    column.life = static_cast<uint32_t>(life);
  }
  if (HasDuplicateNames(table->columns)) return Malformed("two columns of one name");
  return OkStatus();
}

Result<bool> ChangesetReader::NextRow(RowOp* row) {
  if (table_rows_left_ == 0) return false;
  --table_rows_left_;
  const uint8_t flags = in_.U8();
  row->key = in_.String();
  if (!in_.ok()) return Malformed("row");
  if ((flags & ~(kSaysMask | kFlagAll)) != 0 || (flags & kSaysMask) == kSaysMask) {
    return Malformed("row flags");
  }
  if (!IsPackedValues(row->key, table_key_columns_)) return Malformed("key");
  row->says = static_cast<Says>(flags & kSaysMask);
  RETURN_IF_ERROR(ReadPositions((flags & kFlagAll) != 0, row));
  if (row->says == Says::kDeleted && !row->positions.empty()) {
    return Malformed("deleted row with cells");
  }
  if (row->says == Says::kNothing && row->positions.empty()) {
    return Malformed("row that says nothing");
  }
  row->values.resize(row->positions.size());
  for (ValueView& value : row->values) value = DecodeValue(in_);
  if (!in_.ok()) return Malformed("value");
  return true;
}

Status ChangesetReader::ReadPositions(bool all, RowOp* row) {
  if (all) {
    row->positions.resize(table_column_count_);
    for (size_t i = 0; i < table_column_count_; ++i) {
      row->positions[i] = static_cast<ColumnIndex>(i);
    }
    return OkStatus();
  }
  const uint64_t count = in_.Varint();
  if (!in_.ok() || count > table_column_count_ || count > in_.remaining()) {
    return Malformed("number of cells");
  }
  row->positions.resize(static_cast<size_t>(count));
  size_t next = 0;
  for (ColumnIndex& position : row->positions) {
    const uint64_t raw = in_.Varint();
    if (!in_.ok() || raw < next || raw >= table_column_count_) return Malformed("column position");
    position = static_cast<ColumnIndex>(raw);
    next = static_cast<size_t>(raw) + 1;
  }
  return OkStatus();
}

Result<ChangesetHeader> ValidateChangeset(std::string_view bytes, const ChangesetLimits& limits) {
  ASSIGN_OR_RETURN(ChangesetReader reader, ChangesetReader::Open(bytes, limits));
  TableChange table;
  RowOp row;
  while (true) {
    ASSIGN_OR_RETURN(const bool more_tables, reader.NextTable(&table));
    if (!more_tables) return reader.header();
    while (true) {
      ASSIGN_OR_RETURN(const bool more_rows, reader.NextRow(&row));
      if (!more_rows) break;
    }
  }
}

Result<ChangesetHeader> PeekChangesetHeader(std::string_view bytes) {
  ByteReader in(bytes);
  return ReadChangesetHeader(in);
}

}  // namespace patina::crdt

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/status.h"
#include "crdt/hlc.h"
#include "crdt/row_clock.h"
#include "crdt/value.h"

// A changeset: all row changes of one transaction, as bytes. The bytes are made once, by the
// writer, and are stored, sent and served untouched.
//
// Format, version 1 (integers are varints unless said, strings length-prefixed):
//   u8 format = 1 | actor: 16 bytes | version | time: 8 bytes | scope | rows in all | tables
//   per table:  name | key columns | columns: each name, life | rows
//   per row:    u8 flags (bits 0-1 Says, bit 2 "all columns of the table's list") | packed key,
//   length-prefixed
//               | unless all: number of columns, their positions in the table's list (ascending)
//               | the values, in that order
// A column's life is how often its name was dropped from the schema before (0 at first).

namespace patina::crdt {

struct ChangesetLimits {
  size_t bytes_max = 16u << 20;
  size_t rows_max = 1'000'000;
  size_t tables_max = 1'000;
  size_t name_bytes_max = 255;
  size_t key_values_max = 32;
};

struct ChangesetHeader {
  ChangeId id;
  HlcTime time;
  uint32_t scope = 0;  // 0: everywhere
};

/// The first byte of a changeset, and of what stands for a large one (crdt/manifest.h).
inline constexpr uint8_t kChangesetFormat = 1, kManifestFormat = 2;

/// What both begin with; reading takes either and leaves *in behind the header.
void WriteChangesetHeader(uint8_t format, const ChangesetHeader& header, ByteWriter& out);
Result<ChangesetHeader> ReadChangesetHeader(ByteReader& in);

struct ColumnName {
  std::string_view name;
  uint32_t life = 0;
  bool operator==(const ColumnName&) const = default;
};

/// Builds the bytes of one changeset. Tables one after another, rows of a table together.
class ChangesetBuilder {
 public:
  explicit ChangesetBuilder(const ChangesetHeader& header);

  /// columns: the non-key columns that rows of this table may write, by name; at most kMaxColumns.
  void BeginTable(std::string_view table, size_t key_columns,
                  const std::vector<ColumnName>& columns);
  /// positions: ascending positions in the table's column list, one value each.
  void AddRow(Says says, std::string_view packed_key, const std::vector<ColumnIndex>& positions,
              const std::vector<ValueView>& values);
  size_t rows() const { return rows_; }
  /// Bytes so far, to refuse what is too large early.
  size_t size() const { return body_.size() + table_head_.size() + table_rows_.size(); }
  /// The builder is used up.
  std::string Finish() &&;

 private:
  void EndTable();

  ChangesetHeader header_;
  std::string body_, table_head_, table_rows_;
  size_t table_column_count_ = 0;
  uint64_t table_row_count_ = 0, tables_ = 0, rows_ = 0;
};

struct TableChange {
  std::string_view name;
  size_t key_columns = 0;
  std::vector<ColumnName> columns;
  uint64_t rows = 0;
};

struct RowOp {
  Says says = Says::kNothing;
  std::string_view key;                // packed
  std::vector<ColumnIndex> positions;  // in the table's column list
  std::vector<ValueView> values;
};

/// Reads a changeset without copying values: views live as long as the bytes.
/// Malformed or oversize bytes give an error from Open, NextTable or NextRow, and take no memory to
/// speak of: counts are checked against the bytes that are left before anything is reserved. Once
/// it gave an error it gives errors for ever. Bytes over a limit are RESOURCE_EXHAUSTED, an unknown
/// format is UNIMPLEMENTED, everything else INVALID_ARGUMENT.
class ChangesetReader {
 public:
  static Result<ChangesetReader> Open(std::string_view bytes, const ChangesetLimits& limits = {});

  const ChangesetHeader& header() const { return header_; }
  /// Rows of all tables, as the header claims (checked while reading).
  uint64_t rows() const { return rows_; }
  /// False after the last table. Rows of the table before that were not read are skipped (and
  /// checked).
  Result<bool> NextTable(TableChange* table);
  /// False after the table's last row. *row is reused: its vectors keep their memory.
  Result<bool> NextRow(RowOp* row);

 private:
  ChangesetReader(std::string_view bytes, const ChangesetLimits& limits)
      : in_(bytes), limits_(limits) {}
  Status ReadHeader();
  Status ReadColumns(TableChange* table);
  Status ReadPositions(bool all, RowOp* row);
  Error Malformed(std::string_view what);
  Error TooLarge(std::string_view what, uint64_t count, uint64_t limit);
  /// A count that may be reserved: each item is at least one byte.
  Status CheckCount(std::string_view what, uint64_t count, uint64_t limit);

  ByteReader in_;
  ChangesetLimits limits_;
  ChangesetHeader header_;
  uint64_t rows_ = 0, rows_seen_ = 0, tables_left_ = 0, table_rows_left_ = 0;
  size_t table_column_count_ = 0, table_key_columns_ = 0;
};

/// Reads everything once: is it well-formed within the limits? Returns the header.
Result<ChangesetHeader> ValidateChangeset(std::string_view bytes,
                                          const ChangesetLimits& limits = {});

/// The header alone (first bytes) of a changeset or a manifest, without looking at the rest.
Result<ChangesetHeader> PeekChangesetHeader(std::string_view bytes);

}  // namespace patina::crdt

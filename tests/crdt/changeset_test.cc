#include "crdt/changeset.h"

#include <gtest/gtest.h>

#include "crdt/version_set.h"
#include "tests/crdt/crdt_test_util.h"

namespace patina::crdt {
namespace {

const std::vector<ColumnName> kColumns = {{"state", 0}, {"region", 2}, {"price", 0}};

std::string Key(int64_t id) { return PackValues(Row{Value::Integer(id)}); }

ChangesetHeader Header() { return {{TestActor(7), 12}, {0x1122334455667788}, 3}; }

/// A changeset of two tables with every kind of row.
std::string Example() {
  ChangesetBuilder builder(Header());
  builder.BeginTable("machines", 1, kColumns);
  builder.AddRow(Says::kAlive, Key(1), {0, 1, 2},
                 {ValueView::Text("started"), ValueView::Null(), ValueView::Real(1.5)});
  builder.AddRow(Says::kNothing, Key(2), {1}, {ValueView::Text("fra")});
  builder.AddRow(Says::kDeleted, Key(3), {}, {});
  builder.BeginTable("nobody", 1, {});
  builder.BeginTable("tags", 1, {});
  builder.AddRow(Says::kAlive, Key(4), {}, {});
  return std::move(builder).Finish();
}

/// A changeset with one table "t" of one key column, up to its columns.
void WriteHead(ByteWriter& out, uint64_t rows_claimed, uint64_t columns) {
  out.U8(1);
  out.Raw(TestActor(1).AsBytes());
  out.Varint(1);
  out.U64(99);
  out.Varint(0);
  out.Varint(rows_claimed);
  out.Varint(1);
  out.String("t");
  out.Varint(1);
  out.Varint(columns);
}

/// Bytes of a changeset with one table "t" (columns a, b) of one key column, and these row bytes.
std::string WithRows(std::string_view rows_hex, uint64_t rows = 1, uint64_t rows_claimed = 1) {
  std::string bytes;
  ByteWriter out(&bytes);
  WriteHead(out, rows_claimed, 2);
  out.String("a");
  out.Varint(0);
  out.String("b");
  out.Varint(0);
  out.Varint(rows);
  out.Raw(*FromHex(rows_hex));
  return bytes;
}

/// Bytes of a changeset with one table "t" of so many columns, each with a name of so many bytes
/// (at least 3), and one deleted row.
std::string WithColumns(size_t count, size_t name_bytes) {
  std::string bytes;
  ByteWriter out(&bytes);
  WriteHead(out, 1, count);
  for (size_t i = 0; i < count; ++i) {
    const std::string number = std::to_string(i);
    out.String(std::string(name_bytes - number.size(), 'c') + number);
    out.Varint(0);
  }
  out.Varint(1);
  out.Raw(*FromHex("020301010200"));
  return bytes;
}

/// The code with which the bytes are refused, kCancelled if they are not.
Errc Refusal(std::string_view bytes, const ChangesetLimits& limits = {}) {
  const auto header = ValidateChangeset(bytes, limits);
  return header.ok() ? Errc::kCancelled : header.error().code;
}
constexpr Errc kAccepted = Errc::kCancelled;
constexpr Errc kMalformed = Errc::kInvalidArgument;

TEST(ChangesetTest, WhatWasWrittenIsRead) {
  const std::string bytes = Example();
  auto reader = ChangesetReader::Open(bytes);
  ASSERT_TRUE(reader.ok());
  EXPECT_EQ(reader->header().id, Header().id);
  EXPECT_EQ(reader->header().time, Header().time);
  EXPECT_EQ(reader->header().scope, 3u);
  EXPECT_EQ(reader->rows(), 4u);
  TableChange table;
  RowOp row;
  ASSERT_TRUE(reader->NextTable(&table).value());
  EXPECT_EQ(table.name, "machines");
  EXPECT_EQ(table.columns, kColumns);
  EXPECT_EQ(table.rows, 3u);
  ASSERT_TRUE(reader->NextRow(&row).value());
  EXPECT_EQ(row.says, Says::kAlive);
  EXPECT_EQ(row.key, Key(1));
  EXPECT_EQ(row.positions, (std::vector<ColumnIndex>{0, 1, 2}));
  EXPECT_EQ(row.values[0], ValueView::Text("started"));
  EXPECT_EQ(row.values[2], ValueView::Real(1.5));
  ASSERT_TRUE(reader->NextRow(&row).value());
  EXPECT_EQ(row.says, Says::kNothing);
  EXPECT_EQ(row.positions, std::vector<ColumnIndex>{1});
  ASSERT_TRUE(reader->NextRow(&row).value());
  EXPECT_EQ(row.says, Says::kDeleted);
  EXPECT_TRUE(row.positions.empty() && row.values.empty());
  EXPECT_FALSE(reader->NextRow(&row).value());
  ASSERT_TRUE(reader->NextTable(&table).value());
  EXPECT_EQ(table.name, "tags");  // the table without rows left no trace
  ASSERT_TRUE(reader->NextRow(&row).value());
  EXPECT_EQ(row.says, Says::kAlive);
  EXPECT_FALSE(reader->NextTable(&table).value());
}

TEST(ChangesetTest, RowsNotReadAreSkippedButChecked) {
  const std::string bytes = Example();
  auto reader = ChangesetReader::Open(bytes);
  TableChange table;
  ASSERT_TRUE(reader->NextTable(&table).value());
  ASSERT_TRUE(reader->NextTable(&table).value());
  EXPECT_EQ(table.name, "tags");
  EXPECT_FALSE(reader->NextTable(&table).value());
  const std::string bad = WithRows("0702010200000000");
  auto bad_reader = ChangesetReader::Open(bad);
  ASSERT_TRUE(bad_reader->NextTable(&table).value());
  EXPECT_FALSE(bad_reader->NextTable(&table).ok());
  EXPECT_FALSE(bad_reader->NextTable(&table).ok());  // and for ever
}

TEST(ChangesetTest, TheSameChangesGiveTheSameBytes) {
  EXPECT_EQ(Example(), Example());
  EXPECT_EQ(ToHex(Example()).substr(0, 68),
            "01"
            "07000000000000000000000000000001"
            "0c"
            "8877665544332211"
            "03"
            "04"
            "02"
            "086d616368");
}

TEST(ChangesetTest, TheHeaderCanBeReadAlone) {
  const std::string bytes = Example();
  const auto header = PeekChangesetHeader(std::string_view(bytes).substr(0, 27));
  ASSERT_TRUE(header.ok());
  EXPECT_EQ(header->id, Header().id);
  EXPECT_FALSE(PeekChangesetHeader(std::string_view(bytes).substr(0, 26)).ok());
  EXPECT_FALSE(PeekChangesetHeader("").ok());
}

TEST(ChangesetTest, AnUnknownFormatIsNotCalledMalformed) {
  std::string bytes = Example();
  bytes[0] = 2;
  EXPECT_EQ(Refusal(bytes), Errc::kUnimplemented);
}

TEST(ChangesetTest, RowsThatBreakTheRulesAreRefused) {
  EXPECT_EQ(Refusal(WithRows("05"
                             "03010102"
                             "0000")),
            kAccepted);  // alive, both NULL
  EXPECT_EQ(Refusal(WithRows("05"
                             "0401010200"
                             "0000")),
            kMalformed);  // key has a byte too many
  EXPECT_EQ(Refusal(WithRows("05"
                             "0402010201"
                             "0000")),
            kMalformed);  // key says two values
  EXPECT_EQ(Refusal(WithRows("05"
                             "0502010201"
                             "02"
                             "0000")),
            kMalformed);  // key of two values
  EXPECT_EQ(Refusal(WithRows("05"
                             "00"
                             "0000")),
            kMalformed);  // empty key
}

TEST(ChangesetTest, RowsWhoseWordsAndCellsDisagreeAreRefused) {
  EXPECT_EQ(Refusal(WithRows("07"
                             "03010102"
                             "0000")),
            kMalformed);  // says 3
  EXPECT_EQ(Refusal(WithRows("0d"
                             "03010102"
                             "0000")),
            kMalformed);  // flag 8
  EXPECT_EQ(Refusal(WithRows("06"
                             "03010102"
                             "0000")),
            kMalformed);  // deleted, with cells
  EXPECT_EQ(Refusal(WithRows("02"
                             "03010102"
                             "010000")),
            kMalformed);  // the same, counted
  EXPECT_EQ(Refusal(WithRows("02"
                             "03010102"
                             "00")),
            kAccepted);  // deleted
  EXPECT_EQ(Refusal(WithRows("00"
                             "03010102"
                             "00")),
            kMalformed);  // nothing, and no cell
  EXPECT_EQ(Refusal(WithRows("00"
                             "03010102"
                             "0101"
                             "00")),
            kAccepted);  // nothing, cell b
  EXPECT_EQ(Refusal(WithRows("00"
                             "03010102"
                             "0102"
                             "00")),
            kMalformed);  // position 2 of 2
  EXPECT_EQ(Refusal(WithRows("00"
                             "03010102"
                             "020100"
                             "0000")),
            kMalformed);  // descending
  EXPECT_EQ(Refusal(WithRows("00"
                             "03010102"
                             "020101"
                             "0000")),
            kMalformed);  // twice
  EXPECT_EQ(Refusal(WithRows("05"
                             "03010102"
                             "0009")),
            kMalformed);  // unknown value type
  EXPECT_EQ(Refusal(WithRows("05"
                             "03010102"
                             "000000")),
            kMalformed);  // trailing byte
}

TEST(ChangesetTest, CountsOfRowsMustAgree) {
  const std::string row =
      "0203010102"
      "00";
  EXPECT_EQ(Refusal(WithRows(row + row, 2, 2)), kAccepted);
  EXPECT_EQ(Refusal(WithRows(row + row, 2, 1)), kMalformed);
  EXPECT_EQ(Refusal(WithRows(row + row, 2, 3)), kMalformed);
  EXPECT_EQ(Refusal(WithRows(row, 0, 1)), kMalformed);
  EXPECT_EQ(Refusal(WithRows(row, 1ull << 62, 1ull << 62)), Errc::kResourceExhausted);
  EXPECT_EQ(Refusal(WithRows(row, 100'000, 100'000)), kMalformed);
}

TEST(ChangesetTest, VersionsAndActorsThatNobodyHasAreRefused) {
  const std::string good = WithRows(
      "0203010102"
      "00");
  std::string bytes = good;
  bytes[17] = 0;
  EXPECT_EQ(Refusal(bytes), kMalformed);
  bytes = good;
  std::fill(bytes.begin() + 1, bytes.begin() + 17, '\0');
  EXPECT_EQ(Refusal(bytes), kMalformed);
  std::string version;
  ByteWriter(&version).Varint(kMaxVersion + 1);  // no version set could hold it
  bytes = good;
  EXPECT_EQ(Refusal(bytes.replace(17, 1, version)), kMalformed);
}

TEST(ChangesetTest, TwoColumnsOfOneNameAreRefused) {
  std::string bytes = WithRows(
      "0203010102"
      "00");
  bytes[bytes.rfind('b')] = 'a';
  EXPECT_EQ(Refusal(bytes), kMalformed);
  for (const size_t count : {size_t{3}, size_t{40}}) {
    std::vector<std::string> names;
    for (size_t i = 0; i < count; ++i) names.push_back("c" + std::to_string(i));
    std::vector<ColumnName> columns(names.begin(), names.end());
    for (const bool twice : {false, true}) {
      if (twice) columns.front().name = columns.back().name;
      ChangesetBuilder builder(Header());
      builder.BeginTable("t", 1, columns);
      builder.AddRow(Says::kDeleted, Key(1), {}, {});
      EXPECT_EQ(Refusal(std::move(builder).Finish()), twice ? kMalformed : kAccepted);
    }
  }
}

TEST(ChangesetTest, LimitsAreKept) {
  const std::string bytes = Example();
  const auto with = [&](auto set) {
    ChangesetLimits limits;
    set(limits);
    return Refusal(bytes, limits);
  };
  EXPECT_EQ(with([&](auto& l) { l.bytes_max = bytes.size(); }), kAccepted);
  EXPECT_EQ(with([&](auto& l) { l.bytes_max = bytes.size() - 1; }), Errc::kResourceExhausted);
  EXPECT_EQ(with([](auto& l) { l.rows_max = 3; }), Errc::kResourceExhausted);
  EXPECT_EQ(with([](auto& l) { l.tables_max = 1; }), Errc::kResourceExhausted);
  EXPECT_EQ(with([](auto& l) { l.name_bytes_max = 7; }), Errc::kResourceExhausted);
  EXPECT_EQ(with([](auto& l) { l.key_values_max = 0; }), Errc::kResourceExhausted);
}

TEST(ChangesetTest, NumbersAndNamesOfColumnsAreBounded) {
  EXPECT_EQ(Refusal(WithColumns(kMaxColumns, 4)), kAccepted);
  EXPECT_EQ(Refusal(WithColumns(kMaxColumns + 1, 4)), Errc::kResourceExhausted);
  ChangesetLimits limits;
  EXPECT_EQ(Refusal(WithColumns(2, limits.name_bytes_max)), kAccepted);
  EXPECT_EQ(Refusal(WithColumns(2, limits.name_bytes_max + 1)), Errc::kResourceExhausted);
  limits.name_bytes_max = 7;
  EXPECT_EQ(Refusal(WithColumns(2, 7), limits), kAccepted);
  EXPECT_EQ(Refusal(WithColumns(2, 8), limits), Errc::kResourceExhausted);
}

TEST(ChangesetTest, EveryTruncationIsRefused) {
  const std::string bytes = Example();
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_EQ(Refusal(std::string_view(bytes).substr(0, size)), kMalformed) << size;
  }
}

TEST(ChangesetTest, NoBytesCrashTheReader) {
  const uint64_t seed = 51;
  TRACE_SEED(seed);
  Rng rng(seed);
  int accepted = 0;
  Torment(Example(), rng, 100'000, [&](std::string_view bytes) {
    if (Refusal(bytes) == kAccepted) ++accepted;
  });
  EXPECT_GT(accepted, 0);  // flips within values are other values
}

TEST(ChangesetTest, RandomChangesetsComeBack) {
  const uint64_t seed = 52;
  TRACE_SEED(seed);
  Rng rng(seed);
  RowOp row;
  for (int round = 0; round < 500; ++round) {
    struct Written {
      Says says;
      std::string key;
      std::vector<ColumnIndex> positions;
      Row values;
    };
    std::vector<Written> rows(static_cast<size_t>(1 + rng.Below(30)));
    ChangesetBuilder builder(Header());
    builder.BeginTable("t", 2, kColumns);
    for (Written& written : rows) {
      written.says = static_cast<Says>(rng.Below(3));
      written.key = PackValues(Row{RandomValue(rng), RandomValue(rng)});
      for (ColumnIndex i = 0; i < 3 && written.says != Says::kDeleted; ++i) {
        if (rng.Chance(0.7) || (i == 2 && written.positions.empty())) {
          written.positions.push_back(i);
          written.values.push_back(RandomValue(rng));
        }
      }
      builder.AddRow(written.says, written.key, written.positions,
                     {written.values.begin(), written.values.end()});
    }
    ASSERT_EQ(builder.rows(), rows.size());
    const std::string bytes = std::move(builder).Finish();
    auto reader = ChangesetReader::Open(bytes);
    TableChange table;
    ASSERT_TRUE(reader.ok() && reader->NextTable(&table).value());
    for (const Written& written : rows) {
      ASSERT_TRUE(reader->NextRow(&row).value());
      ASSERT_EQ(row.says, written.says);
      ASSERT_EQ(row.key, written.key);
      ASSERT_EQ(row.positions, written.positions);
      ASSERT_EQ(Row(row.values.begin(), row.values.end()), written.values);
    }
    ASSERT_FALSE(reader->NextRow(&row).value());
    ASSERT_FALSE(reader->NextTable(&table).value());
  }
}

}  // namespace
}  // namespace patina::crdt

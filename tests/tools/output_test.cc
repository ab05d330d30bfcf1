#include "tools/output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <sstream>

namespace patina::tools {
namespace {

using crdt::Value;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

std::string Print(Format format, const std::vector<std::string>& columns,
                  const std::vector<std::vector<Value>>& rows) {
  std::ostringstream out;
  RowPrinter printer(out, format, columns);
  for (const auto& row : rows) printer.Print(row);
  printer.Finish();
  return out.str();
}

TEST(RowPrinterTest, TablesAlignNumbersToTheRightAndShowNull) {
  EXPECT_EQ(
      Print(Format::kTable, {"id", "n"},
            {{Value::Text("machine"), Value::Integer(5)}, {Value::Null(), Value::Integer(123)}}),
      "id         n\n"
      "-------  ---\n"
      "machine    5\n"
      "NULL     123\n");
}

TEST(RowPrinterTest, TablesCountCharactersNotBytes) {
  EXPECT_EQ(Print(Format::kTable, {"city", "x"}, {{Value::Text("Zürich"), Value::Text("a")}}),
            "city    x\n"
            "------  -\n"
            "Zürich  a\n");
}

TEST(RowPrinterTest, TablesKeepARowOnOneLine) {
  EXPECT_EQ(Print(Format::kTable, {"a"}, {{Value::Text("x\ny\x1b[2J")}}),
            "a\n-----------\nx\\ny\\x1b[2J\n");
}

TEST(RowPrinterTest, JsonIsOneObjectPerLineAndKeepsTypes) {
  EXPECT_EQ(Print(Format::kJson, {"b", "a", "b"},
                  {{Value::Integer(1), Value::Real(1.5), Value::Text("q\"\n")},
                   {Value::Null(), Value::Blob("\x01\xff"), Value::Text("\xff")}}),
            "{\"b\":1,\"a\":1.5,\"b:2\":\"q\\\"\\n\"}\n"
            "{\"b\":null,\"a\":\"01ff\",\"b:2\":\"\xEF\xBF\xBD\"}\n");
}

TEST(RowPrinterTest, CsvQuotesWhatNeedsQuotes) {
  EXPECT_EQ(Print(Format::kCsv, {"a", "b,c"},
                  {{Value::Text("say \"hi\""), Value::Null()},
                   {Value::Text("x\ny"), Value::Integer(-1)}}),
            "a,\"b,c\"\n\"say \"\"hi\"\"\",\n\"x\ny\",-1\n");
}

TEST(RowPrinterTest, AnEmptyAnswerStillHasItsHeader) {
  EXPECT_EQ(Print(Format::kTable, {"a"}, {}), "a\n-\n");
  EXPECT_EQ(Print(Format::kCsv, {"a"}, {}), "a\n");
  EXPECT_EQ(Print(Format::kJson, {"a"}, {}), "");
}

TEST(RowPrinterTest, StreamingPrintsEveryRowAtOnce) {
  std::ostringstream out;
  RowPrinter printer(out, Format::kTable, {"event"}, true);
  printer.Print({Value::Text("insert")});
  EXPECT_EQ(out.str(), "event\n------\ninsert\n");
}

TEST(HumanTest, DurationsHaveTwoUnitsAtMost) {
  EXPECT_EQ(HumanDuration(microseconds(850)), "850 us");
  EXPECT_EQ(HumanDuration(microseconds(12'300)), "12.3 ms");
  EXPECT_EQ(HumanDuration(milliseconds(250)), "250 ms");
  EXPECT_EQ(HumanDuration(milliseconds(4'200)), "4.2 s");
  EXPECT_EQ(HumanDuration(seconds(185)), "3 min 5 s");
  EXPECT_EQ(HumanDuration(seconds(7'800)), "2 h 10 min");
  EXPECT_EQ(HumanDuration(seconds(3 * 86'400 + 4 * 3'600)), "3 d 4 h");
}

TEST(HumanTest, BytesCountsAndTimes) {
  EXPECT_EQ(HumanBytes(812), "812 B");
  EXPECT_EQ(HumanBytes(1'536), "1.5 KiB");
  EXPECT_EQ(HumanBytes(1024 * 1024), "1.0 MiB");
  EXPECT_EQ(HumanCount(1'234'567), "1,234,567");
  EXPECT_EQ(HumanCount(12), "12");
  EXPECT_EQ(HumanTime(0), "");
  EXPECT_EQ(HumanTime(1'795'223'045'678'000'123), "2026-11-21T01:04:05.678Z");
}

}  // namespace
}  // namespace patina::tools

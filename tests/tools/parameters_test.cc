#include "tools/parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace patina::tools {
namespace {

using crdt::Value;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(ParseParameterTest, WhatLooksLikeANumberIsOne) {
  EXPECT_EQ(ParseParameter("12"), Value::Integer(12));
  EXPECT_EQ(ParseParameter("-3"), Value::Integer(-3));
  EXPECT_EQ(ParseParameter("0"), Value::Integer(0));
  EXPECT_EQ(ParseParameter("9223372036854775807"), Value::Integer(INT64_MAX));
  EXPECT_EQ(ParseParameter("1.5"), Value::Real(1.5));
  EXPECT_EQ(ParseParameter("1e3"), Value::Real(1000));
  EXPECT_EQ(ParseParameter("0.25"), Value::Real(0.25));
}

TEST(ParseParameterTest, WhatANumberWouldChangeStaysText) {
  for (const char* text :
       {"007", "-07", "9223372036854775808", "1e400", "+5", "1.2.3", "-", ".", "e", "", " 1",
        "0x10", "nan", "inf", "1_000", "10.0.0.1", "2026-11-21"}) {
    EXPECT_EQ(ParseParameter(text), Value::Text(text)) << text;
  }
}

TEST(ParseParameterTest, NullBlobsAndForcedText) {
  EXPECT_EQ(ParseParameter("null"), Value::Null());
  EXPECT_EQ(ParseParameter("NULL"), Value::Null());
  EXPECT_EQ(ParseParameter("Null"), Value::Text("Null"));
  EXPECT_EQ(ParseParameter("x'00ff'"), Value::Blob(std::string("\0\xff", 2)));
  EXPECT_EQ(ParseParameter("x''"), Value::Blob(""));
  EXPECT_EQ(ParseParameter("x'0'"), Value::Text("x'0'"));
  EXPECT_EQ(ParseParameter("text:12"), Value::Text("12"));
  EXPECT_EQ(ParseParameter("text:"), Value::Text(""));
  EXPECT_EQ(ParseParameter("text:null"), Value::Text("null"));
}

std::vector<std::string> Split(std::string_view sql) {
  Result<std::vector<std::string>> statements = SplitStatements(sql);
  EXPECT_TRUE(statements.ok());
  return statements.value_or(std::vector<std::string>());
}

TEST(SplitStatementsTest, SemicolonsInStringsAndCommentsDoNotEndAStatement) {
  EXPECT_THAT(Split("INSERT INTO t VALUES (';'); DELETE FROM t WHERE a = 'it''s;';\n"),
              ElementsAre("INSERT INTO t VALUES (';');", "DELETE FROM t WHERE a = 'it''s;';"));
  EXPECT_THAT(Split("-- first; second\nSELECT 1; /* ; */ SELECT /* ; */ 2"),
              ElementsAre("SELECT 1;", "SELECT /* ; */ 2"));
}

TEST(SplitStatementsTest, EmptyStatementsAndCommentsAreLeftOut) {
  EXPECT_THAT(Split(""), IsEmpty());
  EXPECT_THAT(Split(" ;; \n-- nothing here"), IsEmpty());
  EXPECT_THAT(Split("/* open to the end"), IsEmpty());
  EXPECT_THAT(Split(";SELECT 1;;"), ElementsAre("SELECT 1;"));
}

TEST(SplitStatementsTest, AnOpenQuoteIsAnErrorThatNamesTheLine) {
  const auto statements = SplitStatements("SELECT 1;\n\nSELECT 'open;\n");
  ASSERT_FALSE(statements.ok());
  EXPECT_THAT(statements.error().message, HasSubstr("line 3"));
}

}  // namespace
}  // namespace patina::tools

#include "tests/tidy/rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

// The rules themselves, on small files.

namespace patina::tidy {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

File Header(std::string path, std::string text) {
  return {std::move(path), "#pragma once\n" + std::move(text)};
}

std::string Repeat(const std::string& text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}

TEST(TidyRulesTest, AFolderIncludesOnlyWhatStandsAboveIt) {
  EXPECT_THAT(CheckLayers(Header("storage/a.h", "#include \"crdt/value.h\"\n")), IsEmpty());
  EXPECT_THAT(CheckLayers(Header("storage/a.h", "#include \"gossip/node.h\"\n")), SizeIs(1));
  EXPECT_THAT(CheckLayers({"subscribe/a.cc", "#include \"patina/v1/state.pb.h\"\n"}), SizeIs(1));
  EXPECT_THAT(CheckLayers({"tools/a.cc", "#include \"tests/sim/a.h\"\n"}), SizeIs(1));
}

TEST(TidyRulesTest, AnIncludeInACommentDoesNotCount) {
  EXPECT_THAT(CheckLayers({"crdt/a.cc", "// #include \"agent/net.h\"\n"}), IsEmpty());
}

TEST(TidyRulesTest, ThePureCoreKnowsNoThreadsFilesOrClocks) {
  EXPECT_THAT(CheckHeaders({"gossip/a.cc", "#include <mutex>\n"}), SizeIs(1));
  EXPECT_THAT(CheckHeaders({"crdt/a.cc", "#include \"base/log.h\"\n"}), SizeIs(1));
  EXPECT_THAT(CheckHeaders({"crdt/a.cc", "auto n = std::chrono::system_clock::now();\n"}),
              SizeIs(1));
  EXPECT_THAT(CheckHeaders({"crdt/a.cc", "#include <roaring/roaring64map.hh>\n"}), IsEmpty());
  EXPECT_THAT(CheckHeaders({"agent/a.cc", "#include <mutex>\n"}), IsEmpty());
}

TEST(TidyRulesTest, HeavyHeadersStayInSourceFiles) {
  EXPECT_THAT(CheckHeaders(Header("agent/a.h", "#include <grpcpp/grpcpp.h>\n")), SizeIs(1));
  EXPECT_THAT(CheckHeaders({"agent/a.cc", "#include <grpcpp/grpcpp.h>\n"}), IsEmpty());
  EXPECT_THAT(CheckHeaders(Header("agent/a.h", "// The wrapper.\n#include <grpcpp/grpcpp.h>\n")),
              IsEmpty());
  EXPECT_THAT(CheckHeaders(Header("proto/a.h", "#include \"patina/v1/types.pb.h\"\n")), SizeIs(1));
}

TEST(TidyRulesTest, LongFunctionsAreFoundByTheirFirstLine) {
  const std::string body = Repeat("  Call();\n", 80);
  const auto findings =
      CheckSizes({"base/a.cc", "int x;\n\nvoid F(int a,\n       int b) {\n" + body + "}\n"});
  ASSERT_THAT(findings, SizeIs(1));
  EXPECT_EQ(findings[0].line, 3u);
  EXPECT_THAT(findings[0].what, HasSubstr("function of 83 lines"));
}

TEST(TidyRulesTest, LongClassesAndNamespacesAreNotFunctions) {
  const std::string members = Repeat("  void F() { G(); }\n", 80);
  EXPECT_THAT(CheckSizes({"base/a.cc", "namespace a {\nclass B {\n" + members + "};\n}\n"}),
              IsEmpty());
}

TEST(TidyRulesTest, BracesInStringsAndCommentsDoNotCount) {
  const std::string text =
      "void F() {\n  G(\"}{{{\");  // }}}\n  H('{');\n  I(R\"x({{\n)x\");\n}\n";
  EXPECT_THAT(CheckSizes({"base/a.cc", text + Repeat("int x;\n", 100)}), IsEmpty());
}

TEST(TidyRulesTest, AConstructorsBodyIsFoundAfterBracedInitializers) {
  const std::string body = Repeat("  Call();\n", 80);
  EXPECT_THAT(CheckSizes({"base/a.cc", "A::A() : b_{1}, c_{2} {\n" + body + "}\n"}), SizeIs(1));
}

TEST(TidyRulesTest, ColumnsAreCharactersNotBytes) {
  EXPECT_THAT(CheckSizes({"base/a.cc", "int x" + Repeat("a", 95) + ";\n"}), SizeIs(1));
  EXPECT_THAT(CheckSizes({"base/a.cc", "auto x = \"" + Repeat("ä", 80) + "\";\n"}), IsEmpty());
}

TEST(TidyRulesTest, FilesHaveAtMostFiveHundredLines) {
  EXPECT_THAT(CheckSizes({"base/a.cc", Repeat("int x;\n", 500)}), IsEmpty());
  EXPECT_THAT(CheckSizes({"base/a.cc", Repeat("int x;\n", 501)}), SizeIs(1));
}

TEST(TidyRulesTest, HeadersSayPragmaOnceAndComeFirst) {
  EXPECT_THAT(CheckIncludeStyle({"base/a.h", "int x;\n"}), SizeIs(1));
  EXPECT_THAT(CheckIncludeStyle({"base/a.cc", "#include <string>\n#include \"base/a.h\"\n"}),
              SizeIs(1));
  EXPECT_THAT(CheckIncludeStyle({"base/a.cc", "#include \"base/a.h\"\n#include <string>\n"}),
              IsEmpty());
}

TEST(TidyRulesTest, MarksOfUnfinishedWorkNameAnIssue) {
  const std::string mark = std::string("TO") + "DO";
  EXPECT_THAT(CheckMarks({"base/a.cc", "// " + mark + ": later\n"}), SizeIs(1));
  EXPECT_THAT(CheckMarks({"base/a.cc", "// " + mark + "(#12): later\n"}), IsEmpty());
}

TEST(TidyRulesTest, SleepingTestsSayWhy) {
  const std::string call = std::string("std::this_thread::sleep_") + "for(1s);";
  EXPECT_THAT(CheckTestHonesty({"tests/a/a_test.cc", "  " + call + "\n"}), SizeIs(1));
  EXPECT_THAT(
      CheckTestHonesty({"tests/a/a_test.cc", "  // The kernel needs it.\n  " + call + "\n"}),
      IsEmpty());
  EXPECT_THAT(CheckTestHonesty({"agent/a.cc", "  " + call + "\n"}), IsEmpty());
}

}  // namespace
}  // namespace patina::tidy

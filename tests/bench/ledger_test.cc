#include "tools/bench/ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace patina::tools::bench {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST(LedgerTest, ReadsBackWhatItWrote) {
  const auto ledger = ParseLedger(LedgerLine("a", {7, "00ff", 3}), "ledger.csv");
  ASSERT_TRUE(ledger.ok());
  ASSERT_THAT(*ledger, SizeIs(1));
  EXPECT_EQ(ledger->at("a").value, 7);
  EXPECT_EQ(ledger->at("a").actor, "00ff");
  EXPECT_EQ(ledger->at("a").version, 3u);
}

TEST(LedgerTest, TheNewestAcknowledgementOfAKeyCounts) {
  const auto ledger = ParseLedger("a,1,00,1\na,5,00,9\na,4,00,8\n", "ledger.csv");
  ASSERT_TRUE(ledger.ok());
  EXPECT_EQ(ledger->at("a").value, 5);
}

TEST(LedgerTest, AnUnfinishedLastLineIsIgnored) {
  const auto ledger = ParseLedger("a,1,00,1\nb,2,0", "ledger.csv");
  ASSERT_TRUE(ledger.ok());
  EXPECT_THAT(*ledger, SizeIs(1));
}

TEST(LedgerTest, AMalformedLineIsNamed) {
  for (const char* line : {"a,1,00\n", "a,x,00,1\n", "a,1,00,1,2\n", "\n"}) {
    const auto ledger = ParseLedger("a,1,00,1\n" + std::string(line), "ledger.csv");
    ASSERT_FALSE(ledger.ok()) << line;
    EXPECT_THAT(ledger.error().message, HasSubstr("ledger.csv:2"));
  }
}

TEST(LedgerTest, AMissingRowAndAnOlderValueAreFound) {
  const Ledger ledger = {{"a", {5, "00", 1}}, {"b", {5, "00", 2}}, {"c", {5, "00", 3}}};
  const LedgerDifference difference = CompareLedger(ledger, {{"b", 4}, {"c", 5}});
  EXPECT_EQ(difference.keys, 3u);
  EXPECT_EQ(difference.missing, 1u);
  EXPECT_EQ(difference.stale, 1u);
  EXPECT_THAT(difference.first, HasSubstr("a = 5"));
}

TEST(LedgerTest, ALaterValueThanTheAcknowledgedOneIsFine) {
  const LedgerDifference difference = CompareLedger({{"a", {5, "00", 1}}}, {{"a", 6}, {"z", 1}});
  EXPECT_EQ(difference.missing + difference.stale, 0u);
}

}  // namespace
}  // namespace patina::tools::bench

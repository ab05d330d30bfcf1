#include "agent/verify_compare.h"

#include <gtest/gtest.h>

namespace patina::agent {
namespace {

const ActorId kActor = *ActorId::FromBytes("0123456789abcdef");

VerifyAnswer BucketsAnswer(uint64_t sum_of_7) {
  VerifyAnswer answer;
  answer.buckets["t"].resize(storage::kDigestBuckets);
  answer.buckets["t"][7] = sum_of_7;
  return answer;
}

VerifyAnswer RowsAnswer(const std::string& value, uint64_t version, uint64_t applied_to) {
  VerifyAnswer answer;
  if (applied_to > 0) answer.applied.AddRange(kActor, {1, applied_to});
  auto& rows = answer.rows[{"t", 7}];
  if (version > 0)
    rows.push_back({"key", 1, {{"cpu", value, crdt::HlcTime{version}, kActor, version}}});
  return answer;
}

TEST(BucketSuspectsTest, ABucketThatMatchedOnceIsCleared) {
  BucketSuspects suspects("a");
  suspects.AddRound({{"a", BucketsAnswer(1)}, {"b", BucketsAnswer(2)}});
  EXPECT_EQ(suspects.Suspects(), (std::vector<TableBucket>{{"t", 7}}));
  // b is behind: it has what a had before.
  suspects.AddRound({{"a", BucketsAnswer(3)}, {"b", BucketsAnswer(1)}});
  EXPECT_TRUE(suspects.Empty());
  suspects.AddRound({{"a", BucketsAnswer(4)}, {"b", BucketsAnswer(5)}});
  EXPECT_TRUE(suspects.Empty());
}

TEST(BucketSuspectsTest, OneThatNeverMatchesStays) {
  BucketSuspects suspects("a");
  for (int i = 0; i < 10; ++i)
    suspects.AddRound({{"a", BucketsAnswer(1)}, {"b", BucketsAnswer(2)}});
  EXPECT_EQ(suspects.Suspects().size(), 1u);
}

TEST(CompareRowsTest, ADifferenceCountsWhenBothHaveAppliedBothStamps) {
  const Answers answers = {{"a", RowsAnswer("1", 5, 9)}, {"b", RowsAnswer("2", 6, 9)}};
  const RowComparison comparison = CompareRows("a", answers, answers);
  EXPECT_FALSE(comparison.undecided);
  ASSERT_EQ(comparison.differences.size(), 1u);
  EXPECT_EQ(comparison.differences[0].column, "cpu");
  ASSERT_EQ(comparison.differences[0].cells.size(), 2u);
  EXPECT_EQ(comparison.differences[0].cells[1].value, "2");
}

TEST(CompareRowsTest, ANodeThatIsBehindIsNotDifferent) {
  const Answers answers = {{"a", RowsAnswer("1", 5, 5)}, {"b", RowsAnswer("2", 6, 9)}};
  const RowComparison comparison = CompareRows("a", answers, answers);
  EXPECT_TRUE(comparison.undecided);
  EXPECT_TRUE(comparison.differences.empty());
}

TEST(CompareRowsTest, ARowThatIsMissingCountsOnceTheOtherHasCaughtUp) {
  Answers first = {{"a", RowsAnswer("1", 5, 5)}, {"b", RowsAnswer("", 0, 9)}};
  EXPECT_TRUE(CompareRows("a", first, first).undecided);  // a may not know of b's DELETE
  Answers second = {{"a", RowsAnswer("1", 5, 9)}, {"b", RowsAnswer("", 0, 12)}};
  EXPECT_EQ(CompareRows("a", first, second).differences.size(), 1u);
}

TEST(CompareRowsTest, EqualRowsAreEqual) {
  const Answers answers = {{"a", RowsAnswer("1", 5, 9)}, {"b", RowsAnswer("1", 5, 9)}};
  const RowComparison comparison = CompareRows("a", answers, answers);
  EXPECT_FALSE(comparison.undecided);
  EXPECT_TRUE(comparison.differences.empty());
}

TEST(VerifyCodecTest, QuestionsAndAnswersComeBackAndGarbageDoesNot) {
  VerifyQuestion question;
  question.kind = VerifyQuestion::Kind::kRows;
  question.buckets = {{"t", 7}};
  EXPECT_EQ(DecodeVerifyQuestion(EncodeVerifyQuestion(question))->buckets, question.buckets);
  const auto answer = DecodeVerifyAnswer(EncodeVerifyAnswer(RowsAnswer("1", 5, 9)));
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->rows.at({"t", 7}).at(0).cells.at(0).value, "1");
  EXPECT_TRUE(answer->applied.Contains({kActor, 9}));
  EXPECT_EQ(DecodeVerifyAnswer(EncodeVerifyAnswer(BucketsAnswer(3)))->buckets["t"][7], 3u);
  question.buckets.assign(33, {"t", 7});
  EXPECT_FALSE(DecodeVerifyQuestion(EncodeVerifyQuestion(question)).ok());
  EXPECT_FALSE(DecodeVerifyQuestion("\xff\xff").ok());
}

}  // namespace
}  // namespace patina::agent

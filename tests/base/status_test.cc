#include "base/status.h"

#include <gtest/gtest.h>

#include <memory>

#include "base/check.h"

namespace patina {
namespace {

Status Fail() { return NotFound("no such table: machinez"); }
Result<int> Half(int number) {
  if (number % 2 != 0) return InvalidArgument("odd");
  return number / 2;
}
Result<int> Quarter(int number) {
  ASSIGN_OR_RETURN(const int half, Half(number));
  ASSIGN_OR_RETURN(const int quarter, Half(half));
  return quarter;
}
Status Both(const Status& one, int* evaluated) {
  RETURN_IF_ERROR(one);
  RETURN_IF_ERROR((++*evaluated, Half(3)));
  return OkStatus();
}
Result<std::unique_ptr<int>> Owned(bool good) {
  if (!good) return Unavailable("try again");
  return std::make_unique<int>(7);
}
Result<int> TakeOwned(bool good) {
  ASSIGN_OR_RETURN(const std::unique_ptr<int> owned, Owned(good));
  return *owned;
}

TEST(StatusTest, AnErrorReadsAsCodeAndMessage) {
  ASSERT_FALSE(Fail().ok());
  EXPECT_EQ(Fail().error().ToString(), "NOT_FOUND: no such table: machinez");
  EXPECT_EQ(ErrcName(Errc::kUnauthenticated), "UNAUTHENTICATED");
}

TEST(StatusTest, AssignOrReturnPassesValuesAndErrorsOn) {
  EXPECT_EQ(Quarter(8).value(), 2);
  EXPECT_EQ(Quarter(6).error().message, "odd");
  EXPECT_EQ(Quarter(7).error().code, Errc::kInvalidArgument);
}

TEST(StatusTest, AssignOrReturnMovesWhatCannotBeCopied) {
  EXPECT_EQ(TakeOwned(true).value(), 7);
  EXPECT_EQ(TakeOwned(false).error().code, Errc::kUnavailable);
}

TEST(StatusTest, ReturnIfErrorStopsAtTheFirstErrorAndEvaluatesOnce) {
  int evaluated = 0;
  EXPECT_EQ(Both(Fail(), &evaluated).error().code, Errc::kNotFound);
  EXPECT_EQ(evaluated, 0);
  EXPECT_EQ(Both(OkStatus(), &evaluated).error().message, "odd");
  EXPECT_EQ(evaluated, 1);
}

TEST(CheckTest, ABrokenInvariantStopsTheProcessAndSaysWhere) {
  EXPECT_DEATH(CHECK(1 + 1 == 3), "status_test.cc.*1 \\+ 1 == 3");
  EXPECT_DEATH(CHECK_MSG(false, "the reason"), "the reason");
}

}  // namespace
}  // namespace patina

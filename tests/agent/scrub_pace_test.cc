#include "agent/scrub_pace.h"

#include <gtest/gtest.h>

namespace patina::agent {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Instant At(Duration since) { return Instant(seconds(1'000) + since); }

TEST(ScrubPaceTest, SlicesKeepToTheRateAndPassesToTheInterval) {
  ScrubPace pace(2'500, seconds(20));
  EXPECT_TRUE(pace.SliceDue(At({})));
  pace.Sliced(At({}), false);
  EXPECT_FALSE(pace.SliceDue(At(milliseconds(99))));
  EXPECT_TRUE(pace.SliceDue(At(milliseconds(100))));
  EXPECT_EQ(pace.Wait(At({}), seconds(1)), milliseconds(100));
  pace.Sliced(At(milliseconds(100)), true);
  EXPECT_TRUE(pace.SliceDue(At(milliseconds(200))));
  pace.Sliced(At(milliseconds(200)), true);  // that pass began at 200 ms
  EXPECT_FALSE(pace.SliceDue(At(milliseconds(20'199))));
  EXPECT_TRUE(pace.SliceDue(At(milliseconds(20'200))));
  EXPECT_EQ(pace.Wait(At(seconds(1)), seconds(1)), seconds(1));
}

TEST(ScrubPaceTest, AnotherClientsCommitHurriesOnePassThenThereIsAPause) {
  ScrubPace pace(2'500, seconds(20));
  pace.Sliced(At({}), true);
  EXPECT_TRUE(pace.LookDue(At(seconds(1))));
  pace.Looked(At(seconds(1)), true);
  for (int slice = 0; slice < 5; ++slice) {
    EXPECT_TRUE(pace.SliceDue(At(seconds(1))));
    EXPECT_EQ(pace.Wait(At(seconds(1)), seconds(1)), Duration::zero());
    EXPECT_FALSE(pace.LookDue(At(seconds(2))));
    pace.Sliced(At(seconds(1)), slice == 4);
  }
  EXPECT_FALSE(pace.SliceDue(At(seconds(1))));
  EXPECT_FALSE(pace.LookDue(At(milliseconds(5'999))));
  EXPECT_TRUE(pace.LookDue(At(seconds(6))));
}

TEST(ScrubPaceTest, WithoutARateOnlyOthersCommitsAreLookedAt) {
  ScrubPace pace(0, seconds(20));
  EXPECT_FALSE(pace.SliceDue(At(seconds(100))));
  EXPECT_EQ(pace.Wait(At({}), seconds(1)), seconds(1));
  pace.Looked(At({}), true);
  EXPECT_TRUE(pace.SliceDue(At({})));
  pace.Sliced(At({}), true);
  EXPECT_FALSE(pace.SliceDue(At(seconds(100))));
}

}  // namespace
}  // namespace patina::agent

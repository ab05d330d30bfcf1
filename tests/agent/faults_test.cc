#include "agent/faults.h"

#include <gtest/gtest.h>

namespace patina::agent {
namespace {

FaultCommand Command(FaultCommand::Kind kind, std::vector<std::string> peers = {}) {
  FaultCommand command;
  command.kind = kind;
  command.peers = std::move(peers);
  return command;
}

TEST(FaultsTest, ACutOfAllHasExceptionsOnceSomeAreHealed) {
  Faults faults(1);
  EXPECT_FALSE(faults.Any());
  ASSERT_TRUE(faults.Apply(Command(FaultCommand::Kind::kCut)).ok());
  ASSERT_TRUE(faults.Apply(Command(FaultCommand::Kind::kHeal, {"b"})).ok());
  EXPECT_TRUE(faults.IsCut("a"));
  EXPECT_FALSE(faults.IsCut("b"));
  EXPECT_EQ(faults.Active(), (std::vector<std::string>{"cut *", "none b"}));
  ASSERT_TRUE(faults.Apply(Command(FaultCommand::Kind::kHeal)).ok());
  EXPECT_FALSE(faults.Any());
}

TEST(FaultsTest, DropsAreAFractionAndOthersAreSpared) {
  Faults faults(1);
  FaultCommand command = Command(FaultCommand::Kind::kDrop, {"b"});
  command.drop_fraction = 0.5;
  ASSERT_TRUE(faults.Apply(command).ok());
  int dropped = 0;
  for (int i = 0; i < 1'000; ++i) dropped += faults.Drops("b") ? 1 : 0;
  EXPECT_NEAR(dropped, 500, 100);
  EXPECT_FALSE(faults.Drops("a"));
  command.drop_fraction = 1.5;
  EXPECT_EQ(faults.Apply(command).error().code, Errc::kInvalidArgument);
}

TEST(FaultsTest, TheClockErrsByWhatItWasTold) {
  FaultClock clock;
  const int64_t before = clock.WallMs();
  clock.SetErrorMs(100'000);
  EXPECT_GE(clock.WallMs(), before + 100'000);
}

}  // namespace
}  // namespace patina::agent

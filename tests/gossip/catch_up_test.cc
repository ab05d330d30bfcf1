#include "gossip/catch_up.h"

#include <gtest/gtest.h>

namespace patina::gossip {
namespace {

crdt::VersionSet Versions(uint64_t first, uint64_t last) {
  ActorId actor;
  actor.bytes[0] = 1;
  crdt::VersionSet set;
  set.AddRange(actor, {first, last});
  return set;
}

bool Everybody(const std::string&) { return true; }

TEST(CatchUpTest, ANodeWithoutOthersIsDoneOnlyIfItMayBeAlone) {
  EXPECT_TRUE(CatchUp(true).Done({}, 0, Everybody));
  EXPECT_FALSE(CatchUp(false).Done({}, 0, Everybody));
}

TEST(CatchUpTest, ItIsDoneWhenItHasWhatThePeersHadAndStaysSo) {
  CatchUp catch_up(true);
  catch_up.OnTold("a", Versions(1, 5), Versions(1, 2));
  catch_up.OnEqual("b");
  EXPECT_FALSE(catch_up.Done(Versions(1, 4), 2, Everybody));
  EXPECT_TRUE(catch_up.Done(Versions(1, 5), 2, Everybody));
  catch_up.OnTold("c", Versions(1, 9), Versions(1, 5));
  EXPECT_TRUE(catch_up.Done(Versions(1, 5), 3, Everybody));
}

TEST(CatchUpTest, ItTakesSeveralPeersIfThereAreSeveral) {
  CatchUp catch_up(true);
  catch_up.OnEqual("a");
  catch_up.OnEqual("a");
  EXPECT_FALSE(catch_up.Done({}, 2, Everybody));
  catch_up.OnEqual("b");
  EXPECT_FALSE(catch_up.Done({}, 1'000, Everybody));
  catch_up.OnEqual("c");
  EXPECT_TRUE(catch_up.Done({}, 1'000, Everybody));
}

TEST(CatchUpTest, WhatAPeerLearnsLaterIsNotWaitedForAndWhatItLosesNeither) {
  CatchUp catch_up(true);
  catch_up.OnTold("a", Versions(1, 5), {});
  catch_up.OnTold("a", Versions(3, 9), {});
  EXPECT_FALSE(catch_up.Done(Versions(3, 4), 1, Everybody));
  EXPECT_TRUE(catch_up.Done(Versions(3, 5), 1, Everybody));
}

TEST(CatchUpTest, APeerThatIsGoneIsReplacedByAnother) {
  CatchUp catch_up(true);
  catch_up.OnTold("a", Versions(1, 5), {});
  const auto without_a = [](const std::string& name) { return name != "a"; };
  EXPECT_FALSE(catch_up.Done({}, 1, without_a));
  catch_up.OnEqual("b");
  EXPECT_TRUE(catch_up.Done({}, 1, without_a));
}

}  // namespace
}  // namespace patina::gossip

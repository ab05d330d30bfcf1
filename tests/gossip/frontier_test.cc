#include "gossip/frontier.h"

#include <gtest/gtest.h>

// The rules of collection one by one. Each of the model's mutants that concerns them (HeadsOnly,
// LaggardsLeftOut, ParkedDoesNotHoldT, MinorityForgets) fails one of these tests.

namespace patina::gossip {
namespace {

using crdt::HlcTime;
using crdt::VersionRange;
using crdt::VersionSet;

constexpr int64_t kHours48 = int64_t{48} * 3600 * 1000;

ActorId Actor(uint8_t number) {
  ActorId actor;
  actor.bytes[0] = number;
  return actor;
}

HlcTime Ms(int64_t ms) { return HlcTime::FromMs(ms); }

VersionSet Versions(uint8_t actor, std::initializer_list<VersionRange> ranges) {
  VersionSet set;
  for (const VersionRange& range : ranges) set.AddRange(Actor(actor), range);
  return set;
}

Publication Published(const std::string& node, uint64_t serial, int64_t clock_ms,
                      int64_t complete_ms, const VersionSet& own = {}) {
  return {node, serial, Ms(clock_ms), Ms(complete_ms), std::make_shared<const VersionSet>(own)};
}

HlcTime CompleteOf(const Frontier& frontier, const VersionSet& applied, int64_t published_ms) {
  return frontier.Complete(applied, Ms(published_ms), std::nullopt);
}

TEST(FrontierTest, ANodeAloneIsCompleteUpToWhatItPublished) {
  const Frontier frontier("a");
  EXPECT_EQ(CompleteOf(frontier, {}, 500), Ms(500));
  EXPECT_EQ(frontier.Get(Ms(500)), Ms(500));
}

TEST(FrontierTest, AMemberThatHasPublishedNothingHoldsEverything) {
  Frontier frontier("a");
  frontier.Heard("b", 10);
  EXPECT_EQ(CompleteOf(frontier, {}, 500), Ms(0));
  EXPECT_EQ(frontier.Get(Ms(500)), Ms(0));
  EXPECT_EQ(frontier.HeldBackBy({}, Ms(0)).node, "b");
}

TEST(FrontierTest, AHeadSaysNothingOfWhatIsBelowIt) {
  Frontier frontier("a");
  frontier.Hear(Published("b", 1, 400, 400, Versions(2, {{1, 3}})), 400);
  EXPECT_EQ(CompleteOf(frontier, Versions(2, {{1, 1}, {3, 3}}), 500), Ms(0));
  EXPECT_EQ(CompleteOf(frontier, Versions(2, {{1, 3}}), 500), Ms(400));
}

TEST(FrontierTest, AGapOfThePublisherItselfNeedNotBeFilled) {
  Frontier frontier("a");
  frontier.Hear(Published("b", 1, 400, 400, Versions(2, {{1, 1}, {3, 3}})), 400);
  EXPECT_EQ(CompleteOf(frontier, Versions(2, {{1, 1}, {3, 3}}), 500), Ms(400));
}

TEST(FrontierTest, AMemberWhoseVersionsLackIsNotLeftOut) {
  Frontier frontier("a");
  frontier.Hear(Published("b", 1, 300, 300), 300);
  frontier.Hear(Published("c", 1, 310, 310, Versions(3, {{1, 5}})), 310);
  EXPECT_EQ(CompleteOf(frontier, Versions(3, {{1, 4}}), 500), Ms(0));
  EXPECT_EQ(frontier.HeldBackBy(Versions(3, {{1, 4}}), Ms(0)).node, "c");
}

TEST(FrontierTest, AnOlderPublicationCountsWhileTheNewestIsNotSatisfied) {
  Frontier frontier("a");
  frontier.Hear(Published("b", 1, 300, 300, Versions(2, {{1, 5}})), 300);
  frontier.Hear(Published("b", 2, 400, 400, Versions(2, {{1, 6}})), 400);
  EXPECT_EQ(CompleteOf(frontier, Versions(2, {{1, 5}}), 500), Ms(300));
}

TEST(FrontierTest, ThreePublicationsOfAMemberAreKept) {
  Frontier frontier("a");
  for (uint64_t serial = 1; serial <= 4; ++serial) {
    const auto ms = static_cast<int64_t>(serial * 100);
    frontier.Hear(Published("b", serial, ms, ms, Versions(2, {{1, serial}})), ms);
  }
  EXPECT_EQ(frontier.members().at("b").publications.size(), Frontier::kKept);
  EXPECT_EQ(CompleteOf(frontier, Versions(2, {{1, 1}}), 500), Ms(0)) << "the first is gone";
  EXPECT_EQ(CompleteOf(frontier, Versions(2, {{1, 2}}), 500), Ms(200));
}

TEST(FrontierTest, AParkedChangeHoldsTWhoeverWroteIt) {
  Frontier frontier("a");
  frontier.Hear(Published("b", 1, 400, 400), 400);
  EXPECT_EQ(frontier.Complete({}, Ms(500), Ms(123)), Ms(123));
}

TEST(FrontierTest, TheFrontierIsTheLeastTOfAll) {
  Frontier frontier("a");
  frontier.Hear(Published("b", 1, 400, 350), 400);
  frontier.Hear(Published("c", 1, 400, 200), 400);
  EXPECT_EQ(frontier.Get(Ms(390)), Ms(200));
  EXPECT_EQ(frontier.Get(Ms(100)), Ms(100));
  EXPECT_EQ(frontier.HeldBackBy({}, Ms(390)).node, "c");
}

TEST(FrontierTest, TheNewestTCountsAlthoughItIsLower) {
  Frontier frontier("a");
  frontier.Hear(Published("b", 1, 400, 350), 400);
  frontier.Hear(Published("b", 2, 450, 0), 450);  // restarted: has heard nothing yet
  EXPECT_EQ(frontier.Get(Ms(390)), Ms(0));
}

TEST(FrontierTest, WhatIsNotNewerIsNotTaken) {
  Frontier frontier("a");
  EXPECT_TRUE(frontier.Hear(Published("b", 5, 400, 350), 400));
  EXPECT_FALSE(frontier.Hear(Published("b", 5, 900, 900), 400));
  EXPECT_FALSE(frontier.Hear(Published("b", 4, 900, 900), 400));
  EXPECT_EQ(frontier.Newest("b")->clock, Ms(400));
}

TEST(FrontierTest, WhoIsDeadForLongIsForgottenAndHoldsNothing) {
  Frontier frontier("a");
  frontier.Hear(Published("b", 1, 100, 100), 100);
  frontier.Hear(Published("c", 1, 900, 900), 100);
  const auto reachable = [](const std::string& name) { return name == "c"; };
  EXPECT_TRUE(frontier.ForgetDead(reachable, 100 + kHours48).empty()) << "not yet";
  EXPECT_EQ(CompleteOf(frontier, {}, 2000), Ms(100));
  EXPECT_EQ(frontier.ForgetDead(reachable, 101 + kHours48), std::vector<std::string>{"b"});
  EXPECT_EQ(CompleteOf(frontier, {}, 2000), Ms(900));
  EXPECT_EQ(frontier.forgotten(), 1u);
}

TEST(FrontierTest, WhoReachesNotMoreThanHalfForgetsNobody) {
  Frontier frontier("a");
  for (const char* name : {"b", "c", "d"}) frontier.Heard(name, 0);
  const auto only_b = [](const std::string& name) { return name == "b"; };
  EXPECT_TRUE(frontier.ForgetDead(only_b, 2 * kHours48).empty());
  const auto b_and_c = [](const std::string& name) { return name != "d"; };
  EXPECT_EQ(frontier.ForgetDead(b_and_c, 2 * kHours48), std::vector<std::string>{"d"});
}

TEST(FrontierTest, WhoIsReachedIsNotSilent) {
  Frontier frontier("a");
  frontier.Heard("b", 0);
  frontier.Heard("c", 0);
  EXPECT_TRUE(frontier.ForgetDead([](const std::string&) { return true; }, kHours48).empty());
  const auto only_c = [](const std::string& name) { return name == "c"; };
  EXPECT_TRUE(frontier.ForgetDead(only_c, kHours48 + 10).empty());
}

TEST(FrontierTest, AForgottenMemberThatIsHeardAgainCountsAgain) {
  Frontier frontier("a");
  frontier.Hear(Published("b", 7, 100, 100), 0);
  frontier.Heard("c", 0);
  const auto only_c = [](const std::string& name) { return name == "c"; };
  ASSERT_EQ(frontier.ForgetDead(only_c, kHours48 + 1).size(), 1u);
  frontier.Hear(Published("c", 1, 900, 900), kHours48);
  EXPECT_FALSE(frontier.Hear(Published("b", 7, 100, 100), kHours48 + 2)) << "old news of others";
  EXPECT_EQ(CompleteOf(frontier, {}, 1000), Ms(900));
  frontier.Heard("b", kHours48 + 3);
  EXPECT_EQ(CompleteOf(frontier, {}, 1000), Ms(0));
  EXPECT_TRUE(frontier.Hear(Published("b", 8, 950, 950), kHours48 + 4));
  EXPECT_EQ(CompleteOf(frontier, {}, 1000), Ms(900));
}

TEST(FrontierTest, ANewPublicationFromAForgottenMemberMakesItCountAgain) {
  Frontier frontier("a");
  frontier.Hear(Published("b", 7, 100, 100), 0);
  frontier.Heard("c", 0);
  const auto only_c = [](const std::string& name) { return name == "c"; };
  ASSERT_EQ(frontier.ForgetDead(only_c, kHours48 + 1).size(), 1u);
  EXPECT_TRUE(frontier.Hear(Published("b", 8, 950, 0), kHours48 + 4));
  EXPECT_EQ(frontier.members().count("b"), 1u);
  EXPECT_EQ(frontier.Get(Ms(900)), Ms(0));
}

TEST(FrontierTest, MembersThatFindNoRoomHoldTheFrontierAndAreCounted) {
  FrontierConfig config;
  config.members_max = 2;
  Frontier frontier("a", config);
  for (const char* name : {"b", "c"}) frontier.Hear(Published(name, 1, 400, 400), 400);
  EXPECT_EQ(frontier.Get(Ms(500)), Ms(400));
  frontier.Heard("d", 400);
  EXPECT_EQ(frontier.refused(), 1u);
  EXPECT_EQ(frontier.Get(Ms(500)), Ms(0));
}

TEST(FrontierTest, WhoIsOnlyNamedCountsUnlessItWasForgotten) {
  Frontier frontier("a");
  frontier.Named("b", 0);
  frontier.Heard("c", 0);
  EXPECT_EQ(frontier.members().size(), 2u);
  const auto only_c = [](const std::string& name) { return name == "c"; };
  ASSERT_EQ(frontier.ForgetDead(only_c, kHours48 + 1).size(), 1u);
  frontier.Named("b", kHours48 + 2);
  EXPECT_EQ(frontier.members().size(), 1u);
}

TEST(FrontierTest, PublicationsTakeABoundedAmountOfMemory) {
  FrontierConfig config;
  config.bytes_max = 4'000;
  Frontier frontier("a", config);
  VersionSet gaps;
  for (uint64_t version = 1; version < 60; version += 2)
    gaps.AddRange(Actor(2), {version, version});
  for (uint64_t serial = 1; serial < 100; ++serial) {
    frontier.Hear(Published("b" + std::to_string(serial % 10), serial, 400, 400, gaps), 400);
    ASSERT_LE(frontier.bytes(), config.bytes_max);
  }
  EXPECT_GT(frontier.refused(), 0u);
  const size_t before = frontier.bytes();
  const auto not_the_first = [](const std::string& name) { return name > "b3"; };
  EXPECT_EQ(frontier.ForgetDead(not_the_first, 2 * kHours48).size(), 4u);
  EXPECT_LT(frontier.bytes(), before) << "what is forgotten makes room";
}

TEST(FrontierTest, ItselfIsNoMemberAndItsOwnPublicationsAreKept) {
  Frontier frontier("a");
  frontier.Heard("a", 1);
  EXPECT_TRUE(frontier.Hear(Published("a", 3, 400, 0), 400));
  EXPECT_TRUE(frontier.members().empty());
  EXPECT_EQ(frontier.Newest("a")->serial, 3u);
  EXPECT_EQ(frontier.Get(Ms(390)), Ms(390));
}

}  // namespace
}  // namespace patina::gossip

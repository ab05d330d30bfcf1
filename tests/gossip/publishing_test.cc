#include "gossip/publishing.h"

#include <gtest/gtest.h>

#include "tests/gossip/cluster.h"

namespace patina::gossip {
namespace {

using crdt::HlcTime;
using std::chrono::minutes;

int64_t NowMs(const Cluster& cluster) {
  return cluster.wall_ms_at_start + ToMs(cluster.now().time_since_epoch());
}

/// How far the frontier of the node is behind now, in seconds.
int64_t BehindSeconds(Cluster& cluster, const std::string& name) {
  return (NowMs(cluster) - cluster.host(name).line.ms()) / 1000;
}

TEST(PublishingTest, TheFrontierOfEveryNodeFollowsTheClock) {
  Cluster cluster;
  cluster.AddMany(5);
  cluster.Write("n01", 10);
  cluster.Run(minutes(5));
  for (const std::string& name : cluster.Names()) {
    EXPECT_LT(BehindSeconds(cluster, name), 150) << name;
  }
}

TEST(PublishingTest, WhoNeverSpeakToEachOtherLearnThroughOthers) {
  Cluster cluster;
  cluster.AddMany(3);
  cluster.CutDatagrams("n00", "n02");
  cluster.CutDatagrams("n02", "n00");
  cluster.drop_frame = [](const std::string& from, const std::string& to, const Frame& frame) {
    return from != "n01" && to != "n01" &&
           (std::holds_alternative<Publications>(frame) ||
            std::holds_alternative<PublicationsPull>(frame));
  };
  cluster.Run(minutes(5));
  ASSERT_NE(cluster.node("n00").frontier().Newest("n02"), nullptr);
  EXPECT_LT(BehindSeconds(cluster, "n00"), 180);
}

TEST(PublishingTest, AMemberThatDiedHoldsTheFrontierUntilItIsForgotten) {
  Cluster cluster;
  cluster.config.frontier.forget_after_ms = 20 * 60 * 1000;
  cluster.AddMany(4);
  cluster.Run(minutes(5));
  const HlcTime before = cluster.host("n00").line;
  ASSERT_GT(before.ms(), 0);
  cluster.Crash("n03");
  cluster.Run(minutes(15));
  EXPECT_GT(BehindSeconds(cluster, "n00"), 14 * 60);
  cluster.Run(minutes(10));
  EXPECT_LT(BehindSeconds(cluster, "n00"), 150);
  EXPECT_EQ(cluster.node("n00").counters().members_forgotten, 1u);
  cluster.Restart("n03");
  cluster.Run(minutes(4));
  EXPECT_EQ(cluster.node("n00").frontier().members().count("n03"), 1u);
  EXPECT_LT(BehindSeconds(cluster, "n03"), 150);
}

TEST(PublishingTest, AMemberKnownFromBeforeARestartCountsAlthoughItIsAway) {
  Cluster cluster;
  cluster.AddMany(2);
  cluster.Do("n00", [&](Node& node, Instant, Outputs&) {
    node.SetKnownMembers({{"away", NowMs(cluster)}});
  });
  cluster.Run(minutes(5));
  EXPECT_EQ(cluster.host("n00").line, HlcTime());
}

TEST(PublishingTest, AProcessWhoseClockWentBackIsStillHeard) {
  Cluster cluster;
  cluster.AddMany(3);
  cluster.Run(minutes(3));
  cluster.Crash("n02");
  cluster.host("n02").clock_offset_ms = -3'600'000;  // corrected by the pings, later
  cluster.Restart("n02", -3'600'000);
  cluster.Run(minutes(5));
  const Publication* newest = cluster.node("n00").frontier().Newest("n02");
  ASSERT_NE(newest, nullptr);
  EXPECT_GT(newest->clock.ms(), NowMs(cluster) - 120'000);
}

TEST(PublishingTest, WhoLacksAVersionHoldsTheFrontierOfAll) {
  Cluster cluster;
  cluster.AddMany(3);
  cluster.Run(minutes(3));
  cluster.host("n02").persists = false;
  cluster.Write("n00", 1);
  cluster.Run(minutes(6));
  EXPECT_GT(BehindSeconds(cluster, "n01"), 5 * 60);
  EXPECT_GT(BehindSeconds(cluster, "n02"), 5 * 60);
}

TEST(PublishingTest, ANewNodeIsNotCompleteWithoutWhatAForgottenMemberWrote) {
  Cluster cluster;
  cluster.config.frontier.forget_after_ms = 60'000;
  cluster.config.dead_kept = seconds(60);
  cluster.AddMany(4);
  cluster.Write("n03", 10);
  cluster.Run(seconds(5));
  cluster.Crash("n03");
  cluster.Run(minutes(5));
  ASSERT_EQ(cluster.node("n00").frontier().members().count("n03"), 0u);
  cluster.drop_frame = [](const std::string&, const std::string& to, const Frame& frame) {
    return to == "n04" && std::holds_alternative<SyncChanges>(frame);
  };
  cluster.Add("n04");
  cluster.Run(minutes(5));
  EXPECT_EQ(cluster.host("n04").line, HlcTime());
  EXPECT_GT(BehindSeconds(cluster, "n00"), 4 * 60) << "it holds the others, too";
  cluster.drop_frame = nullptr;
  cluster.Run(minutes(5));
  EXPECT_LT(BehindSeconds(cluster, "n04"), 150);
  EXPECT_LT(BehindSeconds(cluster, "n00"), 150);
}

TEST(PublishingTest, WhoHasMetNobodyAlthoughThereAreSeedsCollectsNothing) {
  Cluster cluster;
  cluster.config.seeded = true;
  cluster.Add("n00");
  cluster.Run(minutes(5));
  EXPECT_EQ(cluster.host("n00").line, HlcTime());
  cluster.Add("n01");
  cluster.Run(minutes(5));
  EXPECT_LT(BehindSeconds(cluster, "n00"), 150);
}

TEST(PublishingTest, SaneSerialsOnlyAndPullsNotTooOften) {
  Cluster cluster;
  cluster.AddMany(2);
  const auto own = std::make_shared<const crdt::VersionSet>();
  const auto frame_from_n01 = [&](const Frame& frame) {
    Outputs out;
    cluster.node("n00").OnFrame("n01", frame, cluster.now(), out);
    return out.frames.size();
  };
  const uint64_t refused = cluster.node("n00").counters().publications_refused;
  frame_from_n01(Publications{{{"n01", UINT64_MAX, {5}, {4}, own},
                               {"n01", 7, {5}, {6}, own},
                               {"n01", 7, {5}, {4}, nullptr}}});
  EXPECT_EQ(cluster.node("n00").counters().publications_refused, refused + 3);
  cluster.Run(minutes(2));
  frame_from_n01(PublicationsPull{});
  for (int i = 0; i < 10; ++i) EXPECT_EQ(frame_from_n01(PublicationsPull{}), 0u);
  EXPECT_GE(cluster.node("n00").counters().publications_refused, refused + 13);
}

}  // namespace
}  // namespace patina::gossip

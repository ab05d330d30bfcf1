#include <gtest/gtest.h>

#include <cstdio>

#include "tests/gossip/cluster.h"

namespace patina::gossip {
namespace {

TEST(MembershipTest, NodesThatShareOneSeedFindEachOther) {
  Cluster cluster;
  for (int i = 0; i < 10; ++i) cluster.Add("n" + std::to_string(i));
  EXPECT_TRUE(cluster.RunUntil([&] { return cluster.AllAlive(); }, seconds(3)));
}

TEST(MembershipTest, ACrashIsDeclaredEverywhereWithinEightSecondsOrSo) {
  Duration total{};
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Cluster cluster(seed);
    cluster.AddMany(30);
    cluster.Crash("n07");
    const auto took =
        cluster.RunUntil([&] { return cluster.AllSee({"n07"}, MemberState::kDead); }, seconds(10));
    ASSERT_TRUE(took) << "seed " << seed;
    EXPECT_LE(*took, milliseconds(8500)) << "seed " << seed;
    total += *took;
  }
  std::printf("mean time until a crash is known everywhere: %lld ms\n",
              static_cast<long long>(ToMs(total / 5)));
}

TEST(MembershipTest, NobodyIsDeclaredDeadAtFivePercentLoss) {
  for (const double loss : {0.01, 0.05}) {
    Cluster cluster(3);
    cluster.AddMany(20, 2);
    cluster.loss = loss;
    cluster.Run(seconds(120));
    EXPECT_EQ(cluster.Deaths(), 0u) << loss;
    EXPECT_TRUE(cluster.RunUntil([&] { return cluster.AllAlive(); }, seconds(10))) << loss;
  }
}

TEST(MembershipTest, ASuspectRefutesWithAHigherIncarnation) {
  Cluster cluster;
  cluster.AddMany(5);
  const uint64_t before = cluster.node("n03").self().incarnation;
  MemberUpdate lie{cluster.node("n03").self(), MemberState::kSuspect, "n01"};
  cluster.Do("n02", [&](Node& node, Instant now, Outputs& out) {
    Datagram datagram;
    datagram.cluster = "patina";
    datagram.from = "n01";
    datagram.body = Rumor{};
    datagram.updates = {lie};
    node.OnDatagram(cluster.host("n01").address, datagram, now, out);
  });
  EXPECT_EQ(cluster.Sees("n02", "n03"), MemberState::kSuspect);
  cluster.Run(seconds(3));
  EXPECT_GT(cluster.node("n03").self().incarnation, before);
  EXPECT_TRUE(cluster.AllAlive());
  EXPECT_EQ(cluster.Deaths(), 0u);
}

TEST(MembershipTest, IndirectProbesSaveANodeWhoseDirectPathIsCut) {
  Cluster cluster;
  cluster.AddMany(8);
  cluster.Cut("n01", "n02");
  cluster.Cut("n02", "n01");
  cluster.Run(seconds(60));
  EXPECT_EQ(cluster.Deaths(), 0u);
  EXPECT_EQ(cluster.Sees("n01", "n02"), MemberState::kAlive);
  EXPECT_GT(cluster.node("n01").counters().indirect_probes, 0u);
}

TEST(MembershipTest, AStreamProbeSavesANodeThatNoDatagramReaches) {
  Cluster cluster;
  cluster.AddMany(6);
  for (const std::string& name : cluster.Names()) cluster.CutDatagrams(name, "n02");
  cluster.Run(seconds(30));
  EXPECT_EQ(cluster.Deaths(), 0u);
  EXPECT_TRUE(cluster.node("n01").Member("n02")->stream_only);
  cluster.Heal();
  cluster.Run(seconds(20));
  EXPECT_FALSE(cluster.node("n01").Member("n02")->stream_only);
}

TEST(MembershipTest, ALeaverIsLeftNotDeadAndSoonDone) {
  Cluster cluster;
  cluster.AddMany(20);
  cluster.Leave("n05");
  const auto done = cluster.RunUntil([&] { return cluster.node("n05").LeaveDone(); },
                                     cluster.config.leave_deadline);
  ASSERT_TRUE(done);
  cluster.Crash("n05");
  EXPECT_TRUE(
      cluster.RunUntil([&] { return cluster.AllSee({"n05"}, MemberState::kLeft); }, seconds(3)));
  cluster.Run(seconds(20));
  EXPECT_TRUE(cluster.AllSee({"n05"}, MemberState::kLeft));
  EXPECT_EQ(cluster.Deaths(), 0u);
}

TEST(MembershipTest, ARestartUnderTheSameNameIsAliveAgain) {
  Cluster cluster;
  cluster.AddMany(10);
  cluster.Crash("n04");
  cluster.Run(seconds(20));
  cluster.Restart("n04");
  EXPECT_TRUE(cluster.RunUntil([&] { return cluster.AllAlive(); }, seconds(3)));
}

TEST(MembershipTest, WhoLeftAndStartsAgainIsAliveEverywhereAndGetsWhatItMissed) {
  for (const int away_ms : {0, 100, 20'000}) {  // 0: before all have heard that it left
    Cluster cluster;
    cluster.AddMany(10);
    cluster.Leave("n04");
    ASSERT_TRUE(cluster.RunUntil([&] { return cluster.node("n04").LeaveDone(); },
                                 cluster.config.leave_deadline));
    cluster.Crash("n04");
    cluster.Run(milliseconds(away_ms));
    cluster.Write("n01", 3);
    cluster.Restart("n04");
    EXPECT_TRUE(
        cluster.RunUntil([&] { return cluster.AllAlive() && cluster.Converged(); }, seconds(5)))
        << away_ms;
    cluster.Run(seconds(20));
    EXPECT_TRUE(cluster.AllAlive()) << away_ms;
    EXPECT_EQ(cluster.node("n01").Member("n04")->info.boot, cluster.node("n04").self().boot);
    EXPECT_EQ(cluster.Deaths(), 0u) << away_ms;
  }
}

TEST(MembershipTest, WhoLeftAndStartsAgainWithAnEarlierClockIsAliveAgain) {
  Cluster cluster;
  cluster.AddMany(10);
  cluster.Leave("n04");
  cluster.Run(cluster.config.leave_deadline);
  cluster.Crash("n04");
  cluster.Run(seconds(5));
  cluster.Restart("n04", -3'600'000);
  EXPECT_TRUE(cluster.RunUntil([&] { return cluster.AllAlive(); }, seconds(5)));
  cluster.Run(seconds(15));
  EXPECT_TRUE(cluster.AllAlive());
  EXPECT_EQ(cluster.Deaths(), 0u);
}

TEST(MembershipTest, ARestartBeforeItsCrashWasNoticedIsNotDeclaredDead) {
  Cluster cluster;
  cluster.AddMany(10);
  cluster.Crash("n04");
  cluster.Run(milliseconds(1500));
  cluster.Restart("n04");
  cluster.Run(seconds(20));
  EXPECT_TRUE(cluster.AllAlive());
  EXPECT_EQ(cluster.Deaths(), 0u);
}

TEST(MembershipTest, ASeedThatRestartsBeforeItWasMissedAndKnowsNobodyIsTakenBack) {
  for (const int away_ms : {50, 200, 1000, 2500}) {
    Cluster cluster;
    cluster.AddMany(3);
    const std::string seed = cluster.Names().front();  // its only seed is itself
    cluster.Crash(seed);
    cluster.Run(milliseconds(away_ms));
    cluster.Restart(seed);
    EXPECT_TRUE(cluster.RunUntil([&] { return cluster.AllAlive(); }, seconds(4))) << away_ms;
  }
}

TEST(MembershipTest, ARestartWhoseClockWentBackRaisesItselfAboveItsFormerSelf) {
  for (const int dead_s : {1, 20}) {
    Cluster cluster;
    cluster.AddMany(10);
    cluster.Crash("n04");
    cluster.Run(seconds(dead_s));
    cluster.Restart("n04", -3'600'000);
    EXPECT_TRUE(cluster.RunUntil([&] { return cluster.AllAlive(); }, seconds(5))) << dead_s;
    cluster.Run(seconds(15));
    EXPECT_TRUE(cluster.AllAlive()) << dead_s;
    EXPECT_EQ(cluster.node("n01").Member("n04")->info.boot, cluster.node("n04").self().boot);
  }
}

TEST(MembershipTest, AnAddressUsedAgainByAnotherNameKillsTheOldNameOnly) {
  Cluster cluster;
  cluster.AddMany(6);
  const Endpoint address = cluster.host("n03").address;
  cluster.Crash("n03");
  cluster.Add("other");
  cluster.Crash("other");
  cluster.host("other").address = address;  // as if a new host got the old one's address
  cluster.Run(milliseconds(100));
  EXPECT_TRUE(
      cluster.RunUntil([&] { return cluster.AllSee({"n03"}, MemberState::kDead); }, seconds(10)));
}

TEST(MembershipTest, APingForAnotherNameIsNotAnswered) {
  Cluster cluster;
  cluster.Add("a");
  Datagram datagram;
  datagram.cluster = "patina";
  datagram.from = "x";
  datagram.body = Ping{1, "somebody else"};
  Outputs out;
  cluster.node("a").OnDatagram(Endpoint::V4(10, 9, 9, 9, 1), datagram, cluster.now(), out);
  EXPECT_TRUE(out.datagrams.empty());
  EXPECT_EQ(cluster.node("a").counters().not_for_us, 1u);
}

TEST(MembershipTest, AForeignClusterIsDroppedAndCounted) {
  Cluster cluster;
  cluster.Add("a");
  cluster.config.cluster = "other";
  cluster.Add("b");
  cluster.Run(seconds(5));
  EXPECT_GT(cluster.node("a").counters().foreign_cluster, 0u);
  EXPECT_EQ(cluster.node("a").Members().size(), 1u);
}

TEST(MembershipTest, TwoLiveProcessesOfOneNameAreCounted) {
  Cluster cluster;
  cluster.AddMany(4);
  MemberUpdate other{cluster.node("n02").self(), MemberState::kAlive, ""};
  other.info.boot = 77;
  for (int i = 0; i < 3; ++i) {
    other.info.incarnation = cluster.node("n02").self().incarnation + 5;
    cluster.Do("n02", [&](Node& node, Instant now, Outputs& out) {
      Datagram datagram;
      datagram.cluster = "patina";
      datagram.from = "n01";
      datagram.body = Rumor{};
      datagram.updates = {other};
      node.OnDatagram(cluster.host("n01").address, datagram, now, out);
    });
  }
  EXPECT_EQ(cluster.node("n02").counters().name_conflicts, 2u);
}

TEST(MembershipTest, AnActorMintedLaterIsKnownEverywhere) {
  Cluster cluster;
  cluster.AddMany(10);
  const ActorId actor = Rng(5).NextActorId();
  cluster.Do("n03", [&](Node& node, Instant now, Outputs& out) { node.SetActor(actor, now, out); });
  EXPECT_TRUE(cluster.RunUntil(
      [&] {
        for (const std::string& name : cluster.Names()) {
          if (cluster.node(name).Member("n03")->info.actor != actor) return false;
        }
        return true;
      },
      seconds(3)));
}

TEST(MembershipTest, APingTripIsMeasured) {
  Cluster cluster;
  cluster.AddMany(6, 2);
  cluster.Run(seconds(20));
  EXPECT_EQ(cluster.node("n00").Member("n02")->round_trip, milliseconds(2));
  EXPECT_EQ(cluster.node("n00").Member("n01")->round_trip, milliseconds(80));
}

TEST(ClockTest, OneWrongClockIsCorrectedByTheMedianAndTheOthersStay) {
  Cluster cluster;
  cluster.Add("a");
  cluster.Add("b");
  cluster.Add("c").clock_offset_ms = 30'000;
  cluster.Add("d").clock_offset_ms = 60;
  cluster.Run(seconds(15));
  EXPECT_NEAR(static_cast<double>(cluster.node("c").ClockCorrectionMs()), -30'000, 61);
  EXPECT_EQ(cluster.node("a").ClockCorrectionMs(), 0);
  EXPECT_EQ(cluster.node("d").ClockCorrectionMs(), 0);
}

TEST(ClockTest, AJumpOfTheWallClockIsNotFollowed) {
  Cluster cluster;
  cluster.AddMany(4);
  cluster.host("n02").clock_offset_ms = -3'600'000;
  cluster.Run(milliseconds(1100));
  EXPECT_NEAR(static_cast<double>(cluster.node("n02").ClockCorrectionMs()), 3'600'000, 5);
}

}  // namespace
}  // namespace patina::gossip

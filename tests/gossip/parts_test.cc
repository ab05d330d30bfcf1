#include <gtest/gtest.h>

#include <set>

#include "gossip/cluster_clock.h"
#include "gossip/dissemination.h"
#include "gossip/ranges.h"
#include "gossip/recent_changes.h"
#include "gossip/tree.h"

namespace patina::gossip {
namespace {

using crdt::ActorRanges;
using crdt::VersionRange;

MemberInfo Info(const std::string& name, const std::string& region) {
  MemberInfo info;
  info.name = name;
  info.region = region;
  return info;
}

std::string NodeName(int i) { return "n" + std::to_string(i); }

/// Who gets the bytes, if everybody follows its plan; counts copies.
std::map<std::string, int> Flood(int nodes, int regions, const std::string& origin,
                                 std::map<std::string, int>* notes) {
  std::map<std::string, MemberTable> tables;
  std::map<std::string, MemberInfo> infos;
  for (int i = 0; i < nodes; ++i) {
    infos[NodeName(i)] = Info(NodeName(i), "r" + std::to_string(i % regions));
  }
  std::map<std::string, std::unique_ptr<Tree>> trees;
  for (const auto& [name, info] : infos) {
    for (const auto& [other, other_info] : infos) {
      if (other != name) tables[name].Insert(other).info = other_info;
    }
    trees[name] = std::make_unique<Tree>(tables[name], infos.at(name), 8, 2);
  }
  std::map<std::string, int> copies;
  std::vector<std::string> todo = {origin};
  while (!todo.empty()) {
    const std::string name = todo.back();
    todo.pop_back();
    const TreePlan& plan = trees.at(name)->PlanFor(origin);
    for (const Member* member : plan.notes) ++(*notes)[member->info.name];
    for (const Member* member : plan.bytes) {
      if (++copies[member->info.name] == 1) todo.push_back(member->info.name);
    }
  }
  return copies;
}

TEST(TreeTest, EveryNodeGetsOneCopyAndANoteFromSomebodyElse) {
  for (const auto& [nodes, regions] : std::vector<std::pair<int, int>>{
           {2, 1}, {3, 1}, {9, 1}, {10, 1}, {100, 1}, {5, 5}, {30, 3}, {200, 3}, {31, 30}}) {
    for (int origin = 0; origin < std::min(nodes, 12); ++origin) {
      std::map<std::string, int> notes;
      const auto copies = Flood(nodes, regions, NodeName(origin), &notes);
      ASSERT_EQ(copies.size(), static_cast<size_t>(nodes - 1)) << nodes << "/" << regions;
      for (const auto& [name, count] : copies) ASSERT_EQ(count, 1) << name;
      for (const auto& [name, count] : notes) ASSERT_LE(count, 2) << name;
    }
  }
}

TEST(DisseminationTest, TheLeastSentGoesFirstAndAllAreForgottenAfterTheLimit) {
  Dissemination queue;
  for (int i = 0; i < 30; ++i) queue.Add({Info(NodeName(i), "r"), MemberState::kAlive, ""});
  std::map<std::string, int> sent;
  int datagrams = 0;
  while (!queue.Empty()) {
    std::vector<MemberUpdate> updates;
    queue.Fill(1000, 4, &updates);
    size_t bytes = 0;
    for (const MemberUpdate& update : updates) {
      ++sent[update.info.name];
      bytes += EstimateBytes(update);
    }
    EXPECT_LE(bytes, 1000u);
    if (++datagrams == 4) {
      EXPECT_EQ(sent.size(), 30u);  // before any was sent twice
    }
    ASSERT_LT(datagrams, 100);
  }
  for (const auto& [name, count] : sent) EXPECT_EQ(count, 4) << name;
}

TEST(DisseminationTest, NewsOfOneMemberReplacesOlderNewsOfIt) {
  Dissemination queue;
  queue.Add({Info("a", "r"), MemberState::kAlive, ""});
  queue.Add({Info("a", "r"), MemberState::kDead, "b"});
  std::vector<MemberUpdate> updates;
  queue.Fill(1000, 4, &updates);
  ASSERT_EQ(updates.size(), 1u);
  EXPECT_EQ(updates[0].state, MemberState::kDead);
}

TEST(DisseminationTest, TheRetransmitLimitGrowsWithTheLogarithm) {
  EXPECT_EQ(RetransmitLimit(4, 1), 4);
  EXPECT_EQ(RetransmitLimit(4, 9), 4);
  EXPECT_EQ(RetransmitLimit(4, 10), 8);
  EXPECT_EQ(RetransmitLimit(4, 1000), 16);
}

TEST(RangesTest, IdsBecomeRangesAndBack) {
  ActorId a, b;
  b.bytes[0] = 1;
  const std::vector<ActorRanges> ranges =
      ToRanges({{b, 9}, {a, 3}, {a, 1}, {a, 2}, {a, 2}, {a, 7}});
  EXPECT_EQ(ranges, (std::vector<ActorRanges>{{a, {{1, 3}, {7, 7}}}, {b, {{9, 9}}}}));
  EXPECT_EQ(ToIds(ranges, 100).size(), 5u);
  EXPECT_EQ(ToIds(ranges, 2).size(), 2u);
  EXPECT_EQ(CountVersions(ranges), 5u);
}

TEST(RangesTest, AnIntersectionHasOnlyWhatTheSetHasWhateverIsAsked) {
  const ActorId a{};
  crdt::VersionSet set;
  set.AddRange(a, {1, 10});
  set.AddRange(a, {20, 30});
  EXPECT_EQ(IntersectWith(set, {{a, {{5, 25}}}}, 1000),
            (std::vector<ActorRanges>{{a, {{5, 10}, {20, 25}}}}));
  EXPECT_EQ(IntersectWith(set, {{a, {{5, 25}}}}, 3), (std::vector<ActorRanges>{{a, {{23, 25}}}}));
  EXPECT_EQ(IntersectWith(set, {{a, {{9, 1u << 30}, {3, 4}, {0, 5}, {7, 2}}}}, 1000),
            (std::vector<ActorRanges>{{a, {{9, 10}, {20, 30}}}}));
  EXPECT_TRUE(IntersectWith(set, {{a, {{1, UINT64_MAX}}}}, 1000).empty());
}

TEST(RangesTest, TheNewestOfEachActorAreTaken) {
  ActorId a, b;
  b.bytes[0] = 1;
  EXPECT_EQ(TakeNewest({{a, {{1, 100}}}, {b, {{1, 3}, {5, 6}}}}, 6),
            (std::vector<ActorRanges>{{a, {{98, 100}}}, {b, {{3, 3}, {5, 6}}}}));
}

TEST(RecentChangesTest, TheOldestGoWhenThereIsNoRoom) {
  RecentChanges recent(1000, 100);
  const auto bytes = std::make_shared<const std::string>(300, 'x');
  for (uint64_t v = 1; v <= 5; ++v) recent.Add({{{}, v}, bytes}, "a");
  EXPECT_EQ(recent.size(), 3u);
  EXPECT_EQ(recent.Find({{}, 2}), nullptr);
  EXPECT_NE(recent.Find({{}, 3}), nullptr);
  recent.Add({{{}, 6}, std::make_shared<const std::string>(5000, 'x')}, "a");
  EXPECT_EQ(recent.size(), 0u);
}

TEST(ClusterClockTest, TwoNodesThatDifferDoNotRunAfterEachOther) {
  ClusterClock clock(100);
  const Instant now = Instant(std::chrono::seconds(5));
  clock.SetWallMs(1'000'000);
  clock.Advance(now);
  clock.OnSample("b", 1'010'000, std::chrono::milliseconds(10), now);
  EXPECT_EQ(clock.CorrectionMs(), 0);
}

/// A host's clocks and what it hears of peers that are all right.
class ClusterClockJumpTest : public ::testing::Test {
 protected:
  static constexpr int64_t kHourMs = 3'600'000;
  ClusterClockJumpTest() { Pass(); }
  void Advance(int64_t ms) {
    true_ms_ += ms;
    now_ += std::chrono::milliseconds(ms);
    clock_.SetWallMs(true_ms_ + error_ms_);
    clock_.Advance(now_);
  }
  /// A second, and an answer of each peer.
  void Pass(std::initializer_list<const char*> peers = {}) {
    Advance(700);
    for (const char* peer : peers) clock_.OnSample(peer, true_ms_, Duration(0), now_);
    Advance(300);
  }
  int64_t ErrorMs() const { return clock_.ClusterTimeMs(now_) - true_ms_; }

  ClusterClock clock_{100};
  Instant now_ = Instant(std::chrono::seconds(5));
  int64_t true_ms_ = 1'800'000'000'000, error_ms_ = 0;
};

TEST_F(ClusterClockJumpTest, AJumpIsNotFollowedByWhoHearsNobodyAnyMoreOrOnePeer) {
  Pass({"b"});
  for (const int64_t jump : {kHourMs, -kHourMs}) {
    clock_.Forget("b");
    error_ms_ = jump;
    Pass();
    Pass();
    EXPECT_EQ(ErrorMs(), 0) << "alone";
    EXPECT_EQ(clock_.CorrectionMs(), -jump);
    Pass({"b"});
    EXPECT_EQ(ErrorMs(), 0);
    clock_.Forget("b");
    Pass();
    EXPECT_EQ(ErrorMs(), 0);
    error_ms_ -= jump / 40'000;
    Pass();
    EXPECT_EQ(ErrorMs(), -jump / 40'000) << "a small step is followed and shows nothing else";
    Pass({"b", "c"});
    EXPECT_EQ(ErrorMs(), 0);
    error_ms_ = 0;
    Pass({"b", "c"});
    EXPECT_EQ(clock_.CorrectionMs(), 0);
    clock_.Forget("c");
  }
}

TEST_F(ClusterClockJumpTest, WhoWasWrongAndKnewItStaysRightAlone) {
  error_ms_ = kHourMs;
  clock_ = ClusterClock(100);
  Pass();
  EXPECT_EQ(ErrorMs(), kHourMs) << "a host that starts has nothing else to go by";
  Pass({"b", "c"});
  EXPECT_EQ(ErrorMs(), 0);
  clock_.Forget("b");
  Pass({"c"});
  EXPECT_EQ(ErrorMs(), 0);
  clock_.Forget("c");
  Pass();
  Pass();
  EXPECT_EQ(ErrorMs(), 0);
}

TEST_F(ClusterClockJumpTest, AJumpThatThePeersConfirmIsFollowed) {
  // The host slept: its steady clock stood still.
  Pass({"b"});
  true_ms_ += 10 * 60'000;
  Pass();
  EXPECT_EQ(ErrorMs(), -10 * 60'000) << "until somebody says so";
  Pass({"b"});
  EXPECT_EQ(ErrorMs(), 0);
  EXPECT_EQ(clock_.CorrectionMs(), 0);
}

TEST_F(ClusterClockJumpTest, WhoNeverHeardAnybodyFollowsItsWallClock) {
  error_ms_ = -20 * kHourMs;
  clock_ = ClusterClock(100);
  Pass();
  error_ms_ = 0;  // the time service is there
  Pass();
  EXPECT_EQ(ErrorMs(), 0);
}

TEST_F(ClusterClockJumpTest, ThoseWhoPulledARightClockAwayLeaveNothingBehind) {
  Pass();
  for (int i = 0; i < 3; ++i) {
    Advance(700);
    for (const char* peer : {"b", "c"})
      clock_.OnSample(peer, true_ms_ + kHourMs, Duration(0), now_);
    Advance(300);
  }
  EXPECT_EQ(ErrorMs(), kHourMs) << "most are right";
  clock_.Forget("b");
  clock_.Forget("c");
  Pass();
  Pass({"d"});
  EXPECT_EQ(ErrorMs(), 0);
}

TEST_F(ClusterClockJumpTest, AClockThatIsMovedBitByBitIsFollowedUntilPeersKnowBetter) {
  for (int i = 0; i < 100; ++i) {
    error_ms_ += 10;
    Pass();
  }
  EXPECT_EQ(clock_.CorrectionMs(), 0);
  EXPECT_EQ(ErrorMs(), 1'000);
  Pass({"b", "c"});
  EXPECT_EQ(ErrorMs(), 0);
}

TEST(ClusterClockTest, HalfTheRoundTripIsAddedToWhatThePeerSaid) {
  ClusterClock clock(100);
  const Instant now = Instant(std::chrono::seconds(5));
  clock.SetWallMs(1'000'000);
  clock.Advance(now);
  clock.OnSample("b", 1'010'000, std::chrono::milliseconds(10), now);
  clock.OnSample("c", 1'010'000, std::chrono::milliseconds(10), now);
  clock.Advance(now + std::chrono::seconds(1));
  EXPECT_EQ(clock.CorrectionMs(), 10'005);
  EXPECT_EQ(clock.ClusterTimeMs(now + std::chrono::seconds(1)), 1'011'005 + 0);
}

}  // namespace
}  // namespace patina::gossip

#include "proxy-sink/pick.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/random.h"
#include "tests/proxy-sink/fleet_builder.h"

namespace patina::proxy_sink {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int64_t kNowMs = 10'000;

class PickTest : public testing::Test {
 protected:
  PickTest() { AddUsualRegions(table_); }

  PickAnswer PickFor(const std::string& from, size_t count = 3,
                     std::vector<std::string> exclude = {}) {
    table_.Publish();
    const auto app = table_.Find("web");
    return Pick(*app, *table_.geography(), {from, count, std::move(exclude)}, kNowMs, rng_);
  }
  static std::vector<std::string> Ids(const PickAnswer& answer) {
    std::vector<std::string> ids;
    for (const Candidate& each : answer.candidates) ids.push_back(each.machine);
    return ids;
  }
  std::string WhyNot(const PickAnswer& answer, const std::string& machine) {
    for (const Rejection& each : answer.rejected) {
      if (each.machine == machine) return each.reason;
    }
    return {};
  }

  Table table_;
  Rng rng_{7};
};

TEST_F(PickTest, NearestRegionFirstThenTheNextForRetries) {
  AddMachine(table_, {.id = "s", .region = "syd"});
  AddMachine(table_, {.id = "n", .region = "nrt"});
  AddMachine(table_, {.id = "f", .region = "fra"});
  AddMachine(table_, {.id = "a", .region = "ams"});
  EXPECT_THAT(Ids(PickFor("ams", 4)), ElementsAre("a", "f", "n", "s"));
  EXPECT_THAT(Ids(PickFor("syd", 4)), ElementsAre("s", "n", "f", "a"));
}

TEST_F(PickTest, AMeasuredRoundTripBeatsTheMap) {
  AddMachine(table_, {.id = "f", .region = "fra"});
  AddMachine(table_, {.id = "n", .region = "nrt"});
  table_.Upsert(TableId::kRegionRtt,
                {std::string("nrt"), std::string("ams"), int64_t{3000}, kNowMs - 5});
  const PickAnswer answer = PickFor("ams");
  EXPECT_THAT(Ids(answer), ElementsAre("n", "f"));
  EXPECT_TRUE(answer.candidates[0].distance.measured);
  EXPECT_DOUBLE_EQ(answer.candidates[0].distance.ms, 3);
  EXPECT_FALSE(answer.candidates[1].distance.measured);
}

TEST_F(PickTest, AnOldRoundTripIsEstimatedAnew) {
  Geography geography;
  geography.round_trips[{"a", "b"}] = {5000, 0};
  geography.regions["a"] = {0, 0};
  geography.regions["b"] = {0, 0};
  PickOptions options;
  options.rtt_age_ms_max = 100;
  EXPECT_TRUE(RoundTrip(geography, "a", "b", 100, options).measured);
  EXPECT_FALSE(RoundTrip(geography, "a", "b", 101, options).measured);
}

TEST_F(PickTest, UnknownRegionsComeLast) {
  AddMachine(table_, {.id = "x", .region = "mars"});
  AddMachine(table_, {.id = "s", .region = "syd"});
  const PickAnswer answer = PickFor("ams");
  EXPECT_THAT(Ids(answer), ElementsAre("s", "x"));
  EXPECT_FALSE(answer.candidates[1].distance.known);
}

TEST_F(PickTest, ASoftLimitMovesNothingAbroadButAHardOneDoes) {
  AddMachine(table_, {.id = "a", .region = "ams", .inflight = 22});
  AddMachine(table_, {.id = "f", .region = "fra", .inflight = 0});
  EXPECT_THAT(Ids(PickFor("ams")), ElementsAre("a", "f"));
  AddMachine(table_, {.id = "a", .region = "ams", .inflight = 25});
  const PickAnswer answer = PickFor("ams");
  EXPECT_THAT(Ids(answer), ElementsAre("f"));
  EXPECT_THAT(WhyNot(answer, "a"), HasSubstr("hard limit: 25 in flight of 25"));
}

TEST_F(PickTest, BelowTheSoftLimitFirstWithinARegion) {
  AddMachine(table_, {.id = "over", .inflight = 21});
  AddMachine(table_, {.id = "under", .inflight = 19});
  for (int i = 0; i < 50; ++i) EXPECT_THAT(Ids(PickFor("ams")), ElementsAre("under", "over"));
}

TEST_F(PickTest, TheLessLoadedOfTwoGoesFirstAndCpuSettlesTies) {
  AddMachine(table_, {.id = "busy", .inflight = 10});
  AddMachine(table_, {.id = "idle", .inflight = 2});
  for (int i = 0; i < 50; ++i) EXPECT_EQ(PickFor("ams").candidates[0].machine, "idle");
  AddMachine(table_, {.id = "busy", .inflight = 2, .cpu_load = 0.1});
  AddMachine(table_, {.id = "idle", .inflight = 2, .cpu_load = 0.9});
  for (int i = 0; i < 50; ++i) EXPECT_EQ(PickFor("ams").candidates[0].machine, "busy");
}

TEST_F(PickTest, EqualMachinesShareTheLoadAndTheBusiestGetsNothing) {
  for (int i = 0; i < 10; ++i) {
    AddMachine(table_, {.id = "m" + std::to_string(i), .inflight = i == 9 ? 15 : 5});
  }
  std::map<std::string, int> picks;
  for (int i = 0; i < 9000; ++i) ++picks[PickFor("ams", 1).candidates[0].machine];
  EXPECT_EQ(picks["m9"], 0) << "it loses against each of the others";
  for (int i = 0; i < 9; ++i) {
    EXPECT_NEAR(picks["m" + std::to_string(i)], 1000, 200) << i;
  }
}

TEST_F(PickTest, AssigningByPicksStaysBalanced) {
  std::map<std::string, int64_t> inflight;
  for (int i = 0; i < 10; ++i) inflight["m" + std::to_string(i)] = 0;
  for (int request = 0; request < 500; ++request) {
    for (const auto& [id, load] : inflight) {
      AddMachine(table_, {.id = id, .soft_limit = 1000, .hard_limit = 0, .inflight = load});
    }
    ++inflight[PickFor("ams", 1).candidates[0].machine];
  }
  for (const auto& [id, load] : inflight) EXPECT_NEAR(static_cast<double>(load), 50, 6) << id;
}

TEST_F(PickTest, PassingBeforeWarningBeforeUnknownAndNeverCritical) {
  AddMachine(table_, {.id = "w", .region = "ams", .check = "warning"});
  AddMachine(table_, {.id = "u", .region = "ams", .check = ""});
  AddMachine(table_, {.id = "c", .region = "ams", .check = "critical"});
  AddMachine(table_, {.id = "p", .region = "syd", .check = "passing"});
  const PickAnswer answer = PickFor("ams", 10);
  EXPECT_THAT(Ids(answer), ElementsAre("p", "w", "u"));
  EXPECT_EQ(WhyNot(answer, "c"), "check critical");
}

TEST_F(PickTest, SuspectsAreTheLastResort) {
  AddMachine(table_, {.id = "near", .region = "ams", .host = "h1"});
  AddMachine(table_, {.id = "far", .region = "syd", .host = "h2"});
  table_.SetMember("h1", MemberState::kSuspect);
  EXPECT_THAT(Ids(PickFor("ams")), ElementsAre("far", "near"));
  table_.SetMember("h2", MemberState::kDead);
  const PickAnswer answer = PickFor("ams");
  EXPECT_THAT(Ids(answer), ElementsAre("near"));
  EXPECT_THAT(answer.candidates[0].reason, HasSubstr("suspect: last resort"));
  EXPECT_EQ(WhyNot(answer, "far"), "agent of host h2 is dead");
}

TEST_F(PickTest, NoneSaysWhy) {
  AddMachine(table_, {.id = "m1", .check = "critical"});
  AddMachine(table_, {.id = "m2", .state = "stopped"});
  const PickAnswer answer = PickFor("ams", 3, {"m3"});
  EXPECT_THAT(Ids(answer), IsEmpty());
  EXPECT_EQ(WhyNone(*table_.Find("web"), answer),
            "app web has no machine that may be used: m1 (ams): check critical; "
            "m2 (ams): is stopped");
}

TEST_F(PickTest, ReasonsAreInWords) {
  AddMachine(table_, {.id = "a", .inflight = 3});
  AddMachine(table_, {.id = "b", .inflight = 5});
  EXPECT_EQ(PickFor("ams").candidates[0].reason,
            "nearest healthy: ams, 0 ms; 3 in flight of 20; least loaded of two");
  EXPECT_EQ(PickFor("ams").candidates[0].load_age_ms, kNowMs - 1000);
}

TEST_F(PickTest, TheSecondServiceIsUsedWhenTheFirstIsCritical) {
  AddMachine(table_, {.id = "a", .check = "critical"});
  table_.Upsert(TableId::kServices, {std::string("a"), int64_t{81}, std::string("http"),
                                     std::string("a:81"), int64_t{20}, int64_t{0}});
  EXPECT_EQ(PickFor("ams").candidates[0].service.address, "a:81");
}

TEST_F(PickTest, RandomFleetsNeverOfferWhatMayNotBeUsed) {
  const char* states[] = {"started", "stopped", "starting"};
  const char* checks[] = {"passing", "warning", "critical", "", "passing"};
  const char* regions[] = {"ams", "fra", "nrt", "syd"};
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Rng rng(seed);
    Table table;
    AddUsualRegions(table);
    std::set<std::string> usable;
    std::vector<std::string> exclude;
    for (int i = 0; i < 20; ++i) {
      MachineSpec spec{.id = "m" + std::to_string(i), .region = regions[rng.Below(4)]};
      spec.host = "h" + std::to_string(i);
      spec.state = states[rng.Below(5) < 3 ? 0 : rng.Below(3)];
      spec.desired_state = rng.Chance(0.9) ? "started" : "stopped";
      spec.check = checks[rng.Below(5)];
      spec.inflight = static_cast<int64_t>(rng.Below(28)) - 1;
      AddMachine(table, spec);
      const auto member = static_cast<MemberState>(rng.Below(5));
      table.SetMember(spec.host, member);
      const bool draining = rng.Chance(0.1), known = rng.Chance(0.5);
      if (known) {
        table.Upsert(TableId::kHosts, {spec.host, std::string(draining ? "draining" : "up")});
      }
      const bool excluded = rng.Chance(0.1);
      if (excluded) exclude.push_back(spec.id);
      if (spec.state == "started" && spec.desired_state == "started" && spec.check != "critical" &&
          member != MemberState::kDead && !(known && draining) && !excluded && spec.inflight < 25) {
        usable.insert(spec.id);
      }
    }
    table.Publish();
    const PickAnswer answer =
        Pick(*table.Find("web"), *table.geography(), {"ams", 100, exclude}, kNowMs, rng);
    const std::vector<std::string> ids = Ids(answer);
    EXPECT_EQ(std::set<std::string>(ids.begin(), ids.end()), usable) << "all and only those";
    EXPECT_EQ(ids.size(), usable.size()) << "each once";
    EXPECT_EQ(answer.rejected_total + ids.size(), 20u);
    for (size_t i = 1; i < answer.candidates.size(); ++i) {
      const Candidate &a = answer.candidates[i - 1], &b = answer.candidates[i];
      const bool same_kind = a.service.check == b.service.check &&
                             a.reason.ends_with("last resort") == b.reason.ends_with("last resort");
      if (!same_kind) continue;
      EXPECT_LE(a.distance.ms, b.distance.ms);
    }
  }
}

TEST(DistanceTest, GreatCirclesAreThoseOfTheMap) {
  EXPECT_NEAR(GreatCircleKm(52.37, 4.90, 50.11, 8.68), 362, 5);      // Amsterdam, Frankfurt
  EXPECT_NEAR(GreatCircleKm(52.37, 4.90, 35.76, 140.39), 9330, 60);  // Tokyo
  EXPECT_NEAR(GreatCircleKm(0, 0, 0, 180), 20015, 1);                // half around
  EXPECT_NEAR(GreatCircleKm(10, 179.5, 10, -179.5), 109.5, 1);       // over the date line
  EXPECT_DOUBLE_EQ(GreatCircleKm(12, 34, 12, 34), 0);
  EXPECT_NEAR(GreatCircleKm(90, 0, 90, 77), 0, 1e-6);
}

TEST(DistanceTest, SymmetricAndNeverLongerThanHalfTheEarth) {
  Rng rng(3);
  for (int i = 0; i < 1000; ++i) {
    const double a = rng.Unit() * 180 - 90, b = rng.Unit() * 360 - 180;
    const double c = rng.Unit() * 180 - 90, d = rng.Unit() * 360 - 180;
    const double km = GreatCircleKm(a, b, c, d);
    EXPECT_NEAR(km, GreatCircleKm(c, d, a, b), 1e-6);
    EXPECT_GE(km, 0);
    EXPECT_LE(km, 20016);
  }
}

}  // namespace
}  // namespace patina::proxy_sink

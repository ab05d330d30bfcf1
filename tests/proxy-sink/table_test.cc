#include "proxy-sink/table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <map>
#include <thread>

#include "base/random.h"
#include "tests/proxy-sink/fleet_builder.h"

namespace patina::proxy_sink {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::string> MachinesOf(const Table& table, const std::string& app) {
  std::vector<std::string> ids;
  const auto block = table.Find(app);
  if (block == nullptr) return ids;
  for (const Machine& machine : block->machines) ids.push_back(machine.id);
  return ids;
}

TEST(TableTest, NothingIsVisibleBeforePublish) {
  Table table;
  AddMachine(table, {.id = "m1"});
  EXPECT_EQ(table.Find("web"), nullptr);
  EXPECT_THAT(table.Publish().apps, ElementsAre("web"));
  EXPECT_THAT(MachinesOf(table, "web"), ElementsAre("m1"));
  EXPECT_EQ(table.apps(), 1u);
  EXPECT_EQ(table.endpoints(), 1u);
}

TEST(TableTest, OnlyTheAppsTouchedAreRebuilt) {
  Table table;
  AddMachine(table, {.id = "m1", .app = "web"});
  AddMachine(table, {.id = "m2", .app = "api"});
  table.Publish();
  const auto web = table.Find("web"), api = table.Find("api");
  table.Upsert(TableId::kServiceLoad, {std::string("m1"), int64_t{80}, int64_t{7}, int64_t{1}});
  EXPECT_THAT(table.Publish().apps, ElementsAre("web"));
  EXPECT_NE(table.Find("web"), web);
  EXPECT_EQ(table.Find("api"), api);
  EXPECT_EQ(web->machines[0].services[0].inflight, 0) << "a reader's block never changes";
  EXPECT_EQ(table.Find("web")->machines[0].services[0].inflight, 7);
}

TEST(TableTest, AHostsStateReachesTheAppsOfItsMachines) {
  Table table;
  AddMachine(table, {.id = "m1", .app = "web", .host = "ams-1"});
  AddMachine(table, {.id = "m2", .app = "api", .host = "ams-2"});
  table.Publish();
  table.Upsert(TableId::kHosts, {std::string("ams-1"), std::string("draining")});
  EXPECT_THAT(table.Publish().apps, ElementsAre("web"));
  table.SetMember("ams-2", MemberState::kDead);
  EXPECT_THAT(table.Publish().apps, ElementsAre("api"));
  EXPECT_EQ(table.Find("web")->machines[0].host_state, "draining");
  EXPECT_EQ(table.Find("api")->machines[0].member, MemberState::kDead);
}

TEST(TableTest, AMachineThatChangesItsAppLeavesTheOldOne) {
  Table table;
  AddMachine(table, {.id = "m1", .app = "web"});
  table.Publish();
  AddMachine(table, {.id = "m1", .app = "api"});
  table.Publish();
  EXPECT_EQ(table.Find("web"), nullptr);
  EXPECT_THAT(MachinesOf(table, "api"), ElementsAre("m1"));
}

TEST(TableTest, ADeclaredAppWithoutMachinesIsKnown) {
  Table table;
  table.Upsert(TableId::kApps, {std::string("idle"), std::string("deployed")});
  table.Publish();
  ASSERT_NE(table.Find("idle"), nullptr);
  table.Erase(TableId::kApps, {std::string("idle"), std::string("deployed")});
  table.Publish();
  EXPECT_EQ(table.Find("idle"), nullptr);
}

TEST(TableTest, TheWorstCheckOfAServiceCounts) {
  Table table;
  AddMachine(table, {.id = "m1"});
  table.Upsert(TableId::kChecks,
               {std::string("m1"), int64_t{80}, std::string("deep"), std::string("critical")});
  table.Publish();
  EXPECT_EQ(table.Find("web")->machines[0].services[0].check, CheckStatus::kCritical);
}

TEST(TableTest, ASnapshotIsSwappedInWholeAtItsEnd) {
  Table table;
  AddMachine(table, {.id = "m1"});
  AddMachine(table, {.id = "m2"});
  table.Publish();
  const auto machine = [](const std::string& id) {
    return Cells{id,
                 std::string("web"),
                 std::string("h"),
                 std::string("ams"),
                 std::string("started"),
                 std::string("started")};
  };
  table.BeginSnapshot(TableId::kMachines);
  table.SnapshotRow(TableId::kMachines, machine("m2"));
  table.SnapshotRow(TableId::kMachines, machine("m3"));
  EXPECT_TRUE(table.Publish().empty());
  EXPECT_THAT(MachinesOf(table, "web"), ElementsAre("m1", "m2"));
  table.EndSnapshot(TableId::kMachines);
  table.Publish();
  EXPECT_THAT(MachinesOf(table, "web"), ElementsAre("m2", "m3"));
}

TEST(TableTest, AnAbandonedSnapshotChangesNothing) {
  Table table;
  AddMachine(table, {.id = "m1"});
  table.Publish();
  table.BeginSnapshot(TableId::kMachines);
  table.AbandonSnapshot(TableId::kMachines);
  table.EndSnapshot(TableId::kMachines);
  EXPECT_TRUE(table.Publish().empty());
  EXPECT_THAT(MachinesOf(table, "web"), ElementsAre("m1"));
}

TEST(TableTest, MembersOfASnapshotReplaceThoseBefore) {
  Table table;
  AddMachine(table, {.id = "m1", .host = "a"});
  AddMachine(table, {.id = "m2", .host = "b"});
  table.SetMember("a", MemberState::kDead);
  table.BeginMembers();
  table.SetMember("b", MemberState::kSuspect);
  table.Publish();
  EXPECT_EQ(table.Find("web")->machines[0].member, MemberState::kDead);
  EXPECT_EQ(table.Find("web")->machines[1].member, MemberState::kUnknown);
  table.EndMembers();
  table.Publish();
  EXPECT_EQ(table.Find("web")->machines[0].member, MemberState::kUnknown);
  EXPECT_EQ(table.Find("web")->machines[1].member, MemberState::kSuspect);
}

TEST(TableTest, MalformedRowsAreCountedOneByOneAndIgnored) {
  const std::string m = "m1", web = "web", s = "started", http = "http", ok = "a:1";
  const std::string huge(kTextBytesMax + 1, 'x');
  const std::string nul("m\0x", 3);
  const int64_t one = 1, minus = -1;
  const std::pair<TableId, Cells> rows[] = {
      {TableId::kServices, {m, one, http, ok, minus, one}},
      {TableId::kServices, {m, one, http, ok, one, minus}},
      {TableId::kServices, {m, int64_t{0}, http, ok, one, one}},
      {TableId::kServices, {m, int64_t{65536}, http, ok, one, one}},
      {TableId::kServices, {m, one, http, ok, std::string("20"), one}},
      {TableId::kRegions, {http, 91.0, 0.0}},
      {TableId::kRegions, {http, 0.0, -181.0}},
      {TableId::kRegions, {http, std::nan(""), 0.0}},
      {TableId::kRegions, {http, std::numeric_limits<double>::infinity(), 0.0}},
      {TableId::kMachines, {huge, web, m, m, s, s}},
      {TableId::kMachines, {m, web, m, m, s, huge}},
      {TableId::kMachines, {nul, web, m, m, s, s}},
      {TableId::kMachines, {std::string(), web, m, m, s, s}},
      {TableId::kMachines, {m, web, m, m, s}},
      {TableId::kMachines, {m, std::monostate(), m, m, s, s}},
      {TableId::kServiceLoad, {m, one, minus, one}},
      {TableId::kMachineLoad, {m, -0.5}},
      {TableId::kMachineLoad, {m, std::nan("")}},
      {TableId::kRegionRtt, {m, m, minus, one}},
      {TableId::kRegionRtt, {m, m, int64_t{1} << 40, one}},
  };
  Table table;
  AddMachine(table, {.id = "good"});
  table.Publish();
  const auto before = table.Find("web");
  uint64_t ignored = 0;
  for (int round = 0; round < 500; ++round) {
    for (const auto& [id, cells] : rows) {
      EXPECT_FALSE(table.Upsert(id, cells));
      EXPECT_EQ(table.rows_ignored(), ++ignored);
    }
  }
  EXPECT_TRUE(table.Publish().empty());
  EXPECT_EQ(table.Find("web"), before);
}

TEST(TableTest, AMalformedNewVersionKeepsTheLastGoodRow) {
  Table table;
  AddMachine(table, {.id = "m1", .soft_limit = 20});
  const Cells bad = {std::string("m1"),    int64_t{80},  std::string("http"),
                     std::string("m1:80"), int64_t{-20}, int64_t{0}};
  table.Upsert(TableId::kServices, bad);
  table.BeginSnapshot(TableId::kServices);
  table.SnapshotRow(TableId::kServices, bad);
  table.EndSnapshot(TableId::kServices);
  table.Publish();
  ASSERT_EQ(table.Find("web")->machines[0].services.size(), 1u);
  EXPECT_EQ(table.Find("web")->machines[0].services[0].soft_limit, 20);
  EXPECT_EQ(table.rows_ignored(), 2u);
  table.Erase(TableId::kServices, bad);
  table.Publish();
  EXPECT_THAT(table.Find("web")->machines[0].services, IsEmpty());
}

/// Random rows over few keys, so that they meet.
class RandomRows {
 public:
  explicit RandomRows(uint64_t seed) : rng_(seed) {}

  std::pair<TableId, Cells> Next() {
    const auto table = static_cast<TableId>(rng_.Below(kTableCount));
    switch (table) {
      case TableId::kRegions:
        return {table, {Name("r", 3), Real(90), Real(180)}};
      case TableId::kHosts:
        return {table, {Name("h", 4), Name("up", 2)}};
      case TableId::kApps:
        return {table, {Name("a", 3), Name("s", 2)}};
      case TableId::kMachines:
        return {
            table,
            {Name("m", 8), Name("a", 3), Name("h", 4), Name("r", 3), Name("s", 2), Name("s", 2)}};
      case TableId::kServices:
        return {
            table,
            {Name("m", 8), Number(1, 3), Name("p", 2), Name("x", 3), Number(0, 30), Number(0, 30)}};
      case TableId::kChecks:
        return {table, {Name("m", 8), Number(1, 3), Name("c", 2), Status()}};
      case TableId::kServiceLoad:
        return {table, {Name("m", 8), Number(1, 3), Number(0, 30), Number(0, 9)}};
      case TableId::kMachineLoad:
        return {table, {Name("m", 8), Real(4) + 4}};
      case TableId::kRegionRtt:
        return {table, {Name("r", 3), Name("r", 3), Number(0, 9), Number(0, 9)}};
    }
    return {};
  }
  Rng& rng() { return rng_; }

 private:
  std::string Name(const char* prefix, uint64_t count) {
    return prefix + std::to_string(rng_.Below(count));
  }
  int64_t Number(int64_t low, int64_t high) { return rng_.Between(low, high); }
  double Real(double bound) { return (rng_.Unit() * 2 - 1) * bound; }
  std::string Status() {
    const char* names[] = {"passing", "warning", "critical", "unknown", "odd"};
    return names[rng_.Below(5)];
  }
  Rng rng_;
};

void ExpectEqual(const Table& a, const Table& b) {
  for (int i = 0; i < 3; ++i) {
    const std::string app = "a" + std::to_string(i);
    const auto block_a = a.Find(app), block_b = b.Find(app);
    ASSERT_EQ(block_a == nullptr, block_b == nullptr) << app;
    if (block_a == nullptr) continue;
    ASSERT_TRUE(*block_a == *block_b) << app;
  }
  ASSERT_TRUE(*a.geography() == *b.geography());
  ASSERT_EQ(a.apps(), b.apps());
  ASSERT_EQ(a.endpoints(), b.endpoints());
}

TEST(TableTest, IncrementalEqualsRebuiltFromScratch) {
  using Oracle = std::map<std::pair<TableId, std::string>, Cells>;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    RandomRows rows(seed);
    Table incremental;
    Oracle oracle;
    std::map<std::string, MemberState> members;
    for (int step = 0; step < 400; ++step) {
      const auto [id, cells] = rows.Next();
      const std::pair key(id, *RowKey(id, cells));
      const uint64_t what = rows.rng().Below(20);
      if (what < 5) {
        incremental.Erase(id, cells);
        oracle.erase(key);
      } else if (what == 5) {  // a snapshot of what is there, but for some rows
        incremental.BeginSnapshot(id);
        for (auto it = oracle.begin(); it != oracle.end();) {
          const bool lost = it->first.first == id && rows.rng().Chance(0.3);
          if (it->first.first == id && !lost) incremental.SnapshotRow(id, it->second);
          it = lost ? oracle.erase(it) : std::next(it);
        }
        incremental.EndSnapshot(id);
      } else if (what == 6) {
        const std::string host = "h" + std::to_string(rows.rng().Below(4));
        members[host] = static_cast<MemberState>(rows.rng().Below(5));
        incremental.SetMember(host, members[host]);
      } else {
        ASSERT_TRUE(incremental.Upsert(id, cells));
        oracle[key] = cells;
      }
      if (rows.rng().Chance(0.2)) incremental.Publish();
    }
    incremental.Publish();
    Table scratch;
    for (const auto& [name, state] : members) scratch.SetMember(name, state);
    for (const auto& [key, cells] : oracle) ASSERT_TRUE(scratch.Upsert(key.first, cells));
    scratch.Publish();
    ExpectEqual(incremental, scratch);
  }
}

TEST(TableTest, ReadersSeeWholeBlocksWhileTheWriterWorks) {
  Table table;
  for (int i = 0; i < 10; ++i) AddMachine(table, {.id = "m" + std::to_string(i), .inflight = 0});
  table.Publish();
  std::atomic<bool> done{false};
  std::atomic<uint64_t> torn{0}, read{0};
  std::thread reader([&] {
    while (!done) {
      const auto block = table.Find("web");
      for (const Machine& machine : block->machines) {
        torn += machine.services[0].inflight != block->machines[0].services[0].inflight;
      }
      ++read;
    }
  });
  for (int64_t load = 1; load <= 2000 || read == 0; ++load) {
    for (int i = 0; i < 10; ++i) {
      table.Upsert(TableId::kServiceLoad, {"m" + std::to_string(i), int64_t{80}, load % 100, load});
    }
    table.Publish();
  }
  done = true;
  reader.join();
  EXPECT_EQ(torn, 0u);
}

}  // namespace
}  // namespace patina::proxy_sink

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "storage/db.h"
#include "tests/process/fleet.h"
#include "tests/support/eventually.h"

// Another SQLite client writes in a running agent's file, under load.

namespace patina::test {
namespace {

using testing::HasSubstr;

constexpr auto kNamedWithin = std::chrono::seconds(30);
const char* const kAll =
    "SELECT group_concat(id || '=' || state) FROM (SELECT id, state FROM machines WHERE id IN "
    "('m0', 'm1', 'm2', 'stray') ORDER BY id)";

/// Three agents with 2,000 machines, whose load reports go on until the end.
class ForeignRowsProcessTest : public testing::Test {
 protected:
  ForeignRowsProcessTest()
      : fleet_(3),
        prepared_(RunPatina(
            {"bench", "heartbeats", "--agents", fleet_.apis(), "--machines", "2000", "--prepare"})),
        load_({"bench", "heartbeats", "--agents", fleet_.apis(), "--machines", "2000", "--rate",
               "4000", "--seconds", "600"},
              {}) {
    EXPECT_EQ(prepared_.exit_code, 0) << prepared_.error;
    for (const char* id : {"m0", "m1", "m2"}) {
      const RunResult written = fleet_[0].Exec(
          {"INSERT INTO machines (id, app, state) VALUES (?1, 'web', 'started')", id});
      EXPECT_EQ(written.exit_code, 0) << written.error;
    }
    for (size_t i = 0; i < fleet_.size(); ++i) {
      EXPECT_TRUE(Eventually([&] {
        return fleet_[i].QueryCell(kAll) == "m0=started,m1=started,m2=started" &&
               fleet_[i].QueryCell("SELECT count(*) >= 2000 FROM machine_load") == "1";
      })) << fleet_[i].QueryCell(kAll);
    }
  }

  static void WriteInFile(const TestAgent& agent, const std::string& sql) {
    auto db = storage::Db::Open(agent.data() / "patina.db", storage::Db::Mode::kReadWriteCreate);
    ASSERT_TRUE(db.ok());
    EXPECT_TRUE(Eventually([&] { return db->Exec(sql).ok(); }));
  }

  /// "machines 'm1' changed" of the agent's status.
  static std::vector<std::string> Named(const TestAgent& agent) {
    const RunResult status = RunPatina({"status", "--api", agent.api(), "--format", "json"});
    const nlohmann::json answer = nlohmann::json::parse(status.out, nullptr, false);
    std::vector<std::string> named;
    for (const auto& row : answer.value("foreign_rows", nlohmann::json::array())) {
      named.push_back(row.value("table", "") + " " + row.value("key", "") + " " +
                      row.value("kind", ""));
    }
    return named;
  }

  /// Ends the load; all nodes hold the same, and say so.
  void ExpectAllEqual(const std::string& machines) {
    load_.Signal(SIGKILL);
    load_.Wait();
    const RunResult equal = fleet_.WaitEqual();
    EXPECT_EQ(equal.exit_code, 0) << equal.out << equal.error;
    for (size_t i = 0; i < fleet_.size(); ++i) {
      EXPECT_EQ(fleet_[i].QueryCell(kAll), machines);
      const RunResult verified = RunPatina({"verify", "--api", fleet_[i].api()});
      EXPECT_EQ(verified.exit_code, 0) << verified.out << verified.error;
      EXPECT_TRUE(Named(fleet_[i]).empty());
    }
  }

  TestFleet fleet_;
  RunResult prepared_;
  Process load_;
};

TEST_F(ForeignRowsProcessTest, AFlippedValueIsNamedWithin30SecondsUnderLoadAndDiscarded) {
  WriteInFile(fleet_[1], "UPDATE machines SET state = 'stopped' WHERE id = 'm1'");
  EXPECT_TRUE(Eventually(
      [&] { return Named(fleet_[1]) == std::vector<std::string>{"machines 'm1' changed"}; },
      kNamedWithin));
  EXPECT_TRUE(Named(fleet_[0]).empty());
  EXPECT_TRUE(Named(fleet_[2]).empty());
  for (size_t i = 0; i < fleet_.size(); ++i) {
    const RunResult verified = RunPatina({"verify", "--api", fleet_[i].api()});
    EXPECT_EQ(verified.exit_code, 1) << verified.out;
    EXPECT_THAT(verified.out, HasSubstr("machines"));
    EXPECT_THAT(verified.out, HasSubstr("'m1'"));
    EXPECT_THAT(verified.out, HasSubstr("'stopped'"));
  }
  const RunResult discarded = RunPatina({"verify", "--discard", "--api", fleet_[1].api()});
  EXPECT_EQ(discarded.exit_code, 0) << discarded.out << discarded.error;
  EXPECT_THAT(discarded.out, HasSubstr("settled: 1 "));
  ExpectAllEqual("m0=started,m1=started,m2=started");
}

TEST_F(ForeignRowsProcessTest, WhatIsAdoptedWinsOnAllNodes) {
  WriteInFile(fleet_[2],
              "UPDATE machines SET state = 'stopped' WHERE id = 'm1'; DELETE FROM machines WHERE "
              "id = 'm2'; INSERT INTO machines (id, state) VALUES ('stray', 'created')");
  const std::vector<std::string> wanted = {"machines 'm1' changed", "machines 'm2' deleted",
                                           "machines 'stray' inserted"};
  EXPECT_TRUE(Eventually([&] { return Named(fleet_[2]) == wanted; }, kNamedWithin));
  const RunResult adopted = RunPatina({"verify", "--adopt", "--api", fleet_[2].api()});
  EXPECT_THAT(adopted.out, HasSubstr("settled: 3 ")) << adopted.error;
  ExpectAllEqual("m0=started,m1=stopped,stray=created");
}

}  // namespace
}  // namespace patina::test

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "storage/db.h"
#include "tests/process/fleet.h"
#include "tests/support/eventually.h"

// Other programs open the node's file read-only while the agent writes: any tool that links SQLite.

namespace patina::test {
namespace {

using ::testing::HasSubstr;

storage::Db OpenAsATool(const TestAgent& agent) {
  return storage::Db::Open(agent.data() / "patina.db", storage::Db::Mode::kReadOnly).value();
}

TEST(ReadOnlyProcessTest, AToolSeesWholeTransactionsWhileTheAgentWrites) {
  TestFleet fleet(1);
  ASSERT_EQ(fleet[0]
                .Exec({"INSERT INTO apps (name, status) VALUES ('a', '0'), ('b', '0'), ('c', '0')"})
                .exit_code,
            0);
  std::atomic<bool> done{false};
  std::atomic<int> acknowledged{0};
  std::thread writer([&] {
    for (int i = 1; i <= 40; ++i) {
      const std::string value = std::to_string(i);
      if (fleet[0].Exec({"UPDATE apps SET status = ?", value}).exit_code == 0) acknowledged = i;
    }
    done = true;
  });
  storage::Db tool = OpenAsATool(fleet[0]);
  int64_t reads = 0, last = 0;
  while (!done) {
    const int before = acknowledged;
    ASSERT_TRUE(tool.Exec("BEGIN").ok());
    EXPECT_EQ(tool.QueryInt("SELECT count(DISTINCT status) FROM apps").value(), 1);
    const int64_t first = tool.QueryInt("SELECT CAST(min(status) AS INTEGER) FROM apps").value();
    const int64_t again = tool.QueryInt("SELECT CAST(max(status) AS INTEGER) FROM apps").value();
    ASSERT_TRUE(tool.Exec("COMMIT").ok());
    EXPECT_EQ(first, again);
    EXPECT_GE(first, std::max<int64_t>(last, before)) << "what is acknowledged is there";
    last = first;
    ++reads;
  }
  writer.join();
  EXPECT_GT(reads, 40);
  EXPECT_EQ(acknowledged, 40);
  EXPECT_EQ(tool.QueryInt("SELECT count(*) FROM pragma_integrity_check "
                          "WHERE integrity_check = 'ok'")
                .value(),
            1);
}

TEST(ReadOnlyProcessTest, StatusNamesAToolThatHoldsTheWriteAheadLog) {
  TestFleet fleet(1);
  storage::Db tool = OpenAsATool(fleet[0]);
  ASSERT_TRUE(tool.Exec("BEGIN; SELECT * FROM apps").ok());
  const std::string self = "(pid " + std::to_string(::getpid()) + ")";
  std::string status;
  EXPECT_TRUE(Eventually([&] {
    EXPECT_EQ(fleet[0]
                  .Exec({"INSERT OR REPLACE INTO apps (name, status) VALUES ('a', "
                         "hex(randomblob(400000)))"})
                  .exit_code,
              0);
    status = RunPatina({"status", "--api", fleet[0].api()}).out;
    return status.find(self) != std::string::npos;
  })) << status;
  EXPECT_THAT(status, HasSubstr("end that read"));
  ASSERT_TRUE(tool.Exec("COMMIT").ok());
  EXPECT_TRUE(Eventually([&] {
    EXPECT_EQ(fleet[0].Exec({"UPDATE apps SET status = hex(randomblob(400000))"}).exit_code, 0);
    return RunPatina({"status", "--api", fleet[0].api()}).out.find(self) == std::string::npos;
  }));
}

}  // namespace
}  // namespace patina::test

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "tests/process/fleet.h"
#include "tests/support/eventually.h"
#include "tests/support/files.h"

// Backups of running agents; files that are copied back in time, damaged, and rebuilt.

namespace patina::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const char* const kInsert = "INSERT INTO apps (name, organization) VALUES (?1, ?2)";

/// Three agents, and every (actor, version) that was ever acknowledged by any of them.
class BackupProcessTest : public testing::Test {
 protected:
  BackupProcessTest() : fleet_(0) {
    for (int i = 0; i < 3; ++i) {
      TestAgent::Options options;
      options.fault_injection = true;
      if (i > 0) options.seed = fleet_[0].gossip();
      fleet_.Add(options);
    }
    EXPECT_TRUE(Eventually([this] { return fleet_[2].AliveMembers().size() == 3; }));
  }

  /// A row of its own; the actor it was written under.
  std::string Write(TestAgent& agent) {
    const RunResult written = RunPatina({"exec", "--api", agent.api(), "--format", "json", kInsert,
                                         "app-" + std::to_string(++rows_), "acme"});
    EXPECT_EQ(written.exit_code, 0) << written.error;
    const nlohmann::json answer = nlohmann::json::parse(written.out, nullptr, false);
    const std::string actor = answer.value("actor", "");
    const auto id = std::pair(actor, answer.value("version", uint64_t{0}));
    EXPECT_GT(id.second, 0u) << written.out;
    EXPECT_TRUE(acknowledged_.insert(id).second) << "given out twice: " << written.out;
    return actor;
  }

  void ExpectAllEqual(int rows) {
    const RunResult equal = fleet_.WaitEqual({"--table", "apps", "--rows", std::to_string(rows)});
    EXPECT_EQ(equal.exit_code, 0) << equal.out << equal.error;
    const RunResult verified = RunPatina({"verify", "--api", fleet_[0].api()});
    EXPECT_EQ(verified.exit_code, 0) << verified.out << verified.error;
  }

  RunResult Backup(TestAgent& agent, const std::string& file) {
    return RunPatina({"backup", File(file), "--api", agent.api()});
  }
  RunResult Offline(const std::string& command, TestAgent& agent, const std::string& file = {}) {
    std::vector<std::string> arguments = {command, "--config", Config(agent)};
    if (!file.empty()) arguments.push_back(File(file));
    return RunPatina(arguments);
  }
  std::string File(const std::string& name) const { return fleet_.folder() / name; }
  std::string Config(TestAgent& agent) const { return fleet_.folder() / (agent.name() + ".toml"); }
  static fs::path Database(TestAgent& agent) { return agent.data() / "patina.db"; }

  TestFleet fleet_;
  int rows_ = 0;
  std::set<std::pair<std::string, uint64_t>> acknowledged_;
};

TEST_F(BackupProcessTest, FilesCopiedBackInTimeUnderALiveClusterReuseNoVersion) {
  std::string actor;
  for (int i = 0; i < 9; ++i) actor = Write(fleet_[i % 3]);
  ExpectAllEqual(9);
  const RunResult made = Backup(fleet_[2], "backup.db");
  ASSERT_EQ(made.exit_code, 0) << made.error;
  EXPECT_THAT(made.out, HasSubstr("rows"));
  EXPECT_EQ(RunPatina({"backup", "--verify", File("backup.db")}).exit_code, 0);
  // The other way to go back: a plain copy of a stopped agent's file.
  ASSERT_EQ(fleet_[1].Stop(), 0);
  fs::copy_file(Database(fleet_[1]), File("plain.db"));
  fleet_[1].Start();
  for (int i = 0; i < 9; ++i) Write(fleet_[i % 3]);
  ExpectAllEqual(18);

  const RunResult running = Offline("restore", fleet_[2], "backup.db");
  EXPECT_EQ(running.exit_code, 1);
  EXPECT_THAT(running.error, HasSubstr("in use by another agent"));
  ASSERT_EQ(fleet_[2].Stop(), 0);
  fleet_[1].Kill();
  const RunResult restored = Offline("restore", fleet_[2], "backup.db");
  ASSERT_EQ(restored.exit_code, 0) << restored.error;
  EXPECT_THAT(restored.error, HasSubstr("patina.db.before-restore-"));
  fs::remove(Database(fleet_[1]).string() + "-wal");
  fs::remove(Database(fleet_[1]).string() + "-shm");
  fs::copy_file(File("plain.db"), Database(fleet_[1]), fs::copy_options::overwrite_existing);
  Write(fleet_[0]);
  fleet_[2].Start();
  fleet_[1].Start();
  EXPECT_NE(Write(fleet_[2]), actor);
  for (int i = 0; i < 9; ++i) Write(fleet_[i % 3]);
  ExpectAllEqual(29);
}

TEST_F(BackupProcessTest, WritesThatOnlyARestoredNodeHadAreGoneAndTheRestGoesOn) {
  Write(fleet_[2]);
  ExpectAllEqual(1);
  ASSERT_EQ(Backup(fleet_[2], "backup.db").exit_code, 0);
  ASSERT_EQ(RunPatina({"fault", "cut", "--api", fleet_[2].api()}).exit_code, 0);
  Write(fleet_[2]);
  Write(fleet_[0]);
  ASSERT_EQ(fleet_[2].Stop(), 0);
  ASSERT_EQ(Offline("restore", fleet_[2], "backup.db").exit_code, 0);
  fleet_[2].Start();
  Write(fleet_[2]);
  ExpectAllEqual(3);
  EXPECT_EQ(fleet_[0].QueryCell("SELECT count(*) FROM apps WHERE name = 'app-2'"), "0");
}

TEST_F(BackupProcessTest, ADamagedNodeIsRebuiltFromItsPeersAndKeepsWhatOnlyItHad) {
  const RunResult inserted =
      RunPatina({"bench", "insert", "--agent", fleet_[0].api(), "--rows", "2000"});
  ASSERT_EQ(inserted.exit_code, 0) << inserted.error;
  Write(fleet_[2]);
  ExpectAllEqual(1);
  ASSERT_EQ(RunPatina({"fault", "cut", "--api", fleet_[2].api()}).exit_code, 0);
  for (int i = 0; i < 5; ++i) Write(fleet_[2]);
  ASSERT_EQ(fleet_[2].Stop(), 0);
  // The pages of the machines, the largest table, are somewhere past the middle; the log's are
  // spread. Whatever these hold is lost.
  std::string bytes = ReadFile(Database(fleet_[2]));
  const size_t pages = bytes.size() / 4096;
  ASSERT_GT(pages, 60u);
  for (const size_t page : {pages / 3, pages / 2}) {
    for (size_t i = 0; i < 4096; ++i) bytes[page * 4096 + i] = static_cast<char>(i * 7);
  }
  WriteFile(Database(fleet_[2]), bytes);
  EXPECT_EQ(RunPatina({"backup", "--verify", Database(fleet_[2])}).exit_code, 1);
  const RunResult refused = Offline("agent", fleet_[2]);
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.error, HasSubstr("the file is damaged; `patina reseed` rebuilds it"));

  const RunResult reseeded = Offline("reseed", fleet_[2]);
  ASSERT_EQ(reseeded.exit_code, 0) << reseeded.error;
  EXPECT_THAT(reseeded.error, HasSubstr("patina.db.damaged-"));
  fleet_[2].Start();
  EXPECT_EQ(fleet_.WaitEqual({"--table", "machines", "--rows", "2000"}).exit_code, 0);
  ExpectAllEqual(6);
  Write(fleet_[2]);
  ExpectAllEqual(7);
  ASSERT_EQ(fleet_[2].Stop(), 0);
  EXPECT_EQ(RunPatina({"backup", "--verify", Database(fleet_[2])}).exit_code, 0);  // pages, digests
}

TEST_F(BackupProcessTest, ATruncatedLogLosesOnlyWhatNoPeerHadAndSaysSo) {
  for (int i = 0; i < 5; ++i) Write(fleet_[2]);
  ExpectAllEqual(5);
  ASSERT_EQ(RunPatina({"fault", "cut", "--api", fleet_[2].api()}).exit_code, 0);
  for (int i = 0; i < 3; ++i) Write(fleet_[2]);
  fleet_[2].Kill();
  const fs::path log = Database(fleet_[2]).string() + "-wal";
  ASSERT_GT(fs::file_size(log), 0u);
  fs::resize_file(log, 0);  // what the last checkpoint of SQLite's did not copy is gone
  fleet_[2].Start();
  const std::string named = "3 commits that this node had acknowledged are gone";
  EXPECT_TRUE(Eventually([&] {
    return RunPatina({"status", "--api", fleet_[2].api()}).out.find(named) != std::string::npos;
  })) << RunPatina({"status", "--api", fleet_[2].api()}).out;
  EXPECT_THAT(fleet_[2].log(), HasSubstr("commits that this node had acknowledged are gone"));
  Write(fleet_[2]);
  ExpectAllEqual(6);  // the five that peers had came back
}

TEST_F(BackupProcessTest, BackupsAreOneAtATimeAndEndWithTheirCaller) {
  ASSERT_EQ(RunPatina({"bench", "insert", "--agent", fleet_[0].api(), "--rows", "2000"}).exit_code,
            0);
  Process slow({"backup", File("slow.db"), "--rate", "4KB", "--api", fleet_[0].api()}, {});
  ASSERT_TRUE(Eventually([this] { return fs::exists(File("slow.db.partial")); }));
  const RunResult second = Backup(fleet_[0], "second.db");
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_THAT(second.error, HasSubstr("another backup"));
  slow.Signal(SIGKILL);
  EXPECT_TRUE(Eventually([this] { return !fs::exists(File("slow.db.partial")); }));
  EXPECT_FALSE(fs::exists(File("slow.db")));
  EXPECT_TRUE(Eventually([this] { return Backup(fleet_[0], "third.db").exit_code == 0; }));
  const RunResult again = Backup(fleet_[0], "third.db");
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.error, HasSubstr("is there already"));
  // An agent that stops does not wait for a copy.
  Process other({"backup", File("other.db"), "--rate", "4KB", "--api", fleet_[0].api()}, {});
  ASSERT_TRUE(Eventually([this] { return fs::exists(File("other.db.partial")); }));
  EXPECT_EQ(fleet_[0].Stop(), 0);
  EXPECT_EQ(other.Wait(), 1);
  EXPECT_FALSE(fs::exists(File("other.db.partial")));
}

TEST_F(BackupProcessTest, AForeignOrDamagedBackupIsRefusedAndNothingChanges) {
  Write(fleet_[1]);
  TestAgent::Options foreign;
  foreign.cluster = "foreign";
  TestAgent& other = fleet_.Add(foreign);
  ASSERT_EQ(Backup(other, "foreign.db").exit_code, 0);
  ASSERT_EQ(Backup(fleet_[1], "damaged.db").exit_code, 0);
  std::string bytes = ReadFile(File("damaged.db"));
  for (size_t i = bytes.size() / 2; i < bytes.size() / 2 + 4096; ++i) bytes[i] = 'x';
  WriteFile(File("damaged.db"), bytes);
  ASSERT_EQ(fleet_[1].Stop(), 0);
  const RunResult refused = Offline("restore", fleet_[1], "foreign.db");
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.error, HasSubstr("is of cluster 'foreign'"));
  const RunResult damaged = Offline("restore", fleet_[1], "damaged.db");
  EXPECT_EQ(damaged.exit_code, 1);
  EXPECT_THAT(damaged.error, HasSubstr("is damaged, nothing was changed"));
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(fleet_[1].data())) {
    const std::string name = entry.path().filename();
    if (name.starts_with("patina.db")) files.push_back(name);
  }
  EXPECT_THAT(files, ::testing::UnorderedElementsAre("patina.db", "patina.db-acked"));
  const RunResult taken =
      RunPatina({"restore", File("foreign.db"), "--config", Config(fleet_[1]), "--new-cluster"});
  EXPECT_EQ(taken.exit_code, 0) << taken.error;
  EXPECT_FALSE(fs::exists(fleet_[1].data() / "patina.db.new-acked"));
  fleet_[1].Start();
  EXPECT_TRUE(
      Eventually([this] { return fleet_[1].QueryCell("SELECT count(*) FROM apps") == "1"; }));
}

}  // namespace
}  // namespace patina::test

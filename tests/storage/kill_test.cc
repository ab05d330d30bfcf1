#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <set>

#include "base/log.h"
#include "tests/storage/fault_vfs.h"
#include "tests/storage/test_util.h"
#include "tests/support/environment.h"

// A process that writes, merges and checkpoints as fast as it can is killed at random points, again
// and again on one file: what it had acknowledged is there, and the file is sound.
//
//     PATINA_KILLS=5000 storage_tests --gtest_filter='KillTest.*'     how often, instead of 500
//     times

namespace patina::storage {
namespace {

constexpr const char* kSchema = R"sql(
CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a, b TEXT DEFAULT 'd');
CREATE INDEX t_a ON t (a);
CREATE TABLE p (v, x TEXT NOT NULL, y INTEGER NOT NULL, PRIMARY KEY (y, x)) WITHOUT ROWID;
)sql";

std::string RandomSql(Rng& rng) {
  const std::string key = StrCat("'k", rng.Below(300), "'"), value = StrCat(rng.Below(90));
  switch (rng.Below(6)) {
    case 0:
    case 1:
      return "REPLACE INTO t (id, a) VALUES (" + key + ", zeroblob(" + value + "))";
    case 2:
      return "UPDATE t SET b = " + value + " WHERE id = " + key;
    case 3:
      return "DELETE FROM t WHERE id = " + key;
    case 4:
      return "REPLACE INTO p VALUES (" + value + ", " + key + ", 1)";
    default:
      return "UPDATE t SET a = " + value + " WHERE b = " + value;
  }
}

/// What the child tells its parent of each commit, by a pipe: after the store has acknowledged it.
struct Ack {
  std::array<char, 16> actor;
  uint64_t version;
};

void Tell(int pipe, const ChangeId& id) {
  Ack ack{};
  const std::string_view actor = id.actor.AsBytes();
  std::copy(actor.begin(), actor.end(), ack.actor.begin());
  ack.version = id.version;
  if (::write(pipe, &ack, sizeof ack) != static_cast<ssize_t>(sizeof ack)) ::_exit(2);
}

/// Until it is killed.
[[noreturn]] void Work(const StoreOptions& options, std::vector<SharedBytes> from_peer, Rng rng,
                       int pipe) {
  auto store = Store::Open(options);
  if (!store.ok()) ::_exit(3);
  CommitEffects effects;
  while (true) {
    if (!from_peer.empty() && rng.Chance(0.2)) {
      const std::vector<SharedBytes> batch = {from_peer.back()};
      auto outcomes = (*store)->Merge(batch, &effects);
      if (!outcomes.ok()) ::_exit(4);
      for (const MergeOutcome& outcome : *outcomes) Tell(pipe, outcome.id);
      from_peer.pop_back();
      continue;
    }
    std::vector<Transaction> group(1 + rng.Below(4));
    for (Transaction& transaction : group) {
      for (uint64_t i = 1 + rng.Below(5); i > 0; --i)
        transaction.statements.push_back({RandomSql(rng), {}, {}});
    }
    for (const Result<Committed>& result : (*store)->Execute(group, &effects)) {
      if (!result.ok()) ::_exit(5);
      if (result->version != 0) Tell(pipe, {result->actor, result->version});
    }
    if (!(*store)->CheckpointIfDue().ok()) ::_exit(6);
  }
}

class KilledProcess {
 public:
  explicit KilledProcess(const std::function<void(int pipe)>& work) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe(ends.data()), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(ends[0]);
      work(ends[1]);
    }
    ::close(ends[1]);
    from_child_ = ends[0];
  }
  ~KilledProcess() { ::close(from_child_); }
  KilledProcess(const KilledProcess&) = delete;
  KilledProcess& operator=(const KilledProcess&) = delete;

  /// False: the child has ended, and all it told was read.
  bool Next(std::set<ChangeId>* acknowledged) {
    Ack ack{};
    const ssize_t got = ::read(from_child_, &ack, sizeof ack);
    if (got != static_cast<ssize_t>(sizeof ack)) return false;
    acknowledged->insert({*ActorId::FromBytes({ack.actor.data(), ack.actor.size()}), ack.version});
    return true;
  }
  /// How it ended.
  int Kill() {
    ::kill(pid_, SIGKILL);
    int status = 0;
    ::waitpid(pid_, &status, 0);
    return status;
  }

 private:
  pid_t pid_ = -1;
  int from_child_ = -1;
};

TEST(KillTest, WhatWasAcknowledgedSurvivesAKillAtAnyPoint) {
  const uint64_t kills = test::FromEnvironment("PATINA_KILLS", 500);
  const auto level = GetLogLevel();
  SetLogLevel(LogLevel::kError);
  Rng rng(1);
  TestNode node(MustParse(kSchema)), peer(node.options.schema);
  FaultDisk disk(node.options.path);
  node.options.limits.dirty_rows_max = 60;
  node.options.limits.row_cache_bytes = 20'000;
  std::set<ChangeId> acknowledged;
  std::map<ChangeId, SharedBytes> record;
  for (uint64_t round = 0; round < kills && !HasFailure(); ++round) {
    SCOPED_TRACE(StrCat("kill ", round));
    if (rng.Chance(0.5)) disk.PullPlug();  // else the log is copied to the file
    node.Crash();
    disk.Heal();
    std::vector<SharedBytes> from_peer;
    for (int i = 0; i < 10; ++i) {
      if (const Committed done = peer.Do(RandomSql(rng)); done.version != 0)
        from_peer.push_back(done.changeset);
    }
    KilledProcess process([&](int pipe) { Work(node.options, from_peer, Rng(rng.Next()), pipe); });
    rng.Next();
    if (rng.Chance(0.2)) {
      for (uint64_t i = rng.Below(3'000); i > 0; --i) ::sched_yield();  // while it opens the file
    } else {
      for (uint64_t i = rng.Below(150); i > 0 && process.Next(&acknowledged); --i) {
      }
    }
    const int status = process.Kill();
    EXPECT_TRUE(WIFSIGNALED(status)) << "it gave up: " << WEXITSTATUS(status);
    while (process.Next(&acknowledged)) {
    }
    node.Open();
    for (const ChangeId& id : acknowledged)
      ASSERT_TRUE(node.store->applied().Contains(id)) << "lost: " << id.version;
    ASSERT_TRUE(node.store->Troubles().empty());
    ASSERT_EQ(Ask(node.options.path, "PRAGMA integrity_check"), "ok");
    if (round % 20 != 9 && round + 1 != kills) continue;
    const auto log = node.reader->ReadLog(node.store->applied().AllRanges(), UINT64_MAX);
    ASSERT_TRUE(log.ok());
    record.insert(log->changes.begin(), log->changes.end());
    OracleState expected;
    for (const auto& [id, bytes] : record) JoinInto(expected, Says(bytes));
    ASSERT_EQ(node.Dump(), Visible(expected, node.options.schema));
  }
  std::vector<SharedBytes> all;
  for (const auto& [id, bytes] : record) all.push_back(bytes);
  peer.Merge(all);
  node.Merge(peer.Log());
  EXPECT_EQ(node.Digests(), peer.Digests());
  EXPECT_GT(acknowledged.size(), static_cast<size_t>(kills) * 10);
  RecordProperty("acknowledged", static_cast<int>(acknowledged.size()));
  SetLogLevel(level);
}

}  // namespace
}  // namespace patina::storage

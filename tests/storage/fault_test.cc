#include <sqlite3.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <set>

#include "base/log.h"
#include "crdt/manifest.h"
#include "tests/storage/fault_vfs.h"
#include "tests/storage/test_util.h"

// One node on a disk that fails at any moment, in any of its operations: what was acknowledged is
// there afterwards, the tables are the join of what is applied, and the file is sound.
//
//     PATINA_FAULT_SEEDS=5000 storage_tests --gtest_filter='FaultTest.AnyFault*'     more seeds
//     PATINA_FAULT_FIRST=17 PATINA_FAULT_SEEDS=1 …                                   one of them

namespace patina::storage {
namespace {

using File = FaultDisk::File;
using Op = FaultDisk::Op;

constexpr const char* kSchema = R"sql(
CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a, b TEXT DEFAULT 'd');
CREATE INDEX t_a ON t (a);
CREATE TABLE p (v, x TEXT NOT NULL, y INTEGER NOT NULL, PRIMARY KEY (y, x)) WITHOUT ROWID;
)sql";

/// Sorted lines that only one side has, shortened: rows here are large.
std::string Differences(const std::vector<std::string>& has,
                        const std::vector<std::string>& wanted) {
  constexpr size_t kShown = 30;
  const auto brief = [](const std::string& line) {
    return line.size() <= 2 * kShown ? line
                                     : StrCat(line.substr(0, kShown), "…(", line.size(), ")…",
                                              line.substr(line.size() - kShown));
  };
  std::vector<std::string> more, less;
  std::set_difference(has.begin(), has.end(), wanted.begin(), wanted.end(),
                      std::back_inserter(more));
  std::set_difference(wanted.begin(), wanted.end(), has.begin(), has.end(),
                      std::back_inserter(less));
  std::string text;
  for (const auto& line : more) text += "\n  + " + brief(line);
  for (const auto& line : less) text += "\n  - " + brief(line);
  return text;
}

class FaultyWorld {
 public:
  explicit FaultyWorld(uint64_t seed)
      : rng_(seed),
        node_(MustParse(kSchema)),
        peer_(node_.options.schema),
        disk_(node_.options.path) {
    node_.options.limits.page_cache_kib = 40;  // pages leave the cache before the commit
    node_.options.limits.large_memory_bytes = peer_.options.limits.large_memory_bytes = 500;
    node_.options.limits.large_chunk_bytes = peer_.options.limits.large_chunk_bytes = 300;
    node_.options.limits.row_cache_bytes = rng_.Chance(0.5) ? 500 : 1u << 20;
    for (TestNode* node : {&node_, &peer_}) {
      node->options.seed = rng_.Next() | 1;
      node->CloseAndOpen();
    }
  }

  void Run(int steps) {
    for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) Step();
    if (!::testing::Test::HasFailure()) End();
    if (::testing::Test::HasFailure()) ADD_FAILURE() << "history:" << trace_;
  }

 private:
  void Step() {
    node_.clock.AdvanceMs(rng_.Between(0, 3));
    peer_.clock.AdvanceMs(rng_.Between(0, 3));
    const uint64_t lot = rng_.Below(100);
    if (lot < 40) {
      Write();
    } else if (lot < 54) {
      Merge();
    } else if (lot < 60) {
      MergeLarge();
    } else if (lot < 66) {
      Say("checkpoint", node_.store->Checkpoint());
    } else if (lot < 70) {
      Transfer();
    } else if (lot < 75) {
      const char* const mode = rng_.Chance(0.5) ? "PASSIVE" : "TRUNCATE";
      trace_ += StrCat("\n  another connection copies the log: ",
                       Ask(node_.options.path, StrCat("PRAGMA wal_checkpoint(", mode, ")")));
    } else if (lot < 80) {
      std::vector<std::string> rows;
      Say("query", node_.Query("SELECT * FROM t, p", &rows));
    } else if (lot < 90) {
      Arm();
    } else if (lot < 95) {
      trace_ += "\n  the disk is well again";
      disk_.Heal();
    } else {
      Restart(true);
    }
    if (node_.store->broken()) {
      EXPECT_GT(disk_.failed(), 0u);
      trace_ += "\n  broken";
      Restart(rng_.Chance(0.5));
    }
    if (rng_.Chance(0.2)) Check();
  }

  void Arm() {
    constexpr Op kOps[] = {Op::kAny,  Op::kWrite, Op::kWrite,    Op::kWrite,
                           Op::kRead, Op::kSync,  Op::kTruncate, Op::kDelete};
    if (rng_.Chance(0.3)) {
      const uint64_t more = rng_.Below(3) * rng_.Below(30'000);
      trace_ += StrCat("\n  ", more, " bytes are left");
      return disk_.SetQuota(disk_.bytes() + more);
    }
    FaultDisk::Fault fault;
    fault.op = kOps[rng_.Below(std::size(kOps))];
    fault.file = static_cast<File>(rng_.Below(4));
    fault.skip = rng_.Below(20);
    fault.times = rng_.Chance(0.5) ? 1 : 1 + rng_.Below(50);
    fault.half = rng_.Chance(0.5);
    if (fault.op == Op::kWrite && rng_.Chance(0.3)) fault.code = SQLITE_FULL;
    trace_ += StrCat("\n  fault: op ", static_cast<int>(fault.op), " file ",
                     static_cast<int>(fault.file), " after ", fault.skip, ", ", fault.times,
                     " times, code ", fault.code, fault.half ? ", half" : "");
    disk_.Add(fault);
  }

  void Say(const char* what, const Status& status) {
    trace_ += StrCat("\n  ", what, ": ", status.ok() ? "ok" : status.error().ToString());
    if (!status.ok()) {
      EXPECT_GT(disk_.failed(), 0u) << what << ": " << status.error().ToString();
    }
  }

  std::string Sql() {
    const std::string key = "'k" + std::to_string(rng_.Below(6)) + "'",
                      value = std::to_string(rng_.Below(9)),
                      large = StrCat("zeroblob(", rng_.Below(3) * rng_.Below(9000), ")");
    switch (rng_.Below(8)) {
      case 0:
      case 1:
        return "REPLACE INTO t (id, a) VALUES (" + key + ", " + large + ")";
      case 2:
        return "UPDATE t SET b = " + value;
      case 3:
        return "DELETE FROM t WHERE id = " + key;
      case 4:
      case 5:
        return "REPLACE INTO p VALUES (" + large + ", " + key + ", " + value + ")";
      case 6:
        return "DELETE FROM p WHERE x = " + key;
      default:
        return "UPDATE OR REPLACE t SET id = " + key + " WHERE b = " + value;
    }
  }

  void Write() {
    std::vector<Transaction> group(1 + rng_.Below(3));
    for (Transaction& transaction : group) {
      for (uint64_t i = 1 + rng_.Below(3); i > 0; --i) {
        transaction.statements.push_back({Sql(), {}, {}});
        trace_ += "\n  " + transaction.statements.back().sql;
      }
      trace_ += ";";
    }
    if (rng_.Chance(0.3)) {
      group.resize(1);
      group[0].large = true;
      trace_ += " (the first alone, large)";
    }
    for (const Result<Committed>& result : node_.Run(group)) {
      trace_ += result.ok() ? StrCat(" -> ", result->version) : " -> " + result.error().ToString();
      if (!result.ok()) {
        EXPECT_GT(disk_.failed(), 0u) << result.error().ToString();
        continue;
      }
      if (result->version == 0) continue;
      const ChangeId id{result->actor, result->version};
      EXPECT_TRUE(acknowledged_.insert(id).second) << "a version is used twice";
      if (!group[0].large) record_[id] = result->changeset;
    }
  }

  /// What the peer writes, chunk by chunk; after a failure, or only some, the next time goes on.
  void MergeLarge() {
    if (!large_) {
      const Committed done = peer_.DoLarge({Sql(), Sql(), Sql()});
      if (done.version == 0) return;
      const ChangeId id{done.actor, done.version};
      large_ = id;
      record_[id] = ReadLarge(peer_, id).manifest;
    }
    const LargeChange change = ReadLarge(peer_, *large_);
    const auto first = node_.store->StageLarge(*change.manifest);
    Status status = first.ok() ? OkStatus() : Status(first.error());
    for (uint64_t i = first.value_or(0); i < change.chunks.size() && status.ok(); ++i) {
      if (rng_.Chance(0.1)) return;
      status = node_.store->StageLargeChunk(*large_, i, *change.chunks[i]);
    }
    Say("stage", status);
    if (!status.ok()) return;
    const auto outcome = node_.store->MergeLarge(*large_, &node_.effects);
    Say("merge large", outcome.ok() ? OkStatus() : Status(outcome.error()));
    if (!outcome.ok()) return;
    EXPECT_NE(outcome->state, MergeState::kRejected) << outcome->reason;
    acknowledged_.insert(*large_);
    large_.reset();
  }

  void GiveLarge(TestNode& from, TestNode& to) {
    for (const auto& [id, bytes] : record_) {
      const bool lacks = from.store->applied().Contains(id) && !to.store->applied().Contains(id);
      if (!lacks || !crdt::IsManifest(*bytes)) continue;
      EXPECT_TRUE(TakeLarge(to, ReadLarge(from, id)).ok());
    }
  }

  /// record_ has the manifests only.
  OracleState SaysOf(const ChangeId& id, const SharedBytes& bytes) {
    if (!crdt::IsManifest(*bytes)) return Says(bytes);
    return Says(ReadLarge(id.actor == peer_.store->actor() ? peer_ : node_, id));
  }

  void Merge() {
    for (uint64_t i = rng_.Below(4); i > 0; --i) {
      const Committed done = peer_.Do(Sql());
      if (done.version == 0) continue;
      record_[{done.actor, done.version}] = done.changeset;
      waiting_.push_back(done.changeset);
    }
    rng_.Shuffle(waiting_);
    auto outcomes = node_.store->Merge(waiting_, &node_.effects);
    trace_ += StrCat("\n  merges ", waiting_.size(), ": ",
                     outcomes.ok() ? "ok" : outcomes.error().ToString());
    if (!outcomes.ok()) {
      EXPECT_GT(disk_.failed(), 0u);
      return;  // the net would ask for them again
    }
    for (const MergeOutcome& outcome : *outcomes) {
      EXPECT_NE(outcome.state, MergeState::kRejected) << outcome.reason;
      acknowledged_.insert(outcome.id);
    }
    waiting_.clear();
  }

  void Transfer() {
    const auto chunks = TransferChunks(peer_, node_.store->applied(), 1 + rng_.Below(2000));
    const crdt::VersionSet claimed = peer_.store->applied();
    const Status taken = TakeTransfer(node_, chunks);
    Say("transfer", taken);
    if (!taken.ok()) return;
    for (const auto& [id, bytes] : record_) {
      if (claimed.Contains(id)) acknowledged_.insert(id);
    }
  }

  /// A new process. On a disk that still fails it may not come up, and says why.
  void Restart(bool crash) {
    trace_ += crash ? "\n  crash" : "\n  stop";
    if (crash) {
      disk_.PullPlug();
    } else {
      (void)node_.store->Close();
    }
    node_.Crash();
    if (crash) disk_.Heal();
    if (crash && rng_.Chance(0.3)) Arm();
    node_.options.seed = rng_.Next() | 1;
    if (const Status status = node_.TryOpen(); !status.ok()) {
      Say("open", status);
      node_.Crash();
      disk_.Heal();
      node_.Open();
    }
  }

  void Check() {
    disk_.Heal();
    // What was answered with an error may be in the file all the same.
    const auto log = node_.reader->ReadLog(node_.store->applied().AllRanges(), UINT64_MAX);
    ASSERT_TRUE(log.ok()) << log.error().ToString();
    record_.insert(log->changes.begin(), log->changes.end());
    OracleState expected;
    for (const auto& [id, bytes] : record_) {
      if (node_.store->applied().Contains(id)) JoinInto(expected, SaysOf(id, bytes));
    }
    for (const ChangeId& id : acknowledged_) {
      ASSERT_TRUE(node_.store->applied().Contains(id)) << "lost: " << id.version;
    }
    const Schema& schema = node_.options.schema;
    ASSERT_EQ(node_.store->damage(), "");
    ASSERT_EQ(Differences(node_.Dump(), Visible(expected, schema)), "")
        << Ask(node_.options.path, "select group_concat(id || ' ' || length(a)) from t");
    ASSERT_EQ(Differences(LiveCells(node_, expected), LiveCells(expected, schema)), "");
    ASSERT_EQ(Ask(node_.options.path, "PRAGMA integrity_check"), "ok");
  }

  void End() {
    trace_ += "\n  the end";
    disk_.Heal();
    EXPECT_TRUE(node_.Try({"REPLACE INTO t (id) VALUES ('last')"}).ok()) << "it goes on by itself";
    node_.Merge(peer_.Log());
    GiveLarge(peer_, node_);
    Check();
    if (::testing::Test::HasFailure()) return;
    peer_.clock.AdvanceMs(node_.clock.WallMs() - peer_.clock.WallMs());
    std::vector<SharedBytes> all;
    for (const auto& [id, bytes] : record_) {
      if (node_.store->applied().Contains(id) && !crdt::IsManifest(*bytes)) all.push_back(bytes);
    }
    GiveLarge(node_, peer_);
    peer_.Merge(all);
    EXPECT_EQ(node_.Digests(), peer_.Digests());
    EXPECT_EQ(node_.store->applied().digest(), peer_.store->applied().digest());
    const auto digests = node_.Digests();
    Restart(true);
    disk_.Heal();
    EXPECT_EQ(node_.Digests(), digests);
    EXPECT_EQ(Ask(node_.options.path, "PRAGMA integrity_check"), "ok");
  }

  Rng rng_;
  TestNode node_, peer_;
  FaultDisk disk_;
  std::map<ChangeId, SharedBytes> record_;
  std::set<ChangeId> acknowledged_;
  std::vector<SharedBytes> waiting_;  // from the peer, not yet merged
  std::optional<ChangeId> large_;     // the same, being fetched
  std::string trace_;
};

TEST(FaultTest, AnyFaultAtAnyMomentLosesNothingAcknowledgedAndLeavesASoundFile) {
  ForEachSeed("PATINA_FAULT", 40, [](uint64_t seed) { FaultyWorld(seed).Run(60); });
}

TEST(FaultTest, ARollbackToASavepointInALargeTransactionLosesNoCommitAtACrash) {
  // SQLite 3.40 does, when pages left its cache before: Store::Impl::Spilling.
  TestNode node(MustParse("CREATE TABLE t (id INTEGER NOT NULL PRIMARY KEY, a)"));
  FaultDisk disk(node.options.path);
  node.options.limits.page_cache_kib = 20;
  node.CloseAndOpen();
  for (int i = 0; i < 60; ++i)
    node.Do("INSERT INTO t VALUES (" + std::to_string(i) + ", zeroblob(900))");
  Rng rng(7);
  auto updates = [&](uint64_t count, Transaction* transaction) {
    for (; count > 0; --count) {
      transaction->statements.push_back(
          {StrCat("UPDATE t SET a = randomblob(900) WHERE id = ", rng.Below(60)), {}, {}});
    }
  };
  for (int i = 0; i < 60; ++i) {
    Transaction transaction;
    updates(rng.Below(3), &transaction);
    transaction.statements.push_back({"SAVEPOINT s", {}, {}});
    updates(80, &transaction);
    transaction.statements.push_back({"ROLLBACK TO s", {}, {}});
    updates(rng.Below(80), &transaction);
    transaction.statements.push_back({StrCat("INSERT INTO t VALUES (", 1000 + i, ", 1)"), {}, {}});
    ASSERT_TRUE(node.Run({transaction})[0].ok());
    disk.PullPlug();
    node.Crash();
    disk.Heal();
    node.Open();
    ASSERT_EQ(node.Rows("SELECT id FROM t WHERE id = " + std::to_string(1000 + i)).size(), 1u) << i;
  }
}

TEST(FaultTest, AnIoErrorInACommitIsNeverAcknowledgedAndEndsTheProcess) {
  TestNode node(MustParse(kSchema));
  FaultDisk disk(node.options.path);
  node.CloseAndOpen();
  node.Do("INSERT INTO t (id) VALUES ('k')");
  disk.Add({Op::kWrite, File::kWal});
  EXPECT_EQ(node.Try({"INSERT INTO t (id) VALUES ('l')"}).error().code, Errc::kInternal);
  EXPECT_TRUE(node.store->broken());
  disk.Heal();
  EXPECT_EQ(node.Try({"INSERT INTO t (id) VALUES ('l')"}).error().code, Errc::kUnavailable);
  node.CrashAndOpen();
  EXPECT_EQ(node.Rows("SELECT id FROM t"), std::vector<std::string>{"'k'"});
  node.Do("INSERT INTO t (id) VALUES ('l')");
}

TEST(FaultTest, AnOldValueThatCannotBeReadFailsTheTransaction) {
  // The hook's own reads: SQLite goes on without them.
  TestNode node(MustParse(kSchema));
  FaultDisk disk(node.options.path);
  node.CloseAndOpen();
  node.Do("INSERT INTO t (id, a) VALUES ('k', zeroblob(50000))");
  node.CloseAndOpen();
  for (uint64_t skip = 0;; ++skip) {
    const uint64_t failed = disk.failed();
    disk.Add({Op::kRead, File::kAny, skip, 1});
    const auto result = node.Try({"UPDATE t SET b = 'x" + std::to_string(skip) + "'"});
    disk.Heal();
    EXPECT_EQ(result.ok(), disk.failed() == failed) << skip;
    if (result.ok()) break;
    node.CloseAndOpen();  // with nothing in SQLite's cache
  }
  EXPECT_EQ(node.Rows("SELECT length(a), b FROM t").size(), 1u);
}

TEST(FaultTest, ADamagedPageIsFoundReportedAndEndsAllWriting) {
  TestNode node(MustParse(kSchema));
  FaultDisk disk(node.options.path);
  node.Do(
      "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) "
      "INSERT INTO t (id, a) SELECT 'k' || i, zeroblob(500) FROM n");
  const int64_t root =
      std::stoll(Ask(node.options.path, "SELECT rootpage FROM sqlite_schema WHERE name = 't'"));
  node.CloseAndOpen();
  disk.FlipOnRead(File::kDatabase, (root - 1) * 4096, 0xff);  // which kind of page it is
  node.CloseAndOpen();
  const auto result = node.Try({"UPDATE t SET b = 'x' WHERE id = 'k7'"});
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, Errc::kDataLoss);
  EXPECT_THAT(result.error().message, testing::HasSubstr("patina reseed"));
  EXPECT_THAT(node.store->damage(), testing::HasSubstr(node.options.path));
  EXPECT_FALSE(node.store->broken()) << "who stays can tell others";
  disk.Heal();
  EXPECT_EQ(node.Try({"INSERT INTO p VALUES (1, 'x', 1)"}).error().code, Errc::kDataLoss);
  EXPECT_EQ(node.store->Checkpoint().error().code, Errc::kDataLoss);
  EXPECT_EQ(node.store->Troubles().size(), 1u);
}

}  // namespace
}  // namespace patina::storage

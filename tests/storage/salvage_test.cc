#include "storage/salvage.h"

#include <filesystem>
#include <set>

#include "base/log.h"
#include "tests/storage/test_util.h"
#include "tests/support/files.h"

// What a damaged file still gives.

namespace patina::storage {
namespace {

constexpr const char* kSchema = "CREATE TABLE t (id INTEGER NOT NULL PRIMARY KEY, a);";
constexpr size_t kPage = 4096;

SalvageReport MustSalvage(const std::string& path, std::vector<SharedBytes>* changes) {
  SalvageTaker take;
  take.changes = [changes](const std::vector<SharedBytes>& batch) {
    changes->insert(changes->end(), batch.begin(), batch.end());
    return OkStatus();
  };
  take.large = [](const std::string&, const auto&) { return Status(Internal("not expected")); };
  const auto report = SalvageOwnChanges(path, "n", take);
  EXPECT_TRUE(report.ok());
  return report.ok() ? *report : SalvageReport();
}

SalvageTaker Into(TestNode* node) {
  SalvageTaker take;
  take.changes = [node](const std::vector<SharedBytes>& batch) {
    node->Merge(batch);
    return OkStatus();
  };
  take.large = [node](const std::string& manifest, const auto& read) -> Status {
    const auto outcome = MergeSalvaged(*node->store, manifest, read, &node->effects);
    return outcome.ok() ? OkStatus() : Status(outcome.error());
  };
  return take;
}

std::set<std::string> AsSet(const std::vector<SharedBytes>& changes) {
  std::set<std::string> set;
  for (const SharedBytes& change : changes) set.insert(*change);
  return set;
}

/// A node "n" with changes of its own from two lives, a peer's, and a parked one.
class SalvageTest : public testing::Test {
 protected:
  SalvageTest() : node_(MustParse(kSchema)), peer_(node_.options.schema) {
    node_.options.node_name = "n";
    peer_.options.node_name = "p";
    node_.CloseAndOpen();
    peer_.CloseAndOpen();
  }

  void Write(int changes) {
    for (int i = 0; i < changes; ++i) {
      TestNode& writer = i % 4 == 3 ? peer_ : node_;
      const SharedBytes change = writer
                                     .Do("INSERT OR REPLACE INTO t VALUES (" + std::to_string(i) +
                                         ", hex(randomblob(100)))")
                                     .changeset;
      if (&writer == &peer_) {
        node_.Merge(change);
      } else {
        own_.insert(*change);
      }
      if (i == changes / 2) node_.CloseAndOpen();
    }
  }

  TestNode node_, peer_;
  std::set<std::string> own_;
};

TEST_F(SalvageTest, OfAWholeFileEverythingOfItsOwnAndNothingElse) {
  Write(50);
  node_.Crash();  // part of it is in the write-ahead log
  std::vector<SharedBytes> changes;
  const SalvageReport report = MustSalvage(node_.options.path, &changes);
  EXPECT_EQ(AsSet(changes), own_);
  EXPECT_EQ(report.changes, changes.size());
  EXPECT_EQ(report.unreadable, 0u);
  EXPECT_THAT(report.problems, testing::IsEmpty());
}

TEST_F(SalvageTest, AParkedChangeOfItsOwnIsFoundToo) {
  const SharedBytes change = node_.Do("INSERT INTO t VALUES (1, 2)").changeset;
  node_.Close();
  // As after a snapshot: it is its own, received, and not applied.
  RunForeign(node_.options.path,
             "INSERT INTO __patina_parked SELECT actor, version, time, '', 0, bytes FROM "
             "__patina_log; DELETE FROM __patina_log");
  std::vector<SharedBytes> changes;
  MustSalvage(node_.options.path, &changes);
  EXPECT_EQ(AsSet(changes), std::set<std::string>{*change});
}

TEST_F(SalvageTest, PastAnyDamagedPageTheRestIsReadAndNothingIsMadeUp) {
  Write(400);
  node_.Close();
  const std::string whole = test::ReadFile(node_.options.path);
  const size_t pages = whole.size() / kPage;
  ASSERT_GT(pages, 20u);
  size_t complete = 0;
  for (size_t number = 0; number < pages; ++number) {
    Rng rng(number);
    const std::string copy = node_.dir.File("copy.db");
    test::WriteFile(copy, WithDamagedPage(whole, number, rng));
    std::vector<SharedBytes> changes;
    const SalvageReport report = MustSalvage(copy, &changes);
    const std::set<std::string> found = AsSet(changes);
    // Where it is not known any more whose they are, the peer's come along.
    size_t own = 0;
    for (const std::string& change : found) own += own_.contains(change) ? 1 : 0;
    complete += own == own_.size() ? 1 : 0;
    if (own == own_.size()) continue;
    EXPECT_FALSE(report.problems.empty()) << "page " << number;
    // A leaf holds a dozen of these; only the file's and the log's roots cost more.
    if (number > 0 && own < own_.size() - 60) {
      EXPECT_THAT(report.problems.front(), testing::HasSubstr("__patina_log")) << "page " << number;
    }
  }
  EXPECT_GT(complete, pages / 4) << "most pages are not the log's";
}

TEST_F(SalvageTest, WhatIsSalvagedMergesIntoANewFile) {
  Write(60);
  node_.Close();
  TestNode fresh(node_.options.schema);
  ASSERT_TRUE(SalvageOwnChanges(node_.options.path, "n", Into(&fresh)).ok());
  EXPECT_EQ(fresh.store->applied().Size(), own_.size());
  for (const SharedBytes& change : peer_.Log()) fresh.Merge(change);
  node_.Open();
  EXPECT_EQ(fresh.Digests(), node_.Digests());
}

TEST_F(SalvageTest, ItsLargeTransactionsComeWithTheirChunks) {
  node_.options.limits.large_chunk_bytes = 100;
  node_.CloseAndOpen();
  node_.DoLarge({"INSERT INTO t SELECT value, zeroblob(60) FROM json_each('[1,2,3,4,5]')"});
  node_.Do("UPDATE t SET a = 'later' WHERE id = 3");
  node_.Crash();
  TestNode fresh(node_.options.schema);
  ASSERT_TRUE(SalvageOwnChanges(node_.options.path, "n", Into(&fresh)).ok());
  node_.Open();
  EXPECT_EQ(fresh.Dump(), node_.Dump());
  EXPECT_EQ(fresh.Digests(), node_.Digests());
}

TEST_F(SalvageTest, OfALargeTransactionWithAMissingChunkNothingIsAppliedAndAPeerCanHelp) {
  node_.options.limits.large_chunk_bytes = 100;
  node_.CloseAndOpen();
  const Committed large =
      node_.DoLarge({"INSERT INTO t SELECT value, zeroblob(60) FROM json_each('[1,2,3,4,5]')"});
  const LargeChange change = ReadLarge(node_, {large.actor, large.version});
  node_.Close();
  RunForeign(node_.options.path, "DELETE FROM __patina_chunk WHERE number = 2");
  TestNode fresh(node_.options.schema);
  const auto report = SalvageOwnChanges(node_.options.path, "n", Into(&fresh));
  ASSERT_TRUE(report.ok());
  EXPECT_THAT(report->problems, testing::ElementsAre(testing::HasSubstr("chunk 2 of")));
  EXPECT_EQ(report->unreadable, 1u);
  EXPECT_TRUE(fresh.Dump().empty());
  EXPECT_EQ(*fresh.store->StageLarge(*change.manifest), 2u) << "the others wait";
  EXPECT_EQ(TakeLarge(fresh, change)->state, MergeState::kApplied);
}

TEST_F(SalvageTest, OfAFileThatIsNoneNothing) {
  const std::string path = node_.dir.File("junk");
  test::WriteFile(path, std::string(10'000, 'x'));
  std::vector<SharedBytes> changes;
  EXPECT_FALSE(MustSalvage(path, &changes).problems.empty());
  EXPECT_FALSE(MustSalvage(node_.dir.File("none"), &changes).problems.empty());
  EXPECT_TRUE(changes.empty());
}

}  // namespace
}  // namespace patina::storage

#include <algorithm>
#include <filesystem>

#include "base/log.h"
#include "storage/acked_file.h"
#include "tests/storage/fault_vfs.h"
#include "tests/storage/test_util.h"
#include "tests/support/files.h"

// A write-ahead log that lost its end or turned a bit, and older files: SQLite takes what is sound
// and says nothing. What is gone is told, and struck off when peers return it.

namespace patina::storage {
namespace {

constexpr const char* kSchema = "CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a);";

std::string Insert(int number) {
  return StrCat("INSERT INTO t (id, a) VALUES ('k", number, "', zeroblob(", number % 7 * 500, "))");
}

uint64_t Count(const std::vector<crdt::ActorRanges>& lost) {
  uint64_t count = 0;
  for (const auto& actor : lost) {
    for (const auto& range : actor.ranges) count += range.last - range.first + 1;
  }
  return count;
}

/// One node whose process dies, and whose log is damaged before the next one starts.
class LostCommitsTest : public testing::Test {
 protected:
  LostCommitsTest() : node_(MustParse(kSchema)), disk_(node_.options.path) { node_.CloseAndOpen(); }

  void Write(int count) {
    for (int i = 0; i < count; ++i) all_.push_back(node_.Do(Insert(next_++)));
  }
  void Die() {
    disk_.PullPlug();
    node_.Crash();
    disk_.Heal();
  }
  std::string Wal() const { return node_.options.path + "-wal"; }
  /// What is there is the join of what is applied, and all that is not is told.
  void ExpectTold() {
    OracleState expected;
    uint64_t gone = 0;
    for (const Committed& done : all_) {
      const bool there = node_.store->applied().Contains({done.actor, done.version});
      if (there) JoinInto(expected, Says(done.changeset));
      if (!there) ++gone;
    }
    EXPECT_EQ(node_.Dump(), Visible(expected, node_.options.schema));
    EXPECT_EQ(Count(node_.store->LostCommits()), gone);
    EXPECT_EQ(node_.store->Troubles().size(), gone > 0 ? 1u : 0u);
    EXPECT_EQ(Ask(node_.options.path, "PRAGMA integrity_check"), "ok");
  }

  TestNode node_;
  FaultDisk disk_;
  int next_ = 0;
  std::vector<Committed> all_;
};

TEST_F(LostCommitsTest, NothingIsSaidWhenNothingIsGone) {
  Write(5);
  Die();
  node_.Open();
  EXPECT_TRUE(node_.store->LostCommits().empty());
  Write(3);
  node_.CloseAndOpen();
  ExpectTold();
  EXPECT_EQ(all_.size(), 8u);
}

TEST_F(LostCommitsTest, ATruncatedLogIsNoticedNamedAndStruckOffAsPeersReturnWhatTheyHave) {
  Write(4);
  const auto size = std::filesystem::file_size(Wal());
  Write(3);
  Die();
  std::filesystem::resize_file(Wal(), size + 2000);
  node_.Open();
  EXPECT_EQ(Count(node_.store->LostCommits()), 3u);
  EXPECT_THAT(node_.store->Troubles(), testing::ElementsAre(testing::HasSubstr(
                                           "versions of " + all_[0].actor.ToString() + ": 5-7")));
  ExpectTold();
  node_.CrashAndOpen();
  EXPECT_EQ(Count(node_.store->LostCommits()), 3u) << "and it is not forgotten";
  node_.Merge({all_[4].changeset, all_[6].changeset});  // a peer had these
  EXPECT_EQ(node_.store->LostCommits(),
            (std::vector<crdt::ActorRanges>{{all_[0].actor, {{6, 6}}}}));
  node_.Merge(all_[5].changeset);
  EXPECT_TRUE(node_.store->Troubles().empty());
}

TEST_F(LostCommitsTest, AnyDamageToTheLogIsToldExactlyOrTheFileIsRefused) {
  int told = 0, refused = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Rng rng(seed);
    for (int i = 0; i < 12; ++i) {
      Write(1 + static_cast<int>(rng.Below(3)));
      if (rng.Chance(0.1)) {
        ASSERT_TRUE(node_.store->Checkpoint().ok());
      }
      if (rng.Chance(0.15)) Ask(node_.options.path, "PRAGMA wal_checkpoint(PASSIVE)");
    }
    Die();
    std::string log = test::ReadFile(Wal());
    ASSERT_GT(log.size(), 32u);
    const size_t at = rng.Below(log.size());
    if (rng.Chance(0.5)) {
      log.resize(at);
    } else {
      log[at] = static_cast<char>(log[at] ^ (1 << rng.Below(8)));
    }
    test::WriteFile(Wal(), log);
    const Status status = node_.TryOpen();
    if (!status.ok()) {
      EXPECT_EQ(status.error().code, Errc::kDataLoss) << status.error().ToString();
      EXPECT_THAT(status.error().message, testing::HasSubstr("patina reseed"));
      ++refused;
      break;  // the node is rebuilt from a peer
    }
    ExpectTold();
    if (!node_.store->LostCommits().empty()) ++told;
    // Peers return everything.
    std::vector<SharedBytes> bytes;
    for (const Committed& done : all_) bytes.push_back(done.changeset);
    node_.Merge(bytes);
    ExpectTold();
    EXPECT_TRUE(node_.store->LostCommits().empty());
    if (HasFailure()) break;
  }
  EXPECT_GT(told, 10);
  EXPECT_EQ(refused, 0);
}

TEST_F(LostCommitsTest, AnOlderFilePutInItsPlaceIsToldTheSameWay) {
  Write(3);
  node_.Close();
  const std::string copy = node_.options.path + ".copy";
  std::filesystem::copy_file(node_.options.path, copy);
  node_.Open();
  Write(2);
  node_.Close();
  std::filesystem::rename(copy, node_.options.path);
  node_.Open();
  EXPECT_EQ(Count(node_.store->LostCommits()), 2u);
  ExpectTold();
  Write(1);  // another actor: no version is given out twice
  EXPECT_NE(all_.back().actor, all_[3].actor);
  ExpectTold();
}

TEST_F(LostCommitsTest, WhatIsNoSuchFileIsReplacedAndOneThatCannotBeMadeStopsNothing) {
  Write(2);
  node_.Close();
  const std::string acked = node_.options.path + "-acked";
  test::WriteFile(acked, "something else");
  node_.Open();
  EXPECT_TRUE(node_.store->Troubles().empty());
  Write(1);
  node_.Close();
  std::filesystem::remove(acked);
  std::filesystem::create_directory(acked);
  node_.Open();
  Write(1);
  ExpectTold();
}

TEST(AckedFileTest, AnActorThatLacksNothingGivesWayFirst) {
  TestNode node(MustParse(kSchema));
  const std::string path = node.dir.File("acked");
  Rng rng(1);
  crdt::VersionSet received;
  const ActorId lacking = rng.NextActorId();
  for (size_t i = 0; i < 2 * AckedFile::kActors; ++i) {
    auto file = AckedFile::Open(path);
    ASSERT_TRUE(file.ok());
    const ActorId actor = i == 0 ? lacking : rng.NextActorId();
    (*file)->SetActor(actor, received);
    (*file)->Note(i, 2);
    if (i > 0) received.AddRange(actor, {1, 2});
  }
  auto file = AckedFile::Open(path);
  EXPECT_EQ((*file)->last_seq(), 2 * AckedFile::kActors - 1);
  EXPECT_EQ((*file)->Missing(received), (std::vector<crdt::ActorRanges>{{lacking, {{1, 2}}}}));
}

}  // namespace
}  // namespace patina::storage

#include "gossip/known_sets.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace patina::gossip {
namespace {

ActorId Actor(uint8_t number) { return *ActorId::FromBytes(std::string(15, 'a') + char(number)); }

class KnownSetsTest : public testing::Test {
 protected:
  /// a tells b; what b then takes a to have.
  const crdt::VersionSet* Tell() {
    last_ = a_.Compose("b", set_a_, false);
    return b_.Take("a", last_);
  }
  void TellBack() { (void)a_.Take("b", b_.Compose("a", set_b_, true)); }

  KnownSets a_, b_;
  crdt::VersionSet set_a_, set_b_;
  SyncState last_;
};

TEST_F(KnownSetsTest, TheSecondStateCarriesOnlyWhatWasAdded) {
  for (uint8_t i = 0; i < 100; ++i) set_a_.AddRange(Actor(i), {1, 1'000});
  ASSERT_NE(Tell(), nullptr);
  EXPECT_EQ(last_.received, set_a_) << "nothing is acknowledged yet";
  TellBack();
  set_a_.AddRange(Actor(7), {1'001, 1'003});
  const crdt::VersionSet* theirs = Tell();
  ASSERT_NE(theirs, nullptr);
  EXPECT_EQ(*theirs, set_a_);
  EXPECT_EQ(last_.received.Size(), 3u);
}

TEST_F(KnownSetsTest, WithoutAnAcknowledgementTheSameIsSaidAgain) {
  set_a_.AddRange(Actor(1), {1, 10});
  Tell();
  set_a_.AddRange(Actor(1), {11, 20});
  Tell();
  EXPECT_EQ(last_.received.Size(), 20u);
}

TEST_F(KnownSetsTest, WhoHasForgottenRefusesAndIsToldEverything) {
  set_a_.AddRange(Actor(1), {1, 10});
  Tell();
  TellBack();
  b_ = KnownSets();
  set_a_.AddRange(Actor(1), {11, 20});
  EXPECT_EQ(Tell(), nullptr) << "its base is gone";
  a_.OnRefused("b");
  const crdt::VersionSet* theirs = Tell();
  ASSERT_NE(theirs, nullptr);
  EXPECT_EQ(*theirs, set_a_);
}

TEST_F(KnownSetsTest, WithLostMessagesAndRestartsItIsRightOrRefused) {
  Rng rng(1);
  uint64_t refusals = 0, said = 0;
  for (int i = 0; i < 3'000; ++i) {
    set_a_.Add({Actor(static_cast<uint8_t>(rng.Below(3))), 1 + rng.Below(200)});
    if (rng.Chance(0.02)) a_ = KnownSets();
    if (rng.Chance(0.02)) b_ = KnownSets();
    if (rng.Chance(0.3)) TellBack();
    last_ = a_.Compose("b", set_a_, false);
    said += last_.received.Size();
    if (rng.Chance(0.3)) continue;  // lost
    const crdt::VersionSet* theirs = b_.Take("a", last_);
    if (theirs != nullptr) {
      ASSERT_EQ(*theirs, set_a_) << i;
    } else {
      ++refusals;
      if (rng.Chance(0.8)) a_.OnRefused("b");
    }
  }
  EXPECT_GT(refusals, 5u);
  EXPECT_LT(said, 3'000u * set_a_.Size() / 2);
}

TEST_F(KnownSetsTest, OnlySoManyPeersAreRemembered) {
  set_a_.AddRange(Actor(1), {1, 10});
  for (size_t i = 0; i < KnownSets::kPeersMax + 1; ++i) {
    KnownSets peer;
    const std::string name = "p" + std::to_string(i);
    (void)peer.Take("a", a_.Compose(name, set_a_, false));
    (void)a_.Take(name, peer.Compose("a", set_b_, true));
  }
  EXPECT_EQ(a_.forgotten(), 1u);
  EXPECT_EQ(a_.Compose("p64", set_a_, false).received.Size(), 0u);
  EXPECT_EQ(a_.Compose("p0", set_a_, false).received.Size(), 10u) << "the oldest is forgotten";
}

}  // namespace
}  // namespace patina::gossip

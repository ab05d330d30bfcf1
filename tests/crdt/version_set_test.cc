#include "crdt/version_set.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/crdt/crdt_test_util.h"

namespace patina::crdt {
namespace {

const ActorId kActor = TestActor(1);

VersionSet SetOf(const std::vector<VersionRange>& ranges, const ActorId& actor = kActor) {
  VersionSet set;
  for (const VersionRange& range : ranges) set.AddRange(actor, range);
  return set;
}

std::string Encoded(const VersionSet& set) {
  std::string bytes;
  ByteWriter out(&bytes);
  set.Encode(out);
  return bytes;
}

bool Decode(std::string_view bytes, VersionSet* set, const VersionSetLimits& limits = {}) {
  ByteReader in(bytes);
  return VersionSet::Decode(in, limits, set) && in.AtEnd();
}

TEST(VersionSetTest, VersionsInOrderLeaveNoGap) {
  VersionSet set;
  for (uint64_t version = 1; version <= 100; ++version) EXPECT_TRUE(set.Add({kActor, version}));
  EXPECT_FALSE(set.Add({kActor, 50}));
  EXPECT_EQ(set.Contiguous(kActor), 100u);
  EXPECT_EQ(set.Ranges(kActor), (std::vector<VersionRange>{{1, 100}}));
}

TEST(VersionSetTest, AGapThatIsFilledIsForgotten) {
  VersionSet set = SetOf({{1, 3}, {5, 9}, {11, 12}});
  EXPECT_EQ(set.Contiguous(kActor), 3u);
  EXPECT_EQ(set.Head(kActor), 12u);
  EXPECT_EQ(set.GapCount(kActor), 2u);
  EXPECT_EQ(set.Gaps(kActor), (std::vector<VersionRange>{{4, 4}, {10, 10}}));
  EXPECT_TRUE(set.Add({kActor, 4}));
  EXPECT_EQ(set.Contiguous(kActor), 9u);
  EXPECT_TRUE(set.Add({kActor, 10}));
  EXPECT_EQ(set, SetOf({{1, 12}}));
  EXPECT_EQ(set.digest(), SetOf({{1, 12}}).digest());
}

TEST(VersionSetTest, VersionsNobodyCanHaveAreNotAdded) {
  VersionSet set;
  EXPECT_FALSE(set.Add({kActor, 0}));
  EXPECT_FALSE(set.Add({kActor, kMaxVersion + 1}));
  EXPECT_FALSE(set.Add({kActor, UINT64_MAX}));
  EXPECT_TRUE(set.Empty());
  EXPECT_FALSE(set.Contains({kActor, 0}));
  EXPECT_TRUE(set.Add({kActor, kMaxVersion}));
  EXPECT_TRUE(set.Contains({kActor, kMaxVersion}));
  set.AddRange(kActor, {5, 4});
  set.AddRange(kActor, {0, 1});
  EXPECT_EQ(set.Ranges(kActor), (std::vector<VersionRange>{{1, 1}, {kMaxVersion, kMaxVersion}}));
}

TEST(VersionSetTest, RunsGoAcrossTheBitmapsParts) {
  const uint64_t part = uint64_t{1} << 32;
  VersionSet set = SetOf({{part - 5, part + 5}, {2 * part - 3, 2 * part - 1}});
  set.Add({kActor, 2 * part});
  EXPECT_EQ(set.Ranges(kActor),
            (std::vector<VersionRange>{{part - 5, part + 5}, {2 * part - 3, 2 * part}}));
  set.AddRange(kActor, {1, part - 6});
  EXPECT_EQ(set.Contiguous(kActor), part + 5);
  EXPECT_EQ(set.Ranges(kActor),
            (std::vector<VersionRange>{{1, part + 5}, {2 * part - 3, 2 * part}}));
  set.AddRange(kActor, {part, 3 * part});
  EXPECT_EQ(set.Ranges(kActor), (std::vector<VersionRange>{{1, 3 * part}}));
}

// No time is measured in the next two: one by one, or by range counts, they would take very long.
TEST(VersionSetTest, LongRunsCostLittle) {
  const uint64_t last = uint64_t{1} << 31;  // two thousand million versions above a gap
  VersionSet set = SetOf({{2, last}});
  EXPECT_EQ(set.Ranges(kActor), (std::vector<VersionRange>{{2, last}}));
  EXPECT_EQ(set.Size(), last - 1);
  set.digest();
  EXPECT_TRUE(set.Add({kActor, 1}));
  EXPECT_EQ(set.Contiguous(kActor), last);
}

TEST(VersionSetTest, ManyShortRunsCostLittle) {
  VersionSet set;
  for (uint64_t i = 1; i <= 200'000; ++i) set.AddRange(kActor, {i * 10, i * 10 + 4});
  EXPECT_EQ(set.Ranges(kActor).size(), 200'000u);
}

TEST(VersionSetTest, EqualSetsHaveEqualDigestsHoweverTheyWereMade) {
  const VersionSet ascending = SetOf({{1, 2}, {7, 8}, {9, 9}});
  const VersionSet descending = SetOf({{9, 9}, {8, 8}, {7, 7}, {1, 2}});
  EXPECT_EQ(ascending.digest(), descending.digest());
  EXPECT_EQ(ascending, descending);
  EXPECT_NE(ascending.digest(), SetOf({{1, 2}, {7, 8}}).digest());
  EXPECT_NE(ascending.digest(), SetOf({{1, 2}, {7, 9}}, TestActor(2)).digest());
}

TEST(VersionSetTest, DigestsStayAsTheyAreFromReleaseToRelease) {
  VersionSet set = SetOf({{1, 1000}, {1003, 1010}});
  set.AddRange(TestActor(2), {1, 5});
  EXPECT_EQ(set.digest().ToString(), "583b9872fd88d946290dc82ff7929fd6");
  EXPECT_EQ(VersionSet().digest(), Digest128());
}

TEST(VersionSetTest, EncodedBytesStayAsTheyAre) {
  VersionSet set = SetOf({{1, 3}, {5, 5}});
  EXPECT_EQ(ToHex(Encoded(set)),
            "01"
            "01000000000000000000000000000001"
            "02"
            "0002"
            "0000");
}

TEST(VersionSetTest, LackingStopsAtTheLimit) {
  VersionSet theirs = SetOf({{1, 10}, {20, 30}});
  theirs.AddRange(TestActor(2), {1, 5});
  const VersionSet ours = SetOf({{1, 4}, {25, 25}});
  EXPECT_EQ(ours.Lacking(theirs), (std::vector<ActorRanges>{{kActor, {{5, 10}, {20, 24}, {26, 30}}},
                                                            {TestActor(2), {{1, 5}}}}));
  EXPECT_EQ(ours.Lacking(theirs, 8), (std::vector<ActorRanges>{{kActor, {{5, 10}, {20, 21}}}}));
  EXPECT_TRUE(ours.Lacking(theirs, 0).empty());
  EXPECT_TRUE(ours.IsSubsetOf(theirs));
  EXPECT_FALSE(theirs.IsSubsetOf(ours));
}

TEST(VersionSetTest, CopiesAreDeepAndMovedFromSetsAreEmpty) {
  VersionSet set = SetOf({{1, 3}, {9, 9}});
  VersionSet copy = set;
  copy.Add({kActor, 4});
  EXPECT_FALSE(set.Contains({kActor, 4}));
  EXPECT_NE(copy.digest(), set.digest());
  const VersionSet moved = std::move(copy);
  EXPECT_EQ(moved.digest(), SetOf({{1, 4}, {9, 9}}).digest());
  EXPECT_TRUE(copy.Empty());  // NOLINT: what is left is promised
  EXPECT_EQ(copy.digest(), Digest128());
}

TEST(VersionSetTest, ReadsForPeople) {
  VersionSet set = SetOf({{1, 3}, {5, 6}, {9, 9}});
  set.AddRange(TestActor(2), {1, 10});
  EXPECT_EQ(set.ToString(), "2 actors, 16 versions, 2 gaps");
}

TEST(VersionSetTest, HostileBytesTakeNoMemoryToSpeakOf) {
  const auto encode = [](std::vector<uint64_t> numbers) {
    std::string bytes = "\x01";
    bytes += kActor.AsBytes();
    ByteWriter out(&bytes);
    for (uint64_t number : numbers) out.Varint(number);
    return bytes;
  };
  VersionSet set;
  EXPECT_TRUE(Decode(encode({1, 0, kMaxVersion - 1}), &set));  // 1..2^48 has no gap: cheap
  EXPECT_FALSE(Decode(encode({1, 0, kMaxVersion}), &set));
  EXPECT_FALSE(Decode(encode({1, 1, kMaxVersion - 2}), &set));  // 2..2^48: 2^32 containers
  EXPECT_FALSE(Decode(encode({1, UINT64_MAX, UINT64_MAX}), &set));
  EXPECT_FALSE(Decode(encode({0}), &set));
  EXPECT_FALSE(Decode(encode({1ull << 40}), &set));
  EXPECT_FALSE(Decode(*FromHex("ffffffff0f"), &set));
  const std::string two = Encoded(SetOf({{2, 3}, {100'000, 200'000}}));
  EXPECT_TRUE(Decode(two, &set, {1, 2, 4}));
  EXPECT_FALSE(Decode(two, &set, {0, 2, 4}));
  EXPECT_FALSE(Decode(two, &set, {1, 1, 4}));
  EXPECT_FALSE(Decode(two, &set, {1, 2, 3}));
}

TEST(VersionSetTest, NoBytesCrashTheDecoder) {
  const uint64_t seed = 61;
  TRACE_SEED(seed);
  Rng rng(seed);
  VersionSet good = SetOf({{1, 300}, {302, 310}, {70'000, 80'000}});
  good.AddRange(TestActor(2), {2, 5});
  // Small, so that the time goes into decoding and not into legal but large sets.
  const VersionSetLimits limits = {10, 100, 1000};
  VersionSet set;
  Torment(Encoded(good), rng, 50'000, [&](std::string_view bytes) {
    if (Decode(bytes, &set, limits)) {
      VersionSet again;
      ASSERT_TRUE(Decode(Encoded(set), &again, limits));
      ASSERT_EQ(again, set);
    }
  });
}

/// Every version by itself.
struct Oracle {
  std::map<ActorId, std::set<uint64_t>> versions;

  std::vector<VersionRange> Ranges(const ActorId& actor) const {
    std::vector<VersionRange> ranges;
    const auto it = versions.find(actor);
    if (it == versions.end()) return ranges;
    for (uint64_t version : it->second) {
      if (ranges.empty() || ranges.back().last + 1 != version) ranges.push_back({version, version});
      ranges.back().last = version;
    }
    return ranges;
  }
};

class VersionSetModel : public ::testing::Test {
 protected:
  static constexpr uint64_t kSpan = 400;

  VersionSetModel() : rng_(62) {}

  /// Versions around the seams of Roaring: 2^16 and 2^32.
  uint64_t RandomVersion(uint64_t base) { return base + 1 + rng_.Below(kSpan); }

  void RandomStep(uint64_t base, VersionSet* set, Oracle* oracle) {
    const ActorId actor = TestActor(static_cast<uint8_t>(1 + rng_.Below(3)));
    const uint64_t first = RandomVersion(rng_.Chance(0.5) ? 0 : base);
    if (rng_.Chance(0.8)) {
      ASSERT_EQ(set->Add({actor, first}), oracle->versions[actor].insert(first).second);
      return;
    }
    const uint64_t last = first + rng_.Below(40);
    set->AddRange(actor, {first, last});
    for (uint64_t v = first; v <= last; ++v) oracle->versions[actor].insert(v);
  }

  void Compare(const VersionSet& set, const Oracle& oracle) {
    uint64_t size = 0;
    VersionSet rebuilt;
    for (const auto& [actor, versions] : oracle.versions) {
      const std::vector<VersionRange> ranges = oracle.Ranges(actor);
      ASSERT_EQ(set.Ranges(actor), ranges);
      ASSERT_EQ(set.Head(actor), *versions.rbegin());
      ASSERT_EQ(set.Contiguous(actor), ranges[0].first == 1 ? ranges[0].last : 0);
      ASSERT_EQ(set.GapCount(actor), *versions.rbegin() - versions.size());
      for (uint64_t version : versions) {
        ASSERT_TRUE(set.Contains({actor, version}));
        ASSERT_EQ(set.Contains({actor, version + 1}), versions.count(version + 1) == 1);
        rebuilt.Add({actor, version});
      }
      size += versions.size();
    }
    ASSERT_EQ(set.Size(), size);
    ASSERT_EQ(set.Actors().size(), oracle.versions.size());
    ASSERT_EQ(set, rebuilt);
    ASSERT_EQ(set.digest(), rebuilt.digest());
    VersionSet decoded;
    ASSERT_TRUE(Decode(Encoded(set), &decoded));
    ASSERT_EQ(decoded, set);
    ASSERT_EQ(decoded.digest(), set.digest());
  }

  Rng rng_;
};

TEST_F(VersionSetModel, BehavesLikeASetOfNumbers) {
  TRACE_SEED(62);
  for (int round = 0; round < 200; ++round) {
    const uint64_t bases[] = {0, 65'336, (uint64_t{1} << 32) - 200};
    const uint64_t base = bases[round % 3];
    VersionSet set;
    Oracle oracle;
    const uint64_t steps = 1 + rng_.Below(600);
    for (uint64_t step = 0; step < steps; ++step) {
      RandomStep(base, &set, &oracle);
      if (rng_.Chance(0.01)) set.digest();  // cached digests must notice what follows
      if (HasFatalFailure()) return;
    }
    Compare(set, oracle);
    if (HasFatalFailure()) return;
  }
}

TEST_F(VersionSetModel, LackingAndUnionAreThoseOfSets) {
  TRACE_SEED(62);
  for (int round = 0; round < 200; ++round) {
    VersionSet ours, theirs;
    Oracle our_oracle, their_oracle, lacking_oracle;
    for (uint64_t step = rng_.Below(200); step > 0; --step) RandomStep(65'336, &ours, &our_oracle);
    for (uint64_t step = rng_.Below(200); step > 0; --step) {
      RandomStep(65'336, &theirs, &their_oracle);
    }
    std::vector<ActorRanges> expected;
    for (const auto& [actor, versions] : their_oracle.versions) {
      for (uint64_t version : versions) {
        if (our_oracle.versions[actor].insert(version).second) {
          lacking_oracle.versions[actor].insert(version);
        }
      }
      const auto ranges = lacking_oracle.Ranges(actor);
      if (!ranges.empty()) expected.push_back({actor, ranges});
    }
    ASSERT_EQ(ours.Lacking(theirs), expected);
    ASSERT_EQ(theirs.IsSubsetOf(ours), expected.empty());
    ours.digest();
    ours.Union(theirs);
    ASSERT_TRUE(theirs.IsSubsetOf(ours));
    ASSERT_TRUE(ours.Lacking(theirs).empty());
    Compare(ours, our_oracle);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace patina::crdt

#include "base/hash.h"

#include <gtest/gtest.h>

namespace patina {
namespace {

TEST(HashTest, HashesAreThoseOfXxh3OnEveryHost) {
  EXPECT_EQ(Hash64(""), 0x2D06800538D394C2u);  // published by xxHash for the empty input
  EXPECT_EQ(Hash128("").ToString(), "99aa06d3014798d86001c324468d497f");
  EXPECT_NE(Hash64("a"), Hash64("a", 1));
}

TEST(HashTest, SumsOfDigestsDoNotDependOnOrder) {
  Digest128 sum = Hash128("a");
  sum += Hash128("b");
  Digest128 other = Hash128("b");
  other += Hash128("a");
  EXPECT_EQ(sum, other);
  sum -= Hash128("b");
  EXPECT_EQ(sum, Hash128("a"));
}

TEST(HashTest, CombiningIsNotSymmetric) { EXPECT_NE(CombineHash(1, 2), CombineHash(2, 1)); }

}  // namespace
}  // namespace patina

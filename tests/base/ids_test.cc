#include "base/ids.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace patina {
namespace {

TEST(ActorIdTest, ComesBackFromItsText) {
  Rng rng(81);
  const ActorId actor = rng.NextActorId();
  EXPECT_EQ(actor.ToString().size(), 32u);
  EXPECT_EQ(ActorId::Parse(actor.ToString()), actor);
  EXPECT_EQ(ActorId::FromBytes(actor.AsBytes()), actor);
}

TEST(ActorIdTest, OtherSizesAreRefused) {
  EXPECT_FALSE(ActorId::Parse("00"));
  EXPECT_FALSE(ActorId::Parse(std::string(32, 'x')));
  EXPECT_FALSE(ActorId::FromBytes(std::string(17, '\0')));
}

TEST(ActorIdTest, OrderIsThatOfTheBytesAsUnsignedNumbers) {
  EXPECT_LT(*ActorId::Parse("7f000000000000000000000000000000"),
            *ActorId::Parse("80000000000000000000000000000000"));
  EXPECT_LT(*ActorId::Parse("00000000000000000000000000000001"),
            *ActorId::Parse("00000000000000000000000000000100"));
}

}  // namespace
}  // namespace patina

#include "base/bytes.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/random.h"

namespace patina {
namespace {

TEST(BytesTest, HexComesBackAndNonsenseDoesNot) {
  EXPECT_EQ(ToHex(std::string_view("\0\xff\x10", 3)), "00ff10");
  EXPECT_EQ(FromHex("00Ff10"), std::string("\0\xff\x10", 3));
  EXPECT_EQ(FromHex(""), "");
  EXPECT_EQ(FromHex("0"), std::nullopt);
  EXPECT_EQ(FromHex("0g"), std::nullopt);
}

TEST(BytesTest, IntegersAreLittleEndian) {
  std::string bytes;
  ByteWriter out(&bytes);
  out.U8(1);
  out.U32(0x05040302);
  out.U64(0x0d0c0b0a09080706);
  EXPECT_EQ(ToHex(bytes), "0102030405060708090a0b0c0d");
}

TEST(BytesTest, VarintsComeBackAtEveryLength) {
  for (unsigned shift = 0; shift < 64; ++shift) {
    const uint64_t power = uint64_t{1} << shift;
    for (const uint64_t value : {power, power - 1, ~uint64_t{0} >> shift}) {
      std::string bytes;
      ByteWriter out(&bytes);
      out.Varint(value);
      out.SignedVarint(static_cast<int64_t>(value));
      out.SignedVarint(-static_cast<int64_t>(value >> 1));
      ByteReader in(bytes);
      EXPECT_EQ(in.Varint(), value);
      EXPECT_EQ(in.SignedVarint(), static_cast<int64_t>(value));
      EXPECT_EQ(in.SignedVarint(), -static_cast<int64_t>(value >> 1));
      EXPECT_TRUE(in.ok() && in.AtEnd());
    }
  }
}

TEST(BytesTest, SmallNegativeNumbersStayShort) {
  std::string bytes;
  ByteWriter(&bytes).SignedVarint(-64);
  EXPECT_EQ(bytes.size(), 1u);
  bytes.clear();
  ByteWriter(&bytes).SignedVarint(std::numeric_limits<int64_t>::min());
  EXPECT_EQ(bytes.size(), 10u);
}

TEST(BytesTest, AVarintOfMoreThan64BitsIsRefused) {
  const auto refused = [](std::string_view hex) {
    const std::string bytes = *FromHex(hex);
    ByteReader in(bytes);
    in.Varint();
    return !in.ok();
  };
  EXPECT_FALSE(refused("ffffffffffffffffff01"));
  EXPECT_TRUE(refused("ffffffffffffffffff02"));
  EXPECT_TRUE(refused("ffffffffffffffffffff01"));
  EXPECT_TRUE(refused("ff"));
  EXPECT_TRUE(refused(""));
}

TEST(BytesTest, AfterTheFirstReadPastTheEndEverythingIsZero) {
  const std::string bytes =
      "\x05"
      "abc";
  ByteReader in(bytes);
  EXPECT_EQ(in.String(), "");
  EXPECT_FALSE(in.ok());
  EXPECT_EQ(in.U8(), 0);
  EXPECT_EQ(in.U64(), 0u);
  EXPECT_EQ(in.remaining(), 0u);
}

TEST(BytesTest, ALengthNearTheEndOfTheNumbersDoesNotOverflow) {
  for (const uint64_t size : {~uint64_t{0}, ~uint64_t{0} - 1, uint64_t{1} << 63}) {
    std::string bytes;
    ByteWriter(&bytes).Varint(size);
    bytes += "abc";
    ByteReader in(bytes);
    EXPECT_EQ(in.String(), "");
    EXPECT_FALSE(in.ok());
  }
}

TEST(BytesTest, RandomWritesComeBackInOrder) {
  Rng rng(71);
  for (int round = 0; round < 1000; ++round) {
    const uint64_t number = rng.Next() >> rng.Below(64);
    const double real = rng.Unit();
    std::string text(static_cast<size_t>(rng.Below(300)), 'x');
    std::string bytes;
    ByteWriter out(&bytes);
    out.Varint(number);
    out.F64(real);
    out.String(text);
    out.U32(static_cast<uint32_t>(number));
    EXPECT_EQ(out.size(), bytes.size());
    ByteReader in(bytes);
    EXPECT_EQ(in.Varint(), number);
    EXPECT_EQ(in.F64(), real);
    EXPECT_EQ(in.String(), text);
    EXPECT_EQ(in.U32(), static_cast<uint32_t>(number));
    EXPECT_TRUE(in.ok() && in.AtEnd());
  }
}

}  // namespace
}  // namespace patina

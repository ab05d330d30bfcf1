#include "crdt/value.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/crdt/crdt_test_util.h"

namespace patina::crdt {
namespace {

std::string Encoded(const ValueView& value) {
  std::string bytes;
  ByteWriter out(&bytes);
  EncodeValue(value, out);
  return bytes;
}

bool Decodes(std::string_view bytes) {
  ByteReader in(bytes);
  DecodeValue(in);
  return in.ok() && in.AtEnd();
}

TEST(ValueTest, NotANumberIsNull) { EXPECT_TRUE(ValueView::Real(std::nan("")).IsNull()); }

TEST(ValueTest, NegativeZeroIsZero) {
  EXPECT_EQ(Value::Real(-0.0), Value::Real(0.0));
  EXPECT_FALSE(std::signbit(ValueView::Real(-0.0).real()));
}

TEST(ValueTest, IntegerAndRealOfTheSameNumberDiffer) {
  EXPECT_NE(Value::Integer(1), Value::Real(1.0));
  EXPECT_LT(Value::Integer(1), Value::Real(1.0));
  EXPECT_NE(Value::Text("a"), Value::Blob("a"));
}

TEST(ValueTest, OrderIsSqlitesOrder) {
  const double infinity = std::numeric_limits<double>::infinity();
  const int64_t most = std::numeric_limits<int64_t>::max();
  const int64_t least = std::numeric_limits<int64_t>::min();
  const std::vector<Value> ascending = {Value::Null(),
                                        Value::Real(-infinity),
                                        Value::Real(-1e19),
                                        Value::Integer(least),
                                        Value::Real(-9223372036854775808.0),
                                        Value::Integer(least + 1),
                                        Value::Real(-2.5),
                                        Value::Integer(-2),
                                        Value::Real(-0.5),
                                        Value::Integer(0),
                                        Value::Real(0),
                                        Value::Real(0.5),
                                        Value::Integer(1),
                                        Value::Real(1),
                                        Value::Integer((1ll << 53) + 1),
                                        Value::Integer(most),
                                        Value::Real(9223372036854775808.0),
                                        Value::Real(infinity),
                                        Value::Text(""),
                                        Value::Text(std::string_view("\0", 1)),
                                        Value::Text("a"),
                                        Value::Text("ab"),
                                        Value::Text("\xff"),
                                        Value::Blob(""),
                                        Value::Blob("\x01"),
                                        Value::Blob("\xfe")};
  for (size_t i = 0; i < ascending.size(); ++i) {
    for (size_t j = 0; j < ascending.size(); ++j) {
      EXPECT_EQ(ascending[i] <=> ascending[j], i <=> j)
          << ascending[i].ToString() << " and " << ascending[j].ToString();
      EXPECT_EQ(ascending[i] == ascending[j], i == j);
    }
  }
}

TEST(ValueTest, ReadsAsSql) {
  EXPECT_EQ(Value::Null().ToString(), "NULL");
  EXPECT_EQ(Value::Integer(-12).ToString(), "-12");
  EXPECT_EQ(Value::Real(1.5).ToString(), "1.5");
  EXPECT_EQ(Value::Real(2).ToString(), "2.0");
  EXPECT_EQ(Value::Text("it's").ToString(), "'it''s'");
  EXPECT_EQ(Value::Blob(std::string_view("\0\xff", 2)).ToString(), "x'00ff'");
}

TEST(ValueTest, EncodedBytesStayAsTheyAre) {
  EXPECT_EQ(ToHex(Encoded(ValueView::Null())), "00");
  EXPECT_EQ(ToHex(Encoded(ValueView::Integer(-1))), "0101");
  EXPECT_EQ(ToHex(Encoded(ValueView::Integer(64))), "018001");
  EXPECT_EQ(ToHex(Encoded(ValueView::Real(1.5))), "02000000000000f83f");
  EXPECT_EQ(ToHex(Encoded(ValueView::Text("ab"))), "03026162");
  EXPECT_EQ(ToHex(PackValues(std::vector<ValueView>{ValueView::Blob("a"), {}})), "0204016100");
}

TEST(ValueTest, ExtremesComeBackFromTheirBytes) {
  for (const Value& value :
       {Value::Integer(std::numeric_limits<int64_t>::min()),
        Value::Integer(std::numeric_limits<int64_t>::max()), Value::Real(5e-324),
        Value::Real(-std::numeric_limits<double>::infinity()), Value::Text(""), Value::Blob("")}) {
    const std::string bytes = Encoded(value);
    ByteReader in(bytes);
    EXPECT_EQ(DecodeValue(in), value.view()) << value.ToString();
    EXPECT_TRUE(in.ok() && in.AtEnd());
  }
}

TEST(ValueTest, SecondSpellingsAreRefusedBecauseKeysCompareAsBytes) {
  EXPECT_TRUE(Decodes(*FromHex("0100")));
  EXPECT_FALSE(Decodes(*FromHex("018000")));              // 0 in two bytes
  EXPECT_FALSE(Decodes(*FromHex("03810061")));            // length 1 in two bytes
  EXPECT_FALSE(Decodes(*FromHex("020000000000000080")));  // -0.0
  EXPECT_FALSE(Decodes(*FromHex("02000000000000f87f")));  // NaN
  EXPECT_FALSE(Decodes("\x05"));                          // no such type
  EXPECT_FALSE(IsPackedValues(*FromHex("81000100"), 1));
}

TEST(ValueTest, PackedValuesComeBack) {
  const uint64_t seed = 11;
  TRACE_SEED(seed);
  Rng rng(seed);
  for (int i = 0; i < 5000; ++i) {
    Row row(static_cast<size_t>(rng.Below(6)));
    for (Value& value : row) value = RandomValue(rng);
    const std::string packed = PackValues(row);
    std::vector<ValueView> views;
    ASSERT_TRUE(UnpackValues(packed, 6, &views));
    ASSERT_EQ(Row(views.begin(), views.end()), row);
    ASSERT_TRUE(IsPackedValues(packed, row.size()));
    ASSERT_FALSE(IsPackedValues(packed, row.size() + 1));
    ASSERT_FALSE(IsPackedValues(packed + "x", row.size()));
    ASSERT_FALSE(UnpackValues(packed + "x", 6, &views));
    ASSERT_EQ(UnpackValues(packed, 3, &views), row.size() <= 3);
    for (size_t size = 0; size < packed.size(); ++size) {
      ASSERT_FALSE(UnpackValues(std::string_view(packed).substr(0, size), 6, &views));
    }
  }
}

TEST(ValueTest, AHugeCountTakesNoMemory) {
  std::vector<ValueView> values;
  EXPECT_FALSE(UnpackValues(*FromHex("ffffffffffffffffff01"), SIZE_MAX, &values));
  EXPECT_FALSE(Decodes(*FromHex("03ffffffffffffffffff01")));
  EXPECT_LT(values.capacity(), 100u);
}

TEST(ValueTest, AnyBytesThatUnpackPackToTheSameBytes) {
  const uint64_t seed = 12;
  TRACE_SEED(seed);
  Rng rng(seed);
  const std::string good = PackValues(Row{Value::Integer(300), Value::Real(2.5), Value::Text("abc"),
                                          Value::Blob("de"), Value::Null()});
  std::vector<ValueView> values;
  Torment(good, rng, 100'000, [&](std::string_view bytes) {
    if (UnpackValues(bytes, 32, &values)) {
      ASSERT_EQ(PackValues(values), bytes);
    }
  });
}

}  // namespace
}  // namespace patina::crdt

#include "proto/convert.h"

#include <gtest/gtest.h>

#include "patina/v1/types.pb.h"

namespace patina::proto {
namespace {

TEST(ConvertTest, EveryValueComesBack) {
  const std::vector<crdt::Value> values = {
      crdt::Value::Null(),           crdt::Value::Integer(INT64_MIN),
      crdt::Value::Integer(0),       crdt::Value::Real(1.5),
      crdt::Value::Text("zürich"),   crdt::Value::Text(std::string_view("a\0b", 3)),
      crdt::Value::Text("\xff\xfe"), crdt::Value::Text(""),
      crdt::Value::Blob("\xff"),     crdt::Value::Blob("")};
  for (const crdt::Value& value : values) {
    v1::Value message;
    ToProto(value, &message);
    v1::Value parsed;  // over the wire: protobuf refuses `text` that is not UTF-8
    ASSERT_TRUE(parsed.ParseFromString(message.SerializeAsString())) << value.ToString();
    const auto back = FromProto(parsed);
    ASSERT_TRUE(back.ok());
    EXPECT_EQ(*back, value) << value.ToString();
  }
}

TEST(ConvertTest, TextThatIsNotUtf8TravelsAsRawText) {
  v1::Value message;
  ToProto(crdt::ValueView::Text("\xc0\x80"), &message);
  EXPECT_EQ(message.kind_case(), v1::Value::kRawText);
  ToProto(crdt::ValueView::Text("ok"), &message);
  EXPECT_EQ(message.kind_case(), v1::Value::kText);
}

TEST(ConvertTest, AValueWithoutAKindIsAnError) {
  EXPECT_EQ(FromProto(v1::Value()).error().code, Errc::kInvalidArgument);
}

TEST(ConvertTest, Utf8IsCheckedAsTheStandardSays) {
  EXPECT_TRUE(IsUtf8("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"));
  for (const char* bad : {"\x80", "\xc3", "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80",
                          "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82"}) {
    EXPECT_FALSE(IsUtf8(bad));
  }
}

TEST(ConvertTest, PackedValuesAreUnpacked) {
  const std::string packed =
      crdt::PackValues(std::vector<crdt::Value>{crdt::Value::Text("k"), crdt::Value::Integer(7)});
  v1::Row row;
  ASSERT_TRUE(UnpackToProto(packed, row.mutable_values()).ok());
  ASSERT_EQ(row.values_size(), 2);
  EXPECT_EQ(row.values(0).text(), "k");
  EXPECT_EQ(row.values(1).integer(), 7);
  EXPECT_EQ(UnpackToProto("\x05", row.mutable_values()).error().code, Errc::kDataLoss);
}

TEST(ConvertTest, ChangeIdsAreChecked) {
  v1::ChangeId message;
  ToProto(ChangeId{*ActorId::FromBytes("0123456789abcdef"), 3}, &message);
  EXPECT_EQ(FromProto(message)->version, 3u);
  message.set_version(0);
  EXPECT_FALSE(FromProto(message).ok());
  message.set_version(1);
  message.set_actor("short");
  EXPECT_FALSE(FromProto(message).ok());
}

}  // namespace
}  // namespace patina::proto

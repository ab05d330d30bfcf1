#include "tools/proto_values.h"

#include "base/bytes.h"
#include "patina/v1/types.pb.h"
#include "proto/convert.h"

namespace patina::tools {

void ToProto(const crdt::Value& value, v1::Value* out) { proto::ToProto(value.view(), out); }

std::vector<crdt::Value> FromProto(const google::protobuf::RepeatedPtrField<v1::Value>& values) {
  std::vector<crdt::Value> result;
  result.reserve(static_cast<size_t>(values.size()));
  for (const v1::Value& value : values) {
    // A kind that this program is too old to know prints as null.
    result.push_back(proto::FromProto(value).value_or(crdt::Value::Null()));
  }
  return result;
}

std::string HexOf(std::string_view bytes) { return ToHex(bytes); }

}  // namespace patina::tools

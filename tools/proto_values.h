#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "crdt/value.h"

// Values between the API's messages and what commands print. Any thread.

namespace google::protobuf {
template <typename T>
class RepeatedPtrField;
}

namespace patina::v1 {
class Value;
}

namespace patina::tools {

void ToProto(const crdt::Value& value, v1::Value* out);
std::vector<crdt::Value> FromProto(const google::protobuf::RepeatedPtrField<v1::Value>& values);

/// Cells of printed tables.
inline crdt::Value Text(std::string_view text) { return crdt::Value::Text(text); }
inline crdt::Value Number(uint64_t number) {
  return crdt::Value::Integer(static_cast<int64_t>(number));
}
/// An actor id as hex digits.
std::string HexOf(std::string_view bytes);

}  // namespace patina::tools

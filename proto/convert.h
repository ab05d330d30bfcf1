#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "crdt/hlc.h"
#include "crdt/value.h"

namespace google::protobuf {
template <typename Element>
class RepeatedPtrField;
}
namespace patina::v1 {
class ChangeId;
class Value;
}  // namespace patina::v1

// Between the public API's messages (package patina.v1) and the core's values. Any thread.

namespace patina::proto {

using ProtoValues = google::protobuf::RepeatedPtrField<v1::Value>;

/// Text becomes `text` if it is valid UTF-8 and `raw_text` if not, so that every value survives.
void ToProto(const crdt::ValueView& value, v1::Value* out);
/// A view into the message. INVALID_ARGUMENT when no kind is set (a newer client's, perhaps). NaN
/// is null.
Result<crdt::ValueView> ViewFromProto(const v1::Value& value);
Result<crdt::Value> FromProto(const v1::Value& value);
Result<std::vector<crdt::Value>> FromProto(const ProtoValues& values);

/// Appends the values of a packed key or row (crdt::PackValues). DATA_LOSS when malformed: *out may
/// then hold some of them. At most kUnpackValuesMax values.
inline constexpr size_t kUnpackValuesMax = 4096;
Status UnpackToProto(std::string_view packed, ProtoValues* out);
void AppendToProto(const std::vector<crdt::ValueView>& values, ProtoValues* out);

void ToProto(const ChangeId& id, v1::ChangeId* out);
/// INVALID_ARGUMENT unless the actor has 16 bytes and the version is within 1..2^48.
Result<ChangeId> FromProto(const v1::ChangeId& id);

/// Nanoseconds since the epoch, as the API's fields named …_ns; order is kept (see
/// crdt::HlcTime::ns).
inline int64_t ToNs(const crdt::HlcTime& time) { return time.ns(); }

/// Well-formed UTF-8: no overlong forms, surrogates or numbers above U+10FFFF. NUL is allowed.
bool IsUtf8(std::string_view text);

}  // namespace patina::proto

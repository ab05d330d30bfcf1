#include "proto/convert.h"

#include <string>

#include "crdt/version_set.h"
#include "patina/v1/types.pb.h"

namespace patina::proto {

bool IsUtf8(std::string_view text) {
  const auto* at = reinterpret_cast<const unsigned char*>(text.data());
  const auto* end = at + text.size();
  const auto continues = [](unsigned char byte) { return (byte & 0xc0) == 0x80; };
  while (at < end) {
    const unsigned char first = *at;
    if (first < 0x80) {
      ++at;
    } else if (first >= 0xc2 && first <= 0xdf) {
      if (end - at < 2 || !continues(at[1])) return false;
      at += 2;
    } else if (first >= 0xe0 && first <= 0xef) {
      if (end - at < 3 || !continues(at[1]) || !continues(at[2])) return false;
      if (first == 0xe0 && at[1] < 0xa0) return false;   // overlong
      if (first == 0xed && at[1] >= 0xa0) return false;  // surrogate
      at += 3;
    } else if (first >= 0xf0 && first <= 0xf4) {
      if (end - at < 4 || !continues(at[1]) || !continues(at[2]) || !continues(at[3])) return false;
      if (first == 0xf0 && at[1] < 0x90) return false;   // overlong
      if (first == 0xf4 && at[1] >= 0x90) return false;  // above U+10FFFF
      at += 4;
    } else {
      return false;
    }
  }
  return true;
}

void ToProto(const crdt::ValueView& value, v1::Value* out) {
  const auto bytes = value.bytes();
  switch (value.type()) {
    case crdt::ValueType::kNull:
      out->set_null(true);
      return;
    case crdt::ValueType::kInteger:
      out->set_integer(value.integer());
      return;
    case crdt::ValueType::kReal:
      out->set_real(value.real());
      return;
    case crdt::ValueType::kText:
      if (IsUtf8(bytes)) {
        out->set_text(bytes.data(), bytes.size());
      } else {
        out->set_raw_text(bytes.data(), bytes.size());
      }
      return;
    case crdt::ValueType::kBlob:
      out->set_blob(bytes.data(), bytes.size());
      return;
  }
}

Result<crdt::ValueView> ViewFromProto(const v1::Value& value) {
  switch (value.kind_case()) {
    case v1::Value::kNull:
      return crdt::ValueView::Null();
    case v1::Value::kInteger:
      return crdt::ValueView::Integer(value.integer());
    case v1::Value::kReal:
      return crdt::ValueView::Real(value.real());
    case v1::Value::kText:
      return crdt::ValueView::Text(value.text());
    case v1::Value::kBlob:
      return crdt::ValueView::Blob(value.blob());
    case v1::Value::kRawText:
      return crdt::ValueView::Text(value.raw_text());
    case v1::Value::KIND_NOT_SET:
      break;
  }
  return InvalidArgument("a value has no kind: set null, integer, real, text, blob or raw_text");
}

Result<crdt::Value> FromProto(const v1::Value& value) {
  ASSIGN_OR_RETURN(const crdt::ValueView view, ViewFromProto(value));
  return crdt::Value(view);
}

Result<std::vector<crdt::Value>> FromProto(const ProtoValues& values) {
  std::vector<crdt::Value> out;
  out.reserve(static_cast<size_t>(values.size()));
  for (const v1::Value& value : values) {
    ASSIGN_OR_RETURN(const crdt::ValueView view, ViewFromProto(value));
    out.emplace_back(view);
  }
  return out;
}

Status UnpackToProto(std::string_view packed, ProtoValues* out) {
  std::vector<crdt::ValueView> values;
  if (!crdt::UnpackValues(packed, kUnpackValuesMax, &values)) {
    return DataLoss("packed values are malformed");
  }
  AppendToProto(values, out);
  return OkStatus();
}

void AppendToProto(const std::vector<crdt::ValueView>& values, ProtoValues* out) {
  out->Reserve(out->size() + static_cast<int>(values.size()));
  for (const crdt::ValueView& value : values) ToProto(value, out->Add());
}

void ToProto(const ChangeId& id, v1::ChangeId* out) {
  const auto actor = id.actor.AsBytes();
  out->set_actor(actor.data(), actor.size());
  out->set_version(id.version);
}

Result<ChangeId> FromProto(const v1::ChangeId& id) {
  const auto actor = ActorId::FromBytes(id.actor());
  if (!actor) return InvalidArgument("a change id's actor must have 16 bytes");
  if (id.version() == 0 || id.version() > crdt::kMaxVersion) {
    return InvalidArgument("a change id's version must be within 1..2^48");
  }
  return ChangeId{*actor, id.version()};
}

}  // namespace patina::proto

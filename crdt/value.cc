#include "crdt/value.h"

#include <bit>
#include <charconv>
#include <cmath>

#include "base/check.h"

namespace patina::crdt {
namespace {

constexpr double kTwoTo63 = 9223372036854775808.0;

/// By number, exactly: an int64 does not fit a double.
std::strong_ordering CompareNumbers(int64_t integer, double real) {
  if (real >= kTwoTo63) return std::strong_ordering::less;
  if (real < -kTwoTo63) return std::strong_ordering::greater;
  const double whole = std::trunc(real);
  const auto order = integer <=> static_cast<int64_t>(whole);
  if (order != 0) return order;
  if (real > whole) return std::strong_ordering::less;
  if (real < whole) return std::strong_ordering::greater;
  return std::strong_ordering::less;  // an integer goes before a real of the same number
}

bool IsNumber(ValueType type) { return type == ValueType::kInteger || type == ValueType::kReal; }

/// The reader takes 80 00 for 0. Keys are compared as bytes, so here a number has one spelling.
uint64_t CanonicalVarint(ByteReader& in) {
  const std::string_view before = in.rest();
  const uint64_t value = in.Varint();
  const size_t used = before.size() - in.remaining();
  if (used > 1 && in.ok() && before[used - 1] == 0) {
    in.Fail();
    return 0;
  }
  return value;
}

std::string_view CanonicalString(ByteReader& in) {
  const uint64_t size = CanonicalVarint(in);
  if (size > in.remaining()) {
    in.Fail();
    return {};
  }
  return in.Raw(static_cast<size_t>(size));
}

std::string RealToString(double real) {
  if (std::isinf(real)) return real > 0 ? "Inf" : "-Inf";
  char text[32];
  const auto result = std::to_chars(text, text + sizeof text, real);
  std::string digits(text, result.ptr);
  if (digits.find_first_of(".e") == std::string::npos) digits += ".0";
  return digits;
}

std::string QuotedText(std::string_view bytes) {
  std::string quoted = "'";
  for (char c : bytes) {
    if (c == '\'') quoted.push_back('\'');
    quoted.push_back(c);
  }
  quoted.push_back('\'');
  return quoted;
}

template <class AnyValue>
std::string Pack(const std::vector<AnyValue>& values) {
  std::string packed;
  ByteWriter out(&packed);
  out.Varint(values.size());
  for (const AnyValue& value : values) EncodeValue(value, out);
  return packed;
}

}  // namespace

ValueView ValueView::Integer(int64_t integer) {
  ValueView view;
  view.type_ = ValueType::kInteger;
  view.integer_ = integer;
  return view;
}

ValueView ValueView::Real(double real) {
  ValueView view;
  if (std::isnan(real)) return view;
  view.type_ = ValueType::kReal;
  view.integer_ = std::bit_cast<int64_t>(real == 0 ? 0.0 : real);
  return view;
}

ValueView ValueView::Text(std::string_view text) {
  ValueView view;
  view.type_ = ValueType::kText;
  view.bytes_ = text;
  return view;
}

ValueView ValueView::Blob(std::string_view blob) {
  ValueView view;
  view.type_ = ValueType::kBlob;
  view.bytes_ = blob;
  return view;
}

double ValueView::real() const {
  return type_ == ValueType::kReal ? std::bit_cast<double>(integer_) : 0;
}

bool ValueView::operator==(const ValueView& other) const {
  return type_ == other.type_ && integer_ == other.integer_ && bytes_ == other.bytes_;
}

std::strong_ordering ValueView::operator<=>(const ValueView& other) const {
  if (IsNumber(type_) && IsNumber(other.type_)) {
    const bool real = type_ == ValueType::kReal, other_real = other.type_ == ValueType::kReal;
    if (!real && !other_real) return integer_ <=> other.integer_;
    if (!real) return CompareNumbers(integer_, other.real());
    if (!other_real) return 0 <=> CompareNumbers(other.integer_, this->real());
    if (this->real() < other.real()) return std::strong_ordering::less;
    if (this->real() > other.real()) return std::strong_ordering::greater;
    return std::strong_ordering::equal;  // no NaN, one zero
  }
  if (type_ != other.type_) return type_ <=> other.type_;
  return bytes_ <=> other.bytes_;
}

std::string ValueView::ToString() const {
  switch (type_) {
    case ValueType::kNull:
      return "NULL";
    case ValueType::kInteger:
      return std::to_string(integer_);
    case ValueType::kReal:
      return RealToString(real());
    case ValueType::kText:
      return QuotedText(bytes_);
    case ValueType::kBlob:
      return "x'" + ToHex(bytes_) + "'";
  }
  return "?";
}

Value::Value(const ValueView& view)
    : type_(view.type()), integer_(view.integer()), bytes_(view.bytes()) {}

ValueView Value::view() const {
  switch (type_) {
    case ValueType::kNull:
      break;
    case ValueType::kInteger:
      return ValueView::Integer(integer_);
    case ValueType::kReal:
      return ValueView::Real(std::bit_cast<double>(integer_));
    case ValueType::kText:
      return ValueView::Text(bytes_);
    case ValueType::kBlob:
      return ValueView::Blob(bytes_);
  }
  return {};
}

void EncodeValue(const ValueView& value, ByteWriter& out) {
  out.U8(static_cast<uint8_t>(value.type()));
  switch (value.type()) {
    case ValueType::kNull:
      return;
    case ValueType::kInteger:
      return out.SignedVarint(value.integer());
    case ValueType::kReal:
      return out.F64(value.real());
    case ValueType::kText:
    case ValueType::kBlob:
      return out.String(value.bytes());
  }
}

ValueView DecodeValue(ByteReader& in) {
  switch (in.U8()) {
    case static_cast<uint8_t>(ValueType::kNull):
      return {};
    case static_cast<uint8_t>(ValueType::kInteger): {
      const uint64_t raw = CanonicalVarint(in);
      if (!in.ok()) return {};
      return ValueView::Integer(static_cast<int64_t>(raw >> 1) ^ -static_cast<int64_t>(raw & 1));
    }
    case static_cast<uint8_t>(ValueType::kReal): {
      const double real = in.F64();
      // NaN and -0.0 cannot be made by EncodeValue; they would be second spellings.
      if (!in.ok() || std::isnan(real) || (real == 0 && std::signbit(real))) break;
      return ValueView::Real(real);
    }
    case static_cast<uint8_t>(ValueType::kText): {
      const std::string_view bytes = CanonicalString(in);
      return in.ok() ? ValueView::Text(bytes) : ValueView();
    }
    case static_cast<uint8_t>(ValueType::kBlob): {
      const std::string_view bytes = CanonicalString(in);
      return in.ok() ? ValueView::Blob(bytes) : ValueView();
    }
    default:
      break;
  }
  in.Fail();
  return {};
}

std::string PackValues(const std::vector<ValueView>& values) { return Pack(values); }
std::string PackValues(const std::vector<Value>& values) { return Pack(values); }

bool UnpackValues(std::string_view packed, size_t max_values, std::vector<ValueView>* values) {
  values->clear();
  return AppendUnpacked(packed, max_values, values);
}

bool AppendUnpacked(std::string_view packed, size_t max_values, std::vector<ValueView>* values) {
  ByteReader in(packed);
  const uint64_t count = CanonicalVarint(in);
  // A value is at least one byte, so the reserve below is bounded by what was sent.
  if (!in.ok() || count > max_values || count > in.remaining()) return false;
  if (values->empty()) values->reserve(static_cast<size_t>(count));
  for (uint64_t i = 0; i < count; ++i) values->push_back(DecodeValue(in));
  return in.ok() && in.AtEnd();
}

bool IsPackedValues(std::string_view packed, size_t count) {
  ByteReader in(packed);
  if (CanonicalVarint(in) != count) return false;
  for (size_t i = 0; i < count && in.ok(); ++i) DecodeValue(in);
  return in.ok() && in.AtEnd();
}

}  // namespace patina::crdt

#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

// What a cell of a table can hold: SQLite's five types. Values, any thread.

namespace patina::crdt {

/// In the order in which values of different types compare, which is SQLite's own (integers and
/// reals compare by number; an integer goes before a real of the same number).
enum class ValueType : uint8_t { kNull = 0, kInteger = 1, kReal = 2, kText = 3, kBlob = 4 };

/// A value whose bytes belong to somebody else (a changeset, a statement's row, a Value).
/// Text is bytes: it may hold NUL and need not be valid UTF-8. A NaN cannot be made: it is null.
class ValueView {
 public:
  ValueView() = default;
  static ValueView Null() { return {}; }
  static ValueView Integer(int64_t integer);
  static ValueView Real(double real);  // NaN gives null; -0.0 gives 0.0
  static ValueView Text(std::string_view text);
  static ValueView Blob(std::string_view blob);

  ValueType type() const { return type_; }
  bool IsNull() const { return type_ == ValueType::kNull; }
  int64_t integer() const { return integer_; }
  double real() const;
  /// Of text and blobs; empty for the others.
  std::string_view bytes() const { return bytes_; }

  /// Same type and same content: 1 and 1.0 differ.
  bool operator==(const ValueView& other) const;
  /// A total order (see ValueType); agrees with ==.
  std::strong_ordering operator<=>(const ValueView& other) const;

  /// For people: NULL, 12, 1.5, 'it''s', x'00ff'.
  std::string ToString() const;

 private:
  ValueType type_ = ValueType::kNull;
  int64_t integer_ = 0;  // of a real: its bits
  std::string_view bytes_;
};

/// A value that owns its bytes.
class Value {
 public:
  Value() = default;
  explicit Value(const ValueView& view);
  static Value Null() { return {}; }
  static Value Integer(int64_t integer) { return Value(ValueView::Integer(integer)); }
  static Value Real(double real) { return Value(ValueView::Real(real)); }
  static Value Text(std::string_view text) { return Value(ValueView::Text(text)); }
  static Value Blob(std::string_view blob) { return Value(ValueView::Blob(blob)); }

  ValueView view() const;
  operator ValueView() const { return view(); }  // NOLINT: a Value is a ValueView
  ValueType type() const { return type_; }

  bool operator==(const Value& other) const { return view() == other.view(); }
  auto operator<=>(const Value& other) const { return view() <=> other.view(); }
  std::string ToString() const { return view().ToString(); }

 private:
  ValueType type_ = ValueType::kNull;
  int64_t integer_ = 0;
  std::string bytes_;
};

using Row = std::vector<Value>;

/// Encoding, canonical (one value, one spelling): a type byte; integers zigzag varint, reals 8
/// bytes, text and blobs length-prefixed.
void EncodeValue(const ValueView& value, ByteWriter& out);
/// A view into the reader's bytes. On malformed input the reader fails and null comes back.
ValueView DecodeValue(ByteReader& in);

/// A key or row of several values, packed: varint count, then the values. Keys compare as these
/// bytes for equality only, not for order.
std::string PackValues(const std::vector<ValueView>& values);
std::string PackValues(const std::vector<Value>& values);
/// False (and *values unspecified) when malformed or when there are more than max_values.
bool UnpackValues(std::string_view packed, size_t max_values, std::vector<ValueView>* values);
/// The same, behind what *values holds already; false leaves rubbish there.
bool AppendUnpacked(std::string_view packed, size_t max_values, std::vector<ValueView>* values);
/// Well-formed, and of exactly this many values? Allocates nothing.
bool IsPackedValues(std::string_view packed, size_t count);

}  // namespace patina::crdt

#include <cctype>
#include <string>

#include "storage/table_io.h"

// Would SQLite store a value from a peer exactly as it came? Writers send what they read back after
// storing, so that only other declarations, or mischief, give a value that a column would change.

namespace patina::storage {
namespace {

using crdt::ValueType;
using crdt::ValueView;

/// What SQLite's numeric affinities convert: unlike strtod, neither 0x10 nor inf nor nan.
bool LooksNumeric(std::string_view text) {
  size_t i = 0;
  auto at = [&](auto matches) {
    return i < text.size() && matches(static_cast<unsigned char>(text[i]));
  };
  auto space = [](unsigned char c) { return std::isspace(c) != 0; };
  auto sign = [](unsigned char c) { return c == '+' || c == '-'; };
  auto digits = [&] {
    size_t count = 0;
    for (; at([](unsigned char c) { return c >= '0' && c <= '9'; }); ++i) ++count;
    return count;
  };
  while (at(space)) ++i;
  if (at(sign)) ++i;
  size_t mantissa = digits();
  if (at([](unsigned char c) { return c == '.'; })) {
    ++i;
    mantissa += digits();
  }
  if (mantissa == 0) return false;
  if (at([](unsigned char c) { return c == 'e' || c == 'E'; })) {
    ++i;
    if (at(sign)) ++i;
    if (digits() == 0) return false;
  }
  while (at(space)) ++i;
  return i == text.size();
}

/// A real that an INTEGER or NUMERIC column stores as an integer.
bool IsIntegral(double real) {
  constexpr double kTwoTo63 = 9223372036854775808.0;
  return real > -kTwoTo63 && real < kTwoTo63 &&
         static_cast<double>(static_cast<int64_t>(real)) == real;
}

std::string Strict(const Column& column, const ValueView& value) {
  std::string type = column.declared_type;
  for (char& c : type) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  const bool fits = type == "ANY" ||
                    ((type == "INT" || type == "INTEGER") && value.type() == ValueType::kInteger) ||
                    (type == "REAL" && value.type() == ValueType::kReal) ||
                    (type == "TEXT" && value.type() == ValueType::kText) ||
                    (type == "BLOB" && value.type() == ValueType::kBlob);
  return fits ? "" : "column " + column.name + " is " + type + " and STRICT";
}

std::string Check(const Column& column, bool strict, const ValueView& value) {
  if (value.IsNull()) return column.not_null ? "column " + column.name + " is NOT NULL" : "";
  if (strict) return Strict(column, value);
  bool stable = true;
  switch (column.affinity) {
    case Affinity::kBlob:
      break;
    case Affinity::kText:
      stable = value.type() == ValueType::kText || value.type() == ValueType::kBlob;
      break;
    case Affinity::kReal:
      stable = value.type() != ValueType::kInteger &&
               !(value.type() == ValueType::kText && LooksNumeric(value.bytes()));
      break;
    case Affinity::kInteger:
    case Affinity::kNumeric:
      stable = !(value.type() == ValueType::kReal && IsIntegral(value.real())) &&
               !(value.type() == ValueType::kText && LooksNumeric(value.bytes()));
      break;
  }
  return stable ? ""
                : "column " + column.name + " (" + column.declared_type +
                      ") would change the value " + value.ToString().substr(0, 60);
}

}  // namespace

std::string TableIo::WhyNotStorable(crdt::ColumnIndex column, const ValueView& value) const {
  return Check(table_->columns[column], table_->strict, value);
}

std::string TableIo::WhyNotKey(std::string_view packed_key) const {
  std::vector<ValueView> values;
  if (!crdt::UnpackValues(packed_key, table_->key.size(), &values) ||
      values.size() != table_->key.size()) {
    return "the key has another number of values";
  }
  // One spelling per key, or one row would have two names.
  if (crdt::PackValues(values) != packed_key) return "the key is not packed canonically";
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i].IsNull()) return "key column " + table_->key[i].name + " is NULL";
    if (std::string why = Check(table_->key[i], table_->strict, values[i]); !why.empty())
      return why;
    if (table_->key_is_rowid && values[i].type() != ValueType::kInteger) {
      return "key column " + table_->key[i].name + " is the rowid, an integer";
    }
  }
  return WhyNotLocalKey(packed_key);
}

std::string TableIo::WhyNotLocalKey(std::string_view packed_key) const {
  ByteReader in(packed_key);
  in.Varint();
  for (const Column& column : table_->key) {
    const ValueView value = crdt::DecodeValue(in);
    if (value.type() != ValueType::kReal) continue;
    return "key column " + column.name + ": " + value.ToString() +
           " is a real, and no key can be one: SQLite takes 1.0 for 1, while keys compare as "
           "bytes; use integers, text or blobs";
  }
  return "";
}

}  // namespace patina::storage

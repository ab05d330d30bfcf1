#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

// Little-endian integers, varints and length-prefixed strings in byte strings. Any thread.

namespace patina {

std::string ToHex(std::string_view raw);
std::optional<std::string> FromHex(std::string_view hex);

/// Appends to a string it does not own.
class ByteWriter {
 public:
  explicit ByteWriter(std::string* out) : out_(*out) {}

  void U8(uint8_t value) { out_.push_back(static_cast<char>(value)); }
  void U32(uint32_t value) { Fixed(&value, sizeof value); }
  void U64(uint64_t value) { Fixed(&value, sizeof value); }
  void F64(double value) { Fixed(&value, sizeof value); }
  /// 1 to 10 bytes, 7 bits each, low bits first.
  void Varint(uint64_t value) {
    while (value >= 0x80) {
      out_.push_back(static_cast<char>(value | 0x80));
      value >>= 7;
    }
    out_.push_back(static_cast<char>(value));
  }
  /// Zigzag: small negative numbers stay short.
  void SignedVarint(int64_t value) {
    Varint((static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63));
  }
  void Raw(std::string_view bytes) { out_.append(bytes); }
  /// Varint length, then the bytes.
  void String(std::string_view bytes) {
    Varint(bytes.size());
    out_.append(bytes);
  }
  size_t size() const { return out_.size(); }

 private:
  void Fixed(const void* data, size_t size) {
    static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
    out_.append(static_cast<const char*>(data), size);
  }
  std::string& out_;
};

/// Reads what ByteWriter wrote, from bytes it does not own; nothing here allocates. After the first
/// read past the end, or malformed varint, ok() is false for ever and every read gives zero or
/// empty.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : rest_(bytes) {}

  bool ok() const { return ok_; }
  bool AtEnd() const { return rest_.empty(); }
  size_t remaining() const { return rest_.size(); }
  std::string_view rest() const { return rest_; }
  void Fail() {
    ok_ = false;
    rest_ = {};
  }

  uint8_t U8() { return Fixed<uint8_t>(); }
  uint32_t U32() { return Fixed<uint32_t>(); }
  uint64_t U64() { return Fixed<uint64_t>(); }
  double F64() { return Fixed<double>(); }
  uint64_t Varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) break;
      const auto byte = static_cast<uint8_t>(rest_.front());
      rest_.remove_prefix(1);
      if (shift == 63 && byte > 1) break;
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    Fail();
    return 0;
  }
  int64_t SignedVarint() {
    const uint64_t raw = Varint();
    return static_cast<int64_t>(raw >> 1) ^ -static_cast<int64_t>(raw & 1);
  }
  std::string_view Raw(size_t size) {
    if (size > rest_.size()) {
      Fail();
      return {};
    }
    std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }
  std::string_view String() {
    const uint64_t size = Varint();
    return Raw(size > rest_.size() ? rest_.size() + 1 : static_cast<size_t>(size));
  }

 private:
  template <class T>
  T Fixed() {
    T value{};
    std::string_view raw = Raw(sizeof value);
    if (raw.size() == sizeof value) std::memcpy(&value, raw.data(), sizeof value);
    return value;
  }
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace patina

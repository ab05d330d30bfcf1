#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace patina::proxy_sink {

/// Keys of a TOML file's sections, with errors that name file and line. One thread at a time.
/// The section "" is the file's top level. A value whose key is absent stays as it was; every error
/// is INVALID_ARGUMENT "file:line: ...", and leaves the value as it was, too.
class TomlReader {
 public:
  static Result<TomlReader> Parse(std::string_view text, const std::string& file_name);
  /// NOT_FOUND when the file cannot be read.
  static Result<TomlReader> Load(const std::string& path);
  ~TomlReader();
  TomlReader(TomlReader&&) noexcept;

  bool Has(const std::string& section, const std::string& key) const;
  Status String(const std::string& section, const std::string& key, std::string* value) const;
  Status Strings(const std::string& section, const std::string& key,
                 std::vector<std::string>* values) const;
  Status Integer(const std::string& section, const std::string& key, int64_t low, int64_t high,
                 int64_t* value) const;
  /// Integers are taken as well.
  Status Real(const std::string& section, const std::string& key, double low, double high,
              double* value) const;
  /// An error at the first key of the section that is not among these. Subsections are keys of "".
  Status OnlyKnown(const std::string& section, std::initializer_list<std::string_view> known) const;
  /// "file:line: message", at the key if it is there, else at the file alone.
  Error ErrorAt(const std::string& section, const std::string& key, std::string_view message) const;

 private:
  struct Impl;
  explicit TomlReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace patina::proxy_sink

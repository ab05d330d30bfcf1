#include "proxy-sink/toml_reader.h"

#include <toml++/toml.h>

#include <fstream>
#include <iterator>
#include <utility>

#include "base/log.h"

namespace patina::proxy_sink {

struct TomlReader::Impl {
  std::string file_name;
  toml::table root;

  const toml::table* Section(const std::string& name) const {
    if (name.empty()) return &root;
    const toml::node* node = root.get(name);
    return node == nullptr ? nullptr : node->as_table();
  }
  const toml::node* Find(const std::string& section, const std::string& key) const {
    const toml::table* table = Section(section);
    return table == nullptr ? nullptr : table->get(key);
  }
  Error At(const toml::source_region& source, std::string_view message) const {
    return InvalidArgument(StrCat(file_name, ":", source.begin.line, ": ", message));
  }
};

TomlReader::TomlReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TomlReader::~TomlReader() = default;
TomlReader::TomlReader(TomlReader&&) noexcept = default;

Result<TomlReader> TomlReader::Parse(std::string_view text, const std::string& file_name) {
  auto impl = std::make_unique<Impl>();
  impl->file_name = file_name;
  try {
    impl->root = toml::parse(text, file_name);
  } catch (const toml::parse_error& error) {
    return impl->At(error.source(), error.description());
  }
  return TomlReader(std::move(impl));
}

Result<TomlReader> TomlReader::Load(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file.is_open() || file.bad()) return NotFound("cannot read " + path);
  return Parse(text, path);
}

bool TomlReader::Has(const std::string& section, const std::string& key) const {
  return impl_->Find(section, key) != nullptr;
}

Status TomlReader::String(const std::string& section, const std::string& key,
                          std::string* value) const {
  const toml::node* node = impl_->Find(section, key);
  if (node == nullptr) return OkStatus();
  if (!node->is_string()) return impl_->At(node->source(), key + " must be a string");
  *value = node->as_string()->get();
  return OkStatus();
}

Status TomlReader::Strings(const std::string& section, const std::string& key,
                           std::vector<std::string>* values) const {
  const toml::node* node = impl_->Find(section, key);
  if (node == nullptr) return OkStatus();
  const toml::array* array = node->as_array();
  if (array == nullptr) return impl_->At(node->source(), key + " must be an array of strings");
  std::vector<std::string> read;
  for (const toml::node& each : *array) {
    if (!each.is_string()) return impl_->At(each.source(), key + " must be an array of strings");
    read.push_back(each.as_string()->get());
  }
  *values = std::move(read);
  return OkStatus();
}

Status TomlReader::Integer(const std::string& section, const std::string& key, int64_t low,
                           int64_t high, int64_t* value) const {
  const toml::node* node = impl_->Find(section, key);
  if (node == nullptr) return OkStatus();
  if (!node->is_integer()) return impl_->At(node->source(), key + " must be an integer");
  const int64_t integer = node->as_integer()->get();
  if (integer < low || integer > high) {
    return impl_->At(node->source(), StrCat(key, " must be ", low, " to ", high));
  }
  *value = integer;
  return OkStatus();
}

Status TomlReader::Real(const std::string& section, const std::string& key, double low, double high,
                        double* value) const {
  const toml::node* node = impl_->Find(section, key);
  if (node == nullptr) return OkStatus();
  const auto real = node->value<double>();
  if (!real || !node->is_number()) return impl_->At(node->source(), key + " must be a number");
  if (!(*real >= low && *real <= high)) {
    return impl_->At(node->source(), StrCat(key, " must be ", low, " to ", high));
  }
  *value = *real;
  return OkStatus();
}

Status TomlReader::OnlyKnown(const std::string& section,
                             std::initializer_list<std::string_view> known) const {
  const toml::table* table = impl_->Section(section);
  if (table == nullptr) {
    const toml::node* node = impl_->root.get(section);
    if (node == nullptr) return OkStatus();
    return impl_->At(node->source(), section + " must be a section");
  }
  for (const auto& [key, node] : *table) {
    bool found = false;
    for (const std::string_view each : known) found = found || key.str() == each;
    if (!found) return impl_->At(key.source(), StrCat("unknown key ", key.str()));
  }
  return OkStatus();
}

Error TomlReader::ErrorAt(const std::string& section, const std::string& key,
                          std::string_view message) const {
  const toml::node* node = impl_->Find(section, key);
  if (node != nullptr) return impl_->At(node->source(), message);
  return InvalidArgument(StrCat(impl_->file_name, ": ", message));
}

}  // namespace patina::proxy_sink

#include "tests/support/environment.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

#include "base/check.h"

namespace patina::test {

uint64_t FromEnvironment(const std::string& name, uint64_t otherwise) {
  const char* const set = std::getenv(name.c_str());
  if (set == nullptr) return otherwise;
  const std::string_view text = set;
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  CHECK_MSG(error == std::errc() && end == text.data() + text.size() && value > 0,
            name + " must be a whole number from 1");
  return value;
}

SeedRange::SeedRange(const std::string& prefix, uint64_t seeds_otherwise)
    : first(FromEnvironment(prefix + "_FIRST", 1)),
      end(first + FromEnvironment(prefix + "_SEEDS", seeds_otherwise)) {}

}  // namespace patina::test

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "agent/config.h"

// The table of all configuration keys: the file, the environment and the tests go by it. Any
// thread.

namespace patina::agent {

/// A number of bytes, rows, connections …
struct CountKey {
  std::variant<size_t*, int64_t*, int*> target;
  int64_t min = 1;
  int64_t max = INT64_MAX;
};

/// Milliseconds in the file.
struct DurationKey {
  Duration* target = nullptr;
  int64_t min_ms = 1;
  int64_t max_ms = int64_t{1000} * 3600 * 24 * 365;
};

/// One of these words.
struct ChoiceKey {
  std::string* target = nullptr;  // gets the word …
  bool* is_last = nullptr;        // … or this, whether it is the last of them
  std::vector<std::string> choices;
};

struct ConfigKey {
  std::string_view section;
  std::string_view name;
  std::variant<std::string*, std::vector<std::string>*, CountKey, DurationKey, ChoiceKey> place;
};

/// The keys, pointing into *config.
std::vector<ConfigKey> ConfigKeys(Config* config);

/// "PATINA_LIMITS_READERS"
std::string EnvironmentName(const ConfigKey& key);

/// The candidate that takes the fewest edits, or "" if none is near.
std::string Nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace patina::agent

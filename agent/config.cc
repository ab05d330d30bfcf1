#include "agent/config.h"

#include <unistd.h>

#include <charconv>
#include <fstream>
#include <initializer_list>
#include <map>
#include <set>
#include <sstream>

#include "agent/config_keys.h"
#include "base/endpoint.h"
#include "base/log.h"

#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

extern char** environ;

namespace patina::agent {
namespace {

/// Where a value came from, for errors: "patina.toml:3:1" or a variable's name.
std::string At(std::string_view file, const toml::source_region& source) {
  return StrCat(file, ":", source.begin.line, ":", source.begin.column);
}

/// Where each key that was set got its value, for errors that only several keys together show.
struct Origins {
  std::string_view file;
  std::map<std::string, std::string, std::less<>> places;  // by "section.key"

  /// At the first of these keys that was set; if none was, in the file.
  Error Wrong(std::initializer_list<std::string_view> keys, std::string_view message) const {
    for (const std::string_view key : keys) {
      const auto place = places.find(key);
      if (place != places.end()) return InvalidArgument(StrCat(place->second, ": ", message));
    }
    return InvalidArgument(file.empty() ? std::string(message) : StrCat(file, ": ", message));
  }
};

Error WrongType(const std::string& where, std::string_view name, std::string_view expected) {
  return InvalidArgument(StrCat(where, ": ", name, " must be ", expected));
}

Status SetCount(const CountKey& key, int64_t value, const std::string& where,
                std::string_view name) {
  if (value < key.min || value > key.max) {
    return InvalidArgument(
        key.max == INT64_MAX
            ? StrCat(where, ": ", name, " must be at least ", key.min)
            : StrCat(where, ": ", name, " must be within ", key.min, "..", key.max));
  }
  std::visit(
      [&](auto* target) { *target = static_cast<std::remove_pointer_t<decltype(target)>>(value); },
      key.target);
  return OkStatus();
}

Status SetDuration(const DurationKey& key, int64_t value, const std::string& where,
                   std::string_view name) {
  if (value < key.min_ms || value > key.max_ms) {
    return InvalidArgument(
        StrCat(where, ": ", name, " must be within ", key.min_ms, "..", key.max_ms, " ms"));
  }
  *key.target = std::chrono::milliseconds(value);
  return OkStatus();
}

Status SetChoice(const ChoiceKey& key, const std::string& value, const std::string& where,
                 std::string_view name) {
  std::string choices;
  for (const std::string& choice : key.choices) {
    if (choice == value) {
      if (key.target != nullptr) *key.target = value;
      if (key.is_last != nullptr) *key.is_last = choice == key.choices.back();
      return OkStatus();
    }
    choices += (choices.empty() ? "\"" : ", \"") + choice + "\"";
  }
  return InvalidArgument(
      StrCat(where, ": ", name, " must be one of ", choices, ", not \"", value, "\""));
}

Status SetStrings(std::vector<std::string>* target, const toml::node& node, std::string_view file,
                  std::string_view name) {
  const toml::array* array = node.as_array();
  if (array == nullptr) {
    return WrongType(At(file, node.source()), name, "a list of strings, like [\"a\", \"b\"]");
  }
  target->clear();
  for (const toml::node& item : *array) {
    const auto* text = item.as_string();
    if (text == nullptr) return WrongType(At(file, item.source()), name, "a list of strings");
    target->push_back(text->get());
  }
  return OkStatus();
}

Status SetFromToml(const ConfigKey& key, const toml::node& node, std::string_view file) {
  const std::string where = At(file, node.source());
  const std::string name = StrCat(key.section, ".", key.name);
  if (const auto* strings = std::get_if<std::vector<std::string>*>(&key.place)) {
    return SetStrings(*strings, node, file, name);
  }
  if (const auto* text = std::get_if<std::string*>(&key.place)) {
    if (!node.is_string()) return WrongType(where, name, "a string");
    **text = node.as_string()->get();
    return OkStatus();
  }
  if (const auto* choice = std::get_if<ChoiceKey>(&key.place)) {
    if (!node.is_string()) return WrongType(where, name, "a string");
    return SetChoice(*choice, node.as_string()->get(), where, name);
  }
  if (!node.is_integer()) return WrongType(where, name, "a whole number");
  const int64_t value = node.as_integer()->get();
  if (const auto* count = std::get_if<CountKey>(&key.place)) {
    return SetCount(*count, value, where, name);
  }
  return SetDuration(std::get<DurationKey>(key.place), value, where, name);
}

Status SetFromEnvironment(const ConfigKey& key, const std::string& variable,
                          const std::string& value) {
  const std::string name = StrCat(key.section, ".", key.name);
  if (const auto* text = std::get_if<std::string*>(&key.place)) {
    **text = value;
    return OkStatus();
  }
  if (const auto* strings = std::get_if<std::vector<std::string>*>(&key.place)) {
    (*strings)->clear();
    std::istringstream items(value);
    for (std::string item; std::getline(items, item, ',');) {
      const size_t first = item.find_first_not_of(' '), last = item.find_last_not_of(' ');
      if (first != std::string::npos) (*strings)->push_back(item.substr(first, last - first + 1));
    }
    return OkStatus();
  }
  if (const auto* choice = std::get_if<ChoiceKey>(&key.place)) {
    return SetChoice(*choice, value, variable, name);
  }
  int64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size()) {
    return WrongType(variable, name, "a whole number");
  }
  if (const auto* count = std::get_if<CountKey>(&key.place)) {
    return SetCount(*count, number, variable, name);
  }
  return SetDuration(std::get<DurationKey>(key.place), number, variable, name);
}

std::string Suggestion(std::string_view word, const std::vector<std::string>& known) {
  const std::string nearest = Nearest(word, known);
  if (!nearest.empty()) return StrCat("; did you mean \"", nearest, "\"?");
  std::string all;
  for (const std::string& name : known) all += (all.empty() ? "" : ", ") + name;
  return known.size() <= 10 ? "; known are: " + all : "";
}

Status ApplySection(const std::vector<ConfigKey>& keys, std::string_view section,
                    const toml::table& table, std::string_view file, Origins* origins) {
  for (const auto& [name, node] : table) {
    const ConfigKey* found = nullptr;
    std::vector<std::string> known;
    for (const ConfigKey& key : keys) {
      if (key.section != section) continue;
      if (key.name == name.str()) found = &key;
      known.emplace_back(key.name);
    }
    if (found == nullptr) {
      return InvalidArgument(StrCat(At(file, name.source()), ": unknown key \"", name.str(),
                                    "\" in [", section, "]", Suggestion(name.str(), known)));
    }
    RETURN_IF_ERROR(SetFromToml(*found, node, file));
    origins->places[StrCat(section, ".", name.str())] = At(file, node.source());
  }
  return OkStatus();
}

Status ApplyToml(const std::vector<ConfigKey>& keys, std::string_view text, std::string_view file,
                 Origins* origins) {
  const toml::parse_result parsed = toml::parse(text, file);
  if (!parsed) {
    return InvalidArgument(
        StrCat(At(file, parsed.error().source()), ": ", parsed.error().description()));
  }
  std::set<std::string> sections;
  for (const ConfigKey& key : keys) sections.insert(std::string(key.section));
  for (const auto& [name, node] : parsed.table()) {
    const std::string where = At(file, name.source());
    const toml::table* table = node.as_table();
    if (!sections.contains(std::string(name.str()))) {
      return InvalidArgument(StrCat(
          where, table != nullptr ? ": unknown section [" : ": unknown key outside sections [",
          name.str(), "]", Suggestion(name.str(), {sections.begin(), sections.end()})));
    }
    if (table == nullptr) return WrongType(where, name.str(), "a section, like [node]");
    RETURN_IF_ERROR(ApplySection(keys, name.str(), *table, file, origins));
  }
  return OkStatus();
}

Status ApplyEnvironment(const std::vector<ConfigKey>& keys,
                        const std::vector<std::string>& environment, Origins* origins) {
  for (const std::string& entry : environment) {
    if (!entry.starts_with("PATINA_")) continue;
    const size_t equals = entry.find('=');
    if (equals == std::string::npos) continue;
    const std::string variable = entry.substr(0, equals);
    bool known = false;
    std::vector<std::string> names;
    for (const ConfigKey& key : keys) {
      names.push_back(EnvironmentName(key));
      if (names.back() != variable) continue;
      known = true;
      RETURN_IF_ERROR(SetFromEnvironment(key, variable, entry.substr(equals + 1)));
      origins->places[StrCat(key.section, ".", key.name)] = variable;
    }
    // Not an error: PATINA_API and PATINA_TOKEN are the command line's, and container hosts add
    // their own (PATINA_API_PORT=tcp://…).
    if (!known && variable.starts_with("PATINA_LIMITS_")) {
      return InvalidArgument(StrCat(variable, ": no such limit", Suggestion(variable, names)));
    }
  }
  return OkStatus();
}

Status CheckListen(const Origins& origins, std::string_view key, const std::string& address) {
  if (Endpoint::Parse(address)) return OkStatus();
  return origins.Wrong({key}, StrCat(key, ": \"", address,
                                     "\" is not a numeric address with a port, like "
                                     "10.0.0.1:7400 or [fdaa::1]:7400"));
}

Status CheckName(const Origins& origins, std::string_view key, const std::string& name) {
  if (name.empty() || name.size() > 255) {
    return origins.Wrong({key}, StrCat(key, " must have 1 to 255 characters"));
  }
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= ' ' || byte >= 0x7f || c == ',' || c == '"') {
      return origins.Wrong({key}, StrCat(key, ": \"", name,
                                         "\" holds a space, comma, quote or a character beyond "
                                         "ASCII"));
    }
  }
  return OkStatus();
}

Status CheckSeeds(const Origins& origins, const std::vector<std::string>& seeds) {
  for (const std::string& seed : seeds) {
    if (seed.starts_with("wg:")) {
      return origins.Wrong({"gossip.seeds"},
                           StrCat("gossip.seeds: \"", seed,
                                  "\": the peers of a WireGuard interface cannot be read yet; "
                                  "list them as name:port"));
    }
    if (seed.rfind(':') == std::string::npos || seed.ends_with(':') || seed.starts_with(':')) {
      return origins.Wrong({"gossip.seeds"},
                           StrCat("gossip.seeds: \"", seed, "\" is not name:port"));
    }
  }
  return OkStatus();
}

Status CheckApi(const Origins& origins, Config* config) {
  if (!config->api.http_listen.empty()) {
    return origins.Wrong({"api.http_listen"}, "api.http_listen is not built yet: leave it empty");
  }
  if (!config->api.postgres_listen.empty()) {
    return origins.Wrong({"api.postgres_listen"},
                         "api.postgres_listen is not built yet: leave it empty");
  }
  if (!config->api.advertise.empty()) return OkStatus();
  for (const std::string& address : config->api.listen) {
    if (address.starts_with("unix:")) continue;
    config->api.advertise = address;
    break;
  }
  return OkStatus();
}

Status CheckLimits(const Origins& origins, const Config& config) {
  const gossip::Config& core = config.gossip_core;
  const auto check = [&origins](Duration low, std::string_view low_key, Duration high,
                                std::string_view high_key) -> Status {
    if (low <= high) return OkStatus();
    return origins.Wrong({low_key, high_key}, StrCat(low_key, " is above ", high_key));
  };
  RETURN_IF_ERROR(check(core.suspicion_min, "limits.suspicion_ms_min", core.suspicion_max,
                        "limits.suspicion_ms_max"));
  RETURN_IF_ERROR(check(core.probe_timeout_min, "limits.probe_timeout_ms_min", core.probe_interval,
                        "limits.probe_interval_ms"));
  RETURN_IF_ERROR(check(core.sync_interval_min, "limits.sync_interval_ms_min",
                        core.sync_interval_max, "limits.sync_interval_ms_max"));
  if (config.watchdog_timeout > Duration::zero() &&
      config.store.transaction_deadline >= config.watchdog_timeout) {
    return origins.Wrong(
        {"limits.transaction_deadline_ms", "limits.watchdog_timeout_ms"},
        StrCat("limits.transaction_deadline_ms (", ToMs(config.store.transaction_deadline),
               ") must be below limits.watchdog_timeout_ms (", ToMs(config.watchdog_timeout),
               "): lower the one or raise the other; 0 turns the watchdog off"));
  }
  const size_t frame_needed = config.store.changeset.bytes_max + (1u << 16);
  if (config.frame_bytes_max >= frame_needed) return OkStatus();
  return origins.Wrong({"limits.frame_bytes_max", "limits.changeset_bytes_max"},
                       StrCat("limits.frame_bytes_max must be at least "
                              "limits.changeset_bytes_max and 65536 more: ",
                              frame_needed));
}

/// What no single key can tell.
Status Finish(const Origins& origins, Config* config) {
  config->gossip_core.cluster = config->gossip.cluster;
  RETURN_IF_ERROR(CheckName(origins, "node.name", config->node.name));
  RETURN_IF_ERROR(CheckName(origins, "node.region", config->node.region));
  RETURN_IF_ERROR(CheckName(origins, "gossip.cluster", config->gossip.cluster));
  if (config->node.data_dir.empty()) {
    return origins.Wrong({"node.data_dir"}, "node.data_dir must not be empty");
  }
  RETURN_IF_ERROR(CheckListen(origins, "gossip.listen", config->gossip.listen));
  if (config->gossip.advertise.empty()) config->gossip.advertise = config->gossip.listen;
  RETURN_IF_ERROR(CheckListen(origins, "gossip.advertise", config->gossip.advertise));
  RETURN_IF_ERROR(CheckSeeds(origins, config->gossip.seeds));
  RETURN_IF_ERROR(CheckApi(origins, config));
  return CheckLimits(origins, *config);
}

std::string HostName() {
  char name[256] = {};
  if (::gethostname(name, sizeof name - 1) != 0 || name[0] == '\0') return "localhost";
  return name;
}

}  // namespace

Result<Config> ParseConfig(std::string_view toml, std::string_view file_name,
                           const std::vector<std::string>& environment) {
  Config config;
  config.node.name = HostName();
  const std::vector<ConfigKey> keys = ConfigKeys(&config);
  Origins origins{file_name, {}};
  RETURN_IF_ERROR(ApplyToml(keys, toml, file_name, &origins));
  RETURN_IF_ERROR(ApplyEnvironment(keys, environment, &origins));
  RETURN_IF_ERROR(Finish(origins, &config));
  return config;
}

Result<Config> LoadConfig(const std::string& path) {
  std::string text;
  if (!path.empty()) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return NotFound(StrCat(path, ": cannot be opened"));
    text.assign(std::istreambuf_iterator<char>(file), {});
    if (file.bad()) return NotFound(StrCat(path, ": cannot be read"));
  }
  std::vector<std::string> environment;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    environment.emplace_back(*entry);
  }
  return ParseConfig(text, path, environment);
}

}  // namespace patina::agent

#include "tools/sidecar_service.h"

#include <charconv>
#include <span>
#include <utility>

#include "base/log.h"
#include "proxy-sink/toml_reader.h"

namespace patina::tools {
namespace {

using crdt::Value;
using proxy_sink::TomlReader;

constexpr int64_t kMsMax = 3'600'000;
constexpr int64_t kCountMax = 1'000'000'000;

Status ReadTop(const TomlReader& toml, ServiceFile* file) {
  RETURN_IF_ERROR(
      toml.OnlyKnown("", {"machine", "app", "organization", "host", "region", "address",
                          "machine_address", "port", "protocol", "limit_kind", "soft_limit",
                          "hard_limit", "cpu_count", "memory_mib", "check", "load"}));
  const std::pair<const char*, std::string*> texts[] = {{"machine", &file->machine},
                                                        {"app", &file->app},
                                                        {"host", &file->host},
                                                        {"region", &file->region},
                                                        {"address", &file->address},
                                                        {"organization", &file->organization},
                                                        {"protocol", &file->protocol},
                                                        {"machine_address", &file->machine_address},
                                                        {"limit_kind", &file->limit_kind}};
  for (const auto& [key, value] : texts) RETURN_IF_ERROR(toml.String("", key, value));
  for (const auto& [key, value] : std::span(texts).first(5)) {
    if (value->empty()) return toml.ErrorAt("", key, StrCat("needs ", key, " = \"...\""));
  }
  RETURN_IF_ERROR(toml.Integer("", "port", 1, 65535, &file->port));
  RETURN_IF_ERROR(toml.Integer("", "soft_limit", 0, kCountMax, &file->soft_limit));
  RETURN_IF_ERROR(toml.Integer("", "hard_limit", 0, kCountMax, &file->hard_limit));
  RETURN_IF_ERROR(toml.Integer("", "cpu_count", 1, kCountMax, &file->cpu_count));
  RETURN_IF_ERROR(toml.Integer("", "memory_mib", 1, kCountMax, &file->memory_mib));
  std::string host;
  int port = 0;
  if (!SplitHostPort(file->address, &host, &port)) {
    return toml.ErrorAt("", "address", "address must be host:port");
  }
  if (file->port == 0) file->port = port;
  return OkStatus();
}

Status ReadCheck(const TomlReader& toml, const std::string& service_address,
                 ServiceFile::Check* check) {
  RETURN_IF_ERROR(toml.OnlyKnown("check", {"name", "address", "path", "interval_ms", "timeout_ms",
                                           "healthy_after", "unhealthy_after"}));
  check->address = service_address;
  RETURN_IF_ERROR(toml.String("check", "name", &check->name));
  RETURN_IF_ERROR(toml.String("check", "address", &check->address));
  RETURN_IF_ERROR(toml.String("check", "path", &check->path));
  RETURN_IF_ERROR(toml.Integer("check", "interval_ms", 10, kMsMax, &check->interval_ms));
  RETURN_IF_ERROR(toml.Integer("check", "timeout_ms", 1, kMsMax, &check->timeout_ms));
  RETURN_IF_ERROR(toml.Integer("check", "healthy_after", 1, 1000, &check->healthy_after));
  RETURN_IF_ERROR(toml.Integer("check", "unhealthy_after", 1, 1000, &check->unhealthy_after));
  std::string host;
  int port = 0;
  if (!SplitHostPort(check->address, &host, &port)) {
    return toml.ErrorAt("check", "address", "address must be host:port");
  }
  if (!check->path.empty() && check->path.front() != '/') {
    return toml.ErrorAt("check", "path", "path must begin with / (or be empty: TCP only)");
  }
  return OkStatus();
}

Status ReadLoad(const TomlReader& toml, ServiceFile::Load* load) {
  RETURN_IF_ERROR(
      toml.OnlyKnown("load", {"pid", "pid_file", "stub_status", "interval_ms", "cpu_cores",
                              "cpu_percent", "memory_percent", "inflight", "inflight_percent"}));
  RETURN_IF_ERROR(toml.Integer("load", "pid", 1, INT32_MAX, &load->pid));
  RETURN_IF_ERROR(toml.String("load", "pid_file", &load->pid_file));
  RETURN_IF_ERROR(toml.String("load", "stub_status", &load->stub_status));
  RETURN_IF_ERROR(toml.Integer("load", "interval_ms", 200, kMsMax, &load->interval_ms));
  RETURN_IF_ERROR(toml.Real("load", "cpu_cores", 0, 1e6, &load->cpu_cores));
  RETURN_IF_ERROR(toml.Real("load", "cpu_percent", 0, 1e6, &load->cpu_percent));
  RETURN_IF_ERROR(toml.Real("load", "memory_percent", 0, 1e6, &load->memory_percent));
  RETURN_IF_ERROR(toml.Integer("load", "inflight", 0, kCountMax, &load->inflight));
  RETURN_IF_ERROR(toml.Real("load", "inflight_percent", 0, 1e6, &load->inflight_percent));
  if (!load->stub_status.empty() && !load->stub_status.starts_with("http://")) {
    return toml.ErrorAt("load", "stub_status", "stub_status must be http://host:port/path");
  }
  return OkStatus();
}

Result<ServiceFile> Read(const TomlReader& toml) {
  ServiceFile file;
  RETURN_IF_ERROR(ReadTop(toml, &file));
  RETURN_IF_ERROR(ReadCheck(toml, file.address, &file.check));
  RETURN_IF_ERROR(ReadLoad(toml, &file.load));
  return file;
}

std::string Joined(const std::vector<std::string>& parts, std::string_view between) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : std::string(between)) + part;
  return text;
}

}  // namespace

Result<ServiceFile> ParseServiceFile(std::string_view text, const std::string& file_name) {
  ASSIGN_OR_RETURN(const TomlReader toml, TomlReader::Parse(text, file_name));
  return Read(toml);
}

Result<ServiceFile> LoadServiceFile(const std::string& path) {
  ASSIGN_OR_RETURN(const TomlReader toml, TomlReader::Load(path));
  return Read(toml);
}

std::string DesiredRow::Name() const {
  std::string name = table;
  for (const auto& [column, value] : keys) name += "/" + value.ToString();
  return name;
}

SqlWrite DesiredRow::ToSql() const {
  SqlWrite write;
  std::vector<std::string> columns, marks, key_columns, updates, differences;
  const auto add = [&](const std::string& column, const Value& value) {
    columns.push_back(column);
    marks.push_back("?");
    write.parameters.push_back(value);
  };
  for (const auto& [column, value] : keys) {
    add(column, value);
    key_columns.push_back(column);
  }
  for (const auto& [column, value] : fields) {
    add(column, value);
    updates.push_back(column + " = excluded." + column);
    differences.push_back(table + "." + column + " IS NOT excluded." + column);
  }
  if (!stamp_column.empty()) {
    add(stamp_column, Value::Integer(stamp_ms));
    updates.push_back(stamp_column + " = excluded." + stamp_column);
  }
  write.sql = "INSERT INTO " + table + " (" + Joined(columns, ", ") + ") VALUES (" +
              Joined(marks, ", ") + ") ON CONFLICT (" + Joined(key_columns, ", ") + ") DO ";
  write.sql += insert_only || differences.empty() ? "NOTHING"
                                                  : "UPDATE SET " + Joined(updates, ", ") +
                                                        " WHERE " + Joined(differences, " OR ");
  return write;
}

DesiredRow MachineRow(const ServiceFile& file, std::string_view state, int64_t now_ms) {
  DesiredRow row{.table = "machines",
                 .keys = {{"id", Value::Text(file.machine)}},
                 .fields = {{"app", Value::Text(file.app)},
                            {"host", Value::Text(file.host)},
                            {"region", Value::Text(file.region)},
                            {"address", Value::Text(file.machine_address)},
                            {"state", Value::Text(state)}},
                 .stamp_column = "updated_ms",
                 .stamp_ms = now_ms};
  if (file.cpu_count > 0) row.fields.emplace_back("cpu_count", Value::Integer(file.cpu_count));
  if (file.memory_mib > 0) row.fields.emplace_back("memory_mib", Value::Integer(file.memory_mib));
  return row;
}

DesiredRow ServiceRow(const ServiceFile& file) {
  return {.table = "services",
          .keys = {{"machine", Value::Text(file.machine)}, {"port", Value::Integer(file.port)}},
          .fields = {{"protocol", Value::Text(file.protocol)},
                     {"address", Value::Text(file.address)},
                     {"limit_kind", Value::Text(file.limit_kind)},
                     {"soft_limit", Value::Integer(file.soft_limit)},
                     {"hard_limit", Value::Integer(file.hard_limit)}},
          .stamp_column = {}};
}

DesiredRow CheckRow(const ServiceFile& file, std::string_view status, std::string_view output,
                    int64_t now_ms) {
  return {.table = "checks",
          .keys = {{"machine", Value::Text(file.machine)},
                   {"port", Value::Integer(file.port)},
                   {"name", Value::Text(file.check.name)}},
          .fields = {{"status", Value::Text(status)}, {"output", Value::Text(output)}},
          .stamp_column = "updated_ms",
          .stamp_ms = now_ms};
}

DesiredRow ServiceLoadRow(const ServiceFile& file, int64_t inflight, int64_t now_ms) {
  return {.table = "service_load",
          .keys = {{"machine", Value::Text(file.machine)}, {"port", Value::Integer(file.port)}},
          .fields = {{"inflight", Value::Integer(inflight)}},
          .stamp_column = "measured_ms",
          .stamp_ms = now_ms};
}

DesiredRow MachineLoadRow(const ServiceFile& file, double cpu_cores, int64_t memory_mib,
                          int64_t now_ms) {
  return {
      .table = "machine_load",
      .keys = {{"machine", Value::Text(file.machine)}},
      .fields = {{"cpu_load", Value::Real(cpu_cores)}, {"memory_mib", Value::Integer(memory_mib)}},
      .stamp_column = "measured_ms",
      .stamp_ms = now_ms};
}

std::vector<DesiredRow> OwnerRows(const ServiceFile& file) {
  if (file.organization.empty()) return {};
  DesiredRow organization{.table = "organizations",
                          .keys = {{"name", Value::Text(file.organization)}},
                          .fields = {},
                          .stamp_column = {},
                          .insert_only = true};
  DesiredRow app{.table = "apps",
                 .keys = {{"name", Value::Text(file.app)}},
                 .fields = {{"organization", Value::Text(file.organization)}},
                 .stamp_column = {},
                 .insert_only = true};
  return {organization, app};
}

bool SplitHostPort(const std::string& address, std::string* host, int* port) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0) return false;
  const char* end = address.data() + address.size();
  const auto parsed = std::from_chars(address.data() + colon + 1, end, *port);
  if (parsed.ec != std::errc() || parsed.ptr != end || *port < 1 || *port > 65535) return false;
  *host = address.substr(0, colon);
  if (host->front() == '[') {
    if (host->back() != ']' || host->size() < 3) return false;
    *host = host->substr(1, host->size() - 2);
    return true;
  }
  return host->find(':') == std::string::npos;
}

}  // namespace patina::tools

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "crdt/value.h"

// What `patina sidecar` is told in its service file, and the fleet's rows it makes of that. Values,
// any thread.

namespace patina::tools {

struct ServiceFile {
  std::string machine;          // id; required
  std::string app;              // required
  std::string organization;     // not empty: organization and app are inserted if they are missing
  std::string host;             // required: the name of the agent's node
  std::string region;           // required
  std::string address;          // host:port where the service listens on the mesh; required
  std::string machine_address;  // in its organization's network
  int64_t port = 0;             // default: that of the address
  std::string protocol = "http";
  std::string limit_kind = "requests";
  int64_t soft_limit = 20;  // 0: none
  int64_t hard_limit = 0;   // 0: none
  int64_t cpu_count = 0;    // 0: not written
  int64_t memory_mib = 0;   // 0: not written

  struct Check {
    std::string name = "http";
    std::string address;     // default: the service's
    std::string path = "/";  // empty: a TCP connection is enough
    int64_t interval_ms = 1000;
    int64_t timeout_ms = 500;
    int64_t healthy_after = 1;    // good probes in a row
    int64_t unhealthy_after = 2;  // bad probes in a row
  } check;

  struct Load {
    int64_t pid = 0;  // 0: pid_file, or the COMMAND's
    std::string pid_file;
    std::string stub_status;  // "http://host:port/path" of nginx; empty: in flight is not reported
    int64_t interval_ms = 200;
    double cpu_cores = 0.05;  // a change is reported beyond the larger of this
    double cpu_percent = 20;  // and this share of the last report
    double memory_percent = 5;
    int64_t inflight = 1;
    double inflight_percent = 20;
  } load;
};

/// INVALID_ARGUMENT "file:line: ...": syntax, unknown keys, types, ranges, required keys that are
/// missing.
Result<ServiceFile> ParseServiceFile(std::string_view toml, const std::string& file_name);
Result<ServiceFile> LoadServiceFile(const std::string& path);

/// One statement with its parameters.
struct SqlWrite {
  std::string sql;
  std::vector<crdt::Value> parameters;
};

/// A row as it should be. Written by an UPSERT that changes nothing when the row is like that
/// already; the stamp column (a time) is written only together with something else.
struct DesiredRow {
  using Field = std::pair<std::string, crdt::Value>;
  std::string table;
  std::vector<Field> keys;
  std::vector<Field> fields;
  std::string stamp_column;  // empty: none
  int64_t stamp_ms = 0;
  bool insert_only = false;  // leave a row that exists as it is

  /// Table and key: rows of equal names are the same row.
  std::string Name() const;
  SqlWrite ToSql() const;
};

/// state: of machines.state.
DesiredRow MachineRow(const ServiceFile& file, std::string_view state, int64_t now_ms);
DesiredRow ServiceRow(const ServiceFile& file);
DesiredRow CheckRow(const ServiceFile& file, std::string_view status, std::string_view output,
                    int64_t now_ms);
DesiredRow ServiceLoadRow(const ServiceFile& file, int64_t inflight, int64_t now_ms);
DesiredRow MachineLoadRow(const ServiceFile& file, double cpu_cores, int64_t memory_mib,
                          int64_t now_ms);
/// Of organizations and apps: none without an organization in the file.
std::vector<DesiredRow> OwnerRows(const ServiceFile& file);

/// Splits "host:port" and "[v6]:port"; false when it is neither.
bool SplitHostPort(const std::string& address, std::string* host, int* port);

}  // namespace patina::tools

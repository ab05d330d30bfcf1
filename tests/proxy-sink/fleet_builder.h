#pragma once

#include <string>

#include "proxy-sink/table.h"

// Rows of the fleet's tables in few words, in the order of the sink's queries.

namespace patina::proxy_sink {

struct MachineSpec {
  std::string id;
  std::string app = "web";
  std::string region = "ams";
  std::string host = {};  // default: "host-" + id
  std::string state = "started";
  std::string desired_state = "started";
  std::string check = "passing";  // empty: no check
  std::string address = {};       // default: id + ":80"
  int64_t soft_limit = 20;
  int64_t hard_limit = 25;
  int64_t inflight = -1;  // -1: never reported
  double cpu_load = 0;
};

inline void AddMachine(Table& table, MachineSpec spec) {
  if (spec.host.empty()) spec.host = "host-" + spec.id;
  if (spec.address.empty()) spec.address = spec.id + ":80";
  table.Upsert(TableId::kMachines,
               {spec.id, spec.app, spec.host, spec.region, spec.state, spec.desired_state});
  table.Upsert(TableId::kServices, {spec.id, int64_t{80}, std::string("http"), spec.address,
                                    spec.soft_limit, spec.hard_limit});
  if (!spec.check.empty()) {
    table.Upsert(TableId::kChecks, {spec.id, int64_t{80}, std::string("http"), spec.check});
  }
  if (spec.inflight >= 0) {
    table.Upsert(TableId::kServiceLoad, {spec.id, int64_t{80}, spec.inflight, int64_t{1000}});
  }
  table.Upsert(TableId::kMachineLoad, {spec.id, spec.cpu_load});
}

inline void AddRegion(Table& table, const std::string& code, double latitude, double longitude) {
  table.Upsert(TableId::kRegions, {code, latitude, longitude});
}

inline void AddUsualRegions(Table& table) {
  AddRegion(table, "ams", 52.37, 4.90);
  AddRegion(table, "fra", 50.11, 8.68);
  AddRegion(table, "nrt", 35.76, 140.39);
  AddRegion(table, "syd", -33.87, 151.21);
}

}  // namespace patina::proxy_sink

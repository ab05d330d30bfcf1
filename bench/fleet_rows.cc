#include "bench/fleet_rows.h"

namespace patina::bench {

using crdt::Value;

const char* const kInsert =
    "INSERT INTO machines (id, app, host, region, address, state, memory_mib, updated_ms) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const char* const kUpsert =
    "INSERT INTO machines (id, app, host, region, address, state, memory_mib, updated_ms) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO UPDATE SET app = excluded.app, "
    "host = excluded.host, region = excluded.region, address = excluded.address, "
    "state = excluded.state, memory_mib = excluded.memory_mib, updated_ms = excluded.updated_ms";
const char* const kUpdate =
    "UPDATE machines SET state = ?2, memory_mib = ?3, updated_ms = ?4 WHERE id = ?1";
const char* const kHeartbeat = "UPDATE machines SET updated_ms = ?2 WHERE id = ?1";

namespace {

std::string MachineId(size_t number) { return "machine-" + std::to_string(number); }

Row MachineRow(size_t number) {
  const std::string host = std::to_string(number % 997);
  return {Value::Text(MachineId(number)),
          Value::Text("app-" + std::to_string(number % 5003)),
          Value::Text("host-" + host),
          Value::Text(number % 2 == 0 ? "ams" : "fra"),
          Value::Text("fdaa:0:" + host + ":a7b:1:" + std::to_string(number % 65521) + "::2"),
          Value::Text("started"),
          Value::Integer(static_cast<int64_t>(256 << (number % 4))),
          Value::Integer(1'795'000'000'000 + static_cast<int64_t>(number))};
}

}  // namespace

std::vector<Batch> MachineBatches(size_t rows, size_t per_batch) {
  std::vector<Batch> batches((rows + per_batch - 1) / per_batch);
  for (size_t i = 0; i < rows; ++i) batches[i / per_batch].push_back(MachineRow(i));
  return batches;
}

std::vector<Batch> UpdateBatches(Rng& random, size_t machines, size_t rows, size_t per_batch,
                                 size_t columns) {
  static int64_t tick = 0;
  std::vector<Batch> batches((rows + per_batch - 1) / per_batch);
  for (size_t i = 0; i < rows; ++i) {
    Row row = {Value::Text(MachineId(random.Below(machines)))};
    if (columns == 3) {
      row.push_back(Value::Text(tick % 2 == 0 ? "stopped" : "suspended"));
      row.push_back(Value::Integer(static_cast<int64_t>(random.Below(1 << 20))));
    }
    row.push_back(Value::Integer(1'796'000'000'000 + ++tick));
    batches[i / per_batch].push_back(std::move(row));
  }
  return batches;
}

}  // namespace patina::bench

#include "tests/sim/workload.h"

#include <string>
#include <utility>

#include "base/check.h"

namespace patina::sim {
namespace {

constexpr std::string_view kSchema = R"(
CREATE TABLE machines (
    id             TEXT NOT NULL PRIMARY KEY,
    app            TEXT NOT NULL DEFAULT '',
    state          TEXT NOT NULL DEFAULT 'created',
    desired_state  TEXT NOT NULL DEFAULT 'started',
    generation     INTEGER NOT NULL DEFAULT 1,
    updated_ms     INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX machines_app ON machines (app);
CREATE TABLE services (
    machine     TEXT NOT NULL,
    port        INTEGER NOT NULL,
    protocol    TEXT NOT NULL DEFAULT 'http',
    soft_limit  INTEGER NOT NULL DEFAULT 20,
    PRIMARY KEY (machine, port)
);
CREATE TABLE machine_load (
    machine      TEXT NOT NULL PRIMARY KEY,
    cpu_load     REAL NOT NULL DEFAULT 0,
    measured_ms  INTEGER NOT NULL DEFAULT 0
);
)";
constexpr std::string_view kTablesToml = "[machine_load]\nmerge = \"row\"\n";

constexpr uint64_t kMachines = 150;

storage::Statement RandomStatement(Rng& rng, int64_t wall_ms) {
  using crdt::Value;
  static constexpr const char* kStates[] = {"created", "started", "stopping", "stopped"};
  const Value id = Value::Text("m" + std::to_string(rng.Below(kMachines)));
  const Value state = Value::Text(kStates[rng.Below(4)]);
  const Value app = Value::Text("app" + std::to_string(rng.Below(10)));
  const Value port = Value::Integer(static_cast<int64_t>(8000 + rng.Below(3)));
  const Value now = Value::Integer(wall_ms);
  switch (rng.Below(10)) {
    case 0:
    case 1:
      return {"INSERT INTO machines (id, app, state, updated_ms) VALUES (?, ?, ?, ?)",
              {id, app, state, now},
              {}};
    case 2:
      return {
          "INSERT INTO machines (id, app, state) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE "
          "SET app = excluded.app, state = excluded.state",
          {id, app, state},
          {}};
    case 3:
    case 4:
      return {"UPDATE machines SET state = ?, updated_ms = ? WHERE id = ?", {state, now, id}, {}};
    case 5:
      return {"UPDATE machines SET generation = generation + 1 WHERE app = ?", {app}, {}};
    case 6:
      return {"DELETE FROM machines WHERE id = ?", {id}, {}};
    case 7:
      return {"INSERT OR REPLACE INTO services (machine, port, soft_limit) VALUES (?, ?, ?)",
              {id, port, Value::Integer(static_cast<int64_t>(rng.Below(50)))},
              {}};
    case 8:
      return {"DELETE FROM services WHERE machine = ?", {id}, {}};
    default:
      return {
          "INSERT OR REPLACE INTO machine_load (machine, cpu_load, measured_ms) "
          "VALUES (?, ?, ?)",
          {id, Value::Real(static_cast<double>(rng.Below(64)) / 8), now},
          {}};
  }
}

}  // namespace

storage::Schema SimSchema() {
  auto schema = storage::ParseSchema(kSchema, "sim.sql", kTablesToml);
  CHECK_MSG(schema.ok(), schema.ok() ? "" : schema.error().ToString());
  return std::move(*schema);
}

storage::Transaction RandomTransaction(Rng& rng, int64_t wall_ms) {
  storage::Transaction transaction;
  for (uint64_t i = 1 + rng.Below(3); i > 0; --i) {
    transaction.statements.push_back(RandomStatement(rng, wall_ms));
  }
  return transaction;
}

storage::Transaction LargeTransaction(Rng& rng, int64_t wall_ms) {
  storage::Transaction transaction;
  transaction.large = true;
  transaction.statements.push_back(
      {"WITH RECURSIVE n(i) AS (SELECT ? UNION ALL SELECT i + 1 FROM n WHERE i < 149) INSERT INTO "
       "machines (id, updated_ms) SELECT 'm' || i, ? FROM n WHERE true ON CONFLICT (id) DO UPDATE "
       "SET generation = generation + 1, updated_ms = excluded.updated_ms",
       {crdt::Value::Integer(static_cast<int64_t>(rng.Below(100))), crdt::Value::Integer(wall_ms)},
       {}});
  transaction.statements.push_back(RandomStatement(rng, wall_ms));
  return transaction;
}

}  // namespace patina::sim

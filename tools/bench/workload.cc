#include "tools/bench/workload.h"

#include <array>
#include <cstdio>

#include "base/clock.h"
#include "base/random.h"
#include "patina/v1/state.pb.h"

namespace patina::tools::bench {
namespace {

constexpr std::array kRegions = {"ams", "fra", "iad"};
constexpr const char* kMachineColumns =
    "INSERT INTO machines (id, app, host, region, address, state, memory_mib, updated_ms) VALUES ";
constexpr int kMachineColumnCount = 8;

void Bind(v1::Statement* statement, const std::string& text) {
  statement->add_parameters()->set_text(text);
}
void Bind(v1::Statement* statement, int64_t integer) {
  statement->add_parameters()->set_integer(integer);
}

void BindMachine(const std::string& id, uint64_t number, v1::Statement* statement) {
  const std::string host = std::to_string(number % 997);
  Bind(statement, id);
  Bind(statement, "app-" + std::to_string(number % 5003));
  Bind(statement, "host-" + host);
  Bind(statement, kRegions[number % kRegions.size()]);
  Bind(statement, "fdaa:0:" + host + ":a7b:1:" + std::to_string(number % 65521) + "::2");
  Bind(statement, "started");
  Bind(statement, static_cast<int64_t>(256 << (number % 4)));
  Bind(statement, SystemClock().WallMs());
}

}  // namespace

void AddMachine(const std::string& id, uint64_t number, v1::ExecuteRequest* request) {
  static const std::string sql = std::string(kMachineColumns) + "(?, ?, ?, ?, ?, ?, ?, ?)";
  v1::Statement* statement = request->add_statements();
  statement->set_sql(sql);
  BindMachine(id, number, statement);
}

void AddMachines(const std::string& prefix, uint64_t first, uint64_t rows,
                 v1::ExecuteRequest* request) {
  v1::Statement* statement = request->add_statements();
  std::string& sql = *statement->mutable_sql();
  sql = kMachineColumns;
  statement->mutable_parameters()->Reserve(static_cast<int>(rows) * kMachineColumnCount);
  for (uint64_t i = first; i < first + rows; ++i) {
    sql += i == first ? "(?, ?, ?, ?, ?, ?, ?, ?)" : ", (?, ?, ?, ?, ?, ?, ?, ?)";
    BindMachine(prefix + std::to_string(i), i, statement);
  }
}

void AddMachineUpdate(const std::string& id, uint64_t number, v1::ExecuteRequest* request) {
  v1::Statement* statement = request->add_statements();
  statement->set_sql("UPDATE machines SET state = ?2, updated_ms = ?3 WHERE id = ?1");
  Bind(statement, id);
  Bind(statement, number % 2 == 0 ? "started" : "stopped");
  Bind(statement, static_cast<int64_t>(number));
}

void AddLoadInsert(const std::string& machine, v1::ExecuteRequest* request) {
  v1::Statement* statement = request->add_statements();
  statement->set_sql("INSERT INTO machine_load (machine) VALUES (?) ON CONFLICT DO NOTHING");
  Bind(statement, machine);
}

void AddLoadReport(const std::string& machine, uint64_t number, v1::ExecuteRequest* request) {
  v1::Statement* statement = request->add_statements();
  statement->set_sql(
      "UPDATE machine_load SET cpu_load = ?2, memory_mib = ?3, measured_ms = ?4 WHERE machine = "
      "?1");
  Bind(statement, machine);
  statement->add_parameters()->set_real(static_cast<double>(number % 1601) / 100);
  Bind(statement, static_cast<int64_t>(64 + number % 4001));
  Bind(statement, static_cast<int64_t>(number));
}

void AddLedgerWrite(const std::string& key, int64_t value, v1::ExecuteRequest* request) {
  v1::Statement* statement = request->add_statements();
  statement->set_sql(
      "INSERT INTO machines (id, app, updated_ms) VALUES (?1, 'ledger', ?2) "
      "ON CONFLICT (id) DO UPDATE SET updated_ms = excluded.updated_ms");
  Bind(statement, key);
  Bind(statement, value);
}

std::string UniquePrefix(const std::string& name) {
  std::array<char, 16> digits{};
  std::snprintf(digits.data(), digits.size(), "%08x",
                static_cast<unsigned>(SystemEntropy() & 0xffffffffu));
  return name + "-" + digits.data() + "-";
}

}  // namespace patina::tools::bench

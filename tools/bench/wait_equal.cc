#include <algorithm>
#include <iostream>
#include <map>
#include <optional>
#include <thread>

#include "patina/v1/admin.pb.h"
#include "tools/bench/api_client.h"
#include "tools/bench/runs.h"
#include "tools/bench/samples.h"
#include "tools/client.h"

namespace patina::tools::bench {
namespace {

/// By table: rows and digest.
using Tables = std::map<std::string, std::pair<uint64_t, std::string>>;

std::optional<Tables> TablesOf(ApiClient& client, Duration deadline, std::string* error) {
  v1::StatusResponse status;
  const Status answered = client.GetStatus(&status, deadline);
  if (!answered.ok()) {
    *error = client.address() + ": " + answered.error().ToString();
    return std::nullopt;
  }
  Tables tables;
  for (const v1::TableStatus& table : status.tables()) {
    tables[table.name()] = {table.rows(), table.digest()};
  }
  return tables;
}

/// What still differs, in words; empty when nothing does.
std::string Compare(const std::vector<Tables>& nodes, const WaitEqualOptions& options) {
  if (!options.table.empty()) {
    for (size_t i = 0; i < nodes.size(); ++i) {
      const auto table = nodes[i].find(options.table);
      const uint64_t rows = table == nodes[i].end() ? 0 : table->second.first;
      if (rows < options.rows) {
        return options.agents[i] + " has " + std::to_string(rows) + " rows of " + options.table;
      }
    }
  }
  for (size_t i = 1; i < nodes.size(); ++i) {
    if (nodes[i] == nodes[0]) continue;
    for (const auto& [name, table] : nodes[0]) {
      const auto other = nodes[i].find(name);
      if (other != nodes[i].end() && other->second == table) continue;
      return options.agents[0] + " and " + options.agents[i] + " differ in table " + name;
    }
    return options.agents[i] + " has tables that " + options.agents[0] + " has not";
  }
  return {};
}

}  // namespace

void RunWaitEqual(const WaitEqualOptions& options, CommandContext& context) {
  const auto clients = ConnectAll(context, options.agents, WhenAway::kWait);
  const auto timeout =
      std::chrono::duration_cast<Duration>(std::chrono::duration<double>(options.timeout_seconds));
  const SystemClock clock;
  const Instant start = clock.Now();
  std::string difference = "no answer yet";
  std::vector<Tables> nodes;
  while (true) {
    nodes.clear();
    for (const auto& client : clients) {
      std::optional<Tables> tables = TablesOf(*client, timeout, &difference);
      if (tables) nodes.push_back(std::move(*tables));
    }
    if (nodes.size() == clients.size()) difference = Compare(nodes, options);
    if (difference.empty() || clock.Now() - start >= timeout) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  const double took = Seconds(clock.Now() - start);
  if (!difference.empty()) {
    return Fail(context, "not equal after " + std::to_string(took) + " s: " + difference,
                kExitFailed);
  }
  uint64_t rows = 0;
  for (const auto& [name, table] : nodes[0]) rows += table.first;
  PrintFields(std::cout, context.format,
              {{"nodes", crdt::Value::Integer(static_cast<int64_t>(nodes.size()))},
               {"rows", crdt::Value::Integer(static_cast<int64_t>(rows))},
               {"seconds", crdt::Value::Real(Rounded(took))}});
}

}  // namespace patina::tools::bench

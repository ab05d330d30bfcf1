#include "tools/bench_command.h"

#include <CLI/CLI.hpp>
#include <memory>

#include "tools/bench/runs.h"

namespace patina::tools {
namespace {

using namespace bench;  // NOLINT: this file is the door to it

void AddAgents(CLI::App* command, std::vector<std::string>& agents) {
  command->add_option("--agents", agents, "API addresses, separated by commas")
      ->required()
      ->delimiter(',');
}

void AddLoad(CLI::App& bench, CommandContext& context) {
  auto options = std::make_shared<LoadOptions>();
  CLI::App* command =
      bench.add_subcommand("load", "one-row transactions, each after the answer to the last");
  AddAgents(command, options->agents);
  command->add_option("--clients", options->clients, "calls on the way")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  command->add_option("--connections", options->connections, "0: one per client")
      ->capture_default_str();
  command->add_option("--seconds", options->seconds)->capture_default_str();
  command->add_flag("--stream", options->stream, "one stream per client, not a call each");
  command->add_flag("--update", options->update, "UPDATE rows that exist instead of INSERT");
  command->add_option("--keys", options->keys, "rows to update")->capture_default_str();
  command->callback([options, &context] { RunLoad(*options, context); });
}

void AddInsert(CLI::App& bench, CommandContext& context) {
  auto options = std::make_shared<InsertOptions>();
  CLI::App* command = bench.add_subcommand("insert", "machines, many in a transaction, one stream");
  command->add_option("--agent", options->agent, "API address")->required();
  command->add_option("--rows", options->rows)->capture_default_str();
  command->add_option("--per-transaction", options->per_transaction)
      ->check(CLI::Range(1, 50'000))
      ->capture_default_str();
  command->add_option("--per-statement", options->per_statement)
      ->check(CLI::Range(1, 4'000))
      ->capture_default_str();
  command->add_option("--window", options->window, "transactions on the way")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  command->add_option("--prefix", options->prefix, "of the ids; default: a new one");
  command->callback([options, &context] { RunInsert(*options, context); });
}

void AddHeartbeats(CLI::App& bench, CommandContext& context) {
  auto options = std::make_shared<HeartbeatOptions>();
  CLI::App* command =
      bench.add_subcommand("heartbeats", "load reports of many machines, over all agents in turn");
  AddAgents(command, options->agents);
  command->add_option("--machines", options->machines)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--per-transaction", options->per_transaction)
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  command->add_option("--rate", options->rate, "rows per second; 0: as fast as it goes")
      ->capture_default_str();
  command->add_option("--seconds", options->seconds)->capture_default_str();
  command->add_option("--window", options->window, "transactions on the way, per agent")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  command->add_flag("--prepare", options->prepare, "only insert the rows, and end");
  command->callback([options, &context] { RunHeartbeats(*options, context); });
}

void AddLatency(CLI::App& bench, CommandContext& context) {
  auto options = std::make_shared<LatencyOptions>();
  CLI::App* command = bench.add_subcommand("latency", "from a write to the event at subscribers");
  command->add_option("--writer", options->writer, "API address to write to")->required();
  command->add_option("--subscribers", options->subscribers, "API addresses, by commas")
      ->required()
      ->delimiter(',');
  command->add_option("--samples", options->samples)->capture_default_str();
  command->add_option("--pause-ms", options->pause_ms, "between two writes, about")
      ->capture_default_str();
  command->callback([options, &context] { RunLatency(*options, context); });
}

void AddLedgerCommands(CLI::App& bench, CommandContext& context) {
  auto write = std::make_shared<LedgerWriteOptions>();
  CLI::App* command = bench.add_subcommand(
      "ledger-write", "writes, and each acknowledgement into a file, through failures");
  AddAgents(command, write->agents);
  command->add_option("--ledger", write->ledger, "file to append to")->required();
  command->add_option("--clients", write->clients)
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  command->add_option("--keys", write->keys, "per client")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--seconds", write->seconds, "0: until killed")->capture_default_str();
  command->callback([write, &context] { RunLedgerWrite(*write, context); });

  auto check = std::make_shared<LedgerCheckOptions>();
  command = bench.add_subcommand("ledger-check",
                                 "is all that was acknowledged on every node? exit 1 if not");
  AddAgents(command, check->agents);
  command->add_option("--ledger", check->ledger, "file of ledger-write")->required();
  command->add_option("--wait", check->wait_seconds, "ask again until it is, for so many seconds")
      ->capture_default_str();
  command->callback([check, &context] { RunLedgerCheck(*check, context); });
}

void AddWaitEqual(CLI::App& bench, CommandContext& context) {
  auto options = std::make_shared<WaitEqualOptions>();
  CLI::App* command = bench.add_subcommand("wait-equal", "waits until nodes have equal tables");
  AddAgents(command, options->agents);
  command->add_option("--timeout", options->timeout_seconds, "seconds")->capture_default_str();
  CLI::Option* table = command->add_option("--table", options->table, "that must have --rows");
  command->add_option("--rows", options->rows, "at least")->needs(table);
  command->callback([options, &context] { RunWaitEqual(*options, context); });
}

}  // namespace

void AddBenchCommand(CLI::App& app, CommandContext& context) {
  CLI::App* bench =
      app.add_subcommand("bench", "load generators used by the benchmarks and the demo");
  bench->require_subcommand(1);
  AddLoad(*bench, context);
  AddInsert(*bench, context);
  AddHeartbeats(*bench, context);
  AddLatency(*bench, context);
  AddLedgerCommands(*bench, context);
  AddWaitEqual(*bench, context);
}

}  // namespace patina::tools

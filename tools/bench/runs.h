#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/command.h"

// The subcommands of `patina bench`. Each prints one object of results (PrintFields) to stdout and
// what went wrong to stderr, and leaves the exit code in the context. Main thread.

namespace patina::tools::bench {

/// One-row transactions from many clients at once, each waiting for the answer to its last.
struct LoadOptions {
  std::vector<std::string> agents;  // clients are spread over them
  size_t clients = 1;
  size_t connections = 0;  // 0: one per client
  double seconds = 5;
  bool stream = false;  // over one ExecuteStream per client instead of a call per transaction
  bool update = false;  // UPDATEs of `keys` rows instead of INSERTs
  uint64_t keys = 10'000;
};
void RunLoad(const LoadOptions& options, CommandContext& context);

/// Machines, in transactions of many rows, over one stream.
struct InsertOptions {
  std::string agent;
  uint64_t rows = 100'000;
  uint64_t per_transaction = 1'000;
  uint64_t per_statement = 100;
  size_t window = 8;   // transactions on the way
  std::string prefix;  // of the ids; empty: one that no earlier run used
};
void RunInsert(const InsertOptions& options, CommandContext& context);

/// Load reports of many machines at an asked rate, over several agents in turn.
struct HeartbeatOptions {
  std::vector<std::string> agents;
  uint64_t machines = 10'000;
  uint64_t per_transaction = 20;
  double rate = 20'000;  // rows per second over all agents; 0: as fast as it goes
  double seconds = 10;
  size_t window = 64;    // transactions on the way, per agent
  bool prepare = false;  // only insert the machines' rows
};
void RunHeartbeats(const HeartbeatOptions& options, CommandContext& context);

/// Write sent, and write acknowledged, until a subscriber on each of the given agents has the
/// event.
struct LatencyOptions {
  std::string writer;
  std::vector<std::string> subscribers;
  uint64_t samples = 500;
  double pause_ms = 5;  // about; with jitter
};
void RunLatency(const LatencyOptions& options, CommandContext& context);

/// Writes whose acknowledgements go to a file, through failures and reconnects.
struct LedgerWriteOptions {
  std::vector<std::string> agents;
  std::string ledger;  // key,value,actor,version per line; appended to
  size_t clients = 4;
  uint64_t keys = 500;  // per client; each is written again and again
  double seconds = 10;  // 0: until killed
};
void RunLedgerWrite(const LedgerWriteOptions& options, CommandContext& context);

/// Compares a ledger with nodes: each key must have its newest acknowledged value or a later one.
struct LedgerCheckOptions {
  std::vector<std::string> agents;
  std::string ledger;
  double wait_seconds = 0;  // asks again until all is there, or so long
};
void RunLedgerCheck(const LedgerCheckOptions& options, CommandContext& context);

/// Waits until nodes have equal tables.
struct WaitEqualOptions {
  std::vector<std::string> agents;
  double timeout_seconds = 60;
  std::string table;  // with rows: until this table has so many
  uint64_t rows = 0;
};
void RunWaitEqual(const WaitEqualOptions& options, CommandContext& context);

}  // namespace patina::tools::bench

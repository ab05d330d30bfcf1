#include <algorithm>
#include <iostream>
#include <memory>

#include "patina/v1/state.pb.h"
#include "tools/bench/api_client.h"
#include "tools/bench/runs.h"
#include "tools/bench/samples.h"
#include "tools/bench/workload.h"
#include "tools/client.h"

namespace patina::tools::bench {
namespace {

constexpr uint64_t kFailuresInRowMax = 1'000;

/// One client: a chain of calls, each started by the answer to the one before.
struct LoadClient {
  std::string prefix;
  uint64_t sent = 0, acknowledged = 0, failed = 0, failed_in_row = 0;
  Samples latency;
  Error last_error;
};

class LoadRun {
 public:
  LoadRun(const LoadOptions& options, CommandContext& context) : options_(options) {
    const size_t connections = options.connections > 0 ? options.connections : options.clients;
    for (size_t i = 0; i < std::min(connections, options.clients); ++i) {
      connections_.push_back(
          std::make_unique<ApiClient>(context, options.agents[i % options.agents.size()]));
    }
    clients_.resize(options.clients);
    const std::string prefix = UniquePrefix("load");
    for (size_t i = 0; i < clients_.size(); ++i) {
      clients_[i].prefix = prefix + std::to_string(i) + "-";
      loops_.Add(
          *connections_[i % connections_.size()], options.stream ? Calls::kStream : Calls::kUnary,
          [this, i](v1::ExecuteRequest* request) { return Fill(clients_[i], request); },
          [this, i](const Status& status, Duration took) { Answer(clients_[i], status, took); });
    }
  }

  /// The rows that UPDATEs need, and the connections.
  Status Prepare() {
    for (const auto& connection : connections_) {
      v1::ExecuteRequest request;
      request.add_statements()->set_sql("DELETE FROM machines WHERE id = ''");
      v1::ExecuteResponse response;
      RETURN_IF_ERROR(connection->Execute(request, &response));
    }
    if (!options_.update) return OkStatus();
    const uint64_t keys = KeysPerClient();
    for (const LoadClient& client : clients_) {
      for (uint64_t first = 0; first < keys; first += 500) {
        v1::ExecuteRequest request;
        AddMachines(client.prefix, first, std::min<uint64_t>(500, keys - first), &request);
        v1::ExecuteResponse response;
        RETURN_IF_ERROR(connections_[0]->Execute(request, &response));
      }
    }
    return OkStatus();
  }

  Duration Run() {
    const Instant start = clock_.Now();
    end_ = start +
           std::chrono::duration_cast<Duration>(std::chrono::duration<double>(options_.seconds));
    loops_.Run();
    return clock_.Now() - start;
  }

  const std::vector<LoadClient>& clients() const { return clients_; }

 private:
  uint64_t KeysPerClient() const {
    return std::max<uint64_t>(1, options_.keys / std::max<size_t>(1, options_.clients));
  }

  bool Fill(LoadClient& client, v1::ExecuteRequest* request) {
    if (clock_.Now() >= end_ || client.failed_in_row >= kFailuresInRowMax) return false;
    const uint64_t number = client.sent++;
    if (options_.update) {
      AddMachineUpdate(client.prefix + std::to_string(number % KeysPerClient()), number, request);
    } else {
      AddMachine(client.prefix + std::to_string(number), number, request);
    }
    return true;
  }

  static void Answer(LoadClient& client, const Status& status, Duration took) {
    if (status.ok()) {
      ++client.acknowledged;
      client.failed_in_row = 0;
      client.latency.Add(took);
    } else {
      ++client.failed;
      ++client.failed_in_row;
      client.last_error = status.error();
    }
  }

  const LoadOptions options_;
  const SystemClock clock_;
  std::vector<std::unique_ptr<ApiClient>> connections_;
  std::vector<LoadClient> clients_;
  ExecuteLoops loops_;
  Instant end_;
};

}  // namespace

void RunLoad(const LoadOptions& options, CommandContext& context) {
  LoadRun run(options, context);
  const Status prepared = run.Prepare();
  if (!prepared.ok()) return Fail(context, prepared.error().ToString(), kExitNoAgent);
  const Duration took = run.Run();

  uint64_t acknowledged = 0, failed = 0;
  Samples latency;
  for (const LoadClient& client : run.clients()) {
    acknowledged += client.acknowledged;
    if (client.failed > 0 && failed == 0) {
      std::cerr << "patina: a transaction failed: " << client.last_error.ToString() << "\n";
    }
    failed += client.failed;
    latency.Add(client.latency);
  }
  PrintFields(std::cout, context.format,
              {{"clients", crdt::Value::Integer(static_cast<int64_t>(options.clients))},
               {"transactions", crdt::Value::Integer(static_cast<int64_t>(acknowledged))},
               {"failed", crdt::Value::Integer(static_cast<int64_t>(failed))},
               {"seconds", crdt::Value::Real(Rounded(Seconds(took)))},
               {"transactions_per_s",
                crdt::Value::Real(Rounded(static_cast<double>(acknowledged) / Seconds(took)))},
               {"p50_ms", crdt::Value::Real(latency.PercentileMs(0.5))},
               {"p99_ms", crdt::Value::Real(latency.PercentileMs(0.99))},
               {"max_ms", crdt::Value::Real(latency.PercentileMs(1))}});
  if (failed > 0) context.exit_code = kExitFailed;
}

}  // namespace patina::tools::bench

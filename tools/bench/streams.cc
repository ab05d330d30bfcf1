#include <algorithm>
#include <iostream>
#include <memory>
#include <thread>

#include "patina/v1/state.pb.h"
#include "tools/bench/api_client.h"
#include "tools/bench/runs.h"
#include "tools/bench/samples.h"
#include "tools/bench/workload.h"
#include "tools/bench/write_stream.h"
#include "tools/client.h"

// insert and heartbeats: many rows over ExecuteStream.

namespace patina::tools::bench {
namespace {

crdt::Value Count(uint64_t count) { return crdt::Value::Integer(static_cast<int64_t>(count)); }

std::string LoadMachine(uint64_t number) { return "load-" + std::to_string(number); }

/// Prints the error of a stream or of a transaction in it; true if there was none.
bool Succeeded(const Status& status, const WriteStream::Totals& totals, CommandContext& context) {
  if (!status.ok()) Fail(context, status.error());
  if (totals.failed > 0) {
    Fail(context,
         std::to_string(totals.failed) +
             " transactions failed, the first with: " + totals.first_failure,
         kExitFailed);
  }
  return status.ok() && totals.failed == 0;
}

bool PrepareLoadRows(const HeartbeatOptions& options, ApiClient& client, CommandContext& context) {
  WriteStream stream(client, 8);
  for (uint64_t first = 0; first < options.machines; first += 1'000) {
    v1::ExecuteRequest request;
    for (uint64_t i = first; i < std::min(first + 1'000, options.machines); ++i) {
      AddLoadInsert(LoadMachine(i), &request);
    }
    if (!stream.Send(std::move(request))) break;
  }
  const Status status = stream.Finish();
  return Succeeded(status, stream.totals(), context);
}

/// Sends transactions to the streams in turn, at the asked rate, until the time is over. Returns
/// how many.
uint64_t SendReports(const HeartbeatOptions& options,
                     const std::vector<std::unique_ptr<WriteStream>>& streams) {
  const SystemClock clock;
  const Instant start = clock.Now();
  const double per_second = options.rate / static_cast<double>(options.per_transaction);
  uint64_t sent = 0;
  while (Seconds(clock.Now() - start) < options.seconds) {
    if (options.rate > 0) {
      const auto due = start + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(
                                   static_cast<double>(sent) / per_second));
      // Late already: send at once, so that the asked rate is caught up with.
      if (due > clock.Now()) std::this_thread::sleep_until(due);
    }
    v1::ExecuteRequest request;
    for (uint64_t row = 0; row < options.per_transaction; ++row) {
      const uint64_t number = sent * options.per_transaction + row;
      AddLoadReport(LoadMachine(number % options.machines), number + 1, &request);
    }
    if (!streams[sent % streams.size()]->Send(std::move(request))) break;
    ++sent;
  }
  return sent;
}

}  // namespace

void RunInsert(const InsertOptions& options, CommandContext& context) {
  ApiClient client(context, options.agent);
  const std::string prefix = options.prefix.empty() ? UniquePrefix("insert") : options.prefix;
  const SystemClock clock;
  const Instant start = clock.Now();
  WriteStream stream(client, options.window);
  for (uint64_t first = 0; first < options.rows; first += options.per_transaction) {
    const uint64_t end = std::min(options.rows, first + options.per_transaction);
    v1::ExecuteRequest request;
    for (uint64_t row = first; row < end; row += options.per_statement) {
      AddMachines(prefix, row, std::min(options.per_statement, end - row), &request);
    }
    if (!stream.Send(std::move(request))) break;
  }
  const Status status = stream.Finish();
  const Duration took = clock.Now() - start;
  if (!Succeeded(status, stream.totals(), context)) return;
  Samples latency = stream.totals().latency;
  PrintFields(std::cout, context.format,
              {{"rows", Count(options.rows)},
               {"transactions", Count(stream.totals().acknowledged)},
               {"seconds", crdt::Value::Real(Rounded(Seconds(took)))},
               {"rows_per_s",
                crdt::Value::Real(Rounded(static_cast<double>(options.rows) / Seconds(took)))},
               {"p50_ms", crdt::Value::Real(latency.PercentileMs(0.5))},
               {"p99_ms", crdt::Value::Real(latency.PercentileMs(0.99))}});
}

void RunHeartbeats(const HeartbeatOptions& options, CommandContext& context) {
  const auto clients = ConnectAll(context, options.agents);
  if (options.prepare) {
    if (PrepareLoadRows(options, *clients[0], context)) {
      PrintFields(std::cout, context.format, {{"machines", Count(options.machines)}});
    }
    return;
  }
  std::vector<std::unique_ptr<WriteStream>> streams;
  for (const auto& client : clients) {
    streams.push_back(std::make_unique<WriteStream>(*client, options.window));
  }
  const SystemClock clock;
  const Instant start = clock.Now();
  SendReports(options, streams);
  uint64_t acknowledged = 0;
  Samples latency;
  for (const auto& stream : streams) {
    const Status status = stream->Finish();
    Succeeded(status, stream->totals(), context);
    acknowledged += stream->totals().acknowledged;
    latency.Add(stream->totals().latency);
  }
  const uint64_t rows = acknowledged * options.per_transaction;
  const double took = Seconds(clock.Now() - start);
  PrintFields(std::cout, context.format,
              {{"asked_rows_per_s", crdt::Value::Real(options.rate)},
               {"rows", Count(rows)},
               {"seconds", crdt::Value::Real(Rounded(took))},
               {"rows_per_s", crdt::Value::Real(Rounded(static_cast<double>(rows) / took))},
               {"p50_ms", crdt::Value::Real(latency.PercentileMs(0.5))},
               {"p99_ms", crdt::Value::Real(latency.PercentileMs(0.99))}});
}

}  // namespace patina::tools::bench

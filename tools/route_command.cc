#include "tools/route_command.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <CLI/App.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "patina/v1/route.grpc.pb.h"
#include "proxy-sink/sink_server.h"
#include "tools/client.h"
#include "tools/proto_values.h"

namespace patina::tools {
namespace {

using crdt::Value;

constexpr Duration kPickDeadline = std::chrono::seconds(5);
constexpr Duration kBackoffMax = std::chrono::seconds(2);

struct Options {
  std::string app;
  std::string from;
  std::string sink;
  std::vector<std::string> exclude;
  uint32_t count = 3;
  bool watch = false;
  uint64_t watch_lines_max = 0;  // 0: until interrupted
};

v1::PickRequest RequestOf(const Options& options) {
  v1::PickRequest request;
  request.set_app(options.app);
  request.set_from_region(options.from);
  request.set_count(options.count);
  for (const std::string& machine : options.exclude) request.add_exclude(machine);
  return request;
}

int64_t NowMs() { return SystemClock().WallMs(); }

/// Rounded to what is worth reading; null when unknown.
Value DistanceValue(const v1::Candidate& candidate) {
  if (candidate.distance_ms() < 0) return Value::Null();
  return Value::Real(std::round(candidate.distance_ms() * 100) / 100);
}

std::string AgeText(const v1::PickResponse& response) {
  if (response.agent_connected()) return {};
  return response.table_age_ms() < 0
             ? "the agent was never heard"
             : "the agent is gone; the table is " +
                   HumanDuration(std::chrono::milliseconds(response.table_age_ms())) + " old";
}

/// All up to it is in the sink's table. NULL while it is not known: a table in which nothing is
/// written tells its place in the agent's log once a second only.
Value ChangeNumber(const v1::PickResponse& response) {
  return response.change_number() == 0 ? Value::Null() : Number(response.change_number());
}

void PrintForPeople(const v1::PickResponse& response) {
  {
    RowPrinter printer(
        std::cout, Format::kTable,
        {"#", "machine", "region", "address", "ms", "check", "in flight", "soft", "cpu", "why"});
    uint64_t rank = 0;
    for (const v1::Candidate& each : response.candidates()) {
      printer.Print({Number(++rank), Text(each.machine()), Text(each.region()),
                     Text(each.address()), DistanceValue(each), Text(each.check()),
                     Value::Integer(each.inflight()), Value::Integer(each.soft_limit()),
                     Value::Real(each.cpu_load()), Text(each.reason())});
    }
  }
  if (response.rejected_size() > 0) {
    std::cout << "\nnot among them:\n";
    RowPrinter printer(std::cout, Format::kTable, {"machine", "region", "why not"});
    for (const v1::Rejected& each : response.rejected()) {
      printer.Print({Text(each.machine()), Text(each.region()), Text(each.reason())});
    }
  }
  const std::string age = AgeText(response);
  if (!age.empty()) std::cout << "\nnote: " << age << "\n";
}

/// One row per machine, candidates first; rank is null for those that are not candidates.
void PrintForPrograms(const v1::PickResponse& response, Format format) {
  const Value now = Value::Integer(NowMs());
  RowPrinter printer(std::cout, format, {"unix_ms",
                                         "app",
                                         "from",
                                         "rank",
                                         "machine",
                                         "port",
                                         "address",
                                         "region",
                                         "host",
                                         "distance_ms",
                                         "distance_measured",
                                         "check",
                                         "inflight",
                                         "soft_limit",
                                         "hard_limit",
                                         "cpu_load",
                                         "load_age_ms",
                                         "reason",
                                         "change_number",
                                         "table_age_ms",
                                         "agent_connected"});
  const auto common = [&](std::vector<Value> row, const std::string& reason) {
    row.push_back(Text(reason));
    row.push_back(ChangeNumber(response));
    row.push_back(Value::Integer(response.table_age_ms()));
    row.push_back(Value::Integer(response.agent_connected() ? 1 : 0));
    printer.Print(row);
  };
  uint64_t rank = 0;
  for (const v1::Candidate& each : response.candidates()) {
    common(
        {now, Text(response.app()), Text(response.from_region()), Number(++rank),
         Text(each.machine()), Number(each.port()), Text(each.address()), Text(each.region()),
         Text(each.host()), DistanceValue(each), Value::Integer(each.distance_measured() ? 1 : 0),
         Text(each.check()), Value::Integer(each.inflight()), Value::Integer(each.soft_limit()),
         Value::Integer(each.hard_limit()), Value::Real(each.cpu_load()),
         Value::Integer(each.load_age_ms())},
        each.reason());
  }
  for (const v1::Rejected& each : response.rejected()) {
    std::vector<Value> row(17);
    row[0] = now;
    row[1] = Text(response.app());
    row[2] = Text(response.from_region());
    row[4] = Text(each.machine());
    row[7] = Text(each.region());
    common(std::move(row), each.reason());
  }
}

void PickOnce(const Options& options, CommandContext& context) {
  CommandContext sink = context;
  sink.api = options.sink;
  const Result<Connection> connection = Dial(sink);
  if (!connection.ok()) {
    return Fail(context,
                "no proxy-sink reached at " + options.sink +
                    ": is `patina proxy-sink` running? --sink or PATINA_SINK names another",
                kExitNoAgent);
  }
  grpc::ClientContext call;
  PrepareCall(context, call, kPickDeadline);
  v1::PickResponse response;
  const grpc::Status status =
      v1::Route::NewStub(connection->channel)->Pick(&call, RequestOf(options), &response);
  if (!status.ok()) {
    const bool lost = status.error_code() == grpc::StatusCode::UNAVAILABLE &&
                      !call.GetServerTrailingMetadata().contains(proxy_sink::kNoMachineKey);
    return lost ? Fail(context, "proxy-sink lost: " + status.error_message(), kExitNoAgent)
                : Fail(context, status);
  }
  if (context.format == Format::kTable) {
    PrintForPeople(response);
  } else {
    PrintForPrograms(response, context.format);
  }
}

/// Prints when the first candidate is another one than in the line before.
class WatchPrinter {
 public:
  explicit WatchPrinter(Format format) : format_(format) {
    if (format == Format::kTable) return;
    rows_ = std::make_unique<RowPrinter>(
        std::cout, format,
        std::vector<std::string>{"unix_ms", "app", "from", "machine", "address", "region",
                                 "distance_ms", "reason", "change_number"},
        true);
  }

  void Take(const v1::PickResponse& response) {
    const int64_t now_ms = NowMs();
    const v1::Candidate none;
    const bool found = response.candidates_size() > 0;
    const v1::Candidate& pick = found ? response.candidates(0) : none;
    if (lines_ > 0 && pick.machine() == machine_ && pick.address() == address_) return;
    machine_ = pick.machine();
    address_ = pick.address();
    ++lines_;
    const std::string reason = found ? pick.reason() : WhyNone(response);
    if (rows_) {
      rows_->Print({Value::Integer(now_ms), Text(response.app()), Text(response.from_region()),
                    found ? Text(machine_) : Value::Null(), found ? Text(address_) : Value::Null(),
                    found ? Text(pick.region()) : Value::Null(),
                    found ? DistanceValue(pick) : Value::Null(), Text(reason),
                    ChangeNumber(response)});
      std::cout.flush();
      return;
    }
    std::cout << now_ms << ' ' << response.app() << " from " << response.from_region() << ": "
              << (found ? machine_ + " " + address_ : "no machine") << " (" << reason << ")"
              << std::endl;
  }
  uint64_t lines() const { return lines_; }

 private:
  static std::string WhyNone(const v1::PickResponse& response) {
    if (response.rejected_size() == 0) return "none known";
    std::string text;
    for (const v1::Rejected& each : response.rejected()) {
      text += StrCat(text.empty() ? "" : "; ", each.machine(), ": ", each.reason());
    }
    return text;
  }

  const Format format_;
  std::unique_ptr<RowPrinter> rows_;
  std::string machine_, address_;
  uint64_t lines_ = 0;
};

void Watch(const Options& options, CommandContext& context) {
  const auto stub = v1::Route::NewStub(MakeChannel(options.sink));
  WatchPrinter printer(context.format);
  Rng rng(SystemEntropy());
  Duration backoff = std::chrono::milliseconds(100);
  for (bool told = false;;) {
    grpc::ClientContext call;
    PrepareCall(context, call);
    const auto reader = stub->Watch(&call, RequestOf(options));
    for (v1::PickResponse response; reader->Read(&response);) {
      if (told) std::cerr << "patina: proxy-sink is back" << std::endl;
      told = false;
      backoff = std::chrono::milliseconds(100);
      printer.Take(response);
      if (options.watch_lines_max > 0 && printer.lines() >= options.watch_lines_max) return;
    }
    const grpc::Status status = reader->Finish();
    if (status.error_code() == grpc::StatusCode::INVALID_ARGUMENT) return Fail(context, status);
    if (!told) {
      std::cerr << "patina: no proxy-sink at " << options.sink << " (" << status.error_message()
                << "), trying again" << std::endl;
    }
    told = true;
    std::this_thread::sleep_for(
        std::chrono::duration_cast<std::chrono::milliseconds>(backoff * (0.5 + 0.5 * rng.Unit())));
    backoff = std::min(backoff * 2, kBackoffMax);
  }
}

}  // namespace

void AddRouteCommand(CLI::App& app, CommandContext& context) {
  CLI::App* command =
      app.add_subcommand("route", "asks a proxy-sink where a request would go, and why");
  const auto options = std::make_shared<Options>();
  command->add_option("app", options->app, "the app a request is for")->required();
  command->add_option("--from", options->from, "region the request is in (default: the sink's)");
  command->add_option("--count", options->count, "candidates wanted (default 3)")
      ->check(CLI::Range(1u, 100u));
  command->add_option("--exclude", options->exclude, "machine already tried, again for more")
      ->allow_extra_args(false);
  command->add_option("--sink", options->sink, "the proxy-sink (default 127.0.0.1:7410)")
      ->envname("PATINA_SINK")
      ->default_val("127.0.0.1:7410");
  command->add_flag("--watch", options->watch,
                    "print a line with the time in ms now and whenever the first pick changes");
  command->add_option("--lines", options->watch_lines_max,
                      "with --watch: end after this many lines (default: when interrupted)");
  command->callback([options, &context] {
    if (options->watch) {
      Watch(*options, context);
    } else {
      PickOnce(*options, context);
    }
  });
}

}  // namespace patina::tools

#include "tools/fault_commands.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <CLI/App.hpp>
#include <chrono>
#include <iostream>
#include <memory>

#include "patina/v1/admin.grpc.pb.h"
#include "tools/client.h"
#include "tools/proto_values.h"

namespace patina::tools {
namespace {

struct Options {
  std::vector<std::string> peers;
  uint32_t delay_ms = 0;
  double drop_fraction = 0;
  int64_t clock_ms = 0;
};

void Inject(v1::FaultRequest::Kind kind, const Options& options, CommandContext& context) {
  const Connection connection = DialOrFail(context);
  if (!connection.channel) return;
  v1::FaultRequest request;
  request.set_kind(kind);
  for (const std::string& peer : options.peers) request.add_peers(peer);
  request.set_delay_ms(options.delay_ms);
  request.set_drop_fraction(options.drop_fraction);
  request.set_clock_ms(options.clock_ms);
  grpc::ClientContext call;
  PrepareCall(context, call, std::chrono::seconds(10));
  v1::FaultResponse response;
  const grpc::Status status =
      v1::Admin::NewStub(connection.channel)->Fault(&call, request, &response);
  if (!status.ok()) return Fail(context, status);
  if (response.active_size() == 0 && context.format == Format::kTable) {
    std::cout << "no faults in force\n";
    return;
  }
  RowPrinter printer(std::cout, context.format, {"fault"});
  for (const std::string& fault : response.active()) printer.Print({Text(fault)});
}

}  // namespace

void AddFaultCommands(CLI::App& app, CommandContext& context) {
  CLI::App* fault = app.add_subcommand(
      "fault", "Misbehaviour on purpose, for an agent started with --fault-injection");
  fault->require_subcommand(1);
  const auto options = std::make_shared<Options>();
  auto add = [&](const char* name, const char* help, v1::FaultRequest::Kind kind) {
    CLI::App* command = fault->add_subcommand(name, help);
    command->callback([kind, options, &context] { Inject(kind, *options, context); });
    return command;
  };
  auto add_peers = [&](CLI::App* command) {
    command->add_option("PEER", options->peers, "names of members; none: all");
  };

  add_peers(add("cut", "Drop everything to and from the peers", v1::FaultRequest::KIND_CUT));
  add_peers(add("heal", "End all faults to the peers; without PEER the clock's, too",
                v1::FaultRequest::KIND_HEAL));
  CLI::App* delay = add("delay", "Delay what is sent to the peers", v1::FaultRequest::KIND_DELAY);
  delay->add_option("MS", options->delay_ms, "milliseconds")->required();
  add_peers(delay);
  CLI::App* drop = add("drop", "Drop datagrams to the peers", v1::FaultRequest::KIND_DROP);
  drop->add_option("FRACTION", options->drop_fraction, "0 to 1")
      ->required()
      ->check(CLI::Range(0.0, 1.0));
  add_peers(drop);
  CLI::App* clock =
      add("clock", "Set the error of this agent's wall clock", v1::FaultRequest::KIND_CLOCK);
  clock->add_option("MS", options->clock_ms, "milliseconds, may be negative")->required();
  add("show", "The faults in force", v1::FaultRequest::KIND_SHOW);
}

}  // namespace patina::tools

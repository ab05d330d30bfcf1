#include "tools/cluster_commands.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <CLI/App.hpp>
#include <chrono>
#include <iostream>
#include <memory>

#include "patina/v1/admin.grpc.pb.h"
#include "patina/v1/cluster.grpc.pb.h"
#include "tools/client.h"
#include "tools/proto_values.h"
#include "tools/status_printer.h"

namespace patina::tools {
namespace {

constexpr auto kSettlePatience = std::chrono::minutes(5);

const char* StateName(v1::Member::State state) {
  switch (state) {
    case v1::Member::STATE_ALIVE:
      return "alive";
    case v1::Member::STATE_SUSPECT:
      return "suspect";
    case v1::Member::STATE_DEAD:
      return "dead";
    case v1::Member::STATE_LEFT:
      return "left";
    default:
      return "?";
  }
}

std::vector<std::string> MemberColumns(Format format) {
  if (format == Format::kTable) {
    return {"name",       "region",          "address",   "state", "incarnation",
            "round trip", "versions behind", "state for", "note"};
  }
  return {"name",        "region",        "address",         "state",
          "incarnation", "round_trip_us", "versions_behind", "state_age_ms",
          "self",        "api_address",   "actor",           "stream_only"};
}

std::vector<crdt::Value> MemberCells(Format format, const v1::Member& member) {
  using crdt::Value;
  std::vector<Value> cells = {Text(member.name()), Text(member.region()), Text(member.address()),
                              Text(StateName(member.state())), Number(member.incarnation())};
  const bool has_trip = member.has_round_trip_us();
  const bool has_behind = member.has_versions_behind();
  if (format == Format::kTable) {
    const auto trip = std::chrono::microseconds(member.round_trip_us());
    cells.push_back(Text(has_trip ? HumanDuration(trip) : "-"));
    cells.push_back(has_behind ? Number(member.versions_behind()) : Text("-"));
    const auto age = std::chrono::milliseconds(member.state_age_ms());
    cells.push_back(Text(age.count() > 0 ? HumanDuration(age) : "-"));
    cells.push_back(Text(member.self() ? "this node" : member.stream_only() ? "UDP blocked" : ""));
    return cells;
  }
  cells.push_back(has_trip ? Value::Integer(member.round_trip_us()) : Value::Null());
  cells.push_back(has_behind ? Number(member.versions_behind()) : Value::Null());
  cells.push_back(Value::Integer(member.state_age_ms()));
  cells.push_back(Value::Integer(member.self() ? 1 : 0));
  cells.push_back(Text(member.api_address()));
  cells.push_back(Text(HexOf(member.actor())));
  cells.push_back(Value::Integer(member.stream_only() ? 1 : 0));
  return cells;
}

void Members(CommandContext& context) {
  const Connection connection = DialOrFail(context);
  if (!connection.channel) return;
  grpc::ClientContext call;
  PrepareCall(context, call, std::chrono::seconds(10));
  v1::MembersResponse response;
  const grpc::Status status =
      v1::Cluster::NewStub(connection.channel)->Members(&call, v1::MembersRequest(), &response);
  if (!status.ok()) return Fail(context, status);
  RowPrinter printer(std::cout, context.format, MemberColumns(context.format));
  for (const v1::Member& member : response.members()) {
    printer.Print(MemberCells(context.format, member));
  }
}

void WatchMembers(CommandContext& context) {
  const Connection connection = DialOrFail(context);
  if (!connection.channel) return;
  grpc::ClientContext call;
  PrepareCall(context, call);
  const auto reader =
      v1::Cluster::NewStub(connection.channel)->WatchMembers(&call, v1::WatchMembersRequest());
  RowPrinter printer(std::cout, context.format, MemberColumns(context.format), true);
  v1::WatchMembersResponse response;
  while (reader->Read(&response)) {
    for (const v1::Member& member : response.members()) {
      printer.Print(MemberCells(context.format, member));
    }
    if (response.end_of_snapshot() && context.format == Format::kTable) {
      std::cerr << "-- changes follow" << std::endl;
    }
  }
  if (const grpc::Status status = reader->Finish(); !status.ok()) Fail(context, status);
}

void Status(CommandContext& context) {
  const Connection connection = DialOrFail(context);
  if (!connection.channel) return;
  grpc::ClientContext call;
  PrepareCall(context, call, std::chrono::seconds(10));
  v1::StatusResponse response;
  const grpc::Status status =
      v1::Admin::NewStub(connection.channel)->Status(&call, v1::StatusRequest(), &response);
  if (!status.ok()) return Fail(context, status);
  PrintStatus(std::cout, context.format, response);
}

struct VerifyOptions {
  uint32_t deadline_ms = 10'000;
  bool adopt = false, discard = false;
};

void Verify(CommandContext& context, const VerifyOptions& options) {
  const Connection connection = DialOrFail(context);
  if (!connection.channel) return;
  grpc::ClientContext call;
  // Settling looks at the whole file first.
  const bool settles = options.adopt || options.discard;
  PrepareCall(context, call,
              std::chrono::milliseconds(options.deadline_ms) +
                  (settles ? kSettlePatience : std::chrono::seconds(5)));
  v1::VerifyRequest request;
  request.set_deadline_ms(options.deadline_ms);
  if (options.adopt) request.set_foreign(v1::VerifyRequest::FOREIGN_ACTION_ADOPT);
  if (options.discard) request.set_foreign(v1::VerifyRequest::FOREIGN_ACTION_DISCARD);
  v1::VerifyResponse response;
  const grpc::Status status =
      v1::Admin::NewStub(connection.channel)->Verify(&call, request, &response);
  if (!status.ok()) return Fail(context, status);
  PrintVerify(std::cout, context.format, response);
  const bool foreign = response.foreign_size() > 0;
  if (response.equal() && response.not_reached_size() == 0 && !foreign) return;
  std::string message;
  if (!response.equal()) message = "the members' tables differ";
  if (foreign) {
    message += message.empty() ? "" : "; ";
    message += "another SQLite client wrote in this member's file";
    if (!settles) message += ": see --adopt and --discard";
  }
  for (const std::string& name : response.not_reached()) {
    message += (message.empty() ? "" : "; ") + name + " did not answer";
  }
  Fail(context, message, kExitFailed);
}

}  // namespace

void AddClusterCommands(CLI::App& app, CommandContext& context) {
  const auto watch = std::make_shared<bool>(false);
  CLI::App* members =
      app.add_subcommand("members", "Members of the cluster as this node sees them");
  members->add_flag("--watch", *watch, "stay, and print each change");
  members->callback([watch, &context] { *watch ? WatchMembers(context) : Members(context); });

  CLI::App* status = app.add_subcommand(
      "status", "One node: identity, heads, gaps, queues, digests, disk, schema");
  status->callback([&context] { Status(context); });

  const auto options = std::make_shared<VerifyOptions>();
  CLI::App* verify = app.add_subcommand(
      "verify", "Compare every member's tables, under load too; exit code 1 when any differ");
  verify->add_option("--deadline-ms", options->deadline_ms,
                     "for the answers of all members; default 10000");
  CLI::Option* adopt = verify->add_flag(
      "--adopt", options->adopt,
      "first make what other SQLite clients wrote in this node's file a write of this node");
  verify
      ->add_flag("--discard", options->discard,
                 "first put back what they overwrote, deleted or added in this node's file")
      ->excludes(adopt);
  verify->callback([options, &context] { Verify(context, *options); });
}

}  // namespace patina::tools

#include "tools/set_aside_commands.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <CLI/App.hpp>
#include <charconv>
#include <chrono>
#include <iostream>
#include <memory>

#include "base/ids.h"
#include "patina/v1/admin.grpc.pb.h"
#include "tools/client.h"
#include "tools/proto_values.h"

namespace patina::tools {
namespace {

constexpr auto kDeadline = std::chrono::seconds(30);

/// "actor/version", as list prints them.
std::string NameOf(const v1::ChangeId& id) {
  return HexOf(id.actor()) + "/" + std::to_string(id.version());
}

bool ParseName(const std::string& name, v1::ChangeId* id) {
  const size_t slash = name.find('/');
  if (slash == std::string::npos) return false;
  const auto actor = ActorId::Parse(name.substr(0, slash));
  uint64_t version = 0;
  const char* const end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data() + slash + 1, end, version);
  if (!actor || parsed.ec != std::errc() || parsed.ptr != end) return false;
  id->set_actor(std::string(actor->AsBytes()));
  id->set_version(version);
  return true;
}

void List(CommandContext& context) {
  const Connection connection = DialOrFail(context);
  if (!connection.channel) return;
  grpc::ClientContext call;
  PrepareCall(context, call, kDeadline);
  v1::ListSetAsideResponse response;
  const grpc::Status status = v1::Admin::NewStub(connection.channel)
                                  ->ListSetAside(&call, v1::ListSetAsideRequest(), &response);
  if (!status.ok()) return Fail(context, status);
  RowPrinter printer(std::cout, context.format, {"change", "time", "bytes", "reason"});
  for (const v1::SetAsideChange& change : response.changes()) {
    printer.Print({Text(NameOf(change.id())), Text(HumanTime(change.time_ns())),
                   Number(change.bytes()), Text(change.reason())});
  }
  printer.Finish();
  if (response.total() > static_cast<uint64_t>(response.changes_size())) {
    std::cerr << "-- the first " << response.changes_size() << " of " << response.total()
              << std::endl;
  }
}

void Show(CommandContext& context, const v1::ChangeId& id) {
  const Connection connection = DialOrFail(context);
  if (!connection.channel) return;
  grpc::ClientContext call;
  PrepareCall(context, call, kDeadline);
  v1::ShowSetAsideRequest request;
  *request.mutable_id() = id;
  v1::ShowSetAsideResponse response;
  const grpc::Status status =
      v1::Admin::NewStub(connection.channel)->ShowSetAside(&call, request, &response);
  if (!status.ok()) return Fail(context, status);
  RowPrinter printer(std::cout, context.format, {"table", "kind", "key", "column", "value"});
  for (const auto& row : response.rows()) {
    std::string key;
    for (const crdt::Value& value : FromProto(row.key())) {
      key += (key.empty() ? "" : ", ") + value.ToString();
    }
    const std::vector<crdt::Value> values = FromProto(row.values());
    if (values.empty()) {
      printer.Print(
          {Text(row.table()), Text(row.kind()), Text(key), Text(""), crdt::Value::Null()});
    }
    for (size_t i = 0; i < values.size(); ++i) {
      printer.Print({Text(row.table()), Text(row.kind()), Text(key),
                     Text(row.columns(static_cast<int>(i))), values[i]});
    }
  }
  printer.Finish();
  if (response.truncated()) std::cerr << "-- there are more rows" << std::endl;
}

grpc::Status Apply(v1::Admin::Stub& admin, grpc::ClientContext& call, const v1::ChangeId& id,
                   std::string* done) {
  v1::ApplySetAsideRequest request;
  *request.mutable_id() = id;
  v1::ApplySetAsideResponse response;
  const grpc::Status status = admin.ApplySetAside(&call, request, &response);
  *done = response.has_id() ? "applied as " + NameOf(response.id()) : "applied: nothing changed";
  return status;
}

grpc::Status Drop(v1::Admin::Stub& admin, grpc::ClientContext& call, const v1::ChangeId& id,
                  std::string* done) {
  v1::DropSetAsideRequest request;
  *request.mutable_id() = id;
  v1::DropSetAsideResponse response;
  *done = "dropped";
  return admin.DropSetAside(&call, request, &response);
}

/// Applies or drops one after another; the first that fails ends it.
template <class Act>
void ForEach(CommandContext& context, const std::vector<v1::ChangeId>& ids, Act act) {
  const Connection connection = DialOrFail(context);
  if (!connection.channel) return;
  const auto admin = v1::Admin::NewStub(connection.channel);
  RowPrinter printer(std::cout, context.format, {"change", "outcome"}, true);
  for (const v1::ChangeId& id : ids) {
    grpc::ClientContext call;
    PrepareCall(context, call, kDeadline);
    std::string done;
    const grpc::Status status = act(*admin, call, id, &done);
    if (!status.ok()) return Fail(context, status);
    printer.Print({Text(NameOf(id)), Text(done)});
  }
}

}  // namespace

void AddSetAsideCommands(CLI::App& app, CommandContext& context) {
  CLI::App* commands = app.add_subcommand(
      "set-aside", "Changes this node dropped when it took another's file, because they were old");
  commands->require_subcommand(1);
  commands->add_subcommand("list", "All of them, oldest first")->callback([&context] {
    List(context);
  });
  const auto names = std::make_shared<std::vector<std::string>>();
  const auto add = [&](const char* name, const char* help, auto run) {
    CLI::App* command = commands->add_subcommand(name, help);
    command->add_option("CHANGE", *names, "as `list` prints it: actor/version")->required();
    command->callback([names, run, &context] {
      std::vector<v1::ChangeId> ids;
      for (const std::string& text : *names) {
        v1::ChangeId id;
        if (!ParseName(text, &id)) {
          return Fail(context, "not a change (actor/version): " + text, kExitUsage);
        }
        ids.push_back(std::move(id));
      }
      run(ids);
    });
  };
  add("show", "What it would write", [&context](const std::vector<v1::ChangeId>& ids) {
    for (const v1::ChangeId& id : ids) Show(context, id);
  });
  add("apply", "Writes it anew, as a transaction of this node",
      [&context](const std::vector<v1::ChangeId>& ids) { ForEach(context, ids, Apply); });
  add("drop", "Forgets it",
      [&context](const std::vector<v1::ChangeId>& ids) { ForEach(context, ids, Drop); });
}

}  // namespace patina::tools

#include "tools/schema_commands.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <CLI/App.hpp>
#include <algorithm>
#include <chrono>
#include <iostream>
#include <map>
#include <memory>
#include <optional>

#include "patina/v1/admin.grpc.pb.h"
#include "storage/schema.h"
#include "tools/client.h"
#include "tools/proto_values.h"

namespace patina::tools {
namespace {

using Paths = std::vector<std::string>;

constexpr auto kApplyDeadline = std::chrono::minutes(10);  // an index of many rows takes long

std::optional<storage::Schema> Load(const Paths& paths, CommandContext& context) {
  Result<storage::Schema> schema = storage::LoadSchema(paths);
  if (!schema.ok()) {
    Fail(context, schema.error().message, kExitFailed);
    return std::nullopt;
  }
  for (const storage::SchemaWarning& warning : schema->warnings) {
    std::cerr << "warning: " << warning.text << '\n';
  }
  return *std::move(schema);
}

void Check(const Paths& paths, CommandContext& context) {
  const std::optional<storage::Schema> schema = Load(paths, context);
  if (!schema) return;
  RowPrinter printer(std::cout, context.format, {"table", "key", "columns", "merge"});
  for (const storage::Table& table : schema->tables) {
    std::string key;
    for (const storage::Column& column : table.key) key += (key.empty() ? "" : ", ") + column.name;
    printer.Print({Text(table.name), Text(key), Number(table.columns.size()),
                   Text(table.merge_row ? "row" : "cell")});
  }
}

/// What the agent runs with, parsed from what it tells.
std::optional<storage::Schema> Running(const Connection& connection, CommandContext& context) {
  grpc::ClientContext call;
  PrepareCall(context, call, std::chrono::seconds(10));
  v1::SchemaRequest request;
  request.set_action(v1::SchemaRequest::ACTION_SHOW);
  v1::SchemaResponse response;
  const grpc::Status status =
      v1::Admin::NewStub(connection.channel)->Schema(&call, request, &response);
  if (!status.ok()) {
    Fail(context, status);
    return std::nullopt;
  }
  std::string sql;
  for (const std::string& statement : response.tables()) sql += statement + ";\n";
  Result<storage::Schema> schema =
      storage::ParseSchema(sql, "schema of " + connection.address, response.tables_toml());
  if (!schema.ok()) {
    Fail(context, schema.error());
    return std::nullopt;
  }
  return *std::move(schema);
}

/// How many changesets are parked, by what they wait for. Nothing when it cannot be learned.
void CountParked(const Connection& connection, CommandContext& context,
                 std::map<std::string, int64_t>* waiting) {
  grpc::ClientContext call;
  PrepareCall(context, call, std::chrono::seconds(10));
  v1::StatusResponse status;
  if (!v1::Admin::NewStub(connection.channel)->Status(&call, {}, &status).ok()) return;
  for (const auto& parked : status.parked()) {
    const std::string& reason = parked.reason();
    ++(*waiting)[reason.substr(0, reason.find(" (dropped "))];
  }
}

/// As the reason of a parked changeset says it.
std::string WaitsFor(const storage::SchemaChange& change) {
  using Kind = storage::SchemaChange::Kind;
  if (change.kind == Kind::kAddTable) return "unknown table " + change.table;
  if (change.kind == Kind::kAddColumn)
    return "unknown column " + change.table + "." + change.column;
  return {};
}

std::string EffectOf(const storage::SchemaChange& change) {
  if (change.kind == storage::SchemaChange::Kind::kRefused) return "REFUSED";
  return change.destructive() ? "destructive" : "additive";
}

/// Prints what would change. Nothing when it failed (and said so) or a change is refused.
std::optional<size_t> PrintDiff(const Connection& connection, const Paths& paths,
                                CommandContext& context) {
  const std::optional<storage::Schema> wanted = Load(paths, context);
  if (!wanted) return std::nullopt;
  const std::optional<storage::Schema> running = Running(connection, context);
  if (!running) return std::nullopt;
  const std::vector<storage::SchemaChange> changes = storage::DiffSchemas(*running, *wanted);
  if (changes.empty() && context.format == Format::kTable) {
    std::cout << "no difference\n";
    return 0;
  }
  size_t refused = 0;
  std::map<std::string, int64_t> waiting;
  CountParked(connection, context, &waiting);
  RowPrinter printer(std::cout, context.format, {"change", "effect", "parked", "sql"});
  for (const storage::SchemaChange& change : changes) {
    const bool is_refused = change.kind == storage::SchemaChange::Kind::kRefused;
    refused += is_refused ? 1 : 0;
    const auto parked = waiting.find(WaitsFor(change));
    printer.Print({Text(change.text), Text(EffectOf(change)),
                   Number(parked == waiting.end() ? 0 : parked->second), Text(change.sql)});
  }
  printer.Finish();
  if (refused == 0) return changes.size();
  Fail(context, "refused: see above", kExitFailed);
  return std::nullopt;
}

void Diff(const Paths& paths, CommandContext& context) {
  const Connection connection = DialOrFail(context);
  if (connection.channel) PrintDiff(connection, paths, context);
}

void Apply(const Paths& paths, bool allow_destructive, CommandContext& context) {
  const Connection connection = DialOrFail(context);
  if (!connection.channel) return;
  if (!paths.empty()) {
    const std::optional<size_t> changes = PrintDiff(connection, paths, context);
    if (!changes || *changes == 0) return;
  }
  grpc::ClientContext call;
  PrepareCall(context, call, kApplyDeadline);
  v1::SchemaRequest request;
  request.set_action(v1::SchemaRequest::ACTION_RELOAD);
  request.set_allow_destructive(allow_destructive);
  v1::SchemaResponse response;
  const grpc::Status status =
      v1::Admin::NewStub(connection.channel)->Schema(&call, request, &response);
  if (!status.ok()) return Fail(context, status);
  for (const std::string& warning : response.warnings())
    std::cerr << "warning: " << warning << '\n';
  RowPrinter printer(std::cout, context.format, {"done"});
  for (const std::string& change : response.changes()) printer.Print({Text(change)});
  printer.Finish();
  std::cerr << "writes waited " << static_cast<double>(response.waited_us()) / 1000 << " ms\n";
}

}  // namespace

void AddSchemaCommands(CLI::App& app, CommandContext& context) {
  CLI::App* schema = app.add_subcommand("schema", "Check, compare and apply the declared tables");
  schema->require_subcommand(1);
  const auto paths = std::make_shared<Paths>();
  const char* help = "files or folders: .sql and tables.toml, as in [schema] paths";

  CLI::App* check =
      schema->add_subcommand("check", "Can these files be replicated? No agent needed");
  check->add_option("PATH", *paths, help)->required();
  check->callback([paths, &context] { Check(*paths, context); });

  CLI::App* diff = schema->add_subcommand("diff", "What these files would change on the agent");
  diff->add_option("PATH", *paths, help)->required();
  diff->callback([paths, &context] { Diff(*paths, context); });

  CLI::App* apply = schema->add_subcommand(
      "apply", "Let the agent read its configured files again and change its tables to them");
  apply->add_option("PATH", *paths, "the same files, to see first what they change");
  const auto allow_destructive = std::make_shared<bool>(false);
  apply->add_flag("--allow-destructive", *allow_destructive,
                  "drop the columns and tables that tables.toml lists as dropped");
  apply->callback(
      [paths, allow_destructive, &context] { Apply(*paths, *allow_destructive, context); });
}

}  // namespace patina::tools

#include "tools/state_commands.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <CLI/App.hpp>
#include <chrono>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <memory>
#include <sstream>
#include <utility>

#include "patina/v1/state.grpc.pb.h"
#include "tools/client.h"
#include "tools/parameters.h"
#include "tools/proto_values.h"
#include "tools/subscribe_printer.h"

namespace patina::tools {
namespace {

constexpr Duration kExecuteDeadline = std::chrono::seconds(60);
constexpr Duration kLargeDeadline = std::chrono::minutes(15);  // the server's own is 10

struct Options {
  std::string sql;
  std::vector<std::string> parameters;
  std::string file;
  uint32_t deadline_ms = 0;
  uint64_t rows_max = 0;
  std::optional<uint64_t> from;
  uint64_t events_max = 0;
  bool skip_snapshot = false;
  bool large = false;
};

void SetStatement(const Options& options, v1::Statement* statement) {
  statement->set_sql(options.sql);
  for (const std::string& parameter : options.parameters) {
    ToProto(ParseParameter(parameter), statement->add_parameters());
  }
}

/// The statements of a file, or of standard input for "-".
Result<std::vector<std::string>> ReadStatements(const std::string& file) {
  std::string text;
  if (file == "-") {
    text.assign(std::istreambuf_iterator<char>(std::cin), {});
  } else {
    std::ifstream in(file, std::ios::binary);
    if (!in) return InvalidArgument("cannot read " + file);
    text.assign(std::istreambuf_iterator<char>(in), {});
  }
  Result<std::vector<std::string>> statements = SplitStatements(text);
  if (!statements.ok()) return InvalidArgument(file + ": " + statements.error().message);
  if (statements->empty()) return InvalidArgument(file + " holds no statement");
  return statements;
}

void PrintExecuted(const CommandContext& context, const v1::ExecuteResponse& response,
                   Duration elapsed) {
  const std::string actor = HexOf(response.id().actor());
  if (context.format == Format::kTable) {
    RowPrinter printer(std::cout, context.format, {"statement", "rows changed"});
    for (int i = 0; i < response.rows_changed_size(); ++i) {
      printer.Print({crdt::Value::Integer(i + 1), crdt::Value::Integer(response.rows_changed(i))});
    }
    printer.Finish();
    if (!response.has_id()) {
      std::cout << "nothing changed in effect: no version was used (" << HumanDuration(elapsed)
                << ")\n";
      return;
    }
    std::cout << "actor " << actor << "  version " << response.id().version() << "  time "
              << HumanTime(response.time_ns()) << "  change " << response.change_number() << "  ("
              << HumanDuration(elapsed) << ")\n";
    return;
  }
  RowPrinter printer(std::cout, context.format,
                     {"statement", "rows_changed", "actor", "version", "time_ns", "change_number"});
  for (int i = 0; i < response.rows_changed_size(); ++i) {
    const bool changed = response.has_id();
    printer.Print({crdt::Value::Integer(i + 1), crdt::Value::Integer(response.rows_changed(i)),
                   changed ? crdt::Value::Text(actor) : crdt::Value::Null(),
                   Number(response.id().version()), crdt::Value::Integer(response.time_ns()),
                   Number(response.change_number())});
  }
}

void Execute(const Options& options, CommandContext& context) {
  v1::ExecuteRequest request;
  if (options.file.empty()) {
    SetStatement(options, request.add_statements());
  } else {
    Result<std::vector<std::string>> statements = ReadStatements(options.file);
    if (!statements.ok()) return Fail(context, statements.error().message, kExitUsage);
    for (std::string& sql : *statements) request.add_statements()->set_sql(std::move(sql));
  }
  request.set_large(options.large);
  const Connection connection = DialOrFail(context);
  if (!connection.channel) return;
  grpc::ClientContext call;
  PrepareCall(context, call, options.large ? kLargeDeadline : kExecuteDeadline);
  v1::ExecuteResponse response;
  const auto begin = std::chrono::steady_clock::now();
  const grpc::Status status =
      v1::State::NewStub(connection.channel)->Execute(&call, request, &response);
  if (!status.ok()) return Fail(context, status);
  PrintExecuted(context, response, std::chrono::steady_clock::now() - begin);
}

void Query(const Options& options, CommandContext& context) {
  const Connection connection = DialOrFail(context);
  if (!connection.channel) return;
  v1::QueryRequest request;
  SetStatement(options, request.mutable_statement());
  request.set_deadline_ms(options.deadline_ms);
  request.set_rows_max(options.rows_max);
  grpc::ClientContext call;
  PrepareCall(context, call);
  const auto reader = v1::State::NewStub(connection.channel)->Query(&call, request);
  std::unique_ptr<RowPrinter> printer;
  v1::QueryResponse response;
  while (reader->Read(&response)) {
    if (!printer) {
      printer = std::make_unique<RowPrinter>(
          std::cout, context.format,
          std::vector<std::string>(response.columns().begin(), response.columns().end()));
    }
    for (const v1::Row& row : response.rows()) printer->Print(FromProto(row.values()));
  }
  if (printer) printer->Finish();
  if (const grpc::Status status = reader->Finish(); !status.ok()) Fail(context, status);
}

void Subscribe(const Options& options, CommandContext& context) {
  const Connection connection = DialOrFail(context);
  if (!connection.channel) return;
  grpc::ClientContext call;
  PrepareCall(context, call);
  const auto stream = v1::State::NewStub(connection.channel)->Subscribe(&call);
  v1::SubscribeRequest request;
  SetStatement(options, request.mutable_open()->mutable_statement());
  if (options.from) request.mutable_open()->set_from(*options.from);
  request.mutable_open()->set_skip_snapshot(options.skip_snapshot);
  stream->Write(request);
  SubscribePrinter printer(std::cout, std::cerr, context.format, options.events_max);
  v1::SubscribeResponse response;
  while (!printer.done() && stream->Read(&response)) {
    for (const v1::SubscribeEvent& event : response.events()) printer.Print(event);
    request.set_acknowledged(response.number());
    if (!stream->Write(request)) break;
  }
  if (printer.done()) {
    call.TryCancel();
    return;
  }
  if (const grpc::Status status = stream->Finish(); !status.ok()) Fail(context, status);
}

void AddSql(CLI::App* command, Options& options, bool required) {
  CLI::Option* sql = command->add_option("SQL", options.sql, "the statement");
  if (required) sql->required();
  command->add_option("PARAM", options.parameters, kParameterHelp);
}

}  // namespace

void AddStateCommands(CLI::App& app, CommandContext& context) {
  const auto options = std::make_shared<Options>();

  CLI::App* exec = app.add_subcommand("exec", "Run statements that write, in one transaction");
  AddSql(exec, *options, false);
  exec->add_option("--file", options->file,
                   "statements separated by semicolons; - is standard input");
  exec->add_flag("--large", options->large,
                 "may touch more than 50,000 rows: runs alone, other writes wait, and it reaches "
                 "other nodes in chunks");
  exec->callback([options, &context] {
    if (options->sql.empty() == options->file.empty()) {
      return Fail(context, "exec: give either SQL or --file", kExitUsage);
    }
    Execute(*options, context);
  });

  CLI::App* query = app.add_subcommand("query", "Ask: one statement that only reads");
  AddSql(query, *options, true);
  query->add_option("--deadline-ms", options->deadline_ms, "of the whole query; default 60000");
  query->add_option("--rows-max", options->rows_max, "more rows are an error; default: no limit");
  query->callback([options, &context] { Query(*options, context); });

  CLI::App* subscribe = app.add_subcommand(
      "subscribe", "Live query: the rows now, then every change, until interrupted");
  AddSql(subscribe, *options, true);
  subscribe->add_option("--from", options->from,
                        "resume: only changes newer than this change number");
  subscribe->add_flag("--skip-snapshot", options->skip_snapshot, "only what changes from now on");
  subscribe->add_option("--events", options->events_max, "end after this many rows and changes");
  subscribe->callback([options, &context] { Subscribe(*options, context); });
}

}  // namespace patina::tools

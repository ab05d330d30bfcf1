#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <iostream>
#include <map>

#include "tools/agent_command.h"
#include "tools/backup_commands.h"
#include "tools/bench_command.h"
#include "tools/cluster_commands.h"
#include "tools/command.h"
#include "tools/fault_commands.h"
#include "tools/proxy_sink_command.h"
#include "tools/route_command.h"
#include "tools/schema_commands.h"
#include "tools/set_aside_commands.h"
#include "tools/sidecar_command.h"
#include "tools/state_commands.h"
#include "tools/version.h"

// `patina`: one binary, a subcommand per thing to do.

namespace patina::tools {
namespace {

/// --api and --format for this command and all below, unless it has its own.
void AddCommonOptions(CLI::App& command, CommandContext& context) {
  if (command.get_option_no_throw("--api") == nullptr) {
    command
        .add_option("--api", context.api,
                    "agent to talk to: unix:/path or host:port (default unix:/run/patina/api.sock, "
                    "then 127.0.0.1:7401)")
        ->envname("PATINA_API")
        ->group("Common options");
  }
  if (command.get_option_no_throw("--format") == nullptr) {
    const std::map<std::string, Format> formats = {
        {"table", Format::kTable}, {"json", Format::kJson}, {"csv", Format::kCsv}};
    command
        .add_option_function<std::string>(
            "--format",
            [&context, formats](const std::string& name) { context.format = formats.at(name); },
            "table, json (one object per line) or csv")
        ->check(CLI::IsMember({"table", "json", "csv"}))
        ->group("Common options");
  }
  for (CLI::App* below : command.get_subcommands([](CLI::App*) { return true; })) {
    AddCommonOptions(*below, context);
  }
}

/// CLI11 takes an argument in brackets for a list and splits it; a parameter '["a","b"]' is one
/// value. For the commands with SQL such arguments are passed as explicit text, which
/// ParseParameter understands.
std::vector<std::string> GuardBrackets(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  const bool has_sql = !arguments.empty() && (arguments[0] == "exec" || arguments[0] == "query" ||
                                              arguments[0] == "subscribe");
  for (std::string& argument : arguments) {
    if (has_sql && argument.starts_with('[') && argument.ends_with(']')) {
      argument.insert(0, "text:");
    }
  }
  return arguments;
}

int Run(int argc, char** argv) {
  CLI::App app("Patina: a small relational picture of a fleet, the same on every host");
  app.name("patina");
  app.set_version_flag("--version", kVersion);
  app.require_subcommand(1);
  CommandContext context;
  if (const char* token = std::getenv("PATINA_TOKEN")) context.token = token;
  AddAgentCommand(app, context);
  AddStateCommands(app, context);
  AddClusterCommands(app, context);
  AddSchemaCommands(app, context);
  AddBackupCommands(app, context);
  AddFaultCommands(app, context);
  AddSetAsideCommands(app, context);
  AddProxySinkCommand(app, context);
  AddRouteCommand(app, context);
  AddSidecarCommand(app, context);
  AddBenchCommand(app, context);
  AddCommonOptions(app, context);

  std::vector<std::string> arguments = GuardBrackets(argc, argv);
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    return app.exit(error, std::cout, std::cerr) == 0 ? kExitOk : kExitUsage;
  }
  return context.exit_code;
}

}  // namespace
}  // namespace patina::tools

int main(int argc, char** argv) { return patina::tools::Run(argc, argv); }

#include "tools/sidecar_command.h"

#include <CLI/App.hpp>
#include <memory>
#include <string>

#include "tools/client.h"
#include "tools/sidecar.h"
#include "tools/signals.h"

namespace patina::tools {
namespace {

struct Options {
  std::string service;
  SidecarOptions sidecar;
};

void RunSidecar(const Options& options, CommandContext& context) {
  Result<ServiceFile> file = LoadServiceFile(options.service);
  if (!file.ok()) return Fail(context, file.error().message, kExitUsage);
  SignalThread signals;  // before other threads
  Sidecar sidecar(std::move(*file), options.sidecar, MakeAgentTarget(context));
  signals.OnTerminate([&] { sidecar.RequestStop(); });
  const Result<int> status = sidecar.Run();
  signals.Forget();
  if (status.ok()) {
    context.exit_code = *status;
  } else if (status.error().code == Errc::kUnavailable) {
    Fail(context, status.error().message, kExitNoAgent);
  } else {
    Fail(context, status.error());
  }
}

}  // namespace

void AddSidecarCommand(CLI::App& app, CommandContext& context) {
  CLI::App* command = app.add_subcommand(
      "sidecar", "registers a service, checks it and reports its load, beside it");
  const auto options = std::make_shared<Options>();
  command->add_option("--service", options->service, "TOML file that describes the service")
      ->required();
  command->add_flag("--keep", options->sidecar.keep,
                    "leave the machine started when asked to stop (default: it is marked stopped)");
  command->add_flag("--verbose,-v", options->sidecar.verbose, "print load reports, too");
  command->add_option("command", options->sidecar.command,
                      "-- COMMAND...: the service itself: started, stopped with the sidecar, and "
                      "its machine marked stopped when it ends; its status is the sidecar's");
  command->callback([options, &context] { RunSidecar(*options, context); });
}

}  // namespace patina::tools

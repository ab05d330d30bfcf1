#pragma once

#include "tools/command.h"

namespace patina::tools {

/// sidecar: registers a service, checks it and reports its load until it ends, or SIGTERM or
/// SIGINT.
void AddSidecarCommand(CLI::App& app, CommandContext& context);

}  // namespace patina::tools

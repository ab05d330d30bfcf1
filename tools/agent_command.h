#pragma once

#include "tools/command.h"

namespace patina::tools {

/// agent: runs a node in the foreground until SIGTERM or SIGINT.
void AddAgentCommand(CLI::App& app, CommandContext& context);

}  // namespace patina::tools

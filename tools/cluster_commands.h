#pragma once

#include "tools/command.h"

namespace patina::tools {

/// members, status, verify: looking at the fleet and at one node.
void AddClusterCommands(CLI::App& app, CommandContext& context);

}  // namespace patina::tools

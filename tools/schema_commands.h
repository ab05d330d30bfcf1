#pragma once

#include "tools/command.h"

namespace patina::tools {

/// schema check, diff, apply.
void AddSchemaCommands(CLI::App& app, CommandContext& context);

}  // namespace patina::tools

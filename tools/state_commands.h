#pragma once

#include "tools/command.h"

namespace patina::tools {

/// exec, query, subscribe: writing, asking, watching.
void AddStateCommands(CLI::App& app, CommandContext& context);

}  // namespace patina::tools

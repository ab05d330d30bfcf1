#pragma once

#include "tools/command.h"

namespace CLI {
class App;
}

namespace patina::tools {

/// `patina set-aside list|show|apply|drop`.
void AddSetAsideCommands(CLI::App& app, CommandContext& context);

}  // namespace patina::tools

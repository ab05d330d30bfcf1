#pragma once

#include "tools/command.h"

namespace patina::tools {

/// route: asks a proxy-sink where a request would go, and why; or watches it.
void AddRouteCommand(CLI::App& app, CommandContext& context);

}  // namespace patina::tools

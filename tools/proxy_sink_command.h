#pragma once

#include "tools/command.h"

namespace patina::tools {

/// proxy-sink: keeps a routing table from the agent's live rows and answers where requests should
/// go, until SIGTERM or SIGINT.
void AddProxySinkCommand(CLI::App& app, CommandContext& context);

}  // namespace patina::tools

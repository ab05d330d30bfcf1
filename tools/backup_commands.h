#pragma once

#include "tools/command.h"

namespace patina::tools {

/// `patina backup`, `patina restore`, `patina reseed`.
void AddBackupCommands(CLI::App& app, CommandContext& context);

}  // namespace patina::tools

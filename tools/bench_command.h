#pragma once

#include "tools/command.h"

namespace patina::tools {

/// bench …: load generators, and the checker that compares what was acknowledged with what is
/// there.
void AddBenchCommand(CLI::App& app, CommandContext& context);

}  // namespace patina::tools

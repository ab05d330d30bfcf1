#pragma once

#include "tools/command.h"

namespace patina::tools {

/// fault cut, heal, delay, drop, clock, show: misbehaviour on purpose, for an agent with
/// --fault-injection.
void AddFaultCommands(CLI::App& app, CommandContext& context);

}  // namespace patina::tools

#pragma once

#include <cstdint>
#include <string>

#include "tools/output.h"

// What the subcommands of `patina` share. Main thread, unless a command says otherwise.
//
// A command group is one file with one function, declared in a header of its own and called by
// main.cc:
//
//   void AddRouteCommand(CLI::App& app, CommandContext& context);
//
// It adds its subcommands and gives each a callback. The callback does the work (CLI11 has parsed
// every option by then, the common ones in *context included), prints data to stdout and errors to
// stderr with Fail() of tools/client.h, and leaves the result in context.exit_code. main.cc adds
// --api and --format to every subcommand that does not declare an option of that name itself.

namespace CLI {
class App;
}

namespace patina::tools {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;   // the request failed, or what was checked is not so
inline constexpr int kExitUsage = 2;    // wrong usage or configuration
inline constexpr int kExitNoAgent = 3;  // nothing answered at the address

/// Lives in main; outlives all callbacks.
struct CommandContext {
  int exit_code = kExitOk;
  /// --api or PATINA_API. Empty: unix:/run/patina/api.sock, then 127.0.0.1:7401 (Dial tries both).
  std::string api;
  /// PATINA_TOKEN; empty: none.
  std::string token;
  Format format = Format::kTable;
};

}  // namespace patina::tools

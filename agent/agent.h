#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/config.h"
#include "base/status.h"

namespace patina::agent {

/// One node: storage, writer, readers, gossip, live queries and API, started in that order and
/// stopped in reverse. Used by `patina agent` and by tests that run several in one process.
class Agent {
 public:
  /// Errors say what could not be opened and what to do. Nothing is left running after one.
  static Result<std::unique_ptr<Agent>> Start(const Config& config);
  /// Stop, if it was not called.
  ~Agent();

  /// Refuses new calls, leaves, drains the writer, checkpoints, joins. Any thread, once.
  void Stop();

  /// As bound.
  std::vector<std::string> api_addresses() const;
  std::string gossip_address() const;
  /// Blocks until something fatal (a broken disk, a stuck thread) or Stop; the error if fatal.
  Status WaitForFatal();
  /// Reads the configured schema files again and changes the tables to them, additive changes only;
  /// what came of it is logged. Any thread.
  void ReloadSchema();
  /// Another node's file has taken the place of this one's: after Stop a new process must begin.
  bool MustBeginAnew() const;
  void RequestStop();  // wakes WaitForFatal; async-signal-unsafe: from a normal thread

 private:
  class Impl;
  explicit Agent(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace patina::agent

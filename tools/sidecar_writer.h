#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "tools/command.h"
#include "tools/sidecar_service.h"

// Keeps rows in the agent as they should be, whatever the agent does meanwhile.

namespace patina::tools {

/// Where rows go. One thread at a time; fakes of it serve the tests.
class RowTarget {
 public:
  virtual ~RowTarget() = default;
  /// One transaction. Gives the actor that wrote (it changes when the agent starts anew), or
  /// nothing when no row changed in effect. UNAVAILABLE and DEADLINE_EXCEEDED: try again.
  virtual Result<std::string> Write(const std::vector<SqlWrite>& writes) = 0;
  /// Is the agent reachable, as far as known? Does not wait.
  virtual bool Connected() = 0;
};

/// The agent at context.api. Nothing is dialed yet.
std::unique_ptr<RowTarget> MakeAgentTarget(const CommandContext& context);

struct RowWriterOptions {
  Duration backoff_min = std::chrono::milliseconds(100);
  Duration backoff_max = std::chrono::seconds(5);
  Duration connection_poll = std::chrono::seconds(1);
};

/// Set says how rows should be; a thread of the writer's own makes them so.
///
/// 1. A row is sent when it differs from what was last acknowledged, and always in its newest form:
///    what came and went while the agent was away is never sent. Memory is one row per name.
/// 2. A failed write is tried again with backoff and jitter. After a lost connection or a new actor
///    all rows are sent once more; those that are as they should be change nothing there
///    (DesiredRow::ToSql).
class RowWriter {
 public:
  /// note: told in words, on the writer's thread, when writes begin to fail and when they work
  /// again.
  RowWriter(std::unique_ptr<RowTarget> target, std::function<void(const std::string&)> note,
            RowWriterOptions options = {});
  /// Flushes nothing.
  ~RowWriter();
  RowWriter(const RowWriter&) = delete;
  RowWriter& operator=(const RowWriter&) = delete;

  /// Any thread. Rows equal but for their stamp to what is wanted already change nothing.
  void Set(std::vector<DesiredRow> rows);
  /// Waits until everything was acknowledged. False at the deadline.
  bool Flush(Duration deadline);
  uint64_t writes() const;

 private:
  struct Entry {
    std::string name;
    DesiredRow row;
    uint64_t wanted = 1;   // counts changes of row
    uint64_t written = 0;  // the one acknowledged
  };
  void Run();
  void WriteDirty(std::unique_lock<std::mutex>& lock);
  void TakeResult(const Result<std::string>& result,
                  const std::vector<std::pair<size_t, uint64_t>>& sent);
  void WatchConnection(std::unique_lock<std::mutex>& lock);
  void SendAllAgain();
  bool Clean() const;

  const std::unique_ptr<RowTarget> target_;
  const std::function<void(const std::string&)> note_;
  const RowWriterOptions options_;
  mutable std::mutex mutex_;  // of all below; not held while the target works
  std::condition_variable changed_;
  std::vector<Entry> entries_;
  std::string actor_;
  uint64_t writes_ = 0;
  int failures_ = 0;
  bool lost_ = false, stopping_ = false;
  std::thread thread_;
};

}  // namespace patina::tools

#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "proxy-sink/rows.h"
#include "proxy-sink/table.h"

// The feed's streams from the agent, as events for the feed's one thread: gRPC stays behind this
// header.

namespace patina::proxy_sink {

class AgentCall;

struct FeedEvent {
  enum class Kind : uint8_t { kRead, kWritten, kDone };
  AgentCall* call = nullptr;
  Kind kind = Kind::kRead;
  bool ok = false;
};

/// From gRPC's threads to the feed's. Bounded by what is started: at most one read, one write and
/// one end per call are under way. Push and Wake: any thread.
class FeedQueue {
 public:
  void Push(const FeedEvent& event);
  /// All events; none when the deadline came first, or after Wake.
  std::vector<FeedEvent> WaitUntil(Instant deadline);
  void Wake();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<FeedEvent> events_;
  bool woken_ = false;
};

/// What a message of the agent says, piece by piece.
struct FeedItem {
  enum class Kind : uint8_t {
    kReset,          // text: why
    kSnapshotRow,    // cells
    kEndOfSnapshot,  // number
    kUpsert,         // cells, number
    kErase,          // cells, number
    kHeartbeat,      // number
    kMember,         // text: name; member
    kEndOfMembers,
  };
  Kind kind = Kind::kHeartbeat;
  uint64_t number = 0;  // change number
  Cells cells;
  std::string text;
  MemberState member = MemberState::kUnknown;
};

/// One stream from the agent. Feed's thread only; the object lives until its kDone event was taken.
class AgentCall {
 public:
  virtual ~AgentCall() = default;
  /// After kRead, once: what came.
  virtual std::vector<FeedItem> TakeItems() = 0;
  /// After TakeItems: acknowledges the message and reads the next.
  virtual void Next() = 0;
  /// After kWritten with ok.
  virtual void OnWritten() = 0;
  /// No read or write is started after this; kDone comes when those under way have ended.
  virtual void Release() = 0;
  virtual void Cancel() = 0;
  /// After kDone: why it ended.
  virtual Error End() const = 0;
};

/// Opens streams to one agent; reconnects by itself. Fakes of it serve the tests.
class AgentLink {
 public:
  virtual ~AgentLink() = default;
  /// *queue outlives the call. from: only changes newer than this change number.
  virtual std::unique_ptr<AgentCall> OpenTable(const TableSpec& table, std::optional<uint64_t> from,
                                               FeedQueue* queue) = 0;
  virtual std::unique_ptr<AgentCall> OpenMembers(FeedQueue* queue) = 0;
};

/// agent: "unix:/path" or "host:port"; nothing is dialed yet.
std::unique_ptr<AgentLink> MakeAgentLink(const std::string& agent, const std::string& token,
                                         Duration backoff_min, Duration backoff_max);

}  // namespace patina::proxy_sink

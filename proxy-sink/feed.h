#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "proxy-sink/feed_streams.h"
#include "proxy-sink/table.h"

namespace patina::proxy_sink {

struct FeedOptions {
  std::string agent;                               // "unix:/path" or "host:port"
  std::string token;                               // empty: none
  Duration silence_max = std::chrono::seconds(3);  // the agent sends a heartbeat each second
  Duration first_message_max = std::chrono::seconds(10);
  Duration backoff_min = std::chrono::milliseconds(100);
  Duration backoff_max = std::chrono::seconds(5);
};

struct FeedStatus {
  bool agent_connected = false;     // every stream is open and was heard of late
  int64_t age_ms = -1;              // since the quietest stream was last heard; -1: never
  uint64_t change_number = 0;       // of the agent's log; all up to it is in the table
  int64_t last_update_unix_ms = 0;  // when the table last changed; 0: never
};

/// Fills a Table from the agent on this host: a live query per table, and the membership.
///
/// 1. While the agent is gone, the table stays as it was last known; status() tells how old it is.
/// 2. A broken stream is opened again with backoff and jitter, and goes on from where it was. When
///    the agent cannot do that it sends a snapshot, which replaces the old rows in whole when it is
///    complete.
/// 3. A message is acknowledged when it is in the table, with a window of 2: a busy sink makes the
///    agent coalesce changes and costs it nothing else.
/// 4. An agent that is silent for silence_max is taken to be stuck: its streams are opened anew.
///
/// Start and Stop: one thread. The Table is written on the feed's own thread, and the listener is
/// called there, after every Publish that changed something and when agent_connected changed
/// (all_apps). status(): any thread.
class Feed {
 public:
  using Listener = std::function<void(const PublishedChanges&)>;

  /// *table and *clock outlive the feed. link: null for gRPC to options.agent.
  Feed(FeedOptions options, Table* table, const Clock* clock,
       std::unique_ptr<AgentLink> link = nullptr);
  ~Feed();  // Stop
  Feed(const Feed&) = delete;
  Feed& operator=(const Feed&) = delete;

  void Start(Listener listener);
  /// Returns when all streams have ended; the listener is not called any more.
  void Stop();
  FeedStatus status() const;
  const std::string& agent() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace patina::proxy_sink

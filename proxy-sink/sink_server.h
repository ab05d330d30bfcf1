#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "proxy-sink/feed.h"
#include "proxy-sink/pick.h"
#include "proxy-sink/table.h"

namespace patina::proxy_sink {

struct SinkServerOptions {
  std::vector<std::string> listen;  // "host:port" (port 0: any free one) or "unix:/path"
  std::string region;               // of requests that name none
  PickOptions pick;
};

/// The gRPC service Route over a Table: Pick, Watch, SinkStatus, and the standard health service.
///
/// Start and Stop: one thread. OnPublished: the feed's thread. Requests are answered on gRPC's
/// threads; they read published blocks and never wait for the feed. A slow watcher skips what it
/// missed: what it is sent next is always the newest answer.
class SinkServer {
 public:
  /// *table, *feed and *clock outlive the server.
  SinkServer(SinkServerOptions options, const Table* table, const Feed* feed, const Clock* clock);
  ~SinkServer();  // Stop
  SinkServer(const SinkServer&) = delete;
  SinkServer& operator=(const SinkServer&) = delete;

  /// The ports bound, in the order of listen (unix sockets: 1). UNAVAILABLE: one cannot be bound;
  /// nothing runs then.
  Result<std::vector<int>> Start();
  void Stop();
  void OnPublished(const PublishedChanges& changes);

 private:
  class Service;
  std::unique_ptr<Service> service_;
};

/// Trailing metadata of an UNAVAILABLE answer of Pick: the sink is there, but has no machine to
/// offer.
inline constexpr const char* kNoMachineKey = "patina-no-machine";

}  // namespace patina::proxy_sink

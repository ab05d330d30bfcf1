#pragma once

#include <memory>

#include "agent/api_server.h"
#include "agent/api_streams.h"

namespace grpc {
template <class Response>
class ServerWriteReactor;
}
namespace patina::v1 {
class WatchRequest;
class WatchResponse;
}  // namespace patina::v1

namespace patina::agent {

/// Wakes the State.Watch calls whose table has changed. Any thread.
class WatchHub {
 public:
  WatchHub();
  ~WatchHub();
  void OnCommit(const storage::CommitEffects& effects);

  class Watchers;
  Watchers& watchers() { return *watchers_; }

 private:
  std::unique_ptr<Watchers> watchers_;
};

/// Starts one State.Watch. The call deletes itself when done; the others outlive it.
grpc::ServerWriteReactor<v1::WatchResponse>* NewWatchCall(const ApiContext& context,
                                                          ApiStreams& streams, WatchHub& hub,
                                                          const v1::WatchRequest& request);

}  // namespace patina::agent

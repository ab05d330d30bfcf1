#pragma once

#include <memory>

#include "agent/api_server.h"
#include "agent/api_streams.h"

namespace grpc {
class Service;
}

namespace patina::agent {

class WatchHub;

/// patina.v1.State: Execute and ExecuteStream here; Query, Subscribe and Watch in files of their
/// own. The context and the others outlive the service.
std::unique_ptr<grpc::Service> MakeStateService(const ApiContext& context, ApiStreams& streams,
                                                WatchHub& watch_hub);

}  // namespace patina::agent

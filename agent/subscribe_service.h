#pragma once

#include "agent/api_server.h"
#include "agent/api_streams.h"

namespace grpc {
template <class Request, class Response>
class ServerBidiReactor;
}
namespace patina::v1 {
class SubscribeRequest;
class SubscribeResponse;
}  // namespace patina::v1

namespace patina::agent {

/// Starts one State.Subscribe. The call deletes itself when done; context and streams outlive it.
grpc::ServerBidiReactor<v1::SubscribeRequest, v1::SubscribeResponse>* NewSubscribeCall(
    const ApiContext& context, ApiStreams& streams);

}  // namespace patina::agent

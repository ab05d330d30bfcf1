#pragma once

#include "agent/api_server.h"
#include "agent/api_streams.h"

namespace grpc {
class CallbackServerContext;
template <class Response>
class ServerWriteReactor;
}  // namespace grpc
namespace patina::v1 {
class QueryRequest;
class QueryResponse;
}  // namespace patina::v1

namespace patina::agent {

/// Starts one State.Query on the reader pool. The call deletes itself when done; context and
/// streams outlive it, and server_context lives until it is done.
grpc::ServerWriteReactor<v1::QueryResponse>* NewQueryCall(
    const ApiContext& context, ApiStreams& streams, grpc::CallbackServerContext* server_context,
    const v1::QueryRequest& request);

}  // namespace patina::agent

#pragma once

#include <memory>

#include "agent/api_server.h"
#include "agent/api_streams.h"

namespace grpc {
class Service;
}

namespace patina::agent {

/// patina.v1.Admin. Context and streams outlive the service.
std::unique_ptr<grpc::Service> MakeAdminService(const ApiContext& context, ApiStreams& streams);

}  // namespace patina::agent

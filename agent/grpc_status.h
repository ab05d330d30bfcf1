#pragma once

#include "base/status.h"

namespace grpc {
class Status;
}

namespace patina::agent {

/// The one place where our errors become gRPC's: same code, same message. Any thread.
grpc::Status ToGrpcStatus(const Error& error);

}  // namespace patina::agent

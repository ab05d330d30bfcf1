#include "agent/grpc_status.h"

#include <grpcpp/support/status.h>

namespace patina::agent {

static_assert(static_cast<int>(Errc::kCancelled) == grpc::StatusCode::CANCELLED);
static_assert(static_cast<int>(Errc::kResourceExhausted) == grpc::StatusCode::RESOURCE_EXHAUSTED);
static_assert(static_cast<int>(Errc::kUnauthenticated) == grpc::StatusCode::UNAUTHENTICATED);

grpc::Status ToGrpcStatus(const Error& error) {
  return {static_cast<grpc::StatusCode>(error.code), error.message};
}

}  // namespace patina::agent

#pragma once

// Wraps gRPC's reactor: only for .cc files of services.
#include <grpcpp/support/server_callback.h>

#include <utility>

#include "agent/grpc_status.h"

namespace patina::agent {

/// Finishes a unary call exactly once: with what Finish is given, or UNAVAILABLE if it goes
/// without. Handed from thread to thread; one at a time.
class UnaryAnswer {
 public:
  explicit UnaryAnswer(grpc::ServerUnaryReactor* reactor) : reactor_(reactor) {}
  ~UnaryAnswer() {
    if (reactor_ != nullptr) Finish(ToGrpcStatus(Unavailable("the agent is stopping")));
  }
  UnaryAnswer(const UnaryAnswer&) = delete;
  UnaryAnswer& operator=(const UnaryAnswer&) = delete;
  void Finish(const grpc::Status& status) { std::exchange(reactor_, nullptr)->Finish(status); }

 private:
  grpc::ServerUnaryReactor* reactor_;
};

}  // namespace patina::agent

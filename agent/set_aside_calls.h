#pragma once

#include <memory>

#include "agent/writer.h"

namespace grpc {
class CallbackServerContext;
class ServerUnaryReactor;
}  // namespace grpc

namespace patina::v1 {
class ApplySetAsideRequest;
class ApplySetAsideResponse;
class DropSetAsideRequest;
class DropSetAsideResponse;
class ListSetAsideResponse;
class ShowSetAsideRequest;
class ShowSetAsideResponse;
}  // namespace patina::v1

namespace patina::agent {

// Admin's calls about what a snapshot set aside. Any thread; they finish on the writer's.

grpc::ServerUnaryReactor* ListSetAside(Writer* writer, grpc::CallbackServerContext* call,
                                       v1::ListSetAsideResponse* response);
grpc::ServerUnaryReactor* ShowSetAside(Writer* writer, grpc::CallbackServerContext* call,
                                       const v1::ShowSetAsideRequest& request,
                                       v1::ShowSetAsideResponse* response);
grpc::ServerUnaryReactor* ApplySetAside(Writer* writer, grpc::CallbackServerContext* call,
                                        const v1::ApplySetAsideRequest& request,
                                        v1::ApplySetAsideResponse* response);
grpc::ServerUnaryReactor* DropSetAside(Writer* writer, grpc::CallbackServerContext* call,
                                       const v1::DropSetAsideRequest& request);

}  // namespace patina::agent

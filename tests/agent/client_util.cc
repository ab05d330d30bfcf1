#include "tests/agent/client_util.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>

#include "patina/v1/admin.grpc.pb.h"

namespace patina::agent {

void SetDeadline(grpc::ClientContext& context) {
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
}

v1::StatusResponse StatusOf(const Agent& agent) {
  const auto admin = v1::Admin::NewStub(
      grpc::CreateChannel(agent.api_addresses().at(0), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  SetDeadline(context);
  v1::StatusResponse response;
  EXPECT_TRUE(admin->Status(&context, v1::StatusRequest(), &response).ok());
  return response;
}

std::optional<uint64_t> CounterOf(const Agent& agent, std::string_view name) {
  const v1::StatusResponse status = StatusOf(agent);
  for (const v1::Counter& counter : status.counters()) {
    if (counter.name() == name) return counter.value();
  }
  return std::nullopt;
}

}  // namespace patina::agent

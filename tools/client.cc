#include "tools/client.h"

#include <grpc/grpc.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <sys/stat.h>

#include <iostream>

namespace patina::tools {
namespace {

constexpr int kMessageBytesMax = 64 << 20;

std::vector<std::string> Addresses(const CommandContext& context) {
  if (!context.api.empty()) return {context.api};
  return {"unix:/run/patina/api.sock", "127.0.0.1:7401"};
}

/// True when connected; false on the first failed attempt or at the deadline.
bool WaitConnected(grpc::Channel& channel, std::chrono::system_clock::time_point deadline) {
  for (grpc_connectivity_state state = channel.GetState(true);; state = channel.GetState(true)) {
    if (state == GRPC_CHANNEL_READY) return true;
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE || state == GRPC_CHANNEL_SHUTDOWN) return false;
    if (!channel.WaitForStateChange(state, deadline)) return false;
  }
}

std::string_view CodeName(grpc::StatusCode code) {
  return code == grpc::StatusCode::OK ? "OK" : ErrcName(static_cast<Errc>(code));
}

}  // namespace

void KeepGrpc() {
  static const bool kept = (grpc_init(), true);
  static_cast<void>(kept);
}

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  arguments.SetMaxSendMessageSize(kMessageBytesMax);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 5'000);
  // A proxy in the environment is for the web, not for the agent on this host.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  KeepGrpc();
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

Result<Connection> Dial(const CommandContext& context, Duration deadline) {
  const auto limit = std::chrono::system_clock::now() +
                     std::chrono::duration_cast<std::chrono::system_clock::duration>(deadline);
  std::string tried;
  for (const std::string& address : Addresses(context)) {
    tried += (tried.empty() ? "" : " or ") + address;
    struct stat info {};
    const bool is_path = address.starts_with("unix:/");
    if (is_path && ::stat(address.c_str() + 5, &info) != 0) continue;
    Connection connection{MakeChannel(address), address};
    if (WaitConnected(*connection.channel, limit)) return connection;
  }
  return Unavailable(
      "no agent reached at " + tried +
      ": is it running? `patina agent --dev` starts one; --api or PATINA_API names another");
}

Connection DialOrFail(CommandContext& context) {
  Result<Connection> connection = Dial(context);
  if (connection.ok()) return *std::move(connection);
  Fail(context, connection.error().message, kExitNoAgent);
  return {};
}

void PrepareCall(const CommandContext& context, grpc::ClientContext& call, Duration deadline) {
  if (!context.token.empty()) call.AddMetadata("authorization", "Bearer " + context.token);
  if (deadline > Duration::zero()) {
    call.set_deadline(std::chrono::system_clock::now() +
                      std::chrono::duration_cast<std::chrono::system_clock::duration>(deadline));
  }
}

void Fail(CommandContext& context, const grpc::Status& status) {
  Fail(context, std::string(CodeName(status.error_code())) + ": " + status.error_message(),
       kExitFailed);
}

void Fail(CommandContext& context, const Error& error) {
  Fail(context, error.ToString(), kExitFailed);
}

void Fail(CommandContext& context, std::string_view message, int exit_code) {
  std::cout.flush();
  std::cerr << "patina: " << message << std::endl;
  context.exit_code = exit_code;
}

}  // namespace patina::tools

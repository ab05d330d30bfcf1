#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "tools/command.h"

// How commands reach an agent. Any thread.

namespace grpc {
class Channel;
class ChannelInterface;
class ClientContext;
class Status;
}  // namespace grpc

namespace patina::tools {

struct Connection {
  std::shared_ptr<grpc::Channel> channel;  // connected
  std::string address;                     // as it was dialed
};

/// Connects to context.api, or else to the default addresses in order. The error (UNAVAILABLE) says
/// what was tried and what to do; pass it to FailNoAgent.
Result<Connection> Dial(const CommandContext& context, Duration deadline = std::chrono::seconds(3));

/// Dial, with the error already printed and context.exit_code set (3): nothing in channel then.
Connection DialOrFail(CommandContext& context);

/// From now on gRPC is not shut down before the process exits: the end of its last channel or
/// server would join a poller that may sleep for 10 s. Starts threads: after the signals are
/// blocked.
void KeepGrpc();

/// A channel to one address ("unix:/path", "host:port") without waiting for it, with the message
/// limits, keepalive and reconnect backoff of this project. For programs that stay connected.
std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address);

/// Puts the token and, if given, the deadline on a call.
void PrepareCall(const CommandContext& context, grpc::ClientContext& call,
                 Duration deadline = Duration::zero());

/// Prints "patina: message" to stderr and sets the exit code. UNAVAILABLE of a call is 1, too: an
/// agent was reached before.
void Fail(CommandContext& context, const grpc::Status& status);
void Fail(CommandContext& context, const Error& error);
/// With an exit code of the caller's choice.
void Fail(CommandContext& context, std::string_view message, int exit_code);

}  // namespace patina::tools

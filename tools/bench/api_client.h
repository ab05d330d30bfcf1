#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "crdt/value.h"
#include "tools/command.h"

namespace grpc {
class Channel;
}
namespace patina::v1 {
class ExecuteRequest;
class ExecuteResponse;
class StatusResponse;
}  // namespace patina::v1

namespace patina::tools::bench {

inline constexpr Duration kCallDeadline = std::chrono::seconds(30);

/// What a call does while nothing listens at the address.
enum class WhenAway {
  kFail,  // UNAVAILABLE, at once
  /// Wait until the deadline. Whoever asks again and again needs this: gRPC's blocking calls drive
  /// the connecting only while one of them waits; between calls that fail at once it looks every 5
  /// s.
  kWait,
};

/// One connection, not shared with other clients in this process, to one agent. Any thread.
class ApiClient {
 public:
  /// Connects in the background.
  ApiClient(const CommandContext& context, const std::string& address,
            WhenAway when_away = WhenAway::kFail);
  ~ApiClient();
  ApiClient(const ApiClient&) = delete;
  ApiClient& operator=(const ApiClient&) = delete;

  const std::string& address() const;
  const std::string& token() const;
  std::shared_ptr<grpc::Channel> channel() const;

  Status Execute(const v1::ExecuteRequest& request, v1::ExecuteResponse* response,
                 Duration deadline = kCallDeadline);
  /// All rows of the answer.
  Result<std::vector<crdt::Row>> Query(const std::string& sql, Duration deadline = kCallDeadline);
  Status GetStatus(v1::StatusResponse* response, Duration deadline = kCallDeadline);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// How a client asks: one call per transaction, or one ExecuteStream for all of them.
enum class Calls { kUnary, kStream };

/// Many clients on one thread, each sending one transaction after the answer to the one before:
/// what they cost the machine is little beside what they ask of the agent.
class ExecuteLoops {
 public:
  /// Fills the next request, or says false to end.
  using RunNext = std::function<bool(v1::ExecuteRequest*)>;
  using OnAnswer = std::function<void(const Status&, Duration took)>;

  ExecuteLoops();
  ~ExecuteLoops();
  /// client outlives this.
  void Add(ApiClient& client, Calls calls, RunNext run_next, OnAnswer on_answer);
  /// Until all have ended; both functions are called on this thread.
  void Run();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// One client per address.
std::vector<std::unique_ptr<ApiClient>> ConnectAll(const CommandContext& context,
                                                   const std::vector<std::string>& addresses,
                                                   WhenAway when_away = WhenAway::kFail);

}  // namespace patina::tools::bench

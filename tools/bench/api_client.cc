#include "tools/bench/api_client.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/async_unary_call.h>
#include <grpcpp/support/channel_arguments.h>

#include <optional>

#include "patina/v1/admin.grpc.pb.h"
#include "patina/v1/state.grpc.pb.h"
#include "tools/client.h"
#include "tools/proto_values.h"

namespace patina::tools::bench {
namespace {

constexpr int kMessageBytesMax = 64 << 20;

Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return OkStatus();
  return Error{static_cast<Errc>(status.error_code()), status.error_message()};
}

std::shared_ptr<grpc::Channel> OwnChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  arguments.SetMaxSendMessageSize(kMessageBytesMax);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // An agent that was killed is back within a second: ask often.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1'000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 200);
  KeepGrpc();
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

void Prepare(const std::string& token, Duration deadline, grpc::ClientContext& call,
             WhenAway when_away = WhenAway::kFail) {
  call.set_wait_for_ready(when_away == WhenAway::kWait);
  if (!token.empty()) call.AddMetadata("authorization", "Bearer " + token);
  call.set_deadline(std::chrono::system_clock::now() +
                    std::chrono::duration_cast<std::chrono::system_clock::duration>(deadline));
}

}  // namespace

class ApiClient::Impl {
 public:
  Impl(std::string agent_address, std::string api_token, WhenAway what_then)
      : address(std::move(agent_address)),
        token(std::move(api_token)),
        when_away(what_then),
        channel(OwnChannel(address)),
        state(v1::State::NewStub(channel)),
        admin(v1::Admin::NewStub(channel)) {}

  const std::string address, token;
  const WhenAway when_away;
  const std::shared_ptr<grpc::Channel> channel;
  const std::unique_ptr<v1::State::Stub> state;
  const std::unique_ptr<v1::Admin::Stub> admin;
};

ApiClient::ApiClient(const CommandContext& context, const std::string& address, WhenAway when_away)
    : impl_(std::make_unique<Impl>(address, context.token, when_away)) {}
ApiClient::~ApiClient() = default;

const std::string& ApiClient::address() const { return impl_->address; }
const std::string& ApiClient::token() const { return impl_->token; }
std::shared_ptr<grpc::Channel> ApiClient::channel() const { return impl_->channel; }

Status ApiClient::Execute(const v1::ExecuteRequest& request, v1::ExecuteResponse* response,
                          Duration deadline) {
  grpc::ClientContext call;
  Prepare(impl_->token, deadline, call, impl_->when_away);
  return FromGrpc(impl_->state->Execute(&call, request, response));
}

Result<std::vector<crdt::Row>> ApiClient::Query(const std::string& sql, Duration deadline) {
  grpc::ClientContext call;
  Prepare(impl_->token, deadline, call, impl_->when_away);
  v1::QueryRequest request;
  request.mutable_statement()->set_sql(sql);
  const auto reader = impl_->state->Query(&call, request);
  std::vector<crdt::Row> rows;
  v1::QueryResponse response;
  while (reader->Read(&response)) {
    for (const v1::Row& row : response.rows()) rows.push_back(FromProto(row.values()));
  }
  RETURN_IF_ERROR(FromGrpc(reader->Finish()));
  return rows;
}

Status ApiClient::GetStatus(v1::StatusResponse* response, Duration deadline) {
  grpc::ClientContext call;
  Prepare(impl_->token, deadline, call, impl_->when_away);
  return FromGrpc(impl_->admin->Status(&call, v1::StatusRequest(), response));
}

class ExecuteLoops::Impl {
 public:
  ~Impl() {
    queue_.Shutdown();
    void* tag = nullptr;
    for (bool ok = false; queue_.Next(&tag, &ok);) continue;
  }

  void Add(ApiClient& client, RunNext run_next, OnAnswer on_answer) {
    auto loop = std::make_unique<Loop>();
    loop->token = client.token();
    loop->stub = v1::State::NewStub(client.channel());
    loop->run_next = std::move(run_next);
    loop->on_answer = std::move(on_answer);
    loops_.push_back(std::move(loop));
  }

  void Run() {
    for (const auto& loop : loops_) Send(*loop);
    void* tag = nullptr;
    bool ok = false;
    while (running_ > 0 && queue_.Next(&tag, &ok)) {
      auto& loop = *static_cast<Loop*>(tag);
      --running_;
      loop.on_answer(FromGrpc(loop.status), clock_.Now() - loop.sent);
      Send(loop);
    }
  }

 private:
  struct Loop {
    std::string token;
    std::unique_ptr<v1::State::Stub> stub;
    RunNext run_next;
    OnAnswer on_answer;
    std::optional<grpc::ClientContext> call;
    std::unique_ptr<grpc::ClientAsyncResponseReader<v1::ExecuteResponse>> answer;
    v1::ExecuteRequest request;
    v1::ExecuteResponse response;
    grpc::Status status;
    Instant sent;
  };

  void Send(Loop& loop) {
    loop.request.Clear();
    if (!loop.run_next(&loop.request)) return;
    ++running_;
    loop.answer.reset();  // before its context
    loop.call.emplace();
    Prepare(loop.token, kCallDeadline, *loop.call);
    loop.sent = clock_.Now();
    loop.answer = loop.stub->AsyncExecute(&*loop.call, loop.request, &queue_);
    loop.answer->Finish(&loop.response, &loop.status, &loop);
  }

  const SystemClock clock_{};
  grpc::CompletionQueue queue_;
  std::vector<std::unique_ptr<Loop>> loops_;
  size_t running_ = 0;
};

ExecuteLoops::ExecuteLoops() : impl_(std::make_unique<Impl>()) {}
ExecuteLoops::~ExecuteLoops() = default;
void ExecuteLoops::Add(ApiClient& client, RunNext run_next, OnAnswer on_answer) {
  impl_->Add(client, std::move(run_next), std::move(on_answer));
}
void ExecuteLoops::Run() { impl_->Run(); }

std::vector<std::unique_ptr<ApiClient>> ConnectAll(const CommandContext& context,
                                                   const std::vector<std::string>& addresses,
                                                   WhenAway when_away) {
  std::vector<std::unique_ptr<ApiClient>> clients;
  clients.reserve(addresses.size());
  for (const std::string& address : addresses) {
    clients.push_back(std::make_unique<ApiClient>(context, address, when_away));
  }
  return clients;
}

}  // namespace patina::tools::bench

#include "tools/bench/api_client.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <optional>

#include "patina/v1/admin.grpc.pb.h"
#include "patina/v1/state.grpc.pb.h"
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

class ExecuteLoop::Impl {
 public:
  Impl(ApiClient& client, RunNext run_next, OnAnswer on_answer, std::function<void()> on_end)
      : token_(client.token()),
        stub_(v1::State::NewStub(client.channel())),
        run_next_(std::move(run_next)),
        on_answer_(std::move(on_answer)),
        on_end_(std::move(on_end)) {}

  void Next() {
    request_.Clear();
    if (!run_next_(&request_)) return on_end_();
    call_.emplace();
    Prepare(token_, kCallDeadline, *call_);
    sent_ = clock_.Now();
    stub_->async()->Execute(&*call_, &request_, &response_, [this](const grpc::Status& status) {
      on_answer_(FromGrpc(status), clock_.Now() - sent_);
      Next();
    });
  }

 private:
  const std::string token_;
  const std::unique_ptr<v1::State::Stub> stub_;
  const RunNext run_next_;
  const OnAnswer on_answer_;
  const std::function<void()> on_end_;
  const SystemClock clock_;
  std::optional<grpc::ClientContext> call_;
  v1::ExecuteRequest request_;
  v1::ExecuteResponse response_;
  Instant sent_;
};

ExecuteLoop::ExecuteLoop(ApiClient& client, RunNext run_next, OnAnswer on_answer,
                         std::function<void()> on_end)
    : impl_(std::make_unique<Impl>(client, std::move(run_next), std::move(on_answer),
                                   std::move(on_end))) {}
ExecuteLoop::~ExecuteLoop() = default;
void ExecuteLoop::Start() { impl_->Next(); }

std::vector<std::unique_ptr<ApiClient>> ConnectAll(const CommandContext& context,
                                                   const std::vector<std::string>& addresses,
                                                   WhenAway when_away) {
  std::vector<std::unique_ptr<ApiClient>> clients;
  for (const std::string& address : addresses) {
    clients.push_back(std::make_unique<ApiClient>(context, address, when_away));
  }
  return clients;
}

}  // namespace patina::tools::bench

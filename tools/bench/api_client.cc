#include "tools/bench/api_client.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/async_stream.h>
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

namespace {

/// One client: asks, and is told by the completion queue when the answer is there.
class Loop {
 public:
  Loop(ApiClient& client, ExecuteLoops::RunNext run_next, ExecuteLoops::OnAnswer on_answer)
      : token_(client.token()),
        stub_(v1::State::NewStub(client.channel())),
        run_next_(std::move(run_next)),
        on_answer_(std::move(on_answer)) {}
  virtual ~Loop() = default;
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  /// The first request; false if there is none.
  virtual bool Start(grpc::CompletionQueue& queue) = 0;
  /// Something of this loop's is done; false at its end.
  virtual bool Done(grpc::CompletionQueue& queue, bool ok) = 0;

 protected:
  bool Next() {
    request_.Clear();
    return run_next_(&request_);
  }
  void Answer(const Status& status) { on_answer_(status, clock_.Now() - sent_); }

  const SystemClock clock_{};
  const std::string token_;
  const std::unique_ptr<v1::State::Stub> stub_;
  v1::ExecuteRequest request_;
  grpc::Status status_;
  Instant sent_;

 private:
  const ExecuteLoops::RunNext run_next_;
  const ExecuteLoops::OnAnswer on_answer_;
};

class UnaryLoop final : public Loop {
 public:
  using Loop::Loop;

  bool Start(grpc::CompletionQueue& queue) override {
    if (!Next()) return false;
    answer_.reset();  // before its context
    call_.emplace();
    Prepare(token_, kCallDeadline, *call_);
    sent_ = clock_.Now();
    answer_ = stub_->AsyncExecute(&*call_, request_, &queue);
    answer_->Finish(&response_, &status_, this);
    return true;
  }
  bool Done(grpc::CompletionQueue& queue, bool) override {
    Answer(FromGrpc(status_));
    return Start(queue);
  }

 private:
  std::optional<grpc::ClientContext> call_;
  std::unique_ptr<grpc::ClientAsyncResponseReader<v1::ExecuteResponse>> answer_;
  v1::ExecuteResponse response_;
};

/// Its steps, each done when the queue says so: open, then write and read in turn, then the end.
class StreamLoop final : public Loop {
 public:
  using Loop::Loop;

  bool Start(grpc::CompletionQueue& queue) override {
    Prepare(token_, kStreamDeadline, call_);
    stream_ = stub_->AsyncExecuteStream(&call_, &queue, this);
    return true;
  }
  bool Done(grpc::CompletionQueue&, bool ok) override {
    switch (step_) {
      case Step::kOpen:
        break;
      case Step::kWrite:
        if (!ok) return Finish();
        step_ = Step::kRead;
        stream_->Read(&response_, this);
        return true;
      case Step::kRead:
        if (!ok) return Finish();
        if (response_.has_failed()) {
          Answer(Error{static_cast<Errc>(response_.failed().code()), response_.failed().message()});
        } else {
          Answer(OkStatus());
        }
        break;
      case Step::kFinish:
        if (!ended_ && !status_.ok()) Answer(FromGrpc(status_));
        return false;
    }
    if (!ok) return Finish();
    ended_ = !Next();
    if (ended_) return Finish();
    step_ = Step::kWrite;
    sent_ = clock_.Now();
    stream_->Write(request_, this);
    return true;
  }

 private:
  static constexpr Duration kStreamDeadline = std::chrono::hours(1);
  enum class Step { kOpen, kWrite, kRead, kFinish };

  bool Finish() {
    if (step_ != Step::kFinish) call_.TryCancel();
    step_ = Step::kFinish;
    stream_->Finish(&status_, this);
    return true;
  }

  grpc::ClientContext call_;
  std::unique_ptr<grpc::ClientAsyncReaderWriter<v1::ExecuteRequest, v1::ExecuteStreamResponse>>
      stream_;
  v1::ExecuteStreamResponse response_;
  Step step_ = Step::kOpen;
  bool ended_ = false;  // by this side: that the call is cancelled then is no failure
};

}  // namespace

class ExecuteLoops::Impl {
 public:
  ~Impl() {
    queue_.Shutdown();
    void* tag = nullptr;
    for (bool ok = false; queue_.Next(&tag, &ok);) continue;
  }

  void Add(std::unique_ptr<Loop> loop) { loops_.push_back(std::move(loop)); }

  void Run() {
    size_t running = 0;
    for (const auto& loop : loops_) running += loop->Start(queue_) ? 1 : 0;
    void* tag = nullptr;
    bool ok = false;
    while (running > 0 && queue_.Next(&tag, &ok)) {
      if (!static_cast<Loop*>(tag)->Done(queue_, ok)) --running;
    }
  }

 private:
  grpc::CompletionQueue queue_;
  std::vector<std::unique_ptr<Loop>> loops_;
};

ExecuteLoops::ExecuteLoops() : impl_(std::make_unique<Impl>()) {}
ExecuteLoops::~ExecuteLoops() = default;
void ExecuteLoops::Add(ApiClient& client, Calls calls, RunNext run_next, OnAnswer on_answer) {
  if (calls == Calls::kUnary) {
    impl_->Add(std::make_unique<UnaryLoop>(client, std::move(run_next), std::move(on_answer)));
  } else {
    impl_->Add(std::make_unique<StreamLoop>(client, std::move(run_next), std::move(on_answer)));
  }
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

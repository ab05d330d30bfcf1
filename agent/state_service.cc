#include "agent/state_service.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "agent/api_convert.h"
#include "agent/grpc_status.h"
#include "agent/query_service.h"
#include "agent/subscribe_service.h"
#include "agent/watch_service.h"
#include "patina/v1/state.grpc.pb.h"

namespace patina::agent {
namespace {

constexpr size_t kInFlightMax = 256;  // transactions of one stream read and not yet answered

/// One ExecuteStream call. gRPC's threads bring requests, the writer thread brings results; answers
/// leave in the order of the requests.
///
/// Invariants: at most kInFlightMax slots; one read and one write outstanding at most; the writer's
/// callbacks keep the call alive, and it finishes only when all slots are answered.
class ExecuteStreamCall final
    : public grpc::ServerBidiReactor<v1::ExecuteRequest, v1::ExecuteStreamResponse>,
      public ApiStream {
 public:
  static ExecuteStreamCall* New(Writer& writer, ApiStreams& streams) {
    auto call = std::make_shared<ExecuteStreamCall>(writer, streams);
    call->self_ = call;
    if (const Status added = streams.Add(call.get()); !added.ok()) {
      call->finished_ = true;
      call->Finish(ToGrpcStatus(added.error()));
    } else {
      call->StartRead(&call->request_);
    }
    return call.get();
  }

  ExecuteStreamCall(Writer& writer, ApiStreams& streams) : writer_(writer), streams_(streams) {}

  void OnReadDone(bool ok) override {
    Slot* slot = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (!ok || ending_) {
        reads_ended_ = true;
        Pump();
        return;
      }
      slot = &slots_.emplace_back();  // stays where it is: a deque moves nothing at its ends
    }
    Result<storage::Transaction> transaction = ToTransaction(request_);
    if (transaction.ok()) {
      writer_.Execute(*std::move(transaction),
                      [call = self_, slot](Result<storage::Committed> committed) {
                        call->Complete(*slot, committed);
                      });
    } else {
      Complete(*slot, Result<storage::Committed>(transaction.error()));
    }
    const std::lock_guard lock(mutex_);
    read_paused_ = true;
    ReadOn();
    Pump();
  }

  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    if (!ok) broken_ = true;
    slots_.pop_front();
    ReadOn();
    Pump();
  }

  void OnCancel() override {
    const std::lock_guard lock(mutex_);
    broken_ = true;
    ReadOn();
    Pump();
  }

  void OnDone() override {
    streams_.Remove(this);
    const std::shared_ptr<ExecuteStreamCall> last = std::move(self_);
  }

  void End(const Error& error) override {
    const std::lock_guard lock(mutex_);
    ending_ = error;
    ReadOn();
    Pump();
  }

 private:
  struct Slot {
    v1::ExecuteStreamResponse response;
    bool ready = false;
  };

  void Complete(Slot& slot, const Result<storage::Committed>& committed) {
    if (committed.ok()) {
      FillResponse(*committed, slot.response.mutable_done());
    } else {
      slot.response.mutable_failed()->set_code(static_cast<int>(committed.error().code));
      slot.response.mutable_failed()->set_message(committed.error().message);
    }
    const std::lock_guard lock(mutex_);
    slot.ready = true;
    if (&slot == &slots_.front()) Pump();
  }

  /// Under the lock: reads again if reading waits and there is room; or it has ended.
  void ReadOn() {
    if (!read_paused_) return;
    if (ending_ || broken_) {
      read_paused_ = false;
      reads_ended_ = true;
    } else if (slots_.size() < kInFlightMax) {
      read_paused_ = false;
      StartRead(&request_);
    }
  }

  /// Under the lock: the next answer, or the end.
  void Pump() {
    if (writing_ || finished_) return;
    while (broken_ && !slots_.empty() && slots_.front().ready) slots_.pop_front();
    if (!slots_.empty()) {
      if (!slots_.front().ready) return;
      writing_ = true;
      grpc::WriteOptions options;
      // More is ready: let gRPC put them into one packet.
      if (slots_.size() > 1 && slots_[1].ready) options.set_buffer_hint();
      StartWrite(&slots_.front().response, options);
    } else if (reads_ended_ || ending_) {
      finished_ = true;
      Finish(ending_ ? ToGrpcStatus(*ending_) : grpc::Status::OK);
    }
  }

  Writer& writer_;
  ApiStreams& streams_;
  std::shared_ptr<ExecuteStreamCall> self_;  // until OnDone
  v1::ExecuteRequest request_;
  std::mutex mutex_;
  std::deque<Slot> slots_;
  std::optional<Error> ending_;
  bool read_paused_ = false, reads_ended_ = false, writing_ = false, broken_ = false,
       finished_ = false;
};

class StateService final : public v1::State::CallbackService {
 public:
  StateService(const ApiContext& context, ApiStreams& streams, WatchHub& watch_hub)
      : context_(context), streams_(streams), watch_hub_(watch_hub) {}

  grpc::ServerUnaryReactor* Execute(grpc::CallbackServerContext* call,
                                    const v1::ExecuteRequest* request,
                                    v1::ExecuteResponse* response) override {
    grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
    Result<storage::Transaction> transaction = ToTransaction(*request);
    if (!transaction.ok()) {
      reactor->Finish(ToGrpcStatus(transaction.error()));
      return reactor;
    }
    // Reactor and response live until Finish, also when the client has gone meanwhile.
    context_.writer->Execute(*std::move(transaction),
                             [reactor, response](const Result<storage::Committed>& committed) {
                               if (!committed.ok()) {
                                 reactor->Finish(ToGrpcStatus(committed.error()));
                                 return;
                               }
                               FillResponse(*committed, response);
                               reactor->Finish(grpc::Status::OK);
                             });
    return reactor;
  }

  grpc::ServerBidiReactor<v1::ExecuteRequest, v1::ExecuteStreamResponse>* ExecuteStream(
      grpc::CallbackServerContext*) override {
    return ExecuteStreamCall::New(*context_.writer, streams_);
  }

  grpc::ServerWriteReactor<v1::QueryResponse>* Query(grpc::CallbackServerContext* call,
                                                     const v1::QueryRequest* request) override {
    return NewQueryCall(context_, streams_, call, *request);
  }

  grpc::ServerBidiReactor<v1::SubscribeRequest, v1::SubscribeResponse>* Subscribe(
      grpc::CallbackServerContext*) override {
    return NewSubscribeCall(context_, streams_);
  }

  grpc::ServerWriteReactor<v1::WatchResponse>* Watch(grpc::CallbackServerContext*,
                                                     const v1::WatchRequest* request) override {
    return NewWatchCall(context_, streams_, watch_hub_, *request);
  }

 private:
  const ApiContext context_;
  ApiStreams& streams_;
  WatchHub& watch_hub_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeStateService(const ApiContext& context, ApiStreams& streams,
                                                WatchHub& watch_hub) {
  return std::make_unique<StateService>(context, streams, watch_hub);
}

}  // namespace patina::agent

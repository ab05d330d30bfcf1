#include "agent/subscribe_service.h"

#include <grpcpp/support/server_callback.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <utility>

#include "agent/api_convert.h"
#include "agent/grpc_status.h"
#include "patina/v1/state.pb.h"
#include "proto/convert.h"
#include "subscribe/subscriber_queue.h"

namespace patina::agent {
namespace {

using subscribe::Event;
using subscribe::EventKind;

constexpr int kMessageEventsMax = 500;
constexpr size_t kMessageBytesMax = 64u << 10;
constexpr uint32_t kDefaultWindow = 2;
constexpr uint32_t kWindowMax = 1'024;

size_t SizeOf(const Event& event) {
  size_t bytes = 16 + event.values.size() + event.reason.size();
  for (const std::string& name : event.columns) bytes += 2 + name.size();
  return bytes;
}

Status FillRow(const Event& event, v1::SubscribeEvent::RowChange* row) {
  row->set_row_id(event.row_id);
  row->set_change_number(event.change_number);
  return proto::UnpackToProto(event.values, row->mutable_values());
}

/// kError has no message of its own: it ends the stream.
Status FillEvent(const Event& event, v1::SubscribeEvent* out) {
  switch (event.kind) {
    case EventKind::kColumns:
      for (const std::string& name : event.columns) out->mutable_columns()->add_names(name);
      out->mutable_columns();
      return OkStatus();
    case EventKind::kRow:
      return FillRow(event, out->mutable_row());
    case EventKind::kInsert:
      return FillRow(event, out->mutable_insert());
    case EventKind::kUpdate:
      return FillRow(event, out->mutable_update());
    case EventKind::kDelete:
      return FillRow(event, out->mutable_delete_());
    case EventKind::kEndOfSnapshot:
      out->mutable_end_of_snapshot()->set_change_number(event.change_number);
      return OkStatus();
    case EventKind::kHeartbeat:
      out->mutable_heartbeat()->set_change_number(event.change_number);
      return OkStatus();
    case EventKind::kReset:
      out->mutable_reset()->set_reason(event.reason);
      return OkStatus();
    case EventKind::kError:
      return event.error;
  }
  return OkStatus();
}

/// One Subscribe stream. The subscribe thread puts batches of events into the queue; whoever makes
/// it possible to send (an event in an idle stream, a write done, an acknowledgement) sends the
/// next message: what waits, up to 64 KiB or 500 events. So an event in an idle stream leaves at
/// once and a busy one's are coalesced.
///
/// Invariants: at most window_ messages unacknowledged; one read and one write outstanding at most;
/// the queue outlives the subscription (callbacks of Subscriptions keep the call alive).
class SubscribeCall final
    : public grpc::ServerBidiReactor<v1::SubscribeRequest, v1::SubscribeResponse>,
      public ApiStream,
      public std::enable_shared_from_this<SubscribeCall> {
 public:
  static SubscribeCall* New(const ApiContext& context, ApiStreams& streams) {
    auto call = std::make_shared<SubscribeCall>(context, streams);
    call->self_ = call;
    if (const Status added = streams.Add(call.get()); !added.ok()) {
      call->End(added.error());
    } else {
      call->StartRead(&call->request_);
    }
    return call.get();
  }

  SubscribeCall(const ApiContext& context, ApiStreams& streams)
      : subscriptions_(*context.subscriptions),
        streams_(streams),
        queue_(context.config->subscribe.subscriber_queue_bytes_max, [this] { OnReady(); }) {}

  void OnReadDone(bool ok) override {
    if (!ok) {
      std::unique_lock lock(mutex_);
      reads_ended_ = true;
      // A client that only closed its sending side cannot acknowledge: then gRPC's flow control has
      // to do.
      if (!opened_) EndLocked(InvalidArgument("the first message must open the subscription"));
      PumpAndUnlock(lock);
      return;
    }
    const Status handled = request_.has_open() ? Open(request_.open()) : Acknowledge();
    if (!handled.ok()) return End(handled.error());
    StartRead(&request_);
  }

  void OnWriteDone(bool ok) override {
    std::unique_lock lock(mutex_);
    writing_ = false;
    if (!ok) EndLocked(Error{Errc::kCancelled, "the client has gone"});
    PumpAndUnlock(lock);
  }

  void OnCancel() override { End(Error{Errc::kCancelled, "the client has gone"}); }

  void OnDone() override {
    streams_.Remove(this);
    queue_.Close();
    Unsubscribe();
    const std::shared_ptr<SubscribeCall> last = std::move(self_);
  }

  void End(const Error& error) override {
    const std::lock_guard lock(mutex_);
    EndLocked(error);
    Pump();
  }

 private:
  Status Open(const v1::SubscribeRequest::Open& open) {
    ASSIGN_OR_RETURN(storage::Statement statement, ToStatement(open.statement()));
    {
      const std::lock_guard lock(mutex_);
      if (opened_) return InvalidArgument("the subscription is open already");
      opened_ = true;
      if (open.window() > 0) window_ = std::min(open.window(), kWindowMax);
      open_.statement = std::move(statement);
    }
    subscribe::SubscribeRequest request = open_;
    if (open.has_from()) request.from = open.from();
    request.skip_snapshot = open.skip_snapshot();
    Subscribe(std::move(request));
    return OkStatus();
  }

  Status Acknowledge() {
    std::unique_lock lock(mutex_);
    if (!opened_) return InvalidArgument("the first message must open the subscription");
    if (request_.acknowledged() > sent_) {
      return InvalidArgument("message " + std::to_string(request_.acknowledged()) +
                             " was acknowledged before it was sent");
    }
    acknowledged_ = std::max(acknowledged_, request_.acknowledged());
    PumpAndUnlock(lock);
    return OkStatus();
  }

  void Subscribe(subscribe::SubscribeRequest request) {
    subscriptions_.Subscribe(std::move(request), &queue_,
                             [call = shared_from_this()](Result<subscribe::SubscriberId> id) {
                               call->OnSubscribed(std::move(id));
                             });
  }

  /// On the subscribe thread.
  void OnSubscribed(Result<subscribe::SubscriberId> id) {
    std::unique_lock lock(mutex_);
    if (id.ok()) {
      id_ = *id;
    } else {
      EndLocked(id.error());
    }
    const bool over = ending_.has_value();
    if (!over && resubscribe_wanted_) AfterReset();
    PumpAndUnlock(lock);
    if (over) Unsubscribe();
  }

  /// Once per subscription, whoever comes first of OnDone and OnSubscribed.
  void Unsubscribe() {
    std::optional<subscribe::SubscriberId> id;
    {
      const std::lock_guard lock(mutex_);
      id.swap(id_);
    }
    if (id) subscriptions_.Unsubscribe(*id, [call = shared_from_this()] {});
  }

  /// The queue overflowed and its kReset is on the way: begin anew, with a snapshot.
  void Resubscribe(subscribe::SubscriberId id) {
    subscriptions_.Unsubscribe(id, [call = shared_from_this()] {
      // On the subscribe thread, as Restart wants it.
      call->queue_.Restart();
      {
        const std::lock_guard lock(call->mutex_);
        call->resubscribing_ = false;
        if (call->finished_ || call->ending_) return;
      }
      call->Subscribe(call->open_);
    });
  }

  void OnReady() {
    std::unique_lock lock(mutex_);
    PumpAndUnlock(lock);
  }

  /// Subscriptions may call back at once (when it is stopping): so it is never called under the
  /// lock.
  void PumpAndUnlock(std::unique_lock<std::mutex>& lock) {
    Pump();
    const auto overflowed = std::exchange(overflowed_, std::nullopt);
    lock.unlock();
    if (overflowed) Resubscribe(*overflowed);
  }

  /// Under the lock.
  void EndLocked(const Error& error) {
    if (!ending_) ending_ = error;
  }

  bool WindowIsOpen() const { return reads_ended_ || sent_ - acknowledged_ < window_; }

  /// Under the lock: the next message, or the end.
  void Pump() {
    if (writing_ || finished_) return;
    if (!ending_ && WindowIsOpen()) {
      response_.Clear();
      FillMessage();
      if (response_.events_size() > 0) {
        response_.set_number(++sent_);
        writing_ = true;
        StartWrite(&response_);
        return;
      }
    }
    if (ending_) {
      finished_ = true;
      Finish(ToGrpcStatus(*ending_));
    }
  }

  void FillMessage() {
    size_t bytes = 0;
    while (response_.events_size() < kMessageEventsMax && bytes < kMessageBytesMax) {
      if (!batch_ || position_ == batch_->size()) {
        batch_ = queue_.Take();
        position_ = 0;
        if (!batch_) return;
      }
      const subscribe::EventBatch held = batch_;
      const Event& event = (*held)[position_++];
      const Status filled = FillEvent(event, response_.add_events());
      if (!filled.ok()) {
        response_.mutable_events()->RemoveLast();
        EndLocked(filled.error());
        return;
      }
      bytes += SizeOf(event);
      if (event.kind == EventKind::kReset) AfterReset();
    }
  }

  /// Under the lock. A reset is either the engine's (its snapshot follows) or the queue's: then
  /// subscribe again, and what is left of the batch belongs to a snapshot that will never be whole.
  void AfterReset() {
    if (!queue_.MustResubscribe() || resubscribing_) return;
    subscriptions_.CountOverflow();
    batch_ = nullptr;
    resubscribe_wanted_ = !id_;
    if (!id_) return;
    resubscribing_ = true;
    overflowed_ = std::exchange(id_, std::nullopt);
  }

  Subscriptions& subscriptions_;
  ApiStreams& streams_;
  std::shared_ptr<SubscribeCall> self_;  // until OnDone
  v1::SubscribeRequest request_;
  subscribe::SubscribeRequest open_;  // to subscribe again: the statement alone
  subscribe::SubscriberQueue queue_;

  std::mutex mutex_;
  v1::SubscribeResponse response_;
  subscribe::EventBatch batch_;  // being sent
  size_t position_ = 0;
  std::optional<subscribe::SubscriberId> id_;
  std::optional<subscribe::SubscriberId> overflowed_;  // to be unsubscribed and subscribed anew
  std::optional<Error> ending_;
  uint64_t sent_ = 0, acknowledged_ = 0;
  uint64_t window_ = kDefaultWindow;
  bool opened_ = false, reads_ended_ = false, writing_ = false, finished_ = false;
  bool resubscribing_ = false, resubscribe_wanted_ = false;
};

}  // namespace

grpc::ServerBidiReactor<v1::SubscribeRequest, v1::SubscribeResponse>* NewSubscribeCall(
    const ApiContext& context, ApiStreams& streams) {
  return SubscribeCall::New(context, streams);
}

}  // namespace patina::agent

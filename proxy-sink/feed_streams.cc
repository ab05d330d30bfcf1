#include "proxy-sink/feed_streams.h"

#include <grpcpp/grpcpp.h>

#include <utility>

#include "patina/v1/cluster.grpc.pb.h"
#include "patina/v1/state.grpc.pb.h"

namespace patina::proxy_sink {
namespace {

constexpr uint32_t kWindow = 2;
constexpr int kMessageBytesMax = 64 << 20;

Cell CellOf(const v1::Value& value) {
  switch (value.kind_case()) {
    case v1::Value::kInteger:
      return value.integer();
    case v1::Value::kReal:
      return value.real();
    case v1::Value::kText:
      return value.text();
    default:
      return std::monostate();
  }
}

FeedItem RowItem(FeedItem::Kind kind, const v1::SubscribeEvent::RowChange& row) {
  FeedItem item{.kind = kind, .number = row.change_number(), .cells = {}, .text = {}};
  item.cells.reserve(static_cast<size_t>(row.values_size()));
  for (const v1::Value& value : row.values()) item.cells.push_back(CellOf(value));
  return item;
}

FeedItem NumberItem(FeedItem::Kind kind, uint64_t number) {
  return {.kind = kind, .number = number, .cells = {}, .text = {}};
}

std::optional<FeedItem> ItemOf(const v1::SubscribeEvent& event) {
  using Kind = FeedItem::Kind;
  switch (event.kind_case()) {
    case v1::SubscribeEvent::kRow:
      return RowItem(Kind::kSnapshotRow, event.row());
    case v1::SubscribeEvent::kInsert:
      return RowItem(Kind::kUpsert, event.insert());
    case v1::SubscribeEvent::kUpdate:
      return RowItem(Kind::kUpsert, event.update());
    case v1::SubscribeEvent::kDelete:
      return RowItem(Kind::kErase, event.delete_());
    case v1::SubscribeEvent::kEndOfSnapshot:
      return NumberItem(Kind::kEndOfSnapshot, event.end_of_snapshot().change_number());
    case v1::SubscribeEvent::kHeartbeat:
      return NumberItem(Kind::kHeartbeat, event.heartbeat().change_number());
    case v1::SubscribeEvent::kReset:
      return FeedItem{.kind = Kind::kReset, .cells = {}, .text = event.reset().reason()};
    default:
      return std::nullopt;  // columns are those of our query
  }
}

MemberState StateOf(v1::Member::State state) {
  switch (state) {
    case v1::Member::STATE_ALIVE:
      return MemberState::kAlive;
    case v1::Member::STATE_SUSPECT:
      return MemberState::kSuspect;
    case v1::Member::STATE_DEAD:
      return MemberState::kDead;
    case v1::Member::STATE_LEFT:
      return MemberState::kLeft;
    default:
      return MemberState::kUnknown;
  }
}

Error ErrorOf(const grpc::Status& status) {
  if (status.ok()) return Unavailable("closed by the agent");
  return {static_cast<Errc>(status.error_code()), status.error_message()};
}

class TableCall final
    : public AgentCall,
      private grpc::ClientBidiReactor<v1::SubscribeRequest, v1::SubscribeResponse> {
 public:
  TableCall(v1::State::Stub& stub, FeedQueue* queue, const std::string& token,
            const TableSpec& table, std::optional<uint64_t> from)
      : queue_(queue) {
    if (!token.empty()) context_.AddMetadata("authorization", "Bearer " + token);
    auto& open = *request_.mutable_open();
    open.mutable_statement()->set_sql(std::string(table.query));
    open.set_window(kWindow);
    if (from) open.set_from(*from);
    stub.async()->Subscribe(&context_, this);
    AddHold();  // reads and writes are started by the feed's thread, outside of reactions
    StartWrite(&request_);
    StartRead(&response_);
    StartCall();
  }

  std::vector<FeedItem> TakeItems() override {
    std::vector<FeedItem> items;
    items.reserve(static_cast<size_t>(response_.events_size()));
    for (const v1::SubscribeEvent& event : response_.events()) {
      if (auto item = ItemOf(event)) items.push_back(std::move(*item));
    }
    return items;
  }
  void Next() override {
    if (released_) return;
    Acknowledge(response_.number());
    StartRead(&response_);
  }
  void OnWritten() override {
    writing_ = false;
    if (acknowledge_ != 0) Acknowledge(acknowledge_);
  }
  void Release() override {
    if (!std::exchange(released_, true)) RemoveHold();
  }
  void Cancel() override { context_.TryCancel(); }
  Error End() const override { return ErrorOf(status_); }

 private:
  /// Sent at once, or when the write under way has ended.
  void Acknowledge(uint64_t number) {
    acknowledge_ = number;
    if (writing_ || released_) return;
    request_.set_acknowledged(std::exchange(acknowledge_, 0));
    writing_ = true;
    StartWrite(&request_);
  }
  void OnReadDone(bool ok) override { queue_->Push({this, FeedEvent::Kind::kRead, ok}); }
  void OnWriteDone(bool ok) override { queue_->Push({this, FeedEvent::Kind::kWritten, ok}); }
  void OnDone(const grpc::Status& status) override {
    status_ = status;
    queue_->Push({this, FeedEvent::Kind::kDone, true});  // *this may be gone now
  }

  FeedQueue* const queue_;
  grpc::ClientContext context_;
  grpc::Status status_;
  v1::SubscribeRequest request_;
  v1::SubscribeResponse response_;
  bool writing_ = true, released_ = false;
  uint64_t acknowledge_ = 0;  // to be sent next; 0: nothing
};

class MembersCall final : public AgentCall,
                          private grpc::ClientReadReactor<v1::WatchMembersResponse> {
 public:
  MembersCall(v1::Cluster::Stub& stub, FeedQueue* queue, const std::string& token) : queue_(queue) {
    if (!token.empty()) context_.AddMetadata("authorization", "Bearer " + token);
    stub.async()->WatchMembers(&context_, &request_, this);
    AddHold();
    StartRead(&response_);
    StartCall();
  }

  std::vector<FeedItem> TakeItems() override {
    std::vector<FeedItem> items;
    for (const v1::Member& member : response_.members()) {
      items.push_back({.kind = FeedItem::Kind::kMember,
                       .cells = {},
                       .text = member.name(),
                       .member = StateOf(member.state())});
    }
    if (response_.end_of_snapshot()) {
      items.push_back({.kind = FeedItem::Kind::kEndOfMembers, .cells = {}, .text = {}});
    }
    return items;
  }
  void Next() override {
    if (!released_) StartRead(&response_);
  }
  void OnWritten() override {}
  void Release() override {
    if (!std::exchange(released_, true)) RemoveHold();
  }
  void Cancel() override { context_.TryCancel(); }
  Error End() const override { return ErrorOf(status_); }

 private:
  void OnReadDone(bool ok) override { queue_->Push({this, FeedEvent::Kind::kRead, ok}); }
  void OnDone(const grpc::Status& status) override {
    status_ = status;
    queue_->Push({this, FeedEvent::Kind::kDone, true});  // *this may be gone now
  }

  FeedQueue* const queue_;
  grpc::ClientContext context_;
  grpc::Status status_;
  v1::WatchMembersRequest request_;
  v1::WatchMembersResponse response_;
  bool released_ = false;
};

class GrpcLink final : public AgentLink {
 public:
  GrpcLink(const std::shared_ptr<grpc::Channel>& channel, std::string token)
      : state_(v1::State::NewStub(channel)),
        cluster_(v1::Cluster::NewStub(channel)),
        token_(std::move(token)) {}

  std::unique_ptr<AgentCall> OpenTable(const TableSpec& table, std::optional<uint64_t> from,
                                       FeedQueue* queue) override {
    return std::make_unique<TableCall>(*state_, queue, token_, table, from);
  }
  std::unique_ptr<AgentCall> OpenMembers(FeedQueue* queue) override {
    return std::make_unique<MembersCall>(*cluster_, queue, token_);
  }

 private:
  const std::unique_ptr<v1::State::Stub> state_;
  const std::unique_ptr<v1::Cluster::Stub> cluster_;
  const std::string token_;
};

}  // namespace

void FeedQueue::Push(const FeedEvent& event) {
  // Notified under the lock: after a call's last event the feed, and with it this queue, may go.
  std::lock_guard<std::mutex> lock(mutex_);
  events_.push_back(event);
  changed_.notify_one();
}

std::vector<FeedEvent> FeedQueue::WaitUntil(Instant deadline) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_until(lock, deadline, [&] { return woken_ || !events_.empty(); });
  woken_ = false;
  return std::exchange(events_, {});
}

void FeedQueue::Wake() {
  std::lock_guard<std::mutex> lock(mutex_);
  woken_ = true;
  changed_.notify_one();
}

std::unique_ptr<AgentLink> MakeAgentLink(const std::string& agent, const std::string& token,
                                         Duration backoff_min, Duration backoff_max) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, static_cast<int>(ToMs(backoff_min)));
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, static_cast<int>(ToMs(backoff_min)));
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, static_cast<int>(ToMs(backoff_max)));
  // A proxy in the environment is for the web, not for the agent on this host.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  auto channel = grpc::CreateCustomChannel(agent, grpc::InsecureChannelCredentials(), arguments);
  return std::make_unique<GrpcLink>(channel, token);
}

}  // namespace patina::proxy_sink

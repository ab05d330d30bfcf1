#include "proxy-sink/feed.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <optional>
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/random.h"
#include "proxy-sink/feed_streams.h"

namespace patina::proxy_sink {
namespace {

constexpr size_t kMembers = kTableCount;  // the stream after those of the tables
constexpr size_t kStreamCount = kTableCount + 1;
constexpr Duration kTick = std::chrono::milliseconds(250);

/// The agent answered, but will not serve this stream: another schema, or not allowed.
bool IsRefusal(Errc code) {
  return code == Errc::kInvalidArgument || code == Errc::kNotFound ||
         code == Errc::kPermissionDenied || code == Errc::kUnimplemented ||
         code == Errc::kUnauthenticated;
}

}  // namespace

class Feed::Impl {
 public:
  Impl(FeedOptions options, Table* table, const Clock* clock, std::unique_ptr<AgentLink> link)
      : options_(std::move(options)),
        table_(*table),
        clock_(*clock),
        link_(std::move(link)),
        rng_(SystemEntropy()) {}

  void Start(Listener listener) {
    listener_ = std::move(listener);
    if (!link_) {
      link_ =
          MakeAgentLink(options_.agent, options_.token, options_.backoff_min, options_.backoff_max);
    }
    thread_ = std::thread([this] { Run(); });
  }

  void Stop() {
    if (!thread_.joinable()) return;
    stopping_ = true;
    queue_.Wake();
    thread_.join();
  }

  FeedStatus status() const {
    FeedStatus status;
    status.agent_connected = connected_;
    const int64_t heard_ns = heard_ns_;
    if (heard_ns >= 0) {
      status.age_ms = ToMs(clock_.Now().time_since_epoch() - Duration(heard_ns));
    }
    status.change_number = change_number_;
    status.last_update_unix_ms = last_update_unix_ms_;
    return status;
  }

  const FeedOptions options_;

 private:
  struct Stream {
    std::unique_ptr<AgentCall> call;
    bool up = false;  // a message came on this call
    bool refused = false;
    bool snapshotting = false;
    bool resumed = false;          // opened with `from`, nothing numbered heard yet
    std::optional<uint64_t> from;  // all up to this change number is in the table
    uint64_t seen = 0;
    std::optional<Instant> heard;
    Instant opened{}, retry_at{};
    int attempts = 0;
  };

  void Run() {
    while (!stopping_) {
      const Instant now = clock_.Now();
      for (size_t i = 0; i < kStreamCount; ++i) Tend(i, now);
      for (const FeedEvent& event : queue_.WaitUntil(NextDeadline(now))) Handle(event);
      PublishAll();
    }
    for (Stream& stream : streams_) {
      if (!stream.call) continue;
      stream.call->Cancel();
      stream.call->Release();
    }
    const auto open = [](const Stream& stream) { return stream.call != nullptr; };
    while (std::any_of(streams_.begin(), streams_.end(), open)) {
      for (const FeedEvent& event : queue_.WaitUntil(clock_.Now() + kTick)) {
        if (event.kind == FeedEvent::Kind::kDone) StreamOf(event.call).call.reset();
      }
    }
  }

  Instant NextDeadline(Instant now) const {
    Instant deadline = now + kTick;
    for (const Stream& stream : streams_) {
      if (!stream.call) deadline = std::min(deadline, stream.retry_at);
    }
    return deadline;
  }

  /// Opens a stream that is due, ends one that is stuck.
  void Tend(size_t index, Instant now) {
    Stream& stream = streams_[index];
    if (!stream.call) {
      if (now >= stream.retry_at) Open(index, now);
      return;
    }
    if (index == kMembers) return;  // has no heartbeat
    const Duration silence = now - (stream.up ? *stream.heard : stream.opened);
    if (silence > (stream.up ? options_.silence_max : options_.first_message_max)) {
      stream.call->Cancel();
    }
  }

  void Open(size_t index, Instant now) {
    Stream& stream = streams_[index];
    stream.up = false;
    stream.opened = now;
    if (index == kMembers) {
      table_.BeginMembers();
      stream.call = link_->OpenMembers(&queue_);
      return;
    }
    const TableId table = static_cast<TableId>(index);
    stream.resumed = stream.from.has_value();
    stream.snapshotting = !stream.resumed;
    if (stream.snapshotting) table_.BeginSnapshot(table);
    stream.call = link_->OpenTable(SpecOf(table), stream.from, &queue_);
  }

  Stream& StreamOf(const AgentCall* call) {
    return *std::find_if(streams_.begin(), streams_.end(),
                         [&](const Stream& stream) { return stream.call.get() == call; });
  }

  void Handle(const FeedEvent& event) {
    Stream& stream = StreamOf(event.call);
    const auto index = static_cast<size_t>(&stream - streams_.data());
    if (event.kind == FeedEvent::Kind::kDone) return Ended(index);
    if (!event.ok) return event.call->Release();  // its status comes with kDone
    if (event.kind == FeedEvent::Kind::kWritten) return event.call->OnWritten();
    stream.up = true;
    stream.refused = false;
    stream.attempts = 0;
    stream.heard = clock_.Now();
    for (const FeedItem& item : event.call->TakeItems()) Take(index, item);
    event.call->Next();
  }

  void Take(size_t index, const FeedItem& item) {
    Stream& stream = streams_[index];
    const TableId table = static_cast<TableId>(index);  // of all but the last two kinds
    switch (item.kind) {
      case FeedItem::Kind::kReset:
        LogInfo("proxy-sink", SpecOf(table).name, ": the agent starts over: ", item.text);
        return BeginSnapshot(index);
      case FeedItem::Kind::kSnapshotRow:
        if (!stream.snapshotting) BeginSnapshot(index);
        return table_.SnapshotRow(table, item.cells);
      case FeedItem::Kind::kEndOfSnapshot:
        if (std::exchange(stream.snapshotting, false)) {
          table_.EndSnapshot(table);
          stream.seen = 0;
        }
        return Complete(index, item.number);
      case FeedItem::Kind::kUpsert:
        table_.Upsert(table, item.cells);
        return NoteChange(stream, item.number);
      case FeedItem::Kind::kErase:
        table_.Erase(table, item.cells);
        return NoteChange(stream, item.number);
      case FeedItem::Kind::kHeartbeat:
        if (!stream.snapshotting) Complete(index, item.number);
        return;
      case FeedItem::Kind::kMember:
        return table_.SetMember(item.text, item.member);
      case FeedItem::Kind::kEndOfMembers:
        return table_.EndMembers();
    }
  }

  void BeginSnapshot(size_t index) {
    streams_[index].snapshotting = true;
    streams_[index].resumed = false;
    streams_[index].from.reset();
    table_.BeginSnapshot(static_cast<TableId>(index));
  }

  static void NoteChange(Stream& stream, uint64_t number) {
    // More rows of the same commit may follow, so only what is before it is known to be complete.
    if (number > 0) stream.from = std::max(stream.from.value_or(0), number - 1);
    stream.seen = std::max(stream.seen, number);
    stream.resumed = false;
  }

  /// Nothing up to this number is still to come.
  void Complete(size_t index, uint64_t number) {
    Stream& stream = streams_[index];
    if (std::exchange(stream.resumed, false) && number < stream.from.value_or(0)) {
      LogWarning("proxy-sink", SpecOf(static_cast<TableId>(index)).name,
                 ": the agent's log begins anew; asking for a snapshot");
      stream.from.reset();
      return stream.call->Cancel();
    }
    stream.from = std::max(stream.from.value_or(0), number);
    stream.seen = std::max(stream.seen, number);
  }

  void Ended(size_t index) {
    Stream& stream = streams_[index];
    const std::unique_ptr<AgentCall> call = std::move(stream.call);
    const std::string_view name =
        index == kMembers ? "members" : SpecOf(static_cast<TableId>(index)).name;
    const Error end = call->End();
    const bool refused = IsRefusal(end.code);
    last_end_ = end.ToString();
    if (refused && !stream.refused) {
      LogWarning("proxy-sink", name, ": ", options_.agent, " refuses the stream: ", last_end_);
    }
    stream.up = false;
    stream.refused = refused;
    stream.snapshotting = false;
    if (index != kMembers) table_.AbandonSnapshot(static_cast<TableId>(index));
    if (end.code == Errc::kOutOfRange) stream.from.reset();
    const Duration backoff =
        std::min(options_.backoff_max, options_.backoff_min * (1 << std::min(stream.attempts, 16)));
    ++stream.attempts;
    stream.retry_at =
        clock_.Now() + Duration(static_cast<int64_t>(static_cast<double>(backoff.count()) *
                                                     (0.5 + 0.5 * rng_.Unit())));
  }

  void PublishAll() {
    bool connected = true;
    int64_t heard_ns = INT64_MAX;
    uint64_t change_number = UINT64_MAX;
    for (size_t i = 0; i < kStreamCount; ++i) {
      const Stream& stream = streams_[i];
      if (stream.refused) continue;
      connected = connected && stream.up;
      if (i == kMembers) continue;
      heard_ns = std::min(heard_ns, stream.heard ? stream.heard->time_since_epoch().count() : -1);
      change_number = std::min(change_number, stream.seen);
    }
    const bool none = heard_ns == INT64_MAX;  // all are refused
    PublishedChanges changes = table_.Publish();
    heard_ns_ = none ? -1 : heard_ns;
    change_number_ = none ? 0 : change_number;
    if (!changes.empty()) last_update_unix_ms_ = clock_.WallMs();
    if (connected_.exchange(connected && !none) != (connected && !none)) {
      LogInfo("proxy-sink", "agent ", options_.agent,
              connected ? " connected" : " lost, the table stays: " + last_end_);
      changes.all_apps = true;
    }
    if (!changes.empty() && listener_) listener_(changes);
  }

  Table& table_;
  const Clock& clock_;
  std::unique_ptr<AgentLink> link_;
  Rng rng_;
  Listener listener_;
  std::string last_end_;  // why a stream ended, the last that did
  std::array<Stream, kStreamCount> streams_;
  FeedQueue queue_;
  std::atomic<bool> stopping_{false}, connected_{false};
  std::atomic<int64_t> heard_ns_{-1}, last_update_unix_ms_{0};
  std::atomic<uint64_t> change_number_{0};
  std::thread thread_;
};

Feed::Feed(FeedOptions options, Table* table, const Clock* clock, std::unique_ptr<AgentLink> link)
    : impl_(std::make_unique<Impl>(std::move(options), table, clock, std::move(link))) {}
Feed::~Feed() { Stop(); }
void Feed::Start(Listener listener) { impl_->Start(std::move(listener)); }
void Feed::Stop() { impl_->Stop(); }
FeedStatus Feed::status() const { return impl_->status(); }
const std::string& Feed::agent() const { return impl_->options_.agent; }

}  // namespace patina::proxy_sink

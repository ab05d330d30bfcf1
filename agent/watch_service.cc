#include "agent/watch_service.h"

#include <grpcpp/alarm.h>
#include <grpcpp/support/server_callback.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <unordered_set>
#include <utility>

#include "agent/grpc_status.h"
#include "agent/watch_events.h"
#include "patina/v1/state.pb.h"

namespace patina::agent {
namespace {

constexpr uint64_t kReadBytesMax = 256u << 10;
constexpr int kMessageEventsMax = 500;
constexpr size_t kMessageBytesMax = 1u << 20;
/// A watcher of a quiet table looks this often, in log entries, so that its token does not fall
/// behind what the log keeps.
constexpr uint64_t kLookEvery = 5'000;
constexpr auto kRetry = std::chrono::milliseconds(50);

class WatchCall;

}  // namespace

/// The calls that are open. The lock keeps each alive while it is woken.
class WatchHub::Watchers {
 public:
  void Add(WatchCall* call) {
    const std::lock_guard lock(mutex_);
    calls_.insert(call);
  }
  void Remove(WatchCall* call) {
    const std::lock_guard lock(mutex_);
    calls_.erase(call);
  }
  void OnCommit(const storage::CommitEffects& effects);

 private:
  std::mutex mutex_;
  std::unordered_set<WatchCall*> calls_;
};

namespace {

/// One watch. It never holds a reader: a task on the pool reads a bounded piece of the log, the
/// events are sent, and only then the next piece is read. A slow client so costs nothing but its
/// own progress.
///
/// Invariants: at any time one of {idle, reading, sending, waiting to retry}; after_ is the last
/// entry looked at, and every entry up to it was sent.
class WatchCall final : public grpc::ServerWriteReactor<v1::WatchResponse>,
                        public ApiStream,
                        public std::enable_shared_from_this<WatchCall> {
 public:
  static WatchCall* New(const ApiContext& context, ApiStreams& streams, WatchHub& hub,
                        const v1::WatchRequest& request) {
    auto call = std::make_shared<WatchCall>(context, streams, hub);
    call->self_ = call;
    if (const Status begun = call->Begin(request); !begun.ok()) call->End(begun.error());
    return call.get();
  }

  WatchCall(const ApiContext& context, ApiStreams& streams, WatchHub& hub)
      : context_(context), streams_(streams), hub_(hub) {}

  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    busy_ = false;
    if (!ok) SetEnd(Error{Errc::kCancelled, "the client has gone"});
    if (!SendNext()) Go();
  }

  void OnCancel() override { End(Error{Errc::kCancelled, "the client has gone"}); }

  void OnDone() override {
    hub_.watchers().Remove(this);
    streams_.Remove(this);
    const std::shared_ptr<WatchCall> last = std::move(self_);
  }

  void End(const Error& error) override {
    const std::lock_guard lock(mutex_);
    SetEnd(error);
    Go();
  }

  /// From the writer thread.
  void OnCommit(const storage::CommitEffects& effects) {
    const std::lock_guard lock(mutex_);
    if (effects.schema) FindTable(*effects.schema);
    if (effects.last_seq <= newest_) return;
    newest_ = effects.last_seq;
    const bool concerned = effects.rows_unknown || table_ >= effects.tables_changed.size() ||
                           effects.tables_changed[table_];
    if (!concerned && newest_ < after_ + kLookEvery) return;
    look_ = true;
    Go();
  }

 private:
  struct Piece {
    v1::WatchResponse events;
    uint64_t last_seq = 0;  // everything up to here was looked at
    bool more = false;      // perhaps: only an empty answer is the end
  };

  /// Ends the read if the pool drops the task unrun.
  class Task {
   public:
    Task(std::shared_ptr<WatchCall> call, bool from_now, uint64_t after)
        : call_(std::move(call)), from_now_(from_now), after_(after) {}
    ~Task() {
      if (armed_) call_->OnRead(Result<Piece>(Unavailable("the agent is stopping")));
    }
    Task(const Task&) = delete;
    Task& operator=(const Task&) = delete;
    void Run(storage::Reader& reader) {
      armed_ = false;
      call_->OnRead(call_->Read(reader, from_now_, after_));
    }
    void Disarm() { armed_ = false; }

   private:
    const std::shared_ptr<WatchCall> call_;
    const bool from_now_;
    const uint64_t after_;
    bool armed_ = true;
  };

  Status Begin(const v1::WatchRequest& request) {
    RETURN_IF_ERROR(streams_.Add(this));
    hub_.watchers().Add(this);  // first: of a schema that comes now it hears
    const std::shared_ptr<const storage::Schema> schema = context_.schema->load();
    const storage::Table* table = schema->Find(request.table());
    if (table == nullptr) return NotFound("no such table: " + request.table());
    const std::lock_guard lock(mutex_);
    table_name_ = storage::TravelName(*table);
    table_ = static_cast<size_t>(table - schema->tables.data());
    from_now_ = !request.has_from();
    after_ = told_token_ = request.from();
    look_ = true;
    Go();
    return OkStatus();
  }

  /// Under the lock: where the table stands in another schema. It ends with its table.
  void FindTable(const storage::Schema& schema) {
    if (table_name_.empty()) return;  // not begun: it will look itself
    for (size_t i = 0; i < schema.tables.size(); ++i) {
      if (storage::TravelName(schema.tables[i]) != table_name_) continue;
      table_ = i;
      return;
    }
    SetEnd(NotFound("the table was dropped from the schema"));
    Go();
  }

  /// On a reader's thread, with what it needs as arguments: the lock is not held.
  Result<Piece> Read(storage::Reader& reader, bool from_now, uint64_t after) const {
    Piece piece;
    piece.last_seq = after;
    if (from_now) {
      ASSIGN_OR_RETURN(piece.last_seq, reader.LastSeq());
      return piece;
    }
    ASSIGN_OR_RETURN(const std::vector<storage::LogEntry> entries,
                     reader.ReadLogAfter(after, kReadBytesMax));
    for (const storage::LogEntry& entry : entries) {
      RETURN_IF_ERROR(AppendWatchEvents(entry, table_name_, &piece.events));
      piece.last_seq = entry.seq;
      piece.more = true;
      if (piece.events.events_size() >= kMessageEventsMax) break;
    }
    return piece;
  }

  void OnRead(Result<Piece> piece) {
    const std::lock_guard lock(mutex_);
    busy_ = false;
    if (piece.ok()) {
      from_now_ = false;
      after_ = piece->last_seq;
      if (piece->more) look_ = true;
      events_.Swap(&piece->events);
      position_ = 0;
      // The first message says where the watch begins; later ones without events only move the
      // token.
      unsent_ = events_.events_size() > 0 || !told_ || after_ >= told_token_ + kLookEvery;
    } else {
      SetEnd(piece.error());
    }
    if (!SendNext()) Go();
  }

  /// Under the lock: the next message of the piece that was read, if there is one. One transaction
  /// may need several; only the last of a piece carries its token.
  bool SendNext() {
    if (!unsent_ || ending_ || finished_) return false;
    response_.Clear();
    size_t bytes = 0;
    while (position_ < events_.events_size() && response_.events_size() < kMessageEventsMax &&
           bytes < kMessageBytesMax) {
      v1::WatchEvent& event = *events_.mutable_events(position_++);
      bytes += event.ByteSizeLong();
      response_.add_events()->Swap(&event);
    }
    if (position_ == events_.events_size()) {
      told_ = true;
      told_token_ = after_;
      unsent_ = false;
      events_.Clear();
    }
    response_.set_change_number(told_token_);
    busy_ = true;
    StartWrite(&response_);
    return true;
  }

  void SetEnd(const Error& error) {
    if (!ending_) ending_ = error;
  }

  /// Under the lock: looks at the log if there is reason to, or ends.
  void Go() {
    if (busy_ || finished_) return;
    if (ending_) {
      finished_ = true;
      Finish(ToGrpcStatus(*ending_));
      return;
    }
    if (!look_) return;
    look_ = false;
    busy_ = true;
    const auto task = std::make_shared<Task>(shared_from_this(), from_now_, after_);
    const Status submitted =
        context_.readers->Submit([task](storage::Reader& reader) { task->Run(reader); });
    if (submitted.ok()) return;
    task->Disarm();
    if (submitted.error().code == Errc::kResourceExhausted) return RetrySoon();
    busy_ = false;
    SetEnd(submitted.error());
    Go();
  }

  void RetrySoon() {
    alarm_.Set(std::chrono::system_clock::now() + kRetry, [weak = weak_from_this()](bool) {
      // Weak: the alarm is a part of the call, and keeps its callback.
      const auto call = weak.lock();
      if (call == nullptr) return;
      const std::lock_guard lock(call->mutex_);
      call->busy_ = false;
      call->look_ = true;
      call->Go();
    });
  }

  const ApiContext context_;
  ApiStreams& streams_;
  WatchHub& hub_;
  std::shared_ptr<WatchCall> self_;  // until OnDone
  std::string table_name_;
  size_t table_ = 0;
  grpc::Alarm alarm_;

  std::mutex mutex_;
  v1::WatchResponse events_;  // read, and from position_ on not yet sent
  int position_ = 0;
  v1::WatchResponse response_;  // being sent
  uint64_t after_ = 0, newest_ = 0, told_token_ = 0;
  std::optional<Error> ending_;
  bool from_now_ = false, busy_ = false, look_ = false, unsent_ = false, told_ = false;
  bool finished_ = false;
};

}  // namespace

void WatchHub::Watchers::OnCommit(const storage::CommitEffects& effects) {
  const std::lock_guard lock(mutex_);
  for (WatchCall* call : calls_) call->OnCommit(effects);
}

WatchHub::WatchHub() : watchers_(std::make_unique<Watchers>()) {}
WatchHub::~WatchHub() = default;
void WatchHub::OnCommit(const storage::CommitEffects& effects) { watchers_->OnCommit(effects); }

grpc::ServerWriteReactor<v1::WatchResponse>* NewWatchCall(const ApiContext& context,
                                                          ApiStreams& streams, WatchHub& hub,
                                                          const v1::WatchRequest& request) {
  return WatchCall::New(context, streams, hub, request);
}

}  // namespace patina::agent

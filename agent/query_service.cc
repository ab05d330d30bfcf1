#include "agent/query_service.h"

#include <grpcpp/alarm.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "agent/api_convert.h"
#include "agent/grpc_status.h"
#include "base/log.h"
#include "patina/v1/state.pb.h"
#include "proto/convert.h"

namespace patina::agent {
namespace {

constexpr int kBatchRowsMax = 256;
constexpr size_t kBatchBytesMax = 64u << 10;
constexpr size_t kBufferBytesMax = 4u << 20;  // of answers waiting for one client
constexpr auto kStallMax = std::chrono::seconds(5);
constexpr auto kDefaultDeadline = std::chrono::seconds(60);
/// A query holds one of few readers and a snapshot, which keeps the write-ahead log from being
/// reused.
constexpr auto kDeadlineMax = std::chrono::minutes(5);
/// How often a reader that waits for its client looks whether its snapshot has to go.
constexpr Duration kLook = std::chrono::milliseconds(10);

Instant Now() { return SystemClock().Now(); }

size_t BytesOf(const std::vector<crdt::ValueView>& values) {
  size_t bytes = 2;
  for (const crdt::ValueView& value : values) bytes += 12 + value.bytes().size();
  return bytes;
}

/// One query. A reader's thread makes batches, gRPC's threads send them; between them is a buffer
/// of bounded size. A reader waits for a slow client only kStallMax, then the query fails: readers
/// are few. The deadline counts from the call's arrival until its answer is sent.
class QueryCall final : public grpc::ServerWriteReactor<v1::QueryResponse>,
                        public ApiStream,
                        public storage::RowSink,
                        public std::enable_shared_from_this<QueryCall> {
 public:
  static QueryCall* New(const ApiContext& context, ApiStreams& streams,
                        grpc::CallbackServerContext* server_context,
                        const v1::QueryRequest& request) {
    auto call = std::make_shared<QueryCall>(streams, server_context);
    call->self_ = call;
    const Status started = call->Begin(context, streams, request);
    if (!started.ok()) call->Produced(started);
    return call.get();
  }

  QueryCall(ApiStreams& streams, grpc::CallbackServerContext* server_context)
      : streams_(streams), server_context_(server_context) {}

  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    buffered_bytes_ -= sizes_.front();
    sizes_.pop_front();
    buffer_.pop_front();
    if (!ok) cancelled_ = true;
    room_.notify_one();
    Pump();
  }

  void OnCancel() override { End(Error{Errc::kCancelled, "the client has gone"}); }

  void OnDone() override {
    alarm_.Cancel();
    streams_.Remove(this);
    const std::shared_ptr<QueryCall> last = std::move(self_);
  }

  void End(const Error& error) override {
    const std::lock_guard lock(mutex_);
    if (!ending_) ending_ = error;
    cancelled_ = true;
    room_.notify_one();
    if (!begun_ && !produced_) produced_ = error;  // no reader has it yet
    Pump();
  }

  // On the reader's thread.
  bool OnColumns(const std::vector<std::string>& names) override {
    for (const std::string& name : names) batch_.add_columns(name);
    return true;
  }

  bool OnRow(const std::vector<crdt::ValueView>& values) override {
    const size_t bytes = BytesOf(values);
    if (batch_.rows_size() > 0 && batch_bytes_ + bytes > kBatchBytesMax && !Hand()) return false;
    proto::AppendToProto(values, batch_.add_rows()->mutable_values());
    batch_bytes_ += bytes;
    return batch_.rows_size() < kBatchRowsMax || Hand();
  }

 private:
  /// Ends the call if the task goes without having run: a pool that stops drops what waits.
  class Task {
   public:
    explicit Task(std::shared_ptr<QueryCall> call) : call_(std::move(call)) {}
    ~Task() {
      if (!ran_) call_->Produced(Unavailable("the agent is stopping"));
    }
    Task(const Task&) = delete;
    Task& operator=(const Task&) = delete;
    void Run(storage::Reader& reader) {
      ran_ = true;
      call_->Produced(call_->Produce(reader));
    }
    void Disarm() { ran_ = true; }

   private:
    const std::shared_ptr<QueryCall> call_;
    bool ran_ = false;
  };

  Status Begin(const ApiContext& context, ApiStreams& streams, const v1::QueryRequest& request) {
    RETURN_IF_ERROR(streams.Add(this));
    ASSIGN_OR_RETURN(statement_, ToStatement(request.statement()));
    limits_.deadline = kDefaultDeadline;
    if (request.deadline_ms() > 0)
      limits_.deadline =
          std::min<Duration>(std::chrono::milliseconds(request.deadline_ms()), kDeadlineMax);
    if (request.rows_max() > 0) limits_.rows_max = request.rows_max();
    limits_.cancelled = &cancelled_;
    alarm_.Set(
        std::chrono::system_clock::now() +
            std::chrono::duration_cast<std::chrono::system_clock::duration>(limits_.deadline),
        [weak = weak_from_this()](bool rang) {
          // Weak: the alarm is a part of the call, and keeps its callback.
          const auto call = weak.lock();
          if (rang && call != nullptr) call->OnDeadline();
        });
    const auto task = std::make_shared<Task>(self_);
    Status submitted =
        context.readers->Submit([task](storage::Reader& reader) { task->Run(reader); });
    if (!submitted.ok()) task->Disarm();
    return submitted;
  }

  Status Produce(storage::Reader& reader) {
    {
      const std::lock_guard lock(mutex_);
      if (produced_) return *produced_;  // it was ended while it waited
      begun_ = true;
    }
    reader_ = &reader;
    limits_.spent = Now() - began_;
    // A snapshot, so that the answer's change number is exactly what the answer saw.
    ASSIGN_OR_RETURN(const uint64_t seq, reader.BeginSnapshot());
    const Status queried = reader.Query(statement_, limits_, *this);
    reader.EndSnapshot();
    const std::lock_guard lock(mutex_);
    if (ending_) return *ending_;
    RETURN_IF_ERROR(queried);
    if (stalled_) {
      return ResourceExhausted(
          "the client read too slowly: more than 4 MiB of answer waited for 5 s");
    }
    batch_.set_change_number(seq);
    batch_.set_done(true);
    Push();
    return OkStatus();
  }

  /// Hands the batch over; waits for room. False: stop.
  bool Hand() {
    std::unique_lock lock(mutex_);
    const Instant stalls_at = Now() + kStallMax;
    const auto has_room = [&] { return cancelled_ || buffered_bytes_ < kBufferBytesMax; };
    while (!room_.wait_for(lock, kLook, has_room)) {
      stalled_ = Now() >= stalls_at;
      if (stalled_ || reader_->MustEnd()) return false;
    }
    if (cancelled_) return false;
    Push();
    return true;
  }

  /// The query itself has a look at the time; this is for what waits: for a reader, or for the
  /// client to take the rest of the answer.
  void OnDeadline() {
    End(
        DeadlineExceeded(StrCat("the query, its wait for a reader (limits.readers) and its client "
                                "took longer than the deadline of ",
                                ToMs(limits_.deadline), " ms")));
    const std::lock_guard lock(mutex_);
    if (writing_) server_context_->TryCancel();  // else a client that does not read keeps it
  }

  /// Under the lock.
  void Push() {
    buffer_.push_back(std::move(batch_));
    sizes_.push_back(batch_bytes_);
    buffered_bytes_ += batch_bytes_;
    batch_ = v1::QueryResponse();
    batch_bytes_ = 0;
    Pump();
  }

  void Produced(const Status& status) {
    const std::lock_guard lock(mutex_);
    produced_ = status;
    Pump();
  }

  /// Under the lock: the next batch, or the end.
  void Pump() {
    if (writing_ || finished_) return;
    if (!buffer_.empty() && !cancelled_ && (!produced_ || produced_->ok())) {
      writing_ = true;
      StartWrite(&buffer_.front());
    } else if (produced_) {
      finished_ = true;
      if (ending_) return Finish(ToGrpcStatus(*ending_));
      Finish(produced_->ok() ? grpc::Status::OK : ToGrpcStatus(produced_->error()));
    }
  }

  ApiStreams& streams_;
  grpc::CallbackServerContext* const server_context_;
  std::shared_ptr<QueryCall> self_;  // until OnDone
  const Instant began_ = Now();
  grpc::Alarm alarm_;
  storage::Statement statement_;
  storage::QueryLimits limits_;
  std::atomic<bool> cancelled_ = false;

  // The reader's thread alone.
  const storage::Reader* reader_ = nullptr;
  v1::QueryResponse batch_;
  size_t batch_bytes_ = 0;

  std::mutex mutex_;
  std::condition_variable room_;
  std::deque<v1::QueryResponse> buffer_;
  std::deque<size_t> sizes_;
  size_t buffered_bytes_ = 0;
  std::optional<Status> produced_;
  std::optional<Error> ending_;
  bool begun_ = false, writing_ = false, finished_ = false, stalled_ = false;
};

}  // namespace

grpc::ServerWriteReactor<v1::QueryResponse>* NewQueryCall(
    const ApiContext& context, ApiStreams& streams, grpc::CallbackServerContext* server_context,
    const v1::QueryRequest& request) {
  return QueryCall::New(context, streams, server_context, request);
}

}  // namespace patina::agent

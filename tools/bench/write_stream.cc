#include "tools/bench/write_stream.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <condition_variable>
#include <deque>
#include <mutex>

#include "patina/v1/state.grpc.pb.h"

namespace patina::tools::bench {

class WriteStream::Impl
    : public grpc::ClientBidiReactor<v1::ExecuteRequest, v1::ExecuteStreamResponse> {
 public:
  Impl(ApiClient& client, size_t window)
      : window_(window), stub_(v1::State::NewStub(client.channel())) {
    if (!client.token().empty()) call_.AddMetadata("authorization", "Bearer " + client.token());
    stub_->async()->ExecuteStream(&call_, this);
    AddHold();  // Send starts writes from outside the reactions
    StartRead(&response_);
    StartCall();
  }

  bool Send(v1::ExecuteRequest request) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return broken_ || sent_at_.size() < window_; });
    if (broken_) return false;
    queue_.push_back(std::move(request));
    sent_at_.push_back(clock_.Now());
    if (!writing_) StartWrite(&queue_.front());
    writing_ = true;
    return true;
  }

  Status Finish() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return broken_ || sent_at_.empty(); });
    if (!hold_removed_) {
      hold_removed_ = true;
      if (!broken_) StartWritesDone();
      RemoveHold();
    }
    changed_.wait(lock, [this] { return done_; });
    if (status_.ok() && sent_at_.empty()) return OkStatus();
    if (status_.ok()) return Unavailable("the agent ended the stream with answers missing");
    return Error{static_cast<Errc>(status_.error_code()), status_.error_message()};
  }

  void OnWriteDone(bool ok) override {
    std::lock_guard lock(mutex_);
    queue_.pop_front();
    writing_ = ok && !queue_.empty();
    if (writing_) StartWrite(&queue_.front());
    if (!ok) Break();
  }

  void OnReadDone(bool ok) override {
    std::lock_guard lock(mutex_);
    if (!ok) return Break();
    if (!sent_at_.empty()) {
      totals_.latency.Add(clock_.Now() - sent_at_.front());
      sent_at_.pop_front();
    }
    if (response_.has_failed()) {
      if (totals_.failed++ == 0) totals_.first_failure = response_.failed().message();
    } else {
      ++totals_.acknowledged;
    }
    StartRead(&response_);
    changed_.notify_all();
  }

  void OnDone(const grpc::Status& status) override {
    std::lock_guard lock(mutex_);
    status_ = status;
    done_ = true;
    broken_ = true;
    changed_.notify_all();
  }

  const Totals& totals() const { return totals_; }

 private:
  void Break() {
    broken_ = true;
    changed_.notify_all();
  }

  const size_t window_;
  const std::unique_ptr<v1::State::Stub> stub_;
  const SystemClock clock_;
  grpc::ClientContext call_;
  v1::ExecuteStreamResponse response_;
  grpc::Status status_;
  Totals totals_;

  std::mutex mutex_;  // of all below
  std::condition_variable changed_;
  std::deque<v1::ExecuteRequest> queue_;  // the first is being written
  std::deque<Instant> sent_at_;           // of what is not answered
  bool writing_ = false, broken_ = false, done_ = false, hold_removed_ = false;
};

WriteStream::WriteStream(ApiClient& client, size_t window)
    : impl_(std::make_unique<Impl>(client, window)) {}

WriteStream::~WriteStream() {
  const Status ignored = impl_->Finish();
  static_cast<void>(ignored);  // whoever wants to know called Finish before
}

bool WriteStream::Send(v1::ExecuteRequest request) { return impl_->Send(std::move(request)); }
Status WriteStream::Finish() { return impl_->Finish(); }
const WriteStream::Totals& WriteStream::totals() const { return impl_->totals(); }

}  // namespace patina::tools::bench

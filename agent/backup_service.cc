#include "agent/backup_service.h"

#include <grpcpp/support/server_callback.h>

#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "agent/grpc_status.h"
#include "agent/status_report.h"
#include "patina/v1/admin.pb.h"

namespace patina::agent {
namespace {

/// One Admin.Backup: what the copying thread tells is sent on. A slow client sees only the newest
/// progress, and never holds up the copy.
class BackupCall final : public grpc::ServerWriteReactor<v1::BackupResponse>,
                         public ApiStream,
                         public std::enable_shared_from_this<BackupCall> {
 public:
  static BackupCall* New(const ApiContext& context, ApiStreams& streams,
                         const v1::BackupRequest& request) {
    auto call = std::make_shared<BackupCall>(streams);
    call->self_ = call;
    if (const Status begun = call->Begin(context, request); !begun.ok()) call->OnEnd(begun.error());
    return call.get();
  }

  explicit BackupCall(ApiStreams& streams) : streams_(streams) {}

  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    if (!ok) *cancelled_ = true;
    Go();
  }

  void OnCancel() override { *cancelled_ = true; }

  void OnDone() override {
    streams_.Remove(this);
    const std::shared_ptr<BackupCall> last = std::move(self_);
  }

  void End(const Error&) override { *cancelled_ = true; }

 private:
  Status Begin(const ApiContext& context, const v1::BackupRequest& request) {
    RETURN_IF_ERROR(streams_.Add(this));
    const std::shared_ptr<BackupCall> self = shared_from_this();
    Backups::Listener listener;
    listener.on_progress = [self](const storage::BackupProgress& progress) {
      v1::BackupResponse response;
      response.set_bytes_done(progress.bytes_done);
      response.set_bytes_total(progress.bytes_total);
      self->Send(std::move(response));
    };
    listener.on_checking = [self] {
      v1::BackupResponse response;
      response.set_checking(true);
      self->Send(std::move(response));
    };
    listener.on_done = [self](Result<Backups::Outcome> outcome) {
      if (!outcome.ok()) return self->OnEnd(outcome.error());
      self->Send(Last(*outcome));
      self->OnEnd({});
    };
    return context.backups->Start({request.path(), request.bytes_per_second()}, std::move(listener),
                                  cancelled_);
  }

  static v1::BackupResponse Last(const Backups::Outcome& outcome) {
    v1::BackupResponse response;
    response.set_done(true);
    response.set_bytes_done(outcome.copy.bytes);
    response.set_bytes_total(outcome.copy.bytes);
    response.set_change_number(outcome.copy.seq);
    response.set_duration_ms(ToMs(outcome.copy.duration));
    response.set_hurried(outcome.copy.hurried);
    for (const storage::TableDigest& table : outcome.report.tables) {
      FillTable(table, response.add_tables());
    }
    for (const std::string& problem : outcome.report.problems) response.add_problems(problem);
    return response;
  }

  void Send(v1::BackupResponse response) {
    const std::lock_guard lock(mutex_);
    next_ = std::move(response);
    Go();
  }

  void OnEnd(Status end) {
    const std::lock_guard lock(mutex_);
    end_ = std::move(end);
    Go();
  }

  /// Under the lock.
  void Go() {
    if (writing_ || finished_) return;
    if (next_) {
      response_ = *std::exchange(next_, std::nullopt);
      writing_ = true;
      StartWrite(&response_);
    } else if (end_) {
      finished_ = true;
      Finish(end_->ok() ? grpc::Status::OK : ToGrpcStatus(end_->error()));
    }
  }

  ApiStreams& streams_;
  std::shared_ptr<BackupCall> self_;  // until OnDone
  const std::shared_ptr<std::atomic<bool>> cancelled_ = std::make_shared<std::atomic<bool>>(false);

  std::mutex mutex_;
  std::optional<v1::BackupResponse> next_;
  v1::BackupResponse response_;  // being sent
  std::optional<Status> end_;
  bool writing_ = false, finished_ = false;
};

}  // namespace

grpc::ServerWriteReactor<v1::BackupResponse>* NewBackupCall(const ApiContext& context,
                                                            ApiStreams& streams,
                                                            const v1::BackupRequest& request) {
  return BackupCall::New(context, streams, request);
}

}  // namespace patina::agent

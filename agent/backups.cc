#include "agent/backups.h"

#include <optional>
#include <utility>

#include "base/log.h"
#include "base/thread_checker.h"

namespace patina::agent {

Backups::Backups(const Config& config, Writer* writer)
    : database_path_(DatabasePath(config)),
      wal_bytes_max_(config.store.wal_bytes_max),
      writer_(writer) {}

Backups::~Backups() { Stop(); }

Status Backups::Start(const Request& request, Listener listener,
                      std::shared_ptr<std::atomic<bool>> cancelled) {
  if (!request.path.starts_with('/')) {
    return InvalidArgument("the backup's path must be absolute, it is on the agent's host: " +
                           request.path);
  }
  const std::lock_guard lock(mutex_);
  if (stopped_) return Unavailable("the agent is stopping");
  if (running_) return FailedPrecondition("another backup is being made: wait until it is done");
  if (thread_.joinable()) thread_.join();
  running_ = true;
  cancelled_ = std::move(cancelled);
  thread_ = std::thread([this, request, listener = std::move(listener), cancelled = cancelled_] {
    NameThread("backup");
    Result<Outcome> outcome = Copy(request, listener, *cancelled);
    (outcome.ok() ? done_ : failed_) += 1;
    if (!outcome.ok()) LogWarning("backup", request.path, ": ", outcome.error().ToString());
    running_ = false;
    listener.on_done(std::move(outcome));
  });
  return OkStatus();
}

Result<Backups::Outcome> Backups::Copy(const Request& request, const Listener& listener,
                                       const std::atomic<bool>& cancelled) {
  std::optional<Result<std::unique_ptr<storage::Backup>>> begun;
  const bool ran = writer_->RunAndWait([&](storage::Store& store) {
    if (Status status = store.Checkpoint(); !status.ok()) {
      begun = Error{status.error().code, "checkpoint: " + status.error().message};
    } else {
      begun = storage::Backup::Begin(database_path_, store.snapshots());
    }
  });
  if (!ran) return Unavailable("the agent is stopping");
  if (!begun->ok()) return begun->error();
  Outcome outcome;
  storage::BackupOptions options;
  options.bytes_per_second = request.bytes_per_second;
  options.hurry_after_wal_bytes = wal_bytes_max_ / 8;
  options.cancelled = &cancelled;
  options.on_progress = listener.on_progress;
  ASSIGN_OR_RETURN(outcome.copy, (**begun)->CopyTo(request.path, options));
  begun.reset();  // the snapshot is not needed any more
  bytes_ += outcome.copy.bytes;
  listener.on_checking();
  Result<storage::FileReport> report = storage::VerifyFile(request.path, &cancelled);
  if (!report.ok()) {
    return Error{report.error().code,
                 "the copy " + request.path +
                     " is there, but it was not checked: " + report.error().message};
  }
  outcome.report = *std::move(report);
  for (const std::string& problem : outcome.report.problems) {
    LogError("backup", request.path, ": ", problem);
  }
  LogInfo("backup", request.path, ": ", outcome.copy.bytes, " bytes in ",
          ToMs(outcome.copy.duration), " ms, up to change ", outcome.copy.seq);
  return outcome;
}

void Backups::Stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  if (cancelled_) *cancelled_ = true;
  if (thread_.joinable()) thread_.join();
}

Backups::Stats Backups::stats() const {
  return {done_.load(), failed_.load(), bytes_.load(), running_.load()};
}

}  // namespace patina::agent

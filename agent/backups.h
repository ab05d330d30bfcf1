#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "agent/config.h"
#include "agent/writer.h"
#include "base/status.h"
#include "storage/backup.h"
#include "storage/file_check.h"

namespace patina::agent {

/// Copies of the live database to a file on this host, one at a time, each on a thread of its own:
/// begun on the writer thread right after a checkpoint, copied at a bounded rate, then checked.
/// What a long copy makes the write-ahead log grow by is bounded, see storage/backup.h. Any thread.
class Backups {
 public:
  struct Request {
    std::string path;               // absolute
    uint64_t bytes_per_second = 0;  // 0: as fast as it goes
  };
  struct Outcome {
    storage::BackupResult copy;
    storage::FileReport report;  // its problems: the copy is there, and what is wrong with it
  };
  /// What the caller hears, on the copying thread; must not block. on_done is called once.
  struct Listener {
    std::function<void(const storage::BackupProgress&)> on_progress;
    std::function<void()> on_checking;  // copied; now it is read again
    std::function<void(Result<Outcome>)> on_done;
  };

  Backups(const Config& config, Writer* writer);
  ~Backups();
  Backups(const Backups&) = delete;
  Backups& operator=(const Backups&) = delete;

  /// FAILED_PRECONDITION while another one runs; then the listener hears nothing. Set *cancelled to
  /// end it early.
  Status Start(const Request& request, Listener listener,
               std::shared_ptr<std::atomic<bool>> cancelled);
  /// Ends the one that runs, and refuses others. Before the writer's Stop.
  void Stop();

  struct Stats {
    uint64_t done = 0, failed = 0, bytes = 0;
    bool running = false;
  };
  Stats stats() const;

 private:
  Result<Outcome> Copy(const Request& request, const Listener& listener,
                       const std::atomic<bool>& cancelled);

  const std::string database_path_;
  const uint64_t wal_bytes_max_;
  Writer* const writer_;
  std::mutex mutex_;  // guards the three below
  std::thread thread_;
  std::shared_ptr<std::atomic<bool>> cancelled_;
  bool stopped_ = false;
  std::atomic<bool> running_{false};
  std::atomic<uint64_t> done_{0}, failed_{0}, bytes_{0};
};

}  // namespace patina::agent

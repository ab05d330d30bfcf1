#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "agent/backups.h"
#include "agent/config.h"
#include "agent/net.h"
#include "agent/page_checker.h"
#include "agent/reader_pool.h"
#include "agent/subscriptions.h"
#include "agent/verify.h"
#include "agent/writer.h"
#include "base/status.h"

namespace patina::agent {

/// The schema in use; another after a reload. Any thread.
using LiveSchema = std::atomic<std::shared_ptr<const storage::Schema>>;

/// What the services work on. All outlive the server.
struct ApiContext {
  const Config* config = nullptr;
  const LiveSchema* schema = nullptr;
  Writer* writer = nullptr;
  ReaderPool* readers = nullptr;
  const ReaderPool* net_readers = nullptr;  // to tell of
  Subscriptions* subscriptions = nullptr;
  Net* net = nullptr;
  Verifier* verifier = nullptr;
  Backups* backups = nullptr;
  const PageChecker* page_checker = nullptr;  // null: limits.page_check_interval_ms is 0
  Collection* collection = nullptr;
};

/// gRPC: State, Cluster, Admin, reflection and health, on every address of api.listen. Services
/// copy, hand over and finish on gRPC's threads; nothing there blocks.
class ApiServer {
 public:
  /// Errors name the address that could not be listened on.
  static Result<std::unique_ptr<ApiServer>> Start(const ApiContext& context);
  ~ApiServer();
  /// Refuses new calls, ends streams with UNAVAILABLE, waits.
  void Stop();
  /// The file is damaged: health says NOT_SERVING, streams end with the error and no new ones are
  /// taken. Calls about the node itself (status, members) are answered on. Any thread.
  void LeaveService(const Error& error);
  /// As bound (ports given as 0 are filled in).
  std::vector<std::string> addresses() const;
  /// A commit happened: watchers of the log look. From the writer thread; does not block.
  void OnCommit(std::shared_ptr<const storage::CommitEffects> effects);

 private:
  class Impl;
  explicit ApiServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace patina::agent

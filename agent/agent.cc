#include "agent/agent.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <thread>
#include <utility>

#include "agent/api_server.h"
#include "agent/backups.h"
#include "agent/faults.h"
#include "agent/folder_lock.h"
#include "agent/page_checker.h"
#include "agent/schema_reload.h"
#include "base/log.h"
#include "storage/snapshot_chunks.h"

namespace patina::agent {
namespace {

Status MakeFolder(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    return FailedPrecondition("node.data_dir " + folder +
                              ": cannot be created: " + error.message());
  }
  return OkStatus();
}

/// A socket file of a process that is gone would keep us from listening.
void RemoveStaleSocket(const std::string& address) {
  if (!address.starts_with("unix:")) return;
  const std::string path = address.substr(5);
  sockaddr_un name{};
  struct stat info {};
  if (path.size() >= sizeof name.sun_path || ::lstat(path.c_str(), &info) != 0 ||
      !S_ISSOCK(info.st_mode)) {
    return;
  }
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, path.c_str(), path.size() + 1);
  const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return;
  const bool refused =
      ::connect(probe, reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0 &&
      errno == ECONNREFUSED;
  ::close(probe);
  if (refused && ::unlink(path.c_str()) == 0) {
    LogInfo("agent", "removed ", path, ", left behind by a process that is gone");
  }
}

}  // namespace

class Agent::Impl {
 public:
  explicit Impl(const Config& config) : config_(config), clock_(std::make_shared<FaultClock>()) {
    config_.gossip_core.snapshots_taken = config.can_begin_anew;
    config_.gossip_core.seeded = !config.gossip.seeds.empty();
  }
  ~Impl() { Stop(); }

  Status Start() {
    RETURN_IF_ERROR(StartStorage());
    RETURN_IF_ERROR(StartGossip());
    if (config_.watchdog_timeout > Duration::zero()) watchdog_ = std::thread([this] { Watch(); });
    LogInfo("agent", config_.node.name, " (", config_.node.region, ") of cluster ",
            config_.gossip.cluster, " gossips at ", net_->advertised().ToString());
    return OkStatus();
  }

  void Stop() {
    if (stopped_.exchange(true)) return;
    RequestStop();
    if (watchdog_.joinable()) watchdog_.join();
    if (page_checker_) page_checker_->Stop();
    if (verifier_) verifier_->Stop();  // calls that wait for it end, and with them the API
    if (backups_) backups_->Stop();
    if (subscriptions_) subscriptions_->CancelQueries();  // the API's calls wait for them
    if (api_) api_->Stop();
    if (subscriptions_) subscriptions_->Stop();
    if (net_) net_->Stop();
    if (net_readers_) net_readers_->Stop();
    if (readers_) readers_->Stop();
    // Its connection is to be the last one: only that one removes the write-ahead log.
    if (writer_) writer_->Stop();
  }

  std::vector<std::string> api_addresses() const { return api_->addresses(); }
  std::string gossip_address() const { return net_->advertised().ToString(); }

  void ReloadSchema() {
    agent::ReloadSchema(config_, *writer_, false,
                        [](const Result<storage::SchemaOutcome>& outcome) {
                          if (!outcome.ok())
                            LogError("schema", "not reloaded: ", outcome.error().message);
                        });
  }

  Status WaitForFatal() {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [this] { return stop_requested_ || !fatal_.ok(); });
    return fatal_;
  }

  bool MustBeginAnew() const { return begin_anew_.load(std::memory_order_acquire); }

  void RequestStop() {
    const std::lock_guard lock(mutex_);
    stop_requested_ = true;
    ended_.notify_all();
  }

 private:
  Status StartStorage() {
    RETURN_IF_ERROR(MakeFolder(config_.node.data_dir));
    RETURN_IF_ERROR(lock_.Take(config_.node.data_dir));
    ASSIGN_OR_RETURN(storage::Schema schema, storage::LoadSchema(config_.schema.paths));
    for (const auto& warning : schema.warnings) LogWarning("schema", warning.text);
    storage::StoreOptions options;
    options.path = DatabasePath(config_);
    storage::RemoveSnapshotRemains(options.path);
    options.schema = std::move(schema);
    options.node_name = config_.node.name;
    options.cluster = config_.gossip.cluster;
    options.limits = config_.store;
    options.full_sync = config_.full_sync;
    options.allow_destructive = config_.allow_destructive;
    options.clock = clock_.get();
    ASSIGN_OR_RETURN(auto store, storage::Store::Open(std::move(options)));
    schema_ = std::make_shared<const storage::Schema>(store->schema());
    received_ = store->received();
    actor_ = store->actor();
    horizon_ = store->horizon();
    ASSIGN_OR_RETURN(const std::string members, store->SavedMembers());
    members_ = DecodeMembers(members);
    writer_ = std::make_unique<Writer>(config_, std::move(store));
    collection_ = std::make_unique<Collection>(config_, writer_.get());
    return OkStatus();
  }

  Status StartGossip() {
    // The sockets before the threads: an address that is taken leaves nothing to undo.
    ASSIGN_OR_RETURN(net_,
                     Net::Open(config_, schema_.load()->Hash(), std::move(received_), clock_));
    const std::string path = DatabasePath(config_);
    ASSIGN_OR_RETURN(readers_, ReaderPool::Start(path, config_.readers, config_.reader_queue_max,
                                                 writer_->snapshots()));
    ASSIGN_OR_RETURN(net_readers_,
                     ReaderPool::Start(path, config_.net_readers, config_.reader_queue_max,
                                       writer_->snapshots()));
    writer_->Start(MakeListeners());
    ASSIGN_OR_RETURN(auto subscriptions,
                     Subscriptions::Start(config_, *schema_.load(), path, writer_.get()));
    verifier_ = std::make_unique<Verifier>(config_, writer_.get(), net_.get());
    backups_ = std::make_unique<Backups>(config_, writer_.get());
    net_->SetInquiryHandler([this](std::string payload, std::function<void(std::string)> reply) {
      verifier_->Answer(std::move(payload), std::move(reply));
    });
    subscriptions_ = std::move(subscriptions);
    live_subscriptions_.store(subscriptions_.get(), std::memory_order_release);
    for (const std::string& address : config_.api.listen) RemoveStaleSocket(address);
    ApiContext context;
    context.config = &config_;
    context.schema = &schema_;
    context.writer = writer_.get();
    context.readers = readers_.get();
    context.net_readers = net_readers_.get();
    context.subscriptions = subscriptions_.get();
    context.net = net_.get();
    context.verifier = verifier_.get();
    context.backups = backups_.get();
    if (config_.page_check_interval > Duration::zero()) {
      page_checker_ = std::make_unique<PageChecker>(
          path, config_.page_check_interval, [this](const Error& error) { LeaveService(error); });
      context.page_checker = page_checker_.get();
    }
    context.collection = collection_.get();
    net_->SetHistory(horizon_, members_);
    net_->Start(writer_.get(), net_readers_.get(), collection_.get());
    if (actor_ != ActorId()) net_->OnActor(actor_);
    ASSIGN_OR_RETURN(api_, ApiServer::Start(context));
    live_api_.store(api_.get(), std::memory_order_release);
    if (out_of_service_) api_->LeaveService(DataLoss("the database's file is damaged"));
    return OkStatus();
  }

  Writer::Listeners MakeListeners() {
    Writer::Listeners listeners;
    Net* const net = net_.get();
    listeners.on_local_commit = [net](auto changes) { net->OnLocalCommit(std::move(changes)); };
    listeners.on_persisted = [net](auto ids) { net->OnPersisted(std::move(ids)); };
    listeners.on_persist_failed = [net](auto ids) { net->OnPersistFailed(std::move(ids)); };
    listeners.on_too_old = [net](auto ids) { net->OnTooOld(std::move(ids)); };
    listeners.on_snapshot_taken = [this] {
      begin_anew_.store(true, std::memory_order_release);
      RequestStop();
    };
    listeners.on_parked = [net](auto ids) { net->OnParked(std::move(ids)); };
    listeners.on_staged = [net](uint64_t transfer, uint64_t number, Status status) {
      net->OnStaged(transfer, number, std::move(status));
    };
    listeners.on_large_staged = [net](uint64_t transfer, auto next) {
      net->OnLargeStaged(transfer, std::move(next));
    };
    listeners.on_transfer_merged = [net](uint64_t transfer, auto received) {
      net->OnTransferMerged(transfer, std::move(received));
    };
    listeners.on_actor = [net](ActorId actor) { net->OnActor(actor); };
    listeners.on_commit = [this](std::shared_ptr<const storage::CommitEffects> effects) {
      OnCommit(std::move(effects));
    };
    listeners.on_damage = [this](Error error) { LeaveService(error); };
    listeners.on_fatal = [this](Error error) { Fatal(std::move(error)); };
    return listeners;
  }

  /// On the writer thread, which ends before what it tells is destroyed.
  void OnCommit(std::shared_ptr<const storage::CommitEffects> effects) {
    Subscriptions* const subscriptions = live_subscriptions_.load(std::memory_order_acquire);
    ApiServer* const api = live_api_.load(std::memory_order_acquire);
    if (effects->schema) {
      schema_ = effects->schema;
      net_->OnSchema(effects->schema->Hash());
    }
    if (subscriptions != nullptr) subscriptions->OnCommit(effects);
    if (api != nullptr) api->OnCommit(std::move(effects));
  }

  /// The file is damaged. What is still answered could be wrong, and nothing more can be kept:
  /// others are to be asked. The process stays, so that it can be asked why. From the writer thread
  /// or the page checker's.
  void LeaveService(const Error& error) {
    if (out_of_service_.exchange(true)) return;
    LogError("agent", "this node leaves service: ", error.message);
    readers_->Refuse(error);
    net_readers_->Refuse(error);
    if (ApiServer* const api = live_api_.load(std::memory_order_acquire)) api->LeaveService(error);
    net_->LeaveCluster();
    writer_->Run([error](storage::Store& store) { store.NoteDamage(error); });
  }

  void Fatal(Error error) {
    const std::lock_guard lock(mutex_);
    if (fatal_.ok()) fatal_ = std::move(error);
    ended_.notify_all();
  }

  /// A thread that is stuck cannot be helped: the process ends, and is started anew by whoever
  /// minds it. Silence is counted in the watchdog's own rounds, so that a process that was stopped
  /// for a while (a suspended machine, SIGSTOP) is not taken for stuck when it goes on.
  void Watch() {
    Watched writer{"writer"}, net{"net"};
    const int64_t limit = std::max<int64_t>(1, ToMs(config_.watchdog_timeout) / 1'000);
    std::unique_lock lock(mutex_);
    while (!ended_.wait_for(lock, std::chrono::seconds(1), [this] { return stop_requested_; })) {
      writer.Look(writer_->LastTurnMs(), limit);
      net.Look(net_->LastTurnMs(), limit);
    }
  }

  struct Watched {
    std::string_view thread;
    int64_t last_turn_ms = -1;
    int64_t silent_rounds = 0;

    void Look(int64_t turn_ms, int64_t rounds_max) {
      silent_rounds = turn_ms == last_turn_ms ? silent_rounds + 1 : 0;
      last_turn_ms = turn_ms;
      if (silent_rounds <= rounds_max) return;
      LogError("agent", "the ", thread, " thread has not come round for ", silent_rounds,
               " s (limits.watchdog_timeout_ms): the process ends");
      std::abort();
    }
  };

  Config config_;  // as given, before Start
  FolderLock lock_;
  std::shared_ptr<FaultClock> clock_;
  LiveSchema schema_;
  crdt::VersionSet received_;
  ActorId actor_;
  crdt::HlcTime horizon_;
  std::vector<std::pair<std::string, int64_t>> members_;

  // Destroyed from the last to the first; all have been stopped by then.
  std::unique_ptr<Net> net_;
  std::unique_ptr<Collection> collection_;
  std::unique_ptr<Writer> writer_;
  std::unique_ptr<ReaderPool> readers_;      // clients'
  std::unique_ptr<ReaderPool> net_readers_;  // peers': slow queries must not hold up repair
  std::unique_ptr<Verifier> verifier_;
  std::unique_ptr<Backups> backups_;
  std::unique_ptr<Subscriptions> subscriptions_;
  std::unique_ptr<ApiServer> api_;
  std::atomic<Subscriptions*> live_subscriptions_{nullptr};
  std::atomic<ApiServer*> live_api_{nullptr};

  std::unique_ptr<PageChecker> page_checker_;
  std::atomic<bool> out_of_service_{false};
  std::thread watchdog_;
  std::atomic<bool> stopped_{false}, begin_anew_{false};
  std::mutex mutex_;  // guards the two below
  bool stop_requested_ = false;
  Status fatal_;
  std::condition_variable ended_;
};

Agent::Agent(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Agent::~Agent() = default;

Result<std::unique_ptr<Agent>> Agent::Start(const Config& config) {
  auto impl = std::make_unique<Impl>(config);
  RETURN_IF_ERROR(impl->Start());
  return std::unique_ptr<Agent>(new Agent(std::move(impl)));
}

void Agent::Stop() { impl_->Stop(); }
std::vector<std::string> Agent::api_addresses() const { return impl_->api_addresses(); }
std::string Agent::gossip_address() const { return impl_->gossip_address(); }
Status Agent::WaitForFatal() { return impl_->WaitForFatal(); }
void Agent::ReloadSchema() { impl_->ReloadSchema(); }
bool Agent::MustBeginAnew() const { return impl_->MustBeginAnew(); }
void Agent::RequestStop() { impl_->RequestStop(); }

}  // namespace patina::agent

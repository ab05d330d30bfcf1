#include "agent/net.h"

#include <atomic>
#include <future>
#include <mutex>
#include <thread>
#include <utility>

#include "agent/asio_util.h"
#include "agent/coalescer.h"
#include "agent/net_core.h"
#include "base/log.h"
#include "base/thread_checker.h"

namespace patina::agent {
namespace {

constexpr std::chrono::microseconds kFreshWindow{2'000};
constexpr std::chrono::microseconds kPersistedWindow{3'000};
constexpr size_t kFreshBytesMax = 64u << 20;  // of own changes the loop has not come round to

/// The way onto the loop for threads that may outlive it: after Shut nothing passes.
class Door {
 public:
  explicit Door(asio::io_context* io) : io_(io) {}
  bool Post(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    if (io_ == nullptr) return false;
    asio::post(*io_, std::move(task));
    return true;
  }
  void Shut() {
    const std::lock_guard lock(mutex_);
    io_ = nullptr;
  }

 private:
  std::mutex mutex_;
  asio::io_context* io_;  // guarded
};

/// A transfer that could not be staged or merged: a snapshot does instead, or it has failed.
void OnTransferError(NetCore* core, uint64_t transfer, const Error& error) {
  if (error.code == storage::kNeedsSnapshot) {
    core->Node().OnTransferNeedsSnapshot(transfer, core->now(), core->out());
  } else {
    core->Node().OnTransferFailed(transfer, error.ToString(), core->now(), core->out());
  }
}

}  // namespace

class Net::Impl {
 public:
  explicit Impl(const Config& config, std::shared_ptr<FaultClock> clock)
      : config_(config), clock_(std::move(clock)), door_(std::make_shared<Door>(&io_)) {}

  ~Impl() { Stop(); }

  Status Open(uint64_t schema_hash, crdt::VersionSet received) {
    ASSIGN_OR_RETURN(auto transport, Transport::Open(io_, config_));
    gossip::Self self;
    self.name = config_.node.name;
    self.region = config_.node.region;
    ASSIGN_OR_RETURN(self.address, Advertised(transport->bound()));
    self.api_address = config_.api.advertise;
    self.schema = schema_hash;
    self.boot_wall_ms = clock_->WallMs();
    advertised_ = self.address;
    core_ = std::make_unique<NetCore>(io_, config_, std::move(transport), self, std::move(received),
                                      clock_);
    return OkStatus();
  }

  void Start(Writer* writer, ReaderPool* readers, Collection* collection) {
    core_->NoteTurn();
    thread_ = std::thread([this, writer, readers, collection] {
      NameThread("net");
      core_->Start(
          writer, readers, collection,
          [this, door = door_](std::function<void()> task) {
            door->Post(Wrapped(std::move(task)));
          },
          handler_);
      io_.run();
    });
  }

  void Stop() {
    if (stopped_.exchange(true)) return;
    if (thread_.joinable()) {
      door_->Post(Wrapped([this] {
        core_->BeginLeave();
        WaitForLeave();
      }));
      thread_.join();
    }
    door_->Shut();
    if (core_) core_->Close();
    // What was posted and did not run: callers learn that we stop; closed sockets tell their
    // handlers.
    io_.restart();
    io_.poll();
  }

  void Post(std::function<void()> task) { door_->Post(Wrapped(std::move(task))); }

  /// With answers for callers: false if it will never run.
  bool TryPost(std::function<void()> task) { return door_->Post(Wrapped(std::move(task))); }

  /// Fresh changes: the first at once, then at most one batch a window.
  void OnLocalCommit(std::vector<gossip::Change> changes) {
    for (gossip::Change& change : changes) {
      if (change.bytes == nullptr) continue;  // a large one: peers fetch its chunks
      if (fresh_bytes_.load(std::memory_order_relaxed) > kFreshBytesMax) {
        change.bytes = nullptr;  // left to repair, and counted there
      } else {
        fresh_bytes_.fetch_add(change.bytes->size(), std::memory_order_relaxed);
      }
    }
    if (fresh_.Add(std::move(changes))) Post([this] { fresh_.Turn(); });
  }

  /// What the writer has made durable: gossip only has to know before it next compares sets.
  void OnPersisted(std::vector<ChangeId> ids) {
    if (persisted_.Add(std::move(ids))) Post([this] { persisted_.Turn(); });
  }

  NetCore& core() { return *core_; }
  const Config& config() const { return config_; }
  const FaultClock& clock() const { return *clock_; }
  Endpoint advertised() const { return advertised_; }
  void SetInquiryHandler(InquiryHandler handler) { handler_ = std::move(handler); }
  bool OnThread() const { return thread_.get_id() == std::this_thread::get_id(); }

 private:
  Result<Endpoint> Advertised(const Endpoint& bound) const {
    auto endpoint = Endpoint::Parse(config_.gossip.advertise.empty() ? config_.gossip.listen
                                                                     : config_.gossip.advertise);
    if (!endpoint) return InvalidArgument("gossip.advertise: not a numeric address with a port");
    if (endpoint->port == 0) endpoint->port = bound.port;
    Endpoint any = Endpoint::V4(0, 0, 0, 0, endpoint->port), any6;
    any6.port = endpoint->port;
    if (*endpoint == any || *endpoint == any6) {
      return InvalidArgument(
          "gossip.advertise must be set to an address that peers can reach, "
          "because gossip.listen is " +
          config_.gossip.listen);
    }
    return *endpoint;
  }

  std::function<void()> Wrapped(std::function<void()> task) {
    return [this, task = std::move(task)] {
      task();
      core_->OnTurn();
    };
  }

  void WaitForLeave() {
    core_->OnTurn();
    if (core_->LeaveFinished()) {
      core_->Close();
      io_.stop();
      return;
    }
    leave_timer_.expires_after(std::chrono::milliseconds(10));
    leave_timer_.async_wait([this](boost::system::error_code error) {
      if (!error) WaitForLeave();
    });
  }

  const Config config_;
  std::shared_ptr<FaultClock> clock_;
  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_{io_.get_executor()};
  asio::steady_timer leave_timer_{io_};
  std::atomic<size_t> fresh_bytes_{0};
  Coalescer<gossip::Change> fresh_{io_, kFreshWindow, [this](std::vector<gossip::Change> changes) {
                                     for (const gossip::Change& change : changes) {
                                       if (change.bytes) fresh_bytes_ -= change.bytes->size();
                                     }
                                     core_->Node().OnLocalCommit(std::move(changes), core_->now(),
                                                                 core_->out());
                                     core_->OnTurn();
                                   }};
  Coalescer<ChangeId> persisted_{io_, kPersistedWindow, [this](const std::vector<ChangeId>& ids) {
                                   core_->Node().OnPersisted(ids, core_->now(), core_->out());
                                   core_->OnTurn();
                                 }};
  std::shared_ptr<Door> door_;
  std::unique_ptr<NetCore> core_;
  InquiryHandler handler_;
  Endpoint advertised_;
  std::thread thread_;
  std::atomic<bool> stopped_{false};
};

Net::Net(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Net::~Net() = default;

Result<std::unique_ptr<Net>> Net::Open(const Config& config, uint64_t schema_hash,
                                       crdt::VersionSet received,
                                       std::shared_ptr<FaultClock> clock) {
  if (!clock) clock = std::make_shared<FaultClock>();
  try {  // Asio's loop throws when the system gives it no descriptors
    auto impl = std::make_unique<Impl>(config, std::move(clock));
    RETURN_IF_ERROR(impl->Open(schema_hash, std::move(received)));
    return std::unique_ptr<Net>(new Net(std::move(impl)));
  } catch (const std::exception& exception) {
    return Unavailable(std::string("gossip cannot be set up: ") + exception.what());
  }
}

void Net::LeaveCluster() {
  impl_->Post([impl = impl_.get()] { impl->core().BeginLeave(); });
}

void Net::SetHistory(crdt::HlcTime horizon,
                     const std::vector<std::pair<std::string, int64_t>>& members) {
  impl_->core().Node().SetHorizon(horizon);
  impl_->core().Node().SetKnownMembers(members);
}

void Net::Start(Writer* writer, ReaderPool* readers, Collection* collection) {
  impl_->Start(writer, readers, collection);
}
void Net::Stop() { impl_->Stop(); }
Endpoint Net::advertised() const { return impl_->advertised(); }

void Net::OnLocalCommit(std::vector<gossip::Change> changes) {
  impl_->OnLocalCommit(std::move(changes));
}

void Net::OnPersisted(std::vector<ChangeId> ids) { impl_->OnPersisted(std::move(ids)); }

void Net::OnPersistFailed(std::vector<ChangeId> ids) {
  impl_->Post([core = &impl_->core(), ids = std::move(ids)] {
    core->Node().OnPersistFailed(ids, core->now(), core->out());
  });
}

void Net::OnTooOld(std::vector<ChangeId> ids) {
  impl_->Post([core = &impl_->core(), ids = std::move(ids)] {
    core->Node().OnTooOld(ids, core->now(), core->out());
  });
}

void Net::OnStaged(uint64_t transfer, uint64_t number, Status status) {
  impl_->Post([core = &impl_->core(), transfer, number, status = std::move(status)] {
    if (!status.ok()) return OnTransferError(core, transfer, status.error());
    core->Node().OnTransferStaged(transfer, number, core->now(), core->out());
  });
}

void Net::OnLargeStaged(uint64_t transfer, Result<uint64_t> next) {
  impl_->Post([core = &impl_->core(), transfer, next = std::move(next)] {
    if (!next.ok()) return OnTransferError(core, transfer, next.error());
    core->Node().OnLargeStaged(transfer, *next, core->now(), core->out());
  });
}

void Net::OnTransferMerged(uint64_t transfer, Result<crdt::VersionSet> received) {
  impl_->Post([core = &impl_->core(), transfer, received = std::move(received)] {
    if (!received.ok()) return OnTransferError(core, transfer, received.error());
    core->Node().OnTransferMerged(transfer, *received, core->now(), core->out());
  });
}

void Net::OnParked(std::vector<ChangeId> ids) {
  impl_->Post([core = &impl_->core(), ids = std::move(ids)]() mutable {
    core->Node().SetParked(std::move(ids));
  });
}

void Net::OnActor(ActorId actor) {
  impl_->Post(
      [core = &impl_->core(), actor] { core->Node().SetActor(actor, core->now(), core->out()); });
}

void Net::OnSchema(uint64_t schema_hash) {
  impl_->Post([core = &impl_->core(), schema_hash] {
    core->Node().SetSchema(schema_hash, core->now(), core->out());
  });
}

std::vector<gossip::MemberView> Net::Members() const { return impl_->core().Members(); }
Net::Stats Net::stats() const { return impl_->core().stats(); }

std::shared_ptr<void> Net::WatchMembers(std::function<void(const gossip::MemberView&)> on_change) {
  return impl_->core().WatchMembers(std::move(on_change));
}

void Net::Ask(const std::string& member, std::string payload, Duration deadline,
              std::function<void(Result<InquiryReply>)> done) {
  auto shared = std::make_shared<decltype(done)>(std::move(done));
  const bool posted =
      impl_->TryPost([core = &impl_->core(), member, payload = std::move(payload), deadline,
                      shared] { core->Ask(member, payload, deadline, std::move(*shared)); });
  if (!posted) (*shared)(Unavailable("the agent is stopping"));
}

void Net::SetInquiryHandler(InquiryHandler handler) {
  impl_->SetInquiryHandler(std::move(handler));
}

Result<std::vector<std::string>> Net::Fault(const FaultCommand& command) {
  if (!impl_->config().fault_injection) {
    return FailedPrecondition("this agent does not run with --fault-injection");
  }
  if (impl_->OnThread()) return impl_->core().Fault(command);
  auto answer = std::make_shared<std::promise<Result<std::vector<std::string>>>>();
  auto future = answer->get_future();
  const bool posted = impl_->TryPost(
      [core = &impl_->core(), command, answer] { answer->set_value(core->Fault(command)); });
  if (!posted) return Unavailable("the agent is stopping");
  return future.get();
}

const Clock& Net::clock() const { return impl_->clock(); }
int64_t Net::LastTurnMs() const { return impl_->core().LastTurnMs(); }

}  // namespace patina::agent

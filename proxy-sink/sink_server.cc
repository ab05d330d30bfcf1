#include "proxy-sink/sink_server.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "base/log.h"
#include "base/random.h"
#include "patina/v1/route.grpc.pb.h"

namespace patina::proxy_sink {
namespace {

constexpr size_t kCountMax = 100;
constexpr int kExcludeMax = 1000;

void FillCandidate(const Candidate& from, v1::Candidate* to) {
  to->set_machine(from.machine);
  to->set_port(static_cast<uint32_t>(from.service.port));
  to->set_address(from.service.address);
  to->set_region(from.region);
  to->set_host(from.host);
  to->set_distance_ms(from.distance.known ? from.distance.ms : -1);
  to->set_distance_measured(from.distance.measured);
  to->set_check(std::string(CheckStatusName(from.service.check)));
  to->set_inflight(from.service.inflight);
  to->set_soft_limit(from.service.soft_limit);
  to->set_hard_limit(from.service.hard_limit);
  to->set_cpu_load(from.cpu_load);
  to->set_load_age_ms(from.load_age_ms);
  to->set_reason(from.reason);
}

/// What a watcher is told of: who may be used in what order, not how busy they are.
std::string SignatureOf(const v1::PickResponse& response) {
  std::string signature = response.agent_connected() ? "connected" : "alone";
  for (const v1::Candidate& each : response.candidates()) {
    signature += StrCat('\n', each.machine(), '\t', each.port(), '\t', each.address(), '\t',
                        each.region(), '\t', each.check());
  }
  std::set<std::string> rejected;
  for (const v1::Rejected& each : response.rejected()) rejected.insert(each.machine());
  for (const std::string& machine : rejected) signature += "\n-" + machine;
  return signature;
}

grpc::Status CheckRequest(const v1::PickRequest& request, const std::string& default_region) {
  const auto invalid = [](const char* message) {
    return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, message);
  };
  if (request.app().empty()) return invalid("app is empty");
  if (request.app().size() > kTextBytesMax) return invalid("app is longer than 1 KiB");
  if (request.exclude_size() > kExcludeMax) return invalid("exclude names over 1,000 machines");
  if (request.from_region().empty() && default_region.empty()) {
    return invalid("from_region is empty and this sink has no region of its own (sink.region)");
  }
  return grpc::Status::OK;
}

}  // namespace

class SinkServer::Service final : public v1::Route::CallbackService {
 public:
  Service(SinkServerOptions options, const Table* table, const Feed* feed, const Clock* clock)
      : options_(std::move(options)),
        table_(*table),
        feed_(*feed),
        clock_(*clock),
        seed_(SystemEntropy()) {}

  Result<std::vector<int>> Start();
  void Stop();
  void OnPublished(const PublishedChanges& changes);

  grpc::ServerUnaryReactor* Pick(grpc::CallbackServerContext* context,
                                 const v1::PickRequest* request,
                                 v1::PickResponse* response) override;
  grpc::ServerWriteReactor<v1::PickResponse>* Watch(grpc::CallbackServerContext* context,
                                                    const v1::PickRequest* request) override;
  grpc::ServerUnaryReactor* SinkStatus(grpc::CallbackServerContext* context,
                                       const v1::SinkStatusRequest* request,
                                       v1::SinkStatusResponse* response) override;

 private:
  class Watcher;

  /// The answer's text when there is none is in the status; *response has the reasons, too.
  grpc::Status Answer(const v1::PickRequest& request, Rng& rng, v1::PickResponse* response) const;

  const SinkServerOptions options_;
  const Table& table_;
  const Feed& feed_;
  const Clock& clock_;
  const uint64_t seed_;
  std::atomic<uint64_t> picks_{0};
  std::mutex mutex_;  // of watchers_; OnPublished holds it while it tells them, so that they stay
  std::map<std::string, std::set<Watcher*>> watchers_;  // by app
  std::unique_ptr<grpc::Server> server_;
};

grpc::Status SinkServer::Service::Answer(const v1::PickRequest& request, Rng& rng,
                                         v1::PickResponse* response) const {
  const FeedStatus status = feed_.status();
  PickQuery query;
  query.from_region = request.from_region().empty() ? options_.region : request.from_region();
  if (request.count() > 0) query.count = std::min<size_t>(request.count(), kCountMax);
  query.exclude.assign(request.exclude().begin(), request.exclude().end());
  response->set_app(request.app());
  response->set_from_region(query.from_region);
  response->set_change_number(status.change_number);
  response->set_table_age_ms(status.age_ms);
  response->set_agent_connected(status.agent_connected);

  const auto app = table_.Find(request.app());
  if (app == nullptr) {
    if (status.age_ms < 0) {
      return {grpc::StatusCode::UNAVAILABLE,
              "no table yet: the agent at " + feed_.agent() + " has not sent one"};
    }
    return {grpc::StatusCode::NOT_FOUND, "no such app: " + request.app()};
  }
  const PickAnswer answer =
      proxy_sink::Pick(*app, *table_.geography(), query, clock_.WallMs(), rng, options_.pick);
  for (const Candidate& each : answer.candidates) FillCandidate(each, response->add_candidates());
  for (const Rejection& each : answer.rejected) {
    v1::Rejected* rejected = response->add_rejected();
    rejected->set_machine(each.machine);
    rejected->set_region(each.region);
    rejected->set_reason(each.reason);
  }
  if (answer.candidates.empty()) {
    return {grpc::StatusCode::UNAVAILABLE, WhyNone(*app, answer)};
  }
  return grpc::Status::OK;
}

grpc::ServerUnaryReactor* SinkServer::Service::Pick(grpc::CallbackServerContext* context,
                                                    const v1::PickRequest* request,
                                                    v1::PickResponse* response) {
  auto* reactor = context->DefaultReactor();
  grpc::Status status = CheckRequest(*request, options_.region);
  if (status.ok()) {
    Rng rng(seed_ + picks_.fetch_add(1, std::memory_order_relaxed));
    status = Answer(*request, rng, response);
    if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
      context->AddTrailingMetadata(kNoMachineKey, "1");
    }
  }
  reactor->Finish(status);
  return reactor;
}

grpc::ServerUnaryReactor* SinkServer::Service::SinkStatus(grpc::CallbackServerContext* context,
                                                          const v1::SinkStatusRequest*,
                                                          v1::SinkStatusResponse* response) {
  const FeedStatus status = feed_.status();
  response->set_region(options_.region);
  response->set_agent(feed_.agent());
  response->set_agent_connected(status.agent_connected);
  response->set_table_age_ms(status.age_ms);
  response->set_apps(table_.apps());
  response->set_endpoints(table_.endpoints());
  response->set_updates(table_.updates());
  response->set_rows_ignored(table_.rows_ignored());
  response->set_change_number(status.change_number);
  response->set_last_update_unix_ms(status.last_update_unix_ms);
  auto* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

/// One Watch call. At most one write is under way; what changes meanwhile is answered after it,
/// once.
class SinkServer::Service::Watcher final : public grpc::ServerWriteReactor<v1::PickResponse> {
 public:
  Watcher(Service* service, v1::PickRequest request)
      : service_(*service), request_(std::move(request)) {}

  const std::string& app() const { return request_.app(); }

  /// Feed's thread, and the one that opens the call.
  void Recheck() {
    std::lock_guard<std::mutex> lock(mutex_);
    stale_ = true;
    WriteIfChanged();
  }
  void Refuse(const grpc::Status& status) {
    std::lock_guard<std::mutex> lock(mutex_);
    FinishOnce(status);
  }

 private:
  void OnWriteDone(bool ok) override {
    std::lock_guard<std::mutex> lock(mutex_);
    writing_ = false;
    if (!ok) return FinishOnce(grpc::Status::CANCELLED);
    WriteIfChanged();
  }
  void OnCancel() override {
    std::lock_guard<std::mutex> lock(mutex_);
    FinishOnce(grpc::Status::CANCELLED);
  }
  void OnDone() override {
    {
      std::lock_guard<std::mutex> lock(service_.mutex_);
      const auto found = service_.watchers_.find(app());
      if (found != service_.watchers_.end()) {
        found->second.erase(this);
        if (found->second.empty()) service_.watchers_.erase(found);
      }
    }
    delete this;
  }

  /// StartWrite and Finish only hand over to gRPC: no reaction runs inside of them, so the lock may
  /// be held.
  void WriteIfChanged() {
    if (writing_ || finished_ || !std::exchange(stale_, false)) return;
    response_.Clear();
    Rng rng(kSeed);  // always the same draws: equal tables give equal answers
    (void)service_.Answer(request_, rng, &response_);
    std::string signature = SignatureOf(response_);
    if (signature == signature_) return;
    signature_ = std::move(signature);
    writing_ = true;
    StartWrite(&response_);
  }
  void FinishOnce(const grpc::Status& status) {
    if (!std::exchange(finished_, true)) Finish(status);
  }

  static constexpr uint64_t kSeed = 1;
  Service& service_;
  const v1::PickRequest request_;
  std::mutex mutex_;  // of what follows
  v1::PickResponse response_;
  std::string signature_;
  bool stale_ = false, writing_ = false, finished_ = false;
};

grpc::ServerWriteReactor<v1::PickResponse>* SinkServer::Service::Watch(
    grpc::CallbackServerContext*, const v1::PickRequest* request) {
  auto* watcher = new Watcher(this, *request);  // deletes itself in OnDone
  const grpc::Status status = CheckRequest(*request, options_.region);
  if (!status.ok()) {
    watcher->Refuse(status);
    return watcher;
  }
  std::lock_guard<std::mutex> lock(mutex_);
  watchers_[request->app()].insert(watcher);
  watcher->Recheck();
  return watcher;
}

void SinkServer::Service::OnPublished(const PublishedChanges& changes) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (changes.all_apps) {
    for (const auto& [app, watchers] : watchers_) {
      for (Watcher* watcher : watchers) watcher->Recheck();
    }
    return;
  }
  if (watchers_.empty()) return;
  for (const std::string& app : changes.apps) {
    const auto found = watchers_.find(app);
    if (found == watchers_.end()) continue;
    for (Watcher* watcher : found->second) watcher->Recheck();
  }
}

Result<std::vector<int>> SinkServer::Service::Start() {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  std::vector<int> ports(options_.listen.size(), 0);
  for (size_t i = 0; i < ports.size(); ++i) {
    builder.AddListeningPort(options_.listen[i], grpc::InsecureServerCredentials(), &ports[i]);
  }
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // a second sink there is an error
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  for (size_t i = 0; i < ports.size(); ++i) {
    if (server_ != nullptr && ports[i] != 0) continue;
    server_.reset();
    return Unavailable("cannot listen on " + options_.listen[i] + ": in use, or no such address");
  }
  return ports;
}

void SinkServer::Service::Stop() {
  if (!server_) return;
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
  server_->Wait();
  server_.reset();
}

SinkServer::SinkServer(SinkServerOptions options, const Table* table, const Feed* feed,
                       const Clock* clock)
    : service_(std::make_unique<Service>(std::move(options), table, feed, clock)) {}
SinkServer::~SinkServer() { Stop(); }
Result<std::vector<int>> SinkServer::Start() { return service_->Start(); }
void SinkServer::Stop() { service_->Stop(); }
void SinkServer::OnPublished(const PublishedChanges& changes) { service_->OnPublished(changes); }

}  // namespace patina::proxy_sink

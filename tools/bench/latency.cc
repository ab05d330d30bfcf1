#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <algorithm>
#include <condition_variable>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "base/random.h"
#include "patina/v1/state.grpc.pb.h"
#include "tools/bench/api_client.h"
#include "tools/bench/runs.h"
#include "tools/bench/samples.h"
#include "tools/bench/workload.h"
#include "tools/client.h"

namespace patina::tools::bench {
namespace {

constexpr Duration kEventDeadline = std::chrono::seconds(5);

/// A subscription to the rows of one app; remembers when each value of the last column came.
class Subscriber : public grpc::ClientBidiReactor<v1::SubscribeRequest, v1::SubscribeResponse> {
 public:
  Subscriber(ApiClient& client, const std::string& sql, const std::string& parameter)
      : stub_(v1::State::NewStub(client.channel())) {
    v1::SubscribeRequest_Open* open = request_.mutable_open();
    open->mutable_statement()->set_sql(sql);
    open->mutable_statement()->add_parameters()->set_text(parameter);
    open->set_window(16);
    if (!client.token().empty()) call_.AddMetadata("authorization", "Bearer " + client.token());
    stub_->async()->Subscribe(&call_, this);
    writing_ = true;
    StartWrite(&request_);
    StartRead(&response_);
    StartCall();
  }

  ~Subscriber() override {
    call_.TryCancel();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return done_; });
  }

  Status WaitReady() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kEventDeadline, [this] { return ready_ || done_; });
    if (ready_) return OkStatus();
    if (!done_) return DeadlineExceeded("no snapshot came within 5 s");
    return Error{static_cast<Errc>(status_.error_code()), status_.error_message()};
  }

  /// When the event with this value came; nothing if it did not within 5 s.
  std::optional<Instant> WaitFor(int64_t value) {
    std::unique_lock lock(mutex_);
    const auto came = [this, value] { return arrived_.contains(value) || done_; };
    changed_.wait_for(lock, kEventDeadline, came);
    const auto found = arrived_.find(value);
    if (found == arrived_.end()) return std::nullopt;
    return found->second;
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    const Instant now = clock_.Now();
    std::lock_guard lock(mutex_);
    for (const v1::SubscribeEvent& event : response_.events()) Take(event, now);
    acknowledged_ = response_.number();
    Acknowledge();
    changed_.notify_all();
    StartRead(&response_);
  }

  void OnWriteDone(bool ok) override {
    std::lock_guard lock(mutex_);
    writing_ = false;
    if (ok) Acknowledge();
  }

  void OnDone(const grpc::Status& status) override {
    std::lock_guard lock(mutex_);
    status_ = status;
    done_ = true;
    changed_.notify_all();
  }

 private:
  void Take(const v1::SubscribeEvent& event, Instant now) {
    if (event.has_end_of_snapshot()) ready_ = true;
    const v1::SubscribeEvent_RowChange* row = nullptr;
    if (event.has_insert()) row = &event.insert();
    if (event.has_update()) row = &event.update();
    if (row != nullptr && row->values_size() > 0) {
      arrived_.emplace(row->values(row->values_size() - 1).integer(), now);
    }
  }

  void Acknowledge() {
    if (writing_ || acknowledged_ == told_) return;
    told_ = acknowledged_;
    request_.set_acknowledged(told_);
    writing_ = true;
    StartWrite(&request_);
  }

  const std::unique_ptr<v1::State::Stub> stub_;
  const SystemClock clock_;
  grpc::ClientContext call_;
  v1::SubscribeRequest request_;
  v1::SubscribeResponse response_;
  grpc::Status status_;

  std::mutex mutex_;  // of all below
  std::condition_variable changed_;
  std::map<int64_t, Instant> arrived_;
  uint64_t acknowledged_ = 0, told_ = 0;
  bool writing_ = false, ready_ = false, done_ = false;
};

struct Watched {
  std::string address;
  std::unique_ptr<ApiClient> client;
  std::unique_ptr<Subscriber> subscriber;
  Samples from_sent, from_acknowledged;
  uint64_t lost = 0;
};

/// One write and the wait for its event everywhere.
Status TakeSample(ApiClient& writer, const std::string& key, int64_t value,
                  std::vector<Watched>& watched) {
  const SystemClock clock;
  v1::ExecuteRequest request;
  v1::Statement* statement = request.add_statements();
  statement->set_sql("UPDATE machines SET updated_ms = ?2 WHERE id = ?1");
  statement->add_parameters()->set_text(key);
  statement->add_parameters()->set_integer(value);
  v1::ExecuteResponse response;
  const Instant sent = clock.Now();
  RETURN_IF_ERROR(writer.Execute(request, &response));
  const Instant acknowledged = clock.Now();
  for (Watched& one : watched) {
    const std::optional<Instant> came = one.subscriber->WaitFor(value);
    if (!came) {
      ++one.lost;
      continue;
    }
    one.from_sent.Add(*came - sent);
    one.from_acknowledged.Add(*came - acknowledged);
  }
  return OkStatus();
}

Status InsertRow(ApiClient& writer, const std::string& key, const std::string& app) {
  v1::ExecuteRequest request;
  v1::Statement* statement = request.add_statements();
  statement->set_sql("INSERT INTO machines (id, app) VALUES (?1, ?2)");
  statement->add_parameters()->set_text(key);
  statement->add_parameters()->set_text(app);
  v1::ExecuteResponse response;
  return writer.Execute(request, &response);
}

Status Measure(const LatencyOptions& options, CommandContext& context,
               std::vector<Watched>& watched) {
  const std::string app = UniquePrefix("latency");
  const std::string key = app + "row";
  ApiClient writer(context, options.writer);
  for (const std::string& address : options.subscribers) {
    Watched one{address, std::make_unique<ApiClient>(context, address), nullptr, {}, {}, 0};
    one.subscriber = std::make_unique<Subscriber>(
        *one.client, "SELECT id, updated_ms FROM machines WHERE app = ?1", app);
    RETURN_IF_ERROR(one.subscriber->WaitReady());
    watched.push_back(std::move(one));
  }
  RETURN_IF_ERROR(InsertRow(writer, key, app));
  for (Watched& one : watched) {  // everybody has the row before the first sample
    if (!one.subscriber->WaitFor(0)) return DeadlineExceeded(one.address + " did not get the row");
  }
  Rng random(1);
  for (uint64_t i = 1; i <= options.samples; ++i) {
    RETURN_IF_ERROR(TakeSample(writer, key, static_cast<int64_t>(i), watched));
    std::this_thread::sleep_for(
        std::chrono::duration<double, std::milli>(options.pause_ms * (0.5 + random.Unit())));
  }
  return OkStatus();
}

}  // namespace

void RunLatency(const LatencyOptions& options, CommandContext& context) {
  std::vector<Watched> watched;
  const Status status = Measure(options, context, watched);
  if (!status.ok()) return Fail(context, status.error());
  RowPrinter printer(std::cout, context.format,
                     {"subscriber", "samples", "lost", "sent_p50_ms", "sent_p99_ms",
                      "acknowledged_p50_ms", "acknowledged_p99_ms"});
  for (Watched& one : watched) {
    printer.Print({crdt::Value::Text(one.address),
                   crdt::Value::Integer(static_cast<int64_t>(one.from_sent.size())),
                   crdt::Value::Integer(static_cast<int64_t>(one.lost)),
                   crdt::Value::Real(one.from_sent.PercentileMs(0.5)),
                   crdt::Value::Real(one.from_sent.PercentileMs(0.99)),
                   crdt::Value::Real(one.from_acknowledged.PercentileMs(0.5)),
                   crdt::Value::Real(one.from_acknowledged.PercentileMs(0.99))});
    if (one.lost > 0) context.exit_code = kExitFailed;
  }
}

}  // namespace patina::tools::bench

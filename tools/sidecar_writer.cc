#include "tools/sidecar_writer.h"

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/random.h"
#include "patina/v1/state.grpc.pb.h"
#include "tools/client.h"
#include "tools/proto_values.h"

namespace patina::tools {
namespace {

constexpr Duration kWriteDeadline = std::chrono::seconds(5);

class AgentTarget final : public RowTarget {
 public:
  explicit AgentTarget(const CommandContext& context) : context_(context) {
    std::string address = context.api;
    if (address.empty()) {
      const bool has_socket = ::access("/run/patina/api.sock", F_OK) == 0;
      address = has_socket ? "unix:/run/patina/api.sock" : "127.0.0.1:7401";
    }
    channel_ = MakeChannel(address);
    stub_ = v1::State::NewStub(channel_);
  }

  Result<std::string> Write(const std::vector<SqlWrite>& writes) override {
    v1::ExecuteRequest request;
    for (const SqlWrite& write : writes) {
      v1::Statement* statement = request.add_statements();
      statement->set_sql(write.sql);
      for (const crdt::Value& value : write.parameters) {
        ToProto(value, statement->add_parameters());
      }
    }
    grpc::ClientContext call;
    PrepareCall(context_, call, kWriteDeadline);
    v1::ExecuteResponse response;
    const grpc::Status status = stub_->Execute(&call, request, &response);
    if (!status.ok()) return Error{static_cast<Errc>(status.error_code()), status.error_message()};
    return response.id().actor();
  }

  bool Connected() override { return channel_->GetState(true) == GRPC_CHANNEL_READY; }

 private:
  const CommandContext context_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::State::Stub> stub_;
};

bool SameContent(const DesiredRow& a, const DesiredRow& b) {
  return a.table == b.table && a.keys == b.keys && a.fields == b.fields;
}

}  // namespace

std::unique_ptr<RowTarget> MakeAgentTarget(const CommandContext& context) {
  return std::make_unique<AgentTarget>(context);
}

RowWriter::RowWriter(std::unique_ptr<RowTarget> target,
                     std::function<void(const std::string&)> note, RowWriterOptions options)
    : target_(std::move(target)),
      note_(std::move(note)),
      options_(options),
      thread_([this] { Run(); }) {}

RowWriter::~RowWriter() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void RowWriter::Set(std::vector<DesiredRow> rows) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    for (DesiredRow& row : rows) {
      std::string name = row.Name();
      const auto found = std::find_if(entries_.begin(), entries_.end(),
                                      [&](const Entry& entry) { return entry.name == name; });
      if (found == entries_.end()) {
        entries_.push_back({.name = std::move(name), .row = std::move(row)});
      } else if (!SameContent(found->row, row)) {
        found->row = std::move(row);
        ++found->wanted;
      }
    }
  }
  changed_.notify_all();
}

bool RowWriter::Flush(Duration deadline) {
  std::unique_lock<std::mutex> lock(mutex_);
  return changed_.wait_for(lock, deadline, [&] { return Clean(); });
}

uint64_t RowWriter::writes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return writes_;
}

bool RowWriter::Clean() const {
  return std::all_of(entries_.begin(), entries_.end(),
                     [](const Entry& entry) { return entry.written == entry.wanted; });
}

void RowWriter::SendAllAgain() {
  for (Entry& entry : entries_) entry.written = 0;
}

void RowWriter::Run() {
  Rng rng(SystemEntropy());
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    if (Clean()) {
      changed_.wait_for(lock, options_.connection_poll, [&] { return stopping_ || !Clean(); });
      if (!stopping_ && Clean()) WatchConnection(lock);
      continue;
    }
    WriteDirty(lock);
    if (failures_ == 0) continue;
    const Duration backoff =
        std::min(options_.backoff_max, options_.backoff_min * (1 << std::min(failures_ - 1, 16)));
    const Duration wait(
        static_cast<int64_t>(static_cast<double>(backoff.count()) * (0.5 + 0.5 * rng.Unit())));
    changed_.wait_for(lock, wait, [&] { return stopping_; });
  }
}

void RowWriter::WriteDirty(std::unique_lock<std::mutex>& lock) {
  std::vector<SqlWrite> writes;
  std::vector<std::pair<size_t, uint64_t>> sent;  // entry, its wanted then
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].written == entries_[i].wanted) continue;
    writes.push_back(entries_[i].row.ToSql());
    sent.emplace_back(i, entries_[i].wanted);
  }
  lock.unlock();
  const Result<std::string> result = target_->Write(writes);
  const int failures_before = failures_;  // this thread's alone
  if (!result.ok() && failures_before == 0) note_("cannot write: " + result.error().ToString());
  if (result.ok() && failures_before > 0) note_("writing again");
  lock.lock();
  TakeResult(result, sent);
  changed_.notify_all();
}

void RowWriter::TakeResult(const Result<std::string>& result,
                           const std::vector<std::pair<size_t, uint64_t>>& sent) {
  if (!result.ok()) {
    ++failures_;
    return SendAllAgain();
  }
  failures_ = 0;
  lost_ = false;
  ++writes_;
  for (const auto& [index, wanted] : sent) entries_[index].written = wanted;
  if (result->empty()) return;
  // A new actor is a new process, perhaps with another file: what it was not sent now, it is sent
  // next.
  if (!actor_.empty() && actor_ != *result) {
    for (size_t i = 0; i < entries_.size(); ++i) {
      const bool just_sent =
          std::any_of(sent.begin(), sent.end(), [&](const auto& each) { return each.first == i; });
      if (!just_sent) entries_[i].written = 0;
    }
  }
  actor_ = *result;
}

void RowWriter::WatchConnection(std::unique_lock<std::mutex>& lock) {
  lock.unlock();
  const bool connected = target_->Connected();
  lock.lock();
  if (connected && std::exchange(lost_, false)) SendAllAgain();
  if (!connected) lost_ = true;
}

}  // namespace patina::tools

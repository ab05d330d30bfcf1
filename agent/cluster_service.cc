#include "agent/cluster_service.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "agent/grpc_status.h"
#include "patina/v1/cluster.grpc.pb.h"

namespace patina::agent {
namespace {

v1::Member::State ToProto(gossip::MemberState state) {
  switch (state) {
    case gossip::MemberState::kAlive:
      return v1::Member::STATE_ALIVE;
    case gossip::MemberState::kSuspect:
      return v1::Member::STATE_SUSPECT;
    case gossip::MemberState::kDead:
      return v1::Member::STATE_DEAD;
    case gossip::MemberState::kLeft:
      return v1::Member::STATE_LEFT;
  }
  return v1::Member::STATE_UNSPECIFIED;
}

void FillMember(const gossip::MemberView& view, Instant now, v1::Member* member) {
  member->set_name(view.info.name);
  member->set_region(view.info.region);
  member->set_address(view.info.address.ToString());
  member->set_state(ToProto(view.state));
  member->set_incarnation(view.info.incarnation);
  member->set_self(view.self);
  if (view.round_trip) member->set_round_trip_us(ToUs(*view.round_trip));
  if (view.versions_behind) member->set_versions_behind(*view.versions_behind);
  // A node does not time its own state: unset is no age, not the age of the machine.
  if (view.since != Instant()) {
    member->set_state_age_ms(std::max<int64_t>(0, ToMs(now - view.since)));
  }
  member->set_api_address(view.info.api_address);
  if (view.info.actor != ActorId()) member->set_actor(std::string(view.info.actor.AsBytes()));
  member->set_schema_hash(view.info.schema);
  member->set_stream_only(view.stream_only);
}

/// One WatchMembers stream. The net thread notes changes; they are coalesced by name while a
/// message is on its way, so what waits is never more than one entry per member.
class WatchMembersCall final : public grpc::ServerWriteReactor<v1::WatchMembersResponse>,
                               public ApiStream,
                               public std::enable_shared_from_this<WatchMembersCall> {
 public:
  static WatchMembersCall* New(const ApiContext& context, ApiStreams& streams) {
    auto call = std::make_shared<WatchMembersCall>(streams);
    call->self_ = call;
    if (const Status added = streams.Add(call.get()); !added.ok()) {
      call->End(added.error());
    } else {
      call->Begin(*context.net);
    }
    return call.get();
  }

  explicit WatchMembersCall(ApiStreams& streams) : streams_(streams) {}

  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    if (!ok && !ending_) ending_ = Error{Errc::kCancelled, "the client has gone"};
    Pump();
  }

  void OnCancel() override { End(Error{Errc::kCancelled, "the client has gone"}); }

  void OnDone() override {
    watch_.reset();
    streams_.Remove(this);
    const std::shared_ptr<WatchMembersCall> last = std::move(self_);
  }

  void End(const Error& error) override {
    const std::lock_guard lock(mutex_);
    if (!ending_) ending_ = error;
    Pump();
  }

 private:
  void Begin(Net& net) {
    // Watch first: a change between the two calls is then in both, and the later news wins below.
    watch_ = net.WatchMembers([weak = weak_from_this()](const gossip::MemberView& member) {
      if (const auto call = weak.lock()) call->OnMember(member);
    });
    std::vector<gossip::MemberView> members = net.Members();
    const std::lock_guard lock(mutex_);
    for (gossip::MemberView& member : members) {
      changed_.try_emplace(member.info.name, std::move(member));
    }
    has_snapshot_ = true;
    Pump();
  }

  void OnMember(const gossip::MemberView& member) {
    const std::lock_guard lock(mutex_);
    changed_.insert_or_assign(member.info.name, member);
    Pump();
  }

  /// Under the lock.
  void Pump() {
    if (writing_ || finished_) return;
    if (ending_) {
      finished_ = true;
      Finish(ToGrpcStatus(*ending_));
      return;
    }
    if (!has_snapshot_ || (changed_.empty() && snapshot_sent_)) return;
    response_.Clear();
    const Instant now = SystemClock().Now();
    for (const auto& [name, member] : changed_) FillMember(member, now, response_.add_members());
    changed_.clear();
    response_.set_end_of_snapshot(!snapshot_sent_);
    snapshot_sent_ = true;
    writing_ = true;
    StartWrite(&response_);
  }

  ApiStreams& streams_;
  std::shared_ptr<WatchMembersCall> self_;  // until OnDone
  std::shared_ptr<void> watch_;
  std::mutex mutex_;
  std::map<std::string, gossip::MemberView> changed_;
  v1::WatchMembersResponse response_;
  std::optional<Error> ending_;
  bool has_snapshot_ = false, snapshot_sent_ = false, writing_ = false, finished_ = false;
};

class ClusterService final : public v1::Cluster::CallbackService {
 public:
  ClusterService(const ApiContext& context, ApiStreams& streams)
      : context_(context), streams_(streams) {}

  grpc::ServerUnaryReactor* Members(grpc::CallbackServerContext* call, const v1::MembersRequest*,
                                    v1::MembersResponse* response) override {
    std::vector<gossip::MemberView> members = context_.net->Members();
    std::sort(members.begin(), members.end(),
              [](const auto& a, const auto& b) { return a.info.name < b.info.name; });
    const Instant now = SystemClock().Now();
    for (const gossip::MemberView& member : members) {
      FillMember(member, now, response->add_members());
    }
    grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  grpc::ServerWriteReactor<v1::WatchMembersResponse>* WatchMembers(
      grpc::CallbackServerContext*, const v1::WatchMembersRequest*) override {
    return WatchMembersCall::New(context_, streams_);
  }

 private:
  const ApiContext context_;
  ApiStreams& streams_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeClusterService(const ApiContext& context, ApiStreams& streams) {
  return std::make_unique<ClusterService>(context, streams);
}

}  // namespace patina::agent

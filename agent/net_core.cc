#include "agent/net_core.h"

#include <algorithm>
#include <cstdlib>
#include <tuple>

#include "agent/asio_util.h"
#include "base/log.h"
#include "proto/peer_codec.h"

namespace patina::agent {
namespace {

constexpr Duration kWakeMax = std::chrono::milliseconds(500);
constexpr Duration kSweepInterval = std::chrono::milliseconds(250);
constexpr Duration kPublishInterval =
    std::chrono::milliseconds(100);  // of what changes all the time
constexpr Duration kCorrectInterval = std::chrono::seconds(1);
constexpr Duration kGarbageLogInterval = std::chrono::seconds(10);
constexpr Duration kLostPause = std::chrono::milliseconds(10);
constexpr int kRoundsMax = 100;

}  // namespace

// ---- The timer ---------------------------------------------------------------------------------

struct LoopTimer::Impl : std::enable_shared_from_this<LoopTimer::Impl> {
  Impl(asio::io_context& io, std::function<void()> fire) : timer(io), on_fire(std::move(fire)) {}
  asio::steady_timer timer;
  std::function<void()> on_fire;
  std::optional<Instant> armed;
};

LoopTimer::LoopTimer(asio::io_context& io, std::function<void()> on_fire)
    : impl_(std::make_shared<Impl>(io, std::move(on_fire))) {}
LoopTimer::~LoopTimer() { Cancel(); }

void LoopTimer::ArmBy(Instant deadline) {
  if (!impl_->on_fire || (impl_->armed && *impl_->armed <= deadline)) return;
  impl_->armed = deadline;
  impl_->timer.expires_at(deadline);
  impl_->timer.async_wait([impl = impl_](boost::system::error_code error) {
    if (error || !impl->on_fire) return;
    impl->armed.reset();
    impl->on_fire();
  });
}

void LoopTimer::Cancel() {
  impl_->on_fire = nullptr;
  impl_->timer.cancel();
}

// ---- Life --------------------------------------------------------------------------------------

NetCore::NetCore(asio::io_context& io, const Config& config, std::unique_ptr<Transport> transport,
                 const gossip::Self& self, crdt::VersionSet received,
                 std::shared_ptr<FaultClock> clock)
    : config_(config),
      clock_(std::move(clock)),
      transport_(std::move(transport)),
      node_(config.gossip_core, self, std::move(received), SystemEntropy()),
      timer_(io, [this] { OnTurn(); }),
      seeds_(io, config.gossip.seeds,
             [this](std::vector<Endpoint> addresses) {
               Node().SetSeeds(std::move(addresses));
               if (!turning_) OnTurn();
             }),
      faults_(SystemEntropy()) {
  Publish();
}

NetCore::~NetCore() = default;

void NetCore::Start(Writer* writer, ReaderPool* readers, Collection* collection, Post post,
                    Net::InquiryHandler handler) {
  writer_ = writer;
  collection_ = collection;
  readers_ = readers;
  post_ = std::move(post);
  inquiry_handler_ = std::move(handler);
  const TransferServer::Answers answers{
      [this](uint64_t serving, uint64_t number, gossip::SharedBytes bytes, bool last) {
        Node().OnTransferChunkRead(serving, number, std::move(bytes), last, now_, out_);
      },
      [this](uint64_t serving, const std::string& reason) {
        Node().OnTransferReadFailed(serving, reason, now_, out_);
      }};
  transfers_ =
      std::make_unique<TransferServer>(DatabasePath(config_), writer, readers, post_, answers);
  snapshots_ = std::make_unique<SnapshotServer>(config_, writer, readers, post_, answers);
  const gossip::MemberInfo& self = node_.self();
  proto::Hello own;
  own.cluster = config_.gossip.cluster;
  own.name = self.name;
  own.incarnation = self.incarnation;
  own.boot = self.boot;
  own.address = self.address;
  transport_->Start(std::move(own), this);
  seeds_.Resolve();
  Node().Start(now_, out_);
  OnTurn();
}

void NetCore::BeginLeave() {
  Node().Leave(now_, out_);
  leave_until_ = now_ + config_.gossip_core.leave_deadline;
}

bool NetCore::LeaveFinished() {
  return leave_until_ && (node_.LeaveDone() || clock_->Now() >= *leave_until_);
}

void NetCore::Close() {
  if (closed_) return;
  closed_ = true;
  timer_.Cancel();
  seeds_.Cancel();
  transport_->Close();
  delayed_.clear();
  FailInquiries([](const Pending&) { return true; }, Unavailable("the agent is stopping"));
}

gossip::Node& NetCore::Node() {
  now_ = clock_->Now();
  node_.SetWallMs(clock_->WallMs());
  return node_;
}

void NetCore::NoteTurn() {
  last_turn_ms_.store(ToMs(clock_->Now().time_since_epoch()), std::memory_order_release);
}

// ---- What comes in -----------------------------------------------------------------------------

void NetCore::OnDatagramBytes(const Endpoint& from, std::string_view bytes) {
  auto datagram = proto::DecodeDatagram(bytes);
  if (!datagram.ok()) {
    ++datagram_garbage_;
    const Instant now = clock_->Now();
    if (now >= garbage_log_at_) {
      garbage_log_at_ = now + kGarbageLogInterval;
      LogWarning("net", "a datagram from ", from.ToString(),
                 " was dropped: ", datagram.error().message, " (", datagram_garbage_, " so far)");
    }
    return;
  }
  if (faults_.Any() && faults_.IsCut(datagram->from)) return;
  Node().OnDatagram(from, *datagram, now_, out_);
}

void NetCore::OnPeerMessage(PeerConnection& connection, proto::PeerMessage message) {
  if (auto* frame = std::get_if<gossip::Frame>(&message)) {
    Node().OnFrame(connection.peer().name, std::move(*frame), now_, out_);
  } else if (auto* inquiry = std::get_if<proto::Inquiry>(&message)) {
    OnInquiry(connection, std::move(*inquiry));
  } else if (auto* answer = std::get_if<proto::InquiryAnswer>(&message)) {
    OnInquiryAnswer(connection, std::move(*answer));
  }
}

void NetCore::OnStreamLost(const std::string& peer, proto::Purpose purpose) {
  if (!closed_) lost_.emplace(peer, purpose);
}

// ---- Inquiries ---------------------------------------------------------------------------------

void NetCore::OnInquiry(PeerConnection& connection, proto::Inquiry inquiry) {
  if (!inquiry_handler_ || answering_ >= config_.inquiries_max) {
    ++inquiries_refused_;  // whoever asks has a deadline
    return;
  }
  ++answering_;
  inquiry_handler_(
      std::move(inquiry.payload), [this, post = post_, id = inquiry.id,
                                   weak = connection.weak_from_this()](std::string payload) {
        post([this, id, weak, payload = std::move(payload)]() mutable {
          --answering_;
          const auto open = weak.lock();
          if (!open || closed_) return;
          open->Send(true, std::make_shared<const std::string>(proto::EncodeFrame(
                               proto::InquiryAnswer{id, node_.self().name, std::move(payload)})));
        });
      });
}

void NetCore::OnInquiryAnswer(PeerConnection& connection, proto::InquiryAnswer answer) {
  const auto it = pending_.find(answer.id);
  if (it == pending_.end() || it->second.member != connection.peer().name) return;  // too late
  const auto done = std::move(it->second.done);
  const std::string member = it->second.member;
  pending_.erase(it);
  done(InquiryReply{member, std::move(answer.payload)});
}

void NetCore::Ask(const std::string& member, std::string payload, Duration deadline,
                  std::function<void(Result<InquiryReply>)> done) {
  const auto view = closed_ ? std::nullopt : node_.Member(member);
  if (!view || view->self) {
    done(Unavailable(closed_ ? "the agent is stopping" : "no such member: " + member));
    return;
  }
  const uint64_t id = next_inquiry_++;
  const Instant now = clock_->Now();
  pending_[id] = {member, now + deadline, std::move(done)};
  const auto bytes = std::make_shared<const std::string>(
      proto::EncodeFrame(proto::Inquiry{id, std::move(payload)}));
  if (faults_.IsCut(member) ||
      !transport_->SendFrame(member, view->info.address, proto::Purpose::kRepair, true, bytes)) {
    FailInquiries([&](const Pending& pending) { return pending.member == member; },
                  Unavailable(member + " cannot be reached"));
  }
}

void NetCore::FailInquiries(const std::function<bool(const Pending&)>& which, const Error& error) {
  std::vector<Pending> failed;
  for (auto it = pending_.begin(); it != pending_.end();) {
    if (which(it->second)) {
      failed.push_back(std::move(it->second));
      it = pending_.erase(it);
    } else {
      ++it;
    }
  }
  for (Pending& pending : failed) pending.done(error);
}

// ---- One turn ----------------------------------------------------------------------------------

void NetCore::OnTurn() {
  if (closed_ || turning_) return;
  turning_ = true;
  TellLost();
  for (int round = 0; round < kRoundsMax && !closed_; ++round) {
    if (clock_->Now() >= node_.NextDeadline()) Node().Tick(now_, out_);
    if (out_.Empty()) break;
    gossip::Outputs work;
    std::swap(work, out_);
    Perform(work);
  }
  Housekeeping();
  turning_ = false;
  NoteTurn();
  if (!closed_) timer_.ArmBy(NextWake());
}

/// Once per turn: if the node answers with more for the same peer, that is lost in the next turn, a
/// little later, so that an unreachable peer does not keep the loop busy.
void NetCore::TellLost() {
  for (const auto& [peer, purpose] : std::exchange(lost_, {})) {
    if (purpose == proto::Purpose::kRepair) {
      FailInquiries([&name = peer](const Pending& pending) { return pending.member == name; },
                    Unavailable("the connection to " + peer + " was lost"));
    }
    if (!peer.empty()) Node().OnStreamLost(peer, now_, out_);
  }
}

Instant NetCore::NextWake() const {
  const Instant now = clock_->Now();
  Instant wake = std::min(now + kWakeMax, node_.NextDeadline());
  if (!out_.Empty()) wake = now;
  if (!lost_.empty()) wake = std::min(wake, now + kLostPause);
  if (!delayed_.empty()) wake = std::min(wake, delayed_.begin()->first.first);
  if (members_changed_) wake = std::min(wake, publish_at_);
  for (const auto& [id, pending] : pending_) wake = std::min(wake, pending.deadline);
  return wake;
}

// ---- Now and then ------------------------------------------------------------------------------

void NetCore::Housekeeping() {
  if (closed_) return;
  const Instant now = clock_->Now();
  while (!delayed_.empty() && delayed_.begin()->first.first <= now) {
    const auto send = std::move(delayed_.begin()->second.send);
    delayed_.erase(delayed_.begin());
    send();
  }
  FailInquiries([now](const Pending& pending) { return pending.deadline <= now; },
                DeadlineExceeded("no answer in time"));
  if (now >= sweep_at_) {
    sweep_at_ = now + kSweepInterval;
    transport_->Sweep(now);
    if (transfers_ != nullptr) transfers_->EndTold();
    if (snapshots_ != nullptr) snapshots_->Sweep();
  }
  if (now >= publish_at_) Publish();
  if (now >= correct_at_) CorrectClock();
  ResolveSeedsIfDue();
}

void NetCore::Publish() {
  auto members = node_.Members();
  Net::Stats stats;
  stats.gossip = node_.counters();
  stats.versions_lacking = node_.VersionsLacking();
  stats.clock_correction_ms = node_.ClockCorrectionMs();
  stats.in_flight_bytes = node_.InFlightBytes();
  const Transport::Counters counters = transport_->counters();
  stats.connections = counters.open;
  stats.garbage = datagram_garbage_ + counters.connections.garbage;
  stats.peer_queue_drops = counters.connections.queue_drops;
  stats.bytes_in = counters.connections.bytes_in + counters.datagram_bytes_in;
  stats.bytes_out = counters.connections.bytes_out + counters.datagram_bytes_out;
  stats.refused_peers = counters.refused_peers;
  stats.connect_failures = counters.connect_failures;
  stats.datagrams_unsent = counters.datagrams_unsent;
  stats.changes_unreadable = counters.connections.changes_unreadable;
  stats.inquiries_refused = inquiries_refused_;
  // The copy costs about a third of a microsecond per member: rarer in large clusters.
  publish_at_ = clock_->Now() + kPublishInterval + std::chrono::microseconds(30) * members.size();
  members_changed_ = false;
  const std::lock_guard lock(mutex_);
  members_.swap(members);
  stats_ = stats;
}

void NetCore::CorrectClock() {
  correct_at_ = clock_->Now() + kCorrectInterval;
  if (writer_ == nullptr) return;
  if (const int64_t correction = node_.ClockCorrectionMs(); correction != clock_correction_ms_) {
    LogWarning("net", "the wall clock differs from the peers': it is corrected by ", correction,
               " ms");
    clock_correction_ms_ = correction;
  }
  const int64_t offset = node_.ClusterMinusSteadyMs();
  if (cluster_minus_steady_ms_ && std::llabs(offset - *cluster_minus_steady_ms_) <= 1) return;
  cluster_minus_steady_ms_ = offset;
  writer_->Run([offset](storage::Store& store) { store.SetClusterMinusSteady(offset); });
}

void NetCore::ResolveSeedsIfDue() {
  const Instant now = clock_->Now();
  if (now < resolve_at_ || config_.gossip.seeds.empty()) return;
  resolve_at_ = now + config_.seed_resolve_interval;
  std::set<Endpoint> alive;
  for (const gossip::MemberView& member : node_.Members()) {
    if (member.state == gossip::MemberState::kAlive) alive.insert(member.info.address);
  }
  const auto& seeds = seeds_.addresses();
  const bool all_reached =
      !seeds.empty() && std::all_of(seeds.begin(), seeds.end(),
                                    [&](const Endpoint& seed) { return alive.contains(seed); });
  if (!all_reached) seeds_.Resolve();
}

Result<std::vector<std::string>> NetCore::Fault(const FaultCommand& command) {
  if (!config_.fault_injection) {
    return FailedPrecondition("this agent does not run with --fault-injection");
  }
  if (command.kind == FaultCommand::Kind::kClock) {
    clock_->SetErrorMs(command.clock_ms);
  } else {
    RETURN_IF_ERROR(faults_.Apply(command));
  }
  if (command.kind == FaultCommand::Kind::kCut) {
    std::vector<std::string> cut;
    transport_->CloseIf([&](const std::string& name) {
      if (!faults_.IsCut(name)) return false;
      cut.push_back(name);
      return true;
    });
    for (const std::string& name : cut) {
      lost_.emplace(name, proto::Purpose::kFresh);
      lost_.emplace(name, proto::Purpose::kRepair);
    }
  }
  std::vector<std::string> active = faults_.Active();
  if (clock_->error_ms() != 0) {
    active.push_back(
        StrCat("clock ", clock_->error_ms() > 0 ? "+" : "", clock_->error_ms(), " ms"));
  }
  return active;
}

// ---- Any thread --------------------------------------------------------------------------------

std::vector<gossip::MemberView> NetCore::Members() const {
  const std::lock_guard lock(mutex_);
  return members_;
}

Net::Stats NetCore::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

std::shared_ptr<void> NetCore::WatchMembers(Watcher on_change) {
  auto watcher = std::make_shared<Watcher>(std::move(on_change));
  const std::lock_guard lock(mutex_);
  watchers_.push_back(watcher);
  return watcher;
}

}  // namespace patina::agent

#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "agent/faults.h"
#include "agent/net.h"
#include "agent/seeds.h"
#include "agent/snapshot_server.h"
#include "agent/transfer_server.h"
#include "agent/transport.h"
#include "gossip/node.h"

// The net thread's insides, shared by net.cc (life, calls from other
// threads), net_core.cc (what comes in, one turn) and net_perform.cc (outputs).

namespace patina::agent {

/// Sets off work at an instant, on the loop. (So that Asio's timer stays in a .cc.)
class LoopTimer {
 public:
  LoopTimer(boost::asio::io_context& io, std::function<void()> on_fire);
  ~LoopTimer();
  /// Fires at this instant, or earlier if it was armed for earlier.
  void ArmBy(Instant deadline);
  void Cancel();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

/// What the loop is and does: owns the gossip::Node and performs its outputs. All calls on the net
/// thread, except where said.
class NetCore final : public TransportOwner {
 public:
  NetCore(boost::asio::io_context& io, const Config& config, std::unique_ptr<Transport> transport,
          const gossip::Self& self, crdt::VersionSet received, std::shared_ptr<FaultClock> clock);
  ~NetCore() override;

  using Post = std::function<void(std::function<void()>)>;
  void Start(Writer* writer, ReaderPool* readers, Collection* collection, Post post,
             Net::InquiryHandler handler);
  void BeginLeave();
  bool LeaveFinished();
  void Close();

  /// Brings the node's clocks up to date: before every call to it.
  gossip::Node& Node();
  gossip::Outputs& out() { return out_; }
  Instant now() const { return now_; }
  /// Performs outputs until there are none, ticks, arms the timer. After every handler.
  void OnTurn() override;

  void Ask(const std::string& member, std::string payload, Duration deadline,
           std::function<void(Result<InquiryReply>)> done);
  Result<std::vector<std::string>> Fault(const FaultCommand& command);

  // Any thread.
  std::vector<gossip::MemberView> Members() const;
  Net::Stats stats() const;
  std::shared_ptr<void> WatchMembers(std::function<void(const gossip::MemberView&)> on_change);
  int64_t LastTurnMs() const { return last_turn_ms_.load(std::memory_order_acquire); }
  void NoteTurn();

 private:
  struct Pending {
    std::string member;
    Instant deadline;
    std::function<void(Result<InquiryReply>)> done;
  };
  struct Delayed {
    std::function<void()> send;
  };
  using Watcher = std::function<void(const gossip::MemberView&)>;

  // TransportOwner.
  void OnDatagramBytes(const Endpoint& from, std::string_view bytes) override;
  void OnPeerMessage(PeerConnection& connection, proto::PeerMessage message) override;
  bool PeerAllowed(const std::string& name) override { return !faults_.IsCut(name); }
  void OnStreamLost(const std::string& peer, proto::Purpose purpose) override;

  void OnInquiry(PeerConnection& connection, proto::Inquiry inquiry);
  void OnInquiryAnswer(PeerConnection& connection, proto::InquiryAnswer answer);
  void FailInquiries(const std::function<bool(const Pending&)>& which, const Error& error);

  // One turn.
  void Perform(gossip::Outputs& outputs);
  void PerformPersist(gossip::Outputs& outputs);
  void PerformSends(gossip::Outputs& outputs);
  void PerformReads(gossip::Outputs& outputs);
  void PerformPublish(std::shared_ptr<const gossip::Frontier> frontier);
  void PerformEvents(gossip::Outputs& outputs);
  void SendDatagram(const gossip::Outputs::DatagramOut& datagram);
  void SendFrame(const gossip::Outputs::FrameOut& frame, FrameBytes bytes);
  void SendDelayed(const std::string& peer, Duration delay, std::function<void()> send);
  void LogRead(gossip::Outputs::LogRead read);
  std::string NameAt(const Endpoint& address, const gossip::Datagram& datagram) const;
  void TellLost();
  void Housekeeping();
  void Publish();
  void CorrectClock();
  void ResolveSeedsIfDue();
  Instant NextWake() const;

  const Config& config_;
  std::shared_ptr<FaultClock> clock_;
  std::unique_ptr<Transport> transport_;
  gossip::Node node_;
  gossip::Outputs out_;
  LoopTimer timer_;
  SeedResolver seeds_;
  Faults faults_;
  Writer* writer_ = nullptr;
  ReaderPool* readers_ = nullptr;
  Collection* collection_ = nullptr;
  Post post_;
  Net::InquiryHandler inquiry_handler_;
  std::unique_ptr<TransferServer> transfers_;
  std::unique_ptr<SnapshotServer> snapshots_;

  Instant now_{};
  bool closed_ = false, turning_ = false;
  std::optional<Instant> leave_until_;
  std::set<std::pair<std::string, proto::Purpose>> lost_;  // the node is to be told
  std::unordered_map<Endpoint, std::string> names_;        // for faults only
  std::map<std::pair<Instant, uint64_t>, Delayed> delayed_;
  std::map<std::string, Instant> delayed_until_;  // per peer: order is kept
  uint64_t delayed_count_ = 0;
  std::map<uint64_t, Pending> pending_;
  uint64_t next_inquiry_ = 1;
  size_t answering_ = 0;
  int64_t clock_correction_ms_ = 0;
  std::optional<int64_t> cluster_minus_steady_ms_;  // as the writer knows it
  Instant sweep_at_{}, publish_at_{}, correct_at_{}, resolve_at_{}, garbage_log_at_{};
  bool members_changed_ = true;
  uint64_t datagram_garbage_ = 0, inquiries_refused_ = 0;

  std::atomic<int64_t> last_turn_ms_{0};
  mutable std::mutex mutex_;  // guards what follows; held for a copy only
  std::vector<gossip::MemberView> members_;
  Net::Stats stats_;
  std::vector<std::weak_ptr<Watcher>> watchers_;
};

}  // namespace patina::agent

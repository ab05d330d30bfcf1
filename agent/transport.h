#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/config.h"
#include "agent/peer_connection.h"
#include "base/endpoint.h"
#include "base/status.h"
#include "proto/peer_codec.h"

namespace patina::agent {

/// What a transport hears. On the net thread; OnTurn after each handler, when outputs are to be
/// performed.
class TransportOwner {
 public:
  virtual ~TransportOwner() = default;
  virtual void OnDatagramBytes(const Endpoint& from, std::string_view bytes) = 0;
  /// A frame from a peer that has introduced itself. connection: to answer an inquiry on.
  virtual void OnPeerMessage(PeerConnection& connection, proto::PeerMessage message) = 0;
  /// May this peer talk to us now? (Faults.)
  virtual bool PeerAllowed(const std::string& name) = 0;
  virtual void OnStreamLost(const std::string& peer, proto::Purpose purpose) = 0;
  virtual void OnTurn() = 0;
};

/// The sockets of a node: UDP and TCP on one port, and the connections to peers: at most two that
/// we open per peer (fresh changes with membership; repair with bulk), opened on demand, closed
/// when idle, and those that peers opened to us. A peer that cannot be reached is tried again with
/// growing pauses; meanwhile its frames are dropped and OnStreamLost says so. The net thread's.
class Transport final : private ConnectionOwner {
 public:
  struct Counters {
    ConnectionCounters connections;
    uint64_t refused_peers = 0, connect_failures = 0, datagrams_unsent = 0;
    uint64_t datagram_bytes_in = 0, datagram_bytes_out = 0;
    uint64_t open = 0;
  };

  /// Binds both sockets. Errors name the address.
  static Result<std::unique_ptr<Transport>> Open(boost::asio::io_context& io, const Config& config);
  ~Transport() override;

  /// As bound.
  Endpoint bound() const;
  /// own.purpose is filled in per connection.
  void Start(proto::Hello own, TransportOwner* owner);
  void Close();

  void SendDatagram(const Endpoint& to, const std::string& bytes);
  /// name empty: whoever answers at the address. first_lane: before all others on that connection.
  /// False: dropped.
  bool SendFrame(const std::string& name, const Endpoint& address, proto::Purpose purpose,
                 bool first_lane, FrameBytes frame);
  /// Closes all connections to and from peers for which this is true; quietly.
  void CloseIf(const std::function<bool(const std::string& name)>& condition);
  /// Deadlines; about each half second.
  void Sweep(Instant now);

  Counters counters() const;

 private:
  struct Impl;
  struct Outgoing;
  explicit Transport(std::unique_ptr<Impl> impl);
  Status OnHello(PeerConnection& connection) override;
  void OnMessage(PeerConnection& connection, proto::PeerMessage message) override;
  void OnClosed(PeerConnection& connection, const Status& why, bool quiet) override;
  void OnTurn() override;
  void ReceiveDatagrams();
  void DrainDatagrams();
  void AcceptNext();
  void OnAccepted(int socket, const Endpoint& from);
  void Dial(const std::string& name, const Endpoint& address, proto::Purpose purpose,
            Outgoing* outgoing);
  void CloseMostIdle();

  std::unique_ptr<Impl> impl_;
};

}  // namespace patina::agent

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/endpoint.h"
#include "base/status.h"
#include "proto/peer_codec.h"

namespace boost::asio {
class io_context;
}

namespace patina::agent {

class PeerConnection;

/// An encoded frame, shared by the connections it goes to.
using FrameBytes = std::shared_ptr<const std::string>;

struct ConnectionOptions {
  proto::PeerLimits limits;
  size_t queue_bytes_max = 32u << 20;  // per lane
  Duration handshake_timeout = std::chrono::seconds(5);
};

/// Counted by all connections of a node.
struct ConnectionCounters {
  uint64_t garbage = 0, queue_drops = 0, bytes_in = 0, bytes_out = 0, changes_unreadable = 0;
};

/// Whom a connection tells. On the net thread; may close connections, this one included.
class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;
  /// The peer has introduced itself: an error closes the connection.
  virtual Status OnHello(PeerConnection& connection) = 0;
  virtual void OnMessage(PeerConnection& connection, proto::PeerMessage message) = 0;
  /// Once, last. quiet: we closed it ourselves.
  virtual void OnClosed(PeerConnection& connection, const Status& why, bool quiet) = 0;
  /// After each handler: time to act on what was heard.
  virtual void OnTurn() = 0;
};

/// One TCP connection to or from a peer: handshake, length-prefixed frames, a bounded queue in two
/// lanes of which the first always goes first. The net thread's; nothing throws and nothing a peer
/// sends ends more than the connection.
class PeerConnection : public std::enable_shared_from_this<PeerConnection> {
 public:
  /// Begins to connect. name: whom we expect; empty: anybody.
  static std::shared_ptr<PeerConnection> Connect(boost::asio::io_context& io, const Endpoint& to,
                                                 std::string name, const proto::Hello& own,
                                                 const ConnectionOptions& options,
                                                 ConnectionCounters* counters,
                                                 ConnectionOwner* owner);
  /// Takes over an accepted socket.
  static std::shared_ptr<PeerConnection> Accept(boost::asio::io_context& io, int socket, bool v6,
                                                const Endpoint& from, const proto::Hello& own,
                                                const ConnectionOptions& options,
                                                ConnectionCounters* counters,
                                                ConnectionOwner* owner);
  ~PeerConnection();

  /// Queues; what is queued before the handshake is done waits for it. False: the lane is full, or
  /// the connection closed; the frame is dropped (and counted).
  bool Send(bool first_lane, FrameBytes frame);
  /// Says OnClosed (quietly), if it was not said.
  void Close();
  /// Looks at deadlines: handshake, a write that does not move, idleness.
  void Sweep(Instant now, Duration idle_max);

  bool outgoing() const;
  bool established() const;  // both have introduced themselves
  /// Valid once OnHello was called.
  const proto::Hello& peer() const;
  const std::string& expected_name() const;
  proto::Purpose purpose() const;
  const Endpoint& remote() const;
  Instant last_used() const;

 private:
  struct Impl;
  explicit PeerConnection(std::unique_ptr<Impl> impl);
  void StartConnect();
  void Begin();
  void Read();
  void OnRead(size_t bytes);
  bool HandleFrames();
  bool HandleFrame(uint8_t type, std::string_view body);
  bool HandleHello(const proto::PeerMessage& message);
  void MakeRoom();
  void Write();
  void Fail(Status why, bool quiet);

  std::unique_ptr<Impl> impl_;
};

}  // namespace patina::agent

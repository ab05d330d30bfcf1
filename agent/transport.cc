#include "agent/transport.h"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <utility>

#include "agent/asio_util.h"
#include "base/log.h"
#include "base/random.h"

namespace patina::agent {
namespace {

using asio::ip::tcp;
using asio::ip::udp;
using boost::system::error_code;

constexpr int kDatagramsPerTurn = 64;
constexpr int kBindTries = 20;  // of a port picked for TCP and free for UDP, too
constexpr Duration kRedialMin = std::chrono::milliseconds(50);
constexpr Duration kRedialMax = std::chrono::seconds(2);
constexpr Duration kRefusedLogInterval = std::chrono::seconds(10);

Instant Now() { return SystemClock().Now(); }

}  // namespace

/// One of the connections that we open.
struct Transport::Outgoing {
  std::shared_ptr<PeerConnection> connection;
  int failures = 0;     // in a row
  Instant redial_at{};  // not before
};

struct Transport::Impl {
  Impl(asio::io_context& context, const Config& config)
      : io(context),
        idle_max(config.connection_idle_max),
        connections_max(config.peer_connections_max),
        datagrams(context),
        acceptor(context),
        accept_retry(context),
        rng(SystemEntropy()) {
    options.limits.frame_bytes_max = config.frame_bytes_max;
    options.limits.changeset = config.store.changeset;
    options.limits.members_max = config.gossip_core.members_max;
    options.queue_bytes_max = config.peer_queue_bytes_max;
    options.handshake_timeout = config.handshake_timeout;
  }

  asio::io_context& io;
  ConnectionOptions options;
  const Duration idle_max;
  const size_t connections_max;
  udp::socket datagrams;
  tcp::acceptor acceptor;
  asio::steady_timer accept_retry;
  bool v6 = false;
  Endpoint bound;
  proto::Hello own;
  TransportOwner* owner = nullptr;
  Rng rng;
  std::string datagram = std::string(proto::kDatagramBytesMax + 1, '\0');

  using Key = std::pair<std::string, proto::Purpose>;
  std::map<Key, Outgoing> outgoing;  // by name, or address if the name is not known
  std::unordered_map<PeerConnection*, std::shared_ptr<PeerConnection>> incoming;
  Counters counters;
  Instant refused_log_at{};

  static Key KeyOf(const std::string& name, const Endpoint& address, proto::Purpose purpose) {
    return {name.empty() ? address.ToString() : name, purpose};
  }
};

Transport::Transport(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Transport::~Transport() { Close(); }

// ---- Opening -----------------------------------------------------------------------------------

namespace {

error_code BindBoth(tcp::acceptor& acceptor, udp::socket& udp, const Endpoint& listen, bool v6,
                    Endpoint* bound) {
  error_code error, ignored;
  acceptor.close(ignored);
  udp.close(ignored);
  const auto tcp_endpoint = ToAsio<tcp>(listen, v6);
  acceptor.open(tcp_endpoint.protocol(), error);
  if (error) return error;
  acceptor.set_option(asio::socket_base::reuse_address(true), ignored);
  acceptor.bind(tcp_endpoint, error);
  if (error) return error;
  acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) return error;
  const tcp::endpoint local = acceptor.local_endpoint(error);
  if (error) return error;
  *bound = listen;
  bound->port = local.port();
  const auto udp_endpoint = ToAsio<asio::ip::udp>(*bound, v6);
  udp.open(udp_endpoint.protocol(), error);
  if (error) return error;
  udp.bind(udp_endpoint, error);
  if (error) return error;
  udp.set_option(asio::socket_base::receive_buffer_size(1 << 20), ignored);
  udp.set_option(asio::socket_base::send_buffer_size(1 << 20), ignored);
  udp.non_blocking(true, error);
  return error;
}

}  // namespace

Result<std::unique_ptr<Transport>> Transport::Open(asio::io_context& io, const Config& config) {
  const auto listen = Endpoint::Parse(config.gossip.listen);
  if (!listen)
    return InvalidArgument("gossip.listen: \"" + config.gossip.listen + "\" is no address");
  auto impl = std::make_unique<Impl>(io, config);
  impl->v6 = !listen->IsV4();
  error_code error;
  for (int i = 0; i < kBindTries; ++i) {
    error = BindBoth(impl->acceptor, impl->datagrams, *listen, impl->v6, &impl->bound);
    if (!error || listen->port != 0) break;
  }
  if (error) {
    return Unavailable("gossip.listen: cannot listen on " + config.gossip.listen + ": " +
                       error.message());
  }
  return std::unique_ptr<Transport>(new Transport(std::move(impl)));
}

Endpoint Transport::bound() const { return impl_->bound; }

void Transport::Start(proto::Hello own, TransportOwner* owner) {
  impl_->own = std::move(own);
  impl_->owner = owner;
  ReceiveDatagrams();
  AcceptNext();
}

void Transport::Close() {
  impl_->owner = nullptr;
  error_code ignored;
  impl_->acceptor.close(ignored);
  impl_->datagrams.close(ignored);
  impl_->accept_retry.cancel();
  auto outgoing = std::move(impl_->outgoing);
  auto incoming = std::move(impl_->incoming);
  impl_->outgoing.clear();
  impl_->incoming.clear();
  for (auto& [key, entry] : outgoing) {
    if (entry.connection) entry.connection->Close();
  }
  for (auto& [pointer, connection] : incoming) connection->Close();
}

// ---- Datagrams ---------------------------------------------------------------------------------

void Transport::ReceiveDatagrams() {
  impl_->datagrams.async_wait(udp::socket::wait_read, [this](error_code error) {
    if (error == asio::error::operation_aborted || impl_->owner == nullptr) return;
    DrainDatagrams();
    if (impl_->owner == nullptr) return;
    impl_->owner->OnTurn();
    ReceiveDatagrams();
  });
}

void Transport::DrainDatagrams() {
  for (int i = 0; i < kDatagramsPerTurn && impl_->owner != nullptr; ++i) {
    udp::endpoint from;
    error_code error;
    const size_t size = impl_->datagrams.receive_from(
        asio::buffer(impl_->datagram.data(), impl_->datagram.size()), from, 0, error);
    // Errors of earlier sends (refused ports) are reported here, too: they mean nothing.
    if (error == asio::error::would_block || error == asio::error::try_again) return;
    if (error) continue;
    impl_->counters.datagram_bytes_in += size;
    impl_->owner->OnDatagramBytes(FromAsio(from), std::string_view(impl_->datagram.data(), size));
  }
}

void Transport::SendDatagram(const Endpoint& to, const std::string& bytes) {
  if (to.port == 0 || (!impl_->v6 && !to.IsV4())) {
    ++impl_->counters.datagrams_unsent;
    return;
  }
  error_code error;
  impl_->datagrams.send_to(asio::buffer(bytes), ToAsio<udp>(to, impl_->v6), 0, error);
  if (error) {
    ++impl_->counters.datagrams_unsent;
  } else {
    impl_->counters.datagram_bytes_out += bytes.size();
  }
}

// ---- Streams -----------------------------------------------------------------------------------

void Transport::AcceptNext() {
  impl_->acceptor.async_accept([this](error_code error, tcp::socket socket) {
    if (error == asio::error::operation_aborted || impl_->owner == nullptr) return;
    if (error) {  // out of descriptors, perhaps: a pause, not a spin
      impl_->accept_retry.expires_after(std::chrono::milliseconds(100));
      impl_->accept_retry.async_wait([this](error_code cancelled) {
        if (!cancelled && impl_->owner != nullptr) AcceptNext();
      });
      return;
    }
    const auto from = socket.remote_endpoint(error);
    if (!error) {
      const int native = socket.release(error);
      if (!error) OnAccepted(native, FromAsio(from));
    }
    impl_->owner->OnTurn();
    AcceptNext();
  });
}

void Transport::OnAccepted(int socket, const Endpoint& from) {
  if (impl_->incoming.size() >= impl_->connections_max) {
    ++impl_->counters.refused_peers;
    ::close(socket);
    return;
  }
  auto connection = PeerConnection::Accept(impl_->io, socket, impl_->v6, from, impl_->own,
                                           impl_->options, &impl_->counters.connections, this);
  PeerConnection* const key = connection.get();
  impl_->incoming.emplace(key, std::move(connection));
}

bool Transport::SendFrame(const std::string& name, const Endpoint& address, proto::Purpose purpose,
                          bool first_lane, FrameBytes frame) {
  if (impl_->owner == nullptr) return false;
  const auto key = Impl::KeyOf(name, address, purpose);
  Outgoing* outgoing = &impl_->outgoing[key];
  if (outgoing->connection && outgoing->connection->remote() != address) {
    const auto old = std::exchange(outgoing->connection, nullptr);
    outgoing->failures = 0;
    outgoing->redial_at = {};
    old->Close();  // it has moved: what was queued went to nobody
  }
  if (!outgoing->connection) {
    if (Now() < outgoing->redial_at) {
      ++impl_->counters.connections.queue_drops;
      impl_->owner->OnStreamLost(name, purpose);
      return false;
    }
    if (address.port == 0 || (!impl_->v6 && !address.IsV4())) {
      ++impl_->counters.connect_failures;
      impl_->outgoing.erase(key);
      impl_->owner->OnStreamLost(name, purpose);
      return false;
    }
    Dial(name, address, purpose, outgoing);
  }
  const auto connection = outgoing->connection;
  return connection->Send(first_lane, std::move(frame));
}

void Transport::Dial(const std::string& name, const Endpoint& address, proto::Purpose purpose,
                     Outgoing* outgoing) {
  size_t open = 0;
  for (const auto& [key, entry] : impl_->outgoing) open += entry.connection ? 1 : 0;
  if (open >= impl_->connections_max) CloseMostIdle();
  proto::Hello own = impl_->own;
  own.purpose = purpose;
  outgoing->connection = PeerConnection::Connect(impl_->io, address, name, own, impl_->options,
                                                 &impl_->counters.connections, this);
}

void Transport::CloseMostIdle() {
  std::shared_ptr<PeerConnection> idle;
  for (const auto& [key, entry] : impl_->outgoing) {
    if (!entry.connection) continue;
    if (!idle || entry.connection->last_used() < idle->last_used()) idle = entry.connection;
  }
  if (idle) idle->Close();
}

void Transport::CloseIf(const std::function<bool(const std::string& name)>& condition) {
  std::vector<std::shared_ptr<PeerConnection>> closing;
  for (const auto& [key, entry] : impl_->outgoing) {
    if (entry.connection && condition(key.first)) closing.push_back(entry.connection);
  }
  for (const auto& [pointer, connection] : impl_->incoming) {
    if (connection->established() && condition(connection->peer().name)) {
      closing.push_back(connection);
    }
  }
  for (const auto& connection : closing) connection->Close();
}

void Transport::Sweep(Instant now) {
  std::vector<std::shared_ptr<PeerConnection>> all;
  for (const auto& [key, entry] : impl_->outgoing) {
    if (entry.connection) all.push_back(entry.connection);
  }
  const size_t own = all.size();
  for (const auto& [pointer, connection] : impl_->incoming) all.push_back(connection);
  for (size_t i = 0; i < all.size(); ++i) {
    // The end that opened a connection closes it; the other waits longer, for an end that is gone.
    all[i]->Sweep(now, i < own ? impl_->idle_max : 3 * impl_->idle_max);
  }
  std::erase_if(impl_->outgoing, [&](const auto& entry) {
    return !entry.second.connection && now > entry.second.redial_at + 2 * kRedialMax;
  });
}

Transport::Counters Transport::counters() const {
  Counters counters = impl_->counters;
  counters.open = impl_->incoming.size();
  for (const auto& [key, entry] : impl_->outgoing) counters.open += entry.connection ? 1 : 0;
  return counters;
}

// ---- What connections say ----------------------------------------------------------------------

Status Transport::OnHello(PeerConnection& connection) {
  const proto::Hello& peer = connection.peer();
  const auto refusal = [&]() -> Status {
    if (peer.cluster != impl_->own.cluster) {
      return FailedPrecondition("it is of cluster \"" + peer.cluster + "\"");
    }
    RETURN_IF_ERROR(proto::CheckProtocol(impl_->own, peer));
    if (peer.name == impl_->own.name) {
      return FailedPrecondition(peer.boot == impl_->own.boot ? "it is this node itself"
                                                             : "it has this node's name");
    }
    if (connection.outgoing() && !connection.expected_name().empty() &&
        peer.name != connection.expected_name()) {
      return FailedPrecondition("it is \"" + peer.name + "\", not \"" + connection.expected_name() +
                                "\"");
    }
    if (impl_->owner != nullptr && !impl_->owner->PeerAllowed(peer.name)) {
      return Unavailable("cut by a fault");
    }
    return OkStatus();
  }();
  if (refusal.ok()) {
    if (!connection.outgoing()) return OkStatus();
    for (auto& [key, entry] : impl_->outgoing) {
      if (entry.connection.get() == &connection) entry.failures = 0;
    }
    return OkStatus();
  }
  ++impl_->counters.refused_peers;
  const Instant now = Now();
  if (now >= impl_->refused_log_at && refusal.error().code != Errc::kUnavailable) {
    impl_->refused_log_at = now + kRefusedLogInterval;
    LogWarning("net", "refused the peer ", peer.name, " at ", connection.remote().ToString(), ": ",
               refusal.error().message, " (", impl_->counters.refused_peers, " refused so far)");
  }
  return refusal;
}

void Transport::OnMessage(PeerConnection& connection, proto::PeerMessage message) {
  if (impl_->owner != nullptr) impl_->owner->OnPeerMessage(connection, std::move(message));
}

void Transport::OnClosed(PeerConnection& connection, const Status& why, bool quiet) {
  if (!connection.outgoing()) {
    impl_->incoming.erase(&connection);
    return;
  }
  for (auto& [key, entry] : impl_->outgoing) {
    if (entry.connection.get() != &connection) continue;
    const auto kept = std::exchange(entry.connection, nullptr);
    if (quiet) break;
    if (!connection.established()) ++impl_->counters.connect_failures;
    const Duration pause = std::min(kRedialMax, kRedialMin * (1 << std::min(entry.failures, 8)));
    ++entry.failures;
    // Jitter: a restarted node is not dialled by everybody at once.
    entry.redial_at =
        Now() + pause / 2 +
        Duration(static_cast<int64_t>(impl_->rng.Below(static_cast<uint64_t>(pause.count()))));
    LogDebug("net", "lost the connection to ", key.first, ": ",
             why.ok() ? "" : why.error().message);
    if (impl_->owner != nullptr) impl_->owner->OnStreamLost(connection.expected_name(), key.second);
    break;
  }
}

void Transport::OnTurn() {
  if (impl_->owner != nullptr) impl_->owner->OnTurn();
}

}  // namespace patina::agent

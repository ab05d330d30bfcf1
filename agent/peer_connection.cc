#include "agent/peer_connection.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <utility>
#include <vector>

#include "agent/asio_util.h"
#include "base/bytes.h"
#include "base/check.h"

namespace patina::agent {
namespace {

using boost::system::error_code;

constexpr size_t kBufferBytes = 64u << 10;        // at rest
constexpr size_t kHandshakeBytesMax = 16u << 10;  // a stranger gets no more
constexpr size_t kGatherFramesMax = 64;
constexpr size_t kGatherBytesMax = 1u << 20;
constexpr Duration kWriteStuckMax = std::chrono::seconds(15);

Error FromAsio(std::string_view what, const error_code& error) {
  return Unavailable(std::string(what) + ": " + error.message());
}

struct LaneQueue {
  std::deque<FrameBytes> frames;
  size_t bytes = 0;
};

}  // namespace

struct PeerConnection::Impl {
  Impl(asio::io_context& io, const proto::Hello& own_hello, const ConnectionOptions& opts,
       ConnectionCounters* count, ConnectionOwner* own_by)
      : socket(io), own(own_hello), options(opts), counters(count), owner(own_by) {}

  asio::ip::tcp::socket socket;
  const proto::Hello own;
  const ConnectionOptions options;
  ConnectionCounters* const counters;
  ConnectionOwner* owner;  // null when closed
  Endpoint remote;
  bool v6 = false;
  bool outgoing = false;
  std::string expected_name;
  proto::Hello peer;
  bool connected = false, established = false;
  const Instant opened = SystemClock().Now();
  Instant last_used = opened;

  std::string in;  // [in_begin, in_end) is not yet handled; its size is the room there is
  size_t in_begin = 0, in_end = 0;

  LaneQueue lanes[2];
  std::vector<FrameBytes> writing;
  Instant write_began{};
};

PeerConnection::PeerConnection(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PeerConnection::~PeerConnection() = default;

std::shared_ptr<PeerConnection> PeerConnection::Connect(asio::io_context& io, const Endpoint& to,
                                                        std::string name, const proto::Hello& own,
                                                        const ConnectionOptions& options,
                                                        ConnectionCounters* counters,
                                                        ConnectionOwner* owner) {
  auto impl = std::make_unique<Impl>(io, own, options, counters, owner);
  impl->remote = to;
  impl->v6 = !to.IsV4();
  impl->outgoing = true;
  impl->expected_name = std::move(name);
  std::shared_ptr<PeerConnection> connection(new PeerConnection(std::move(impl)));
  connection->StartConnect();
  return connection;
}

std::shared_ptr<PeerConnection> PeerConnection::Accept(
    asio::io_context& io, int socket, bool v6, const Endpoint& from, const proto::Hello& own,
    const ConnectionOptions& options, ConnectionCounters* counters, ConnectionOwner* owner) {
  auto impl = std::make_unique<Impl>(io, own, options, counters, owner);
  impl->remote = from;
  impl->v6 = v6;
  std::shared_ptr<PeerConnection> connection(new PeerConnection(std::move(impl)));
  error_code error;
  const auto protocol = v6 ? asio::ip::tcp::v6() : asio::ip::tcp::v4();
  connection->impl_->socket.assign(protocol, socket, error);
  // The owner is not told from within this call: it does not know the connection yet.
  asio::post(io, [connection, error] {
    if (connection->impl_->owner == nullptr) return;
    ConnectionOwner* const told = connection->impl_->owner;
    if (error) {
      connection->Fail(FromAsio("accept", error), false);
    } else {
      connection->Begin();
    }
    told->OnTurn();
  });
  return connection;
}

void PeerConnection::StartConnect() {
  Impl& my = *impl_;
  my.socket.async_connect(ToAsio<asio::ip::tcp>(my.remote, my.v6),
                          [self = shared_from_this()](error_code error) {
                            ConnectionOwner* const told = self->impl_->owner;
                            if (told == nullptr) return;
                            if (error) {
                              self->Fail(FromAsio("connect", error), false);
                            } else {
                              self->Begin();
                            }
                            told->OnTurn();
                          });
}

/// The socket is connected: introduce ourselves, and listen.
void PeerConnection::Begin() {
  Impl& my = *impl_;
  error_code ignored;
  my.socket.set_option(asio::ip::tcp::no_delay(true), ignored);
  my.socket.set_option(asio::socket_base::keep_alive(true), ignored);
  my.connected = true;
  my.in.resize(kHandshakeBytesMax);
  LaneQueue& lane = my.lanes[0];
  lane.frames.push_front(std::make_shared<const std::string>(proto::EncodeFrame(my.own)));
  lane.bytes += lane.frames.front()->size();
  Write();
  Read();
}

// ---- Reading -----------------------------------------------------------------------------------

void PeerConnection::Read() {
  Impl& my = *impl_;
  if (my.owner == nullptr) return;
  MakeRoom();
  my.socket.async_read_some(asio::buffer(my.in.data() + my.in_end, my.in.size() - my.in_end),
                            [self = shared_from_this()](error_code error, size_t bytes) {
                              ConnectionOwner* const told = self->impl_->owner;
                              if (told == nullptr) return;
                              if (error) {
                                self->Fail(FromAsio("read", error), false);
                              } else {
                                self->OnRead(bytes);
                              }
                              told->OnTurn();
                            });
}

void PeerConnection::OnRead(size_t bytes) {
  Impl& my = *impl_;
  my.in_end += bytes;
  my.counters->bytes_in += bytes;
  my.last_used = SystemClock().Now();
  if (HandleFrames()) Read();
}

/// Room to read into. It grows with what has really come, never by what a length claims.
void PeerConnection::MakeRoom() {
  Impl& my = *impl_;
  if (my.in_begin == my.in_end) {
    my.in_begin = my.in_end = 0;
    if (my.established && my.in.size() != kBufferBytes &&
        (my.in.size() < kBufferBytes || my.in.size() > 16 * kBufferBytes)) {
      my.in.resize(kBufferBytes);
      my.in.shrink_to_fit();
    }
  } else if (my.in_begin > 0 && my.in.size() - my.in_end < my.in.size() / 2) {
    std::memmove(my.in.data(), my.in.data() + my.in_begin, my.in_end - my.in_begin);
    my.in_end -= my.in_begin;
    my.in_begin = 0;
  }
  if (my.in_end == my.in.size()) my.in.resize(my.in.size() * 2);
}

/// All whole frames in the buffer. False: the connection is closed.
bool PeerConnection::HandleFrames() {
  Impl& my = *impl_;
  while (my.owner != nullptr && my.in_end - my.in_begin >= proto::kFramePrefixBytes) {
    uint32_t length = 0;
    std::memcpy(&length, my.in.data() + my.in_begin, sizeof length);
    const size_t length_max =
        my.established ? my.options.limits.frame_bytes_max : kHandshakeBytesMax - 4;
    if (length == 0 || length > length_max) {
      ++my.counters->garbage;
      Fail(InvalidArgument("a frame of " + std::to_string(length) + " bytes"), false);
      return false;
    }
    if (my.in_end - my.in_begin < 4 + static_cast<size_t>(length)) break;
    const std::string_view frame(my.in.data() + my.in_begin + 4, length);
    my.in_begin += 4 + static_cast<size_t>(length);
    if (!HandleFrame(static_cast<uint8_t>(frame[0]), frame.substr(1))) return false;
  }
  return my.owner != nullptr;
}

bool PeerConnection::HandleFrame(uint8_t type, std::string_view body) {
  Impl& my = *impl_;
  if (!my.established && type != static_cast<uint8_t>(proto::FrameType::kHello)) {
    ++my.counters->garbage;
    Fail(InvalidArgument("a frame before the handshake"), false);
    return false;
  }
  auto message =
      proto::DecodeFrame(type, body, my.options.limits, &my.counters->changes_unreadable);
  if (!message.ok()) {
    // A newer release may send kinds of frames that we do not know yet.
    if (message.error().code == Errc::kUnimplemented) return true;
    ++my.counters->garbage;
    Fail(Error(message.error()), false);
    return false;
  }
  if (std::holds_alternative<proto::Hello>(*message)) return HandleHello(*message);
  my.owner->OnMessage(*this, *std::move(message));
  return my.owner != nullptr;
}

bool PeerConnection::HandleHello(const proto::PeerMessage& message) {
  Impl& my = *impl_;
  if (my.established) {
    ++my.counters->garbage;
    Fail(InvalidArgument("a second handshake"), false);
    return false;
  }
  my.peer = std::get<proto::Hello>(message);
  const Status accepted = my.owner->OnHello(*this);
  if (my.owner == nullptr) return false;
  if (!accepted.ok()) {
    Fail(accepted, false);
    return false;
  }
  my.established = true;
  Write();
  return my.owner != nullptr;
}

// ---- Writing -----------------------------------------------------------------------------------

bool PeerConnection::Send(bool first_lane, FrameBytes frame) {
  Impl& my = *impl_;
  if (my.owner == nullptr) return false;
  LaneQueue& lane = my.lanes[first_lane ? 0 : 1];
  if (!lane.frames.empty() && lane.bytes + frame->size() > my.options.queue_bytes_max) {
    ++my.counters->queue_drops;
    return false;
  }
  lane.bytes += frame->size();
  lane.frames.push_back(std::move(frame));
  my.last_used = SystemClock().Now();
  Write();
  return true;
}

void PeerConnection::Write() {
  Impl& my = *impl_;
  if (my.owner == nullptr || !my.connected || !my.writing.empty()) return;
  std::vector<asio::const_buffer> buffers;
  size_t bytes = 0;
  for (LaneQueue& lane : my.lanes) {
    while (!lane.frames.empty() && my.writing.size() < kGatherFramesMax &&
           bytes < kGatherBytesMax) {
      // Before the handshake is done nothing goes but our own hello, the first frame of all.
      const bool hello = lane.frames.front()->at(4) == static_cast<char>(proto::FrameType::kHello);
      if (!my.established && !hello) break;
      my.writing.push_back(std::move(lane.frames.front()));
      lane.frames.pop_front();
      const std::string& frame = *my.writing.back();
      lane.bytes -= frame.size();
      bytes += frame.size();
      buffers.emplace_back(frame.data(), frame.size());
    }
  }
  if (my.writing.empty()) return;
  my.write_began = SystemClock().Now();
  asio::async_write(my.socket, buffers,
                    [self = shared_from_this()](error_code error, size_t written) {
                      Impl& mine = *self->impl_;
                      mine.writing.clear();
                      mine.counters->bytes_out += written;
                      ConnectionOwner* const told = mine.owner;
                      if (told == nullptr) return;
                      if (!error) {
                        mine.last_used = SystemClock().Now();
                        self->Write();
                        return;
                      }
                      self->Fail(FromAsio("write", error), false);
                      told->OnTurn();
                    });
}

// ---- Ending ------------------------------------------------------------------------------------

void PeerConnection::Sweep(Instant now, Duration idle_max) {
  Impl& my = *impl_;
  if (my.owner == nullptr) return;
  if (!my.established && now - my.opened > my.options.handshake_timeout) {
    Fail(DeadlineExceeded("no handshake in time"), false);
  } else if (!my.writing.empty() && now - my.write_began > kWriteStuckMax) {
    Fail(DeadlineExceeded("a write does not move"), false);
  } else if (my.established && my.writing.empty() && now - my.last_used > idle_max) {
    Fail(OkStatus(), true);
  }
}

void PeerConnection::Close() { Fail(OkStatus(), true); }

void PeerConnection::Fail(Status why, bool quiet) {
  Impl& my = *impl_;
  if (my.owner == nullptr) return;
  const auto self = shared_from_this();  // the owner forgets us
  ConnectionOwner* const owner = std::exchange(my.owner, nullptr);
  error_code ignored;
  my.socket.close(ignored);
  for (LaneQueue& lane : my.lanes) lane = LaneQueue();
  owner->OnClosed(*this, why, quiet);
}

bool PeerConnection::outgoing() const { return impl_->outgoing; }
bool PeerConnection::established() const { return impl_->established; }
const proto::Hello& PeerConnection::peer() const { return impl_->peer; }
const std::string& PeerConnection::expected_name() const { return impl_->expected_name; }
proto::Purpose PeerConnection::purpose() const {
  return impl_->outgoing ? impl_->own.purpose : impl_->peer.purpose;
}
const Endpoint& PeerConnection::remote() const { return impl_->remote; }
Instant PeerConnection::last_used() const { return impl_->last_used; }

}  // namespace patina::agent

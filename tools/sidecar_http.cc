#include "tools/sidecar_http.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>

#include "base/log.h"
#include "tools/sidecar_service.h"

namespace patina::tools {
namespace {

using SteadyClock = std::chrono::steady_clock;

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

/// Lower-case, as sentences continue: "connection refused".
std::string ErrnoText(int error) {
  std::string text = std::strerror(error);
  if (!text.empty() && text[0] >= 'A' && text[0] <= 'Z') text[0] = static_cast<char>(text[0] + 32);
  return text;
}

class Deadline {
 public:
  explicit Deadline(Duration timeout) : timeout_(timeout), at_(SteadyClock::now() + timeout) {}

  Status WaitFor(int fd, short events) const {
    for (;;) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(at_ - SteadyClock::now());
      pollfd poll_fd{.fd = fd, .events = events, .revents = 0};
      const int ready =
          ::poll(&poll_fd, 1, static_cast<int>(std::clamp<int64_t>(left.count(), 0, 3'600'000)));
      if (ready > 0) return OkStatus();
      if (ready < 0 && errno == EINTR) continue;
      return DeadlineExceeded(StrCat("no answer within ", ToMs(timeout_), " ms"));
    }
  }

 private:
  const Duration timeout_;
  const SteadyClock::time_point at_;
};

Result<std::unique_ptr<Socket>> Connect(const std::string& host, int port,
                                        const Deadline& deadline) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* raw = nullptr;
  const int failure = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &raw);
  if (failure != 0) return Unavailable(host + ": " + ::gai_strerror(failure));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> found(raw, ::freeaddrinfo);
  Error error = Unavailable("no address for " + host);
  for (const addrinfo* each = found.get(); each != nullptr; each = each->ai_next) {
    auto socket = std::make_unique<Socket>(
        ::socket(each->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (socket->fd() < 0) return Unavailable(ErrnoText(errno));
    if (::connect(socket->fd(), each->ai_addr, each->ai_addrlen) != 0 && errno != EINPROGRESS) {
      error = Unavailable(ErrnoText(errno));
      continue;
    }
    RETURN_IF_ERROR(deadline.WaitFor(socket->fd(), POLLOUT));
    int result = 0;
    socklen_t size = sizeof result;
    ::getsockopt(socket->fd(), SOL_SOCKET, SO_ERROR, &result, &size);
    if (result == 0) return socket;
    error = Unavailable(ErrnoText(result));
  }
  return error;
}

Status SendAll(int fd, std::string_view bytes, const Deadline& deadline) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      RETURN_IF_ERROR(deadline.WaitFor(fd, POLLOUT));
    } else if (errno != EINTR) {
      return Unavailable(ErrnoText(errno));
    }
  }
  return OkStatus();
}

/// Until the peer closes or enough was read.
Result<std::string> ReceiveAll(int fd, const Deadline& deadline) {
  std::string received;
  char buffer[4096];
  while (received.size() < kHttpBytesMax) {
    const ssize_t size = ::recv(fd, buffer, sizeof buffer, 0);
    if (size > 0) {
      received.append(buffer, static_cast<size_t>(size));
    } else if (size == 0) {
      break;
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      RETURN_IF_ERROR(deadline.WaitFor(fd, POLLIN));
    } else if (errno != EINTR) {
      return Unavailable(ErrnoText(errno));
    }
  }
  return received;
}

Result<HttpAnswer> ParseAnswer(const std::string& received) {
  if (received.empty()) return Unavailable("closed without an answer");
  HttpAnswer answer;
  // "HTTP/1.1 200 OK"
  const size_t space = received.find(' ');
  if (!received.starts_with("HTTP/1.") || space == std::string::npos) return DataLoss("not HTTP");
  const char* begin = received.data() + space + 1;
  const auto parsed = std::from_chars(begin, received.data() + received.size(), answer.status);
  if (parsed.ec != std::errc() || answer.status < 100 || answer.status > 999) {
    return DataLoss("not HTTP");
  }
  const size_t head_end = received.find("\r\n\r\n");
  if (head_end != std::string::npos) answer.body = received.substr(head_end + 4);
  return answer;
}

}  // namespace

Result<HttpAnswer> HttpGet(const std::string& host, int port, const std::string& path,
                           Duration timeout) {
  const Deadline deadline(timeout);
  ASSIGN_OR_RETURN(const std::unique_ptr<Socket> socket, Connect(host, port, deadline));
  // HTTP/1.0: the answer ends with the connection and is not chunked.
  RETURN_IF_ERROR(SendAll(socket->fd(),
                          StrCat("GET ", path, " HTTP/1.0\r\nHost: ", host, ":", port,
                                 "\r\nUser-Agent: patina-sidecar\r\nConnection: close\r\n\r\n"),
                          deadline));
  ASSIGN_OR_RETURN(const std::string received, ReceiveAll(socket->fd(), deadline));
  return ParseAnswer(received);
}

Status TcpProbe(const std::string& host, int port, Duration timeout) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Socket> socket, Connect(host, port, Deadline(timeout)));
  return OkStatus();
}

bool SplitUrl(const std::string& url, std::string* host, int* port, std::string* path) {
  constexpr std::string_view kScheme = "http://";
  if (!url.starts_with(kScheme)) return false;
  const size_t slash = url.find('/', kScheme.size());
  std::string authority = url.substr(kScheme.size(), slash - kScheme.size());
  *path = slash == std::string::npos ? "/" : url.substr(slash);
  if (authority.find(':') == std::string::npos) authority += ":80";
  return SplitHostPort(authority, host, port);
}

}  // namespace patina::tools

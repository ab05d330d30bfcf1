#include "agent/api_server.h"

#include <absl/synchronization/mutex.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/impl/service_type.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <limits>
#include <string_view>
#include <utility>

#include "agent/admin_service.h"
#include "agent/api_streams.h"
#include "agent/cluster_service.h"
#include "agent/state_service.h"
#include "agent/watch_service.h"
#include "base/log.h"

namespace patina::agent {
namespace {

constexpr std::string_view kUnixPrefix = "unix:";
constexpr auto kStopDeadline = std::chrono::seconds(2);
constexpr size_t kMessageOverheadBytes = 64u << 10;  // beside the values that the limit speaks of

/// "/path" of "unix:/path" and "unix:///path"; empty for TCP.
std::string UnixPath(std::string_view address) {
  if (!address.starts_with(kUnixPrefix)) return {};
  address.remove_prefix(kUnixPrefix.size());
  if (address.starts_with("//")) address.remove_prefix(2);
  return std::string(address);
}

/// gRPC takes over the file of a Unix socket without asking; so look whether somebody still listens
/// there.
Status CheckUnixPath(const std::string& address, const std::string& path) {
  const std::string folder = path.substr(0, path.rfind('/'));
  if (path.find('/') != std::string::npos && !folder.empty() &&
      ::access(folder.c_str(), W_OK) != 0) {
    return Unavailable("api.listen: cannot listen on " + address + ": " + folder + ": " +
                       std::strerror(errno));
  }
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.size() >= sizeof name.sun_path) {
    return InvalidArgument("api.listen: the path of " + address + " is too long, at most " +
                           std::to_string(sizeof name.sun_path - 1) + " bytes");
  }
  std::copy(path.begin(), path.end(), name.sun_path);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return Unavailable(std::string("socket: ") + std::strerror(errno));
  const int connected = ::connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name);
  const bool in_use = connected == 0 || errno == EAGAIN;
  ::close(fd);
  if (!in_use) return OkStatus();
  return Unavailable("api.listen: cannot listen on " + address + ": another process does");
}

/// The address with the port as bound.
std::string Bound(const std::string& address, int port) {
  if (!UnixPath(address).empty()) return address;
  const size_t colon = address.rfind(':');
  return address.substr(0, colon + 1) + std::to_string(port);
}

int ToInt(size_t number) {
  return static_cast<int>(std::min<size_t>(number, std::numeric_limits<int>::max()));
}

}  // namespace

class ApiServer::Impl {
 public:
  explicit Impl(const ApiContext& context)
      : streams_(context.config->api_streams_max),
        state_(MakeStateService(context, streams_, watch_hub_)),
        cluster_(MakeClusterService(context, streams_)),
        admin_(MakeAdminService(context, streams_)) {}

  Status Listen(const Config& config) {
    const std::vector<std::string>& wanted = config.api.listen;
    if (wanted.empty())
      return InvalidArgument("api.listen is empty: nobody could reach this agent");
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    SetLimits(config, builder);
    std::vector<int> ports(wanted.size(), 0);
    for (size_t i = 0; i < wanted.size(); ++i) {
      if (const std::string path = UnixPath(wanted[i]); !path.empty()) {
        RETURN_IF_ERROR(CheckUnixPath(wanted[i], path));
      }
      builder.AddListeningPort(wanted[i], grpc::InsecureServerCredentials(), &ports[i]);
    }
    for (grpc::Service* service : {state_.get(), cluster_.get(), admin_.get()}) {
      builder.RegisterService(service);
    }
    server_ = builder.BuildAndStart();
    for (size_t i = 0; i < wanted.size(); ++i) {
      if (server_ && ports[i] != 0) {
        addresses_.push_back(Bound(wanted[i], ports[i]));
      } else if (ports[i] == 0) {
        return Unavailable("api.listen: cannot listen on " + wanted[i] +
                           ": is the address right, and does nobody else listen there?");
      }
    }
    if (!server_) return Unavailable("the gRPC server could not be started");
    for (const std::string& address : wanted) {
      if (const std::string path = UnixPath(address); !path.empty()) ::chmod(path.c_str(), 0660);
    }
    return OkStatus();
  }

  void Stop() {
    if (!server_) return;
    streams_.EndAll(Unavailable("the agent is stopping"));
    server_->Shutdown(std::chrono::system_clock::now() + kStopDeadline);
    server_.reset();
  }

  void LeaveService(const Error& error) {
    server_->GetHealthCheckService()->SetServingStatus(false);
    streams_.EndAll(error);
  }

  const std::vector<std::string>& addresses() const { return addresses_; }
  WatchHub& watch_hub() { return watch_hub_; }

 private:
  static void SetLimits(const Config& config, grpc::ServerBuilder& builder) {
    builder.SetMaxReceiveMessageSize(ToInt(config.api_message_bytes_max + kMessageOverheadBytes));
    builder.SetMaxSendMessageSize(-1);  // answers are bounded where they are made
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, ToInt(config.api_streams_max));
    // Without this a second agent could listen on the same port unnoticed.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
  }

  ApiStreams streams_;
  WatchHub watch_hub_;
  // Services outlive the server.
  std::unique_ptr<grpc::Service> state_, cluster_, admin_;
  std::unique_ptr<grpc::Server> server_;
  std::vector<std::string> addresses_;
};

Result<std::unique_ptr<ApiServer>> ApiServer::Start(const ApiContext& context) {
  // Debian's build looks for deadlocks at every lock that gRPC takes: some 4 % of a write's time.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  auto impl = std::make_unique<Impl>(context);
  RETURN_IF_ERROR(impl->Listen(*context.config));
  for (const std::string& address : impl->addresses()) LogInfo("api", "listening on ", address);
  return std::unique_ptr<ApiServer>(new ApiServer(std::move(impl)));
}

ApiServer::ApiServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ApiServer::~ApiServer() { Stop(); }
void ApiServer::Stop() { impl_->Stop(); }
void ApiServer::LeaveService(const Error& error) { impl_->LeaveService(error); }
std::vector<std::string> ApiServer::addresses() const { return impl_->addresses(); }

void ApiServer::OnCommit(std::shared_ptr<const storage::CommitEffects> effects) {
  impl_->watch_hub().OnCommit(*effects);
}

}  // namespace patina::agent

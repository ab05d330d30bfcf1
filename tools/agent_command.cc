#include "tools/agent_command.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <linux/close_range.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>

#include "agent/agent.h"
#include "agent/config.h"
#include "base/log.h"
#include "patina/v1/admin.grpc.pb.h"
#include "patina/v1/state.grpc.pb.h"
#include "tools/client.h"
#include "tools/sample_fleet.h"
#include "tools/signals.h"

namespace patina::tools {
namespace {

struct Options {
  std::string config;
  bool dev = false;
  bool fault_injection = false;
  bool allow_destructive = false;
};

/// A folder that is gone when the process ends in order.
class TemporaryFolder {
 public:
  static Result<std::unique_ptr<TemporaryFolder>> Create() {
    const char* base = std::getenv("TMPDIR");
    std::string path = std::string(base != nullptr ? base : "/tmp") + "/patina-dev-XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) return Unavailable("cannot create " + path);
    return std::unique_ptr<TemporaryFolder>(new TemporaryFolder(std::move(path)));
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
  const std::string path_;
};

/// --dev: data in a temporary folder; the sample fleet unless a schema is configured; a Unix socket
/// in the folder instead of /run unless addresses are configured. True if the sample schema was
/// taken.
Result<bool> MakeDev(const std::string& folder, agent::Config& config) {
  config.node.data_dir = folder;
  const std::vector<std::string> usual = agent::Config().api.listen;
  if (config.api.listen == usual)
    config.api.listen = {"unix:" + folder + "/api.sock", "127.0.0.1:7401"};
  if (!config.schema.paths.empty()) return false;
  const std::string path = folder + "/fleet.sql";
  std::ofstream file(path);
  file << kSampleFleetSchema;
  if (!file.flush()) return Unavailable("cannot write " + path);
  config.schema.paths = {path};
  return true;
}

/// INSERTs of the sample's regions.
v1::ExecuteRequest SampleRegions() {
  v1::ExecuteRequest request;
  std::string_view rest = kSampleFleetRegions;
  rest.remove_prefix(std::min(rest.size(), rest.find('\n') + 1));  // the header
  auto field = [](std::string_view& line) {
    const std::string_view text = line.substr(0, line.find(','));
    line.remove_prefix(std::min(line.size(), text.size() + 1));
    return std::string(text);
  };
  while (!rest.empty()) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.empty()) continue;
    v1::Statement& statement = *request.add_statements();
    statement.set_sql(
        "INSERT OR REPLACE INTO regions (code, name, latitude, longitude) VALUES (?, ?, ?, ?)");
    statement.add_parameters()->set_text(field(line));
    statement.add_parameters()->set_text(field(line));
    statement.add_parameters()->set_real(std::atof(field(line).c_str()));
    statement.add_parameters()->set_real(std::atof(field(line).c_str()));
  }
  return request;
}

/// The one line an operator looks for; asked through the API, so that it also shows that the API
/// answers.
void Announce(const agent::Config& config, const agent::Agent& agent, bool sample) {
  const std::vector<std::string> addresses = agent.api_addresses();
  std::string api;
  for (const std::string& address : addresses) api += (api.empty() ? "" : ",") + address;
  std::string line = StrCat("ready name=", config.node.name, " region=", config.node.region,
                            " gossip=", agent.gossip_address(), " api=", api);
  CommandContext context;
  context.api = addresses.empty() ? "" : addresses.front();
  Result<Connection> connection =
      addresses.empty() ? Result<Connection>(Unavailable("no address")) : Dial(context);
  if (connection.ok()) {
    if (sample) {
      grpc::ClientContext call;
      PrepareCall(context, call, std::chrono::seconds(10));
      v1::ExecuteResponse response;
      const grpc::Status status =
          v1::State::NewStub(connection->channel)->Execute(&call, SampleRegions(), &response);
      if (!status.ok()) LogWarning("agent", "sample regions: ", status.error_message());
    }
    grpc::ClientContext call;
    PrepareCall(context, call, std::chrono::seconds(10));
    v1::StatusResponse status;
    if (v1::Admin::NewStub(connection->channel)->Status(&call, {}, &status).ok()) {
      uint64_t rows = 0;
      for (const v1::TableStatus& table : status.tables()) rows += table.rows();
      line += StrCat(" actors=", status.actors_size(), " tables=", status.tables_size(),
                     " rows=", rows, " change=", status.change_number());
    }
  }
  LogInfo("agent", line);
}

/// The same process id with the same arguments, as if it had just been started: with a peer's file,
/// and so with a new actor.
void BeginAnew(CommandContext& context) {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  const std::string line((std::istreambuf_iterator<char>(file)), {});
  std::vector<std::string> words;
  for (size_t at = 0; at < line.size(); at += words.back().size() + 1) {
    words.emplace_back(line.c_str() + at);
  }
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  LogInfo("agent", "begins anew");
  // Not closed at once: threads of libraries still look at some of them.
  (void)::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
  ::execv("/proc/self/exe", arguments.data());
  Fail(context, Unavailable("the program cannot be started anew; start the agent again"));
}

void RunAgent(const Options& options, CommandContext& context) {
  Result<agent::Config> config = agent::LoadConfig(options.config);
  if (!config.ok()) return Fail(context, config.error().message, kExitUsage);
  config->fault_injection = options.fault_injection;
  config->allow_destructive = options.allow_destructive;
  config->can_begin_anew = !options.dev;  // whose folder ends with the process
  if (!SetLogLevel(config->log_level)) {
    return Fail(context, "[log] level: no such level: " + config->log_level, kExitUsage);
  }
  std::unique_ptr<TemporaryFolder> folder;
  bool sample = false;
  if (options.dev) {
    auto created = TemporaryFolder::Create();
    if (!created.ok()) return Fail(context, created.error());
    folder = *std::move(created);
    Result<bool> made = MakeDev(folder->path(), *config);
    if (!made.ok()) return Fail(context, made.error());
    sample = *made;
  }
  // Before any other thread is there, so that all of them leave the signals to this one.
  SignalThread signals;
  KeepGrpc();
  Result<std::unique_ptr<agent::Agent>> agent = agent::Agent::Start(*config);
  if (!agent.ok()) return Fail(context, agent.error());
  signals.OnTerminate([&agent] { (*agent)->RequestStop(); });
  signals.OnHangup([&agent] { (*agent)->ReloadSchema(); });
  Announce(*config, **agent, sample);
  const Status fatal = (*agent)->WaitForFatal();
  (*agent)->Stop();
  signals.Forget();
  if (!fatal.ok()) return Fail(context, fatal.error());
  if ((*agent)->MustBeginAnew() && !signals.terminated()) {
    agent->reset();  // sockets and the folder's lock
    return BeginAnew(context);
  }
  LogInfo("agent", "stopped");
}

}  // namespace

void AddAgentCommand(CLI::App& app, CommandContext& context) {
  const auto options = std::make_shared<Options>();
  CLI::App* agent = app.add_subcommand("agent", "Run a node in the foreground");
  agent->add_option("--config", options->config,
                    "TOML file; every key also as PATINA_SECTION_KEY in the environment");
  agent->add_flag("--dev", options->dev, "one node, temporary data, the sample fleet's tables");
  agent->add_flag("--fault-injection", options->fault_injection,
                  "allow `patina fault` to make this node misbehave");
  agent->add_flag("--allow-destructive", options->allow_destructive,
                  "drop at the start the columns and tables that tables.toml lists as dropped");
  agent->callback([options, &context] { RunAgent(*options, context); });
}

}  // namespace patina::tools

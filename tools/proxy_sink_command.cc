#include "tools/proxy_sink_command.h"

#include <CLI/App.hpp>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "proxy-sink/config.h"
#include "proxy-sink/feed.h"
#include "proxy-sink/sink_server.h"
#include "proxy-sink/table.h"
#include "tools/client.h"
#include "tools/signals.h"

namespace patina::tools {
namespace {

struct Options {
  std::string config;
  std::string region;
  std::string agent;
  std::vector<std::string> listen;
};

/// Flags go over the environment, which goes over the file.
Result<proxy_sink::SinkConfig> Configuration(const Options& options,
                                             const CommandContext& context) {
  ASSIGN_OR_RETURN(proxy_sink::SinkConfig config,
                   proxy_sink::LoadConfig(options.config, proxy_sink::ProcessEnvironment));
  if (!context.api.empty()) config.agent = context.api;
  if (!options.agent.empty()) config.agent = options.agent;
  if (!options.region.empty()) config.region = options.region;
  if (!options.listen.empty()) config.listen = options.listen;
  return config;
}

/// "127.0.0.1:0" with the port that was bound.
std::string BoundAddress(const std::string& address, int port) {
  if (!address.ends_with(":0")) return address;
  return address.substr(0, address.size() - 1) + std::to_string(port);
}

class StopSign {
 public:
  void Raise() {
    std::lock_guard<std::mutex> lock(mutex_);
    raised_ = true;
    changed_.notify_all();
  }
  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return raised_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool raised_ = false;
};

void RunProxySink(const Options& options, CommandContext& context) {
  const auto config = Configuration(options, context);
  if (!config.ok()) return Fail(context, config.error().message, kExitUsage);
  StopSign stop;
  SignalThread signals;  // before other threads
  KeepGrpc();
  signals.OnTerminate([&] { stop.Raise(); });

  const SystemClock clock;
  proxy_sink::Table table;
  proxy_sink::FeedOptions feed_options;
  feed_options.agent = config->agent;
  feed_options.token = context.token;
  feed_options.silence_max = std::chrono::milliseconds(config->agent_silence_ms_max);
  proxy_sink::Feed feed(feed_options, &table, &clock);
  proxy_sink::SinkServer server({.listen = config->listen,
                                 .region = config->region,
                                 .pick = {.rtt_age_ms_max = config->rtt_age_ms_max}},
                                &table, &feed, &clock);
  const auto ports = server.Start();
  if (!ports.ok()) return Fail(context, ports.error());
  feed.Start([&](const proxy_sink::PublishedChanges& changes) { server.OnPublished(changes); });

  std::string addresses;
  for (size_t i = 0; i < ports->size(); ++i) {
    addresses += (i == 0 ? "" : ",") + BoundAddress(config->listen[i], (*ports)[i]);
  }
  LogInfo("proxy-sink", "ready listen=", addresses, " region=", config->region,
          " agent=", config->agent);
  stop.Wait();
  signals.Forget();
  feed.Stop();
  server.Stop();
}

}  // namespace

void AddProxySinkCommand(CLI::App& app, CommandContext& context) {
  CLI::App* command = app.add_subcommand(
      "proxy-sink", "the routing sidecar of a proxy: answers where requests should go");
  const auto options = std::make_shared<Options>();
  command->add_option("--config", options->config, "TOML file with a section [sink]");
  command->add_option("--region", options->region, "where this proxy is (sink.region)");
  command->add_option("--agent", options->agent,
                      "agent on this host: unix:/path or host:port (sink.agent; --api too)");
  command
      ->add_option("--listen", options->listen,
                   "where to answer, again for more (sink.listen, default 127.0.0.1:7410)")
      ->allow_extra_args(false);
  command->callback([options, &context] { RunProxySink(*options, context); });
}

}  // namespace patina::tools

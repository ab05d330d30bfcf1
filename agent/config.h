#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "gossip/config.h"
#include "storage/store.h"
#include "subscribe/engine.h"

namespace patina::agent {

/// Everything a node is told at start: the TOML file, overridden by PATINA_SECTION_KEY in the
/// environment. Values, any thread.
struct Config {
  struct {
    std::string name;  // default: host name
    std::string region = "local";
    std::string data_dir = "/var/lib/patina";
  } node;
  struct {
    std::vector<std::string> paths;
  } schema;
  struct {
    std::string listen = "127.0.0.1:7400";  // numeric; port 0 picks one (tests)
    std::string advertise;                  // default: listen
    std::vector<std::string> seeds;         // name:port
    std::string cluster = "patina";
  } gossip;
  struct {
    std::vector<std::string> listen = {"unix:/run/patina/api.sock", "127.0.0.1:7401"};
    std::string advertise;  // default: the first TCP address of listen
    std::vector<std::string> http_listen, postgres_listen;  // not built yet: must be empty
  } api;
  bool fault_injection = false;    // --fault-injection only, never from the file
  bool allow_destructive = false;  // --allow-destructive only: drop what tables.toml lists
  std::string log_level = "info";  // [log] level

  // [limits]
  storage::StoreLimits store;
  gossip::Config gossip_core;  // cluster is copied from gossip.cluster
  subscribe::EngineLimits subscribe;
  size_t writer_queue_transactions_max = 10'000;
  size_t writer_queue_bytes_max = 64u << 20;
  size_t group_commit_transactions_max = 256;
  size_t merge_batch_bytes_max = 1u << 20;
  size_t readers = 4;      // for clients
  size_t net_readers = 2;  // for peers alone: log reads and transfers, whatever clients ask
  size_t reader_queue_max = 1'000;          // of each of the two pools
  size_t peer_queue_bytes_max = 32u << 20;  // waiting to be sent to one peer, per lane
  size_t peer_connections_max = 1'024;
  size_t frame_bytes_max = 64u << 20;
  size_t api_message_bytes_max = 16u << 20;
  size_t api_streams_max = 20'000;
  size_t subscribe_queue_commits_max = 4'096;
  size_t subscribe_queue_bytes_max = 64u << 20;
  uint64_t scrub_rows_per_second = 10'000;  // compared with their seals while all is quiet; 0: none
  Duration scrub_interval = std::chrono::seconds(20);  // of passes through all tables, at least
  size_t inquiries_max = 64;                           // of peers, being answered
  /// What is younger is not forgotten, whatever the frontier says.
  Duration collect_after = std::chrono::hours(1);
  /// May the node take another's file and begin anew as another process? Not from the file: whoever
  /// runs the agent says whether it can begin anew.
  bool can_begin_anew = false;
  Duration handshake_timeout = std::chrono::seconds(5);
  Duration connection_idle_max = std::chrono::seconds(120);   // then our end closes it
  Duration seed_resolve_interval = std::chrono::seconds(30);  // while seeds are unreachable
  Duration watchdog_timeout = std::chrono::seconds(30);  // of the writer and net threads; 0: none
  Duration page_check_interval = std::chrono::minutes(10);  // of the file's structure; 0: never
  bool full_sync = false;                                   // [storage] synchronous = "full"
};

/// Where the node's SQLite file is.
inline std::string DatabasePath(const Config& config) {
  return config.node.data_dir + "/patina.db";
}

/// Reads and checks. Errors name the file, the line and the key, and say what would be right;
/// unknown keys are errors. An empty path gives the defaults (still overridden by the environment).
Result<Config> LoadConfig(const std::string& path);

/// The same from text, for tests. environment: "NAME=value" strings.
Result<Config> ParseConfig(std::string_view toml, std::string_view file_name,
                           const std::vector<std::string>& environment);

}  // namespace patina::agent

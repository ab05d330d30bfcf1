#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/clock.h"
#include "gossip/frontier.h"

namespace patina::gossip {

/// How a node gossips. Every limit has a counter in Counters (node.h).
struct Config {
  std::string cluster = "patina";  // other clusters' messages are dropped and counted

  // Membership (SWIM with Lifeguard). probe_timeout_min <= timeout <= probe_interval.
  Duration probe_interval = std::chrono::seconds(1);
  Duration probe_timeout_min = std::chrono::milliseconds(50);
  Duration probe_timeout_default =
      std::chrono::milliseconds(400);  // until the pair's round trip is known
  int indirect_probes = 3;
  Duration suspicion_min = std::chrono::seconds(3);
  Duration suspicion_max = std::chrono::seconds(5);
  int suspicion_confirmations = 3;
  int local_health_max = 8;
  int retransmit_factor = 4;  // times ceil(log10(N + 1))
  size_t datagram_bytes_max = 1200;
  Duration rumor_interval =
      std::chrono::milliseconds(200);  // news that found no ping goes out by itself
  int rumor_fanout = 3;
  Duration dead_kept = std::chrono::hours(48);
  Duration dead_probe_interval =
      std::chrono::seconds(2);  // one dead member or seed is tried this often
  Duration leave_deadline = std::chrono::seconds(2);
  size_t members_max = 20'000;

  // Broadcast.
  int relays_per_region = 2;
  int tree_width = 8;
  Duration pull_after = std::chrono::milliseconds(20);  // a gap or an "I have" without bytes
  size_t recent_bytes_max = 8u << 20;                   // changes kept at hand for pulls
  size_t recent_changes_max = 50'000;
  size_t batch_bytes_max = 1u << 20;  // of one frame of fresh changes

  // Anti-entropy.
  Duration sync_interval_min = std::chrono::milliseconds(200);  // per peer, while digests differ
  Duration sync_interval_max = std::chrono::seconds(5);  // backed off while nothing comes of it
  int sync_peers_max = 3;                                // asked at once
  uint64_t sync_bytes_max = 4u << 20;                    // of one request's answer
  uint64_t sync_versions_max = 20'000;                   // asked for in one request
  Duration sync_timeout = std::chrono::seconds(5);
  Duration repair_min_age =
      std::chrono::milliseconds(300);  // younger ones are left to the broadcast
  int transfers_served_max = 2;
  Duration transfer_timeout = std::chrono::seconds(20);
  /// For fetching one large transaction from one peer; then it goes on with another.
  Duration large_fetch_deadline = std::chrono::minutes(10);
  size_t large_waiting_max = 256;  // then they are asked for again later
  /// May this node take another's file? Only a performer that can begin anew with it says so.
  bool snapshots_taken = false;
  int snapshots_served_max = 2;
  uint64_t snapshot_bytes_per_s = 200u << 20;  // of each one served
  Duration snapshot_deadline = std::chrono::minutes(30);
  uint64_t snapshot_rows_min = 50'000;  // a new node takes a snapshot of a peer with so many

  // Collection: what nodes publish of their histories (frontier.h).
  /// There are others to meet: alone, a node knows nothing of how complete it is.
  bool seeded = false;
  Duration publish_interval = std::chrono::seconds(30);
  FrontierConfig frontier;

  // Received, but not yet durable on this node.
  size_t in_flight_bytes_max = 64u << 20;

  int64_t clock_offset_tolerated_ms = 100;
};

}  // namespace patina::gossip

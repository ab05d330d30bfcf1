#include "agent/config_keys.h"

#include <algorithm>
#include <cctype>

namespace patina::agent {
namespace {

using Keys = std::vector<ConfigKey>;

template <class Integer>
ConfigKey Count(std::string_view name, Integer* target, int64_t min = 1, int64_t max = INT64_MAX) {
  if constexpr (std::is_same_v<Integer, int>) max = std::min<int64_t>(max, INT32_MAX);
  return {"limits", name, CountKey{target, min, max}};
}

ConfigKey Milliseconds(std::string_view name, Duration* target, int64_t min_ms = 1) {
  DurationKey place;
  place.target = target;
  place.min_ms = min_ms;
  return {"limits", name, place};
}

void AddStorage(storage::StoreLimits& store, Keys* keys) {
  keys->insert(keys->end(),
               {Count("transaction_rows_max", &store.transaction_rows_max),
                Count("statement_bytes_max", &store.statement_bytes_max),
                Count("statements_max", &store.statements_max),
                Count("changeset_bytes_max", &store.changeset.bytes_max, 1, 1 << 30),
                Count("changeset_rows_max", &store.changeset.rows_max),
                Count("changeset_tables_max", &store.changeset.tables_max),
                Count("dirty_rows_max", &store.dirty_rows_max),
                Milliseconds("checkpoint_interval_ms", &store.checkpoint_interval),
                Count("foreign_rows_max", &store.foreign_rows_max),
                Count("row_cache_bytes", &store.row_cache_bytes, 0),
                Count("page_cache_kib", &store.page_cache_kib, 64),
                Count("max_clock_skew_ms", &store.max_clock_skew_ms, 0),
                Count("parked_bytes_max", &store.parked_bytes_max),
                Count("parked_changesets_max", &store.parked_changesets_max),
                Count("log_bytes_max", &store.log_bytes_max),
                Milliseconds("log_age_ms_max", &store.log_age_max),
                Count("wal_bytes_max", &store.wal_bytes_max, 16 << 20),
                Milliseconds("transaction_deadline_ms", &store.transaction_deadline),
                Count("large_transaction_rows_max", &store.large_transaction_rows_max),
                Count("large_transaction_bytes_max", &store.large_transaction_bytes_max),
                Milliseconds("large_transaction_deadline_ms", &store.large_transaction_deadline),
                Count("large_staged_bytes_max", &store.large_staged_bytes_max),
                Milliseconds("group_deadline_ms", &store.group_deadline)});
}

void AddMembership(gossip::Config& core, Keys* keys) {
  keys->insert(keys->end(),
               {Milliseconds("probe_interval_ms", &core.probe_interval),
                Milliseconds("probe_timeout_ms_min", &core.probe_timeout_min),
                Milliseconds("probe_timeout_default_ms", &core.probe_timeout_default),
                Count("indirect_probes", &core.indirect_probes, 0, 16),
                Milliseconds("suspicion_ms_min", &core.suspicion_min),
                Milliseconds("suspicion_ms_max", &core.suspicion_max),
                Count("suspicion_confirmations", &core.suspicion_confirmations, 0, 100),
                Count("local_health_max", &core.local_health_max, 0, 100),
                Count("retransmit_factor", &core.retransmit_factor, 1, 100),
                Count("datagram_bytes_max", &core.datagram_bytes_max, 512, 65'000),
                Milliseconds("dead_kept_ms", &core.dead_kept),
                Milliseconds("dead_probe_interval_ms", &core.dead_probe_interval),
                Milliseconds("leave_deadline_ms", &core.leave_deadline, 0),
                Count("members_max", &core.members_max, 1, 1'000'000),
                Count("clock_offset_tolerated_ms", &core.clock_offset_tolerated_ms, 0)});
}

void AddSpreading(gossip::Config& core, Keys* keys) {
  keys->insert(keys->end(), {Count("relays_per_region", &core.relays_per_region, 1, 16),
                             Count("tree_width", &core.tree_width, 1, 256),
                             Milliseconds("pull_after_ms", &core.pull_after),
                             Count("recent_bytes_max", &core.recent_bytes_max),
                             Count("recent_changes_max", &core.recent_changes_max),
                             Count("batch_bytes_max", &core.batch_bytes_max, 1, 64 << 20),
                             Milliseconds("sync_interval_ms_min", &core.sync_interval_min),
                             Milliseconds("sync_interval_ms_max", &core.sync_interval_max),
                             Count("sync_peers_max", &core.sync_peers_max, 1, 64),
                             Count("sync_bytes_max", &core.sync_bytes_max, 1, 256 << 20),
                             Count("sync_versions_max", &core.sync_versions_max),
                             Milliseconds("sync_timeout_ms", &core.sync_timeout),
                             Milliseconds("repair_min_age_ms", &core.repair_min_age, 0),
                             Count("transfers_served_max", &core.transfers_served_max, 0, 64),
                             Milliseconds("transfer_timeout_ms", &core.transfer_timeout),
                             Count("in_flight_bytes_max", &core.in_flight_bytes_max)});
}

void AddCollection(Config* config, Keys* keys) {
  gossip::Config& core = config->gossip_core;
  keys->insert(keys->end(), {Milliseconds("collect_after_ms", &config->collect_after, 0),
                             Milliseconds("publish_interval_ms", &core.publish_interval, 10),
                             Count("forget_after_ms", &core.frontier.forget_after_ms),
                             Count("publications_bytes_max", &core.frontier.bytes_max),
                             Count("set_aside_bytes_max", &config->store.set_aside_bytes_max),
                             Count("set_aside_changes_max", &config->store.set_aside_changes_max),
                             Count("snapshots_served_max", &core.snapshots_served_max, 0, 64),
                             Count("snapshot_bytes_per_s", &core.snapshot_bytes_per_s),
                             Count("snapshot_rows_min", &core.snapshot_rows_min, 0),
                             Milliseconds("snapshot_deadline_ms", &core.snapshot_deadline)});
}

void AddSubscriptions(subscribe::EngineLimits& engine, Keys* keys) {
  keys->insert(keys->end(),
               {Count("subscriptions_max", &engine.subscriptions_max),
                Count("subscribers_max", &engine.subscribers_max),
                Count("subscription_rows_max", &engine.result_rows_max),
                Count("subscription_history_bytes_max", &engine.history_bytes_max, 0),
                Milliseconds("subscription_history_idle_ms", &engine.history_kept_idle, 0),
                Milliseconds("subscription_query_deadline_ms", &engine.query_deadline),
                Milliseconds("subscription_rerun_interval_ms_min", &engine.rerun_interval_min, 0),
                Count("subscriber_queue_bytes_max", &engine.subscriber_queue_bytes_max)});
}

void AddAgent(Config* config, Keys* keys) {
  keys->insert(keys->end(),
               {Count("writer_queue_transactions_max", &config->writer_queue_transactions_max),
                Count("writer_queue_bytes_max", &config->writer_queue_bytes_max),
                Count("group_commit_transactions_max", &config->group_commit_transactions_max),
                Count("merge_batch_bytes_max", &config->merge_batch_bytes_max),
                Count("readers", &config->readers, 1, 256),
                Count("net_readers", &config->net_readers, 1, 64),
                Count("reader_queue_max", &config->reader_queue_max),
                Count("peer_queue_bytes_max", &config->peer_queue_bytes_max),
                Count("peer_connections_max", &config->peer_connections_max),
                Count("frame_bytes_max", &config->frame_bytes_max, 64 << 10, 1 << 30),
                Count("api_message_bytes_max", &config->api_message_bytes_max, 1 << 10, 1 << 30),
                Count("api_streams_max", &config->api_streams_max),
                Count("subscribe_queue_commits_max", &config->subscribe_queue_commits_max),
                Count("subscribe_queue_bytes_max", &config->subscribe_queue_bytes_max),
                Count("inquiries_max", &config->inquiries_max),
                Count("scrub_rows_per_second", &config->scrub_rows_per_second, 0, 100'000'000),
                Milliseconds("scrub_interval_ms", &config->scrub_interval),
                Milliseconds("handshake_timeout_ms", &config->handshake_timeout),
                Milliseconds("connection_idle_ms_max", &config->connection_idle_max),
                Milliseconds("seed_resolve_interval_ms", &config->seed_resolve_interval),
                Milliseconds("watchdog_timeout_ms", &config->watchdog_timeout, 0),
                Milliseconds("page_check_interval_ms", &config->page_check_interval, 0)});
}

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::vector<ConfigKey> ConfigKeys(Config* config) {
  Keys keys = {
      {"node", "name", &config->node.name},
      {"node", "region", &config->node.region},
      {"node", "data_dir", &config->node.data_dir},
      {"schema", "paths", &config->schema.paths},
      {"gossip", "listen", &config->gossip.listen},
      {"gossip", "advertise", &config->gossip.advertise},
      {"gossip", "seeds", &config->gossip.seeds},
      {"gossip", "cluster", &config->gossip.cluster},
      {"api", "listen", &config->api.listen},
      {"api", "advertise", &config->api.advertise},
      {"api", "http_listen", &config->api.http_listen},
      {"api", "postgres_listen", &config->api.postgres_listen},
      {"storage", "synchronous", ChoiceKey{nullptr, &config->full_sync, {"normal", "full"}}},
      {"log", "level",
       ChoiceKey{&config->log_level, nullptr, {"debug", "info", "warning", "error", "off"}}},
  };
  AddStorage(config->store, &keys);
  AddMembership(config->gossip_core, &keys);
  AddSpreading(config->gossip_core, &keys);
  AddCollection(config, &keys);
  AddSubscriptions(config->subscribe, &keys);
  AddAgent(config, &keys);
  return keys;
}

std::string EnvironmentName(const ConfigKey& key) {
  std::string name = "PATINA_" + std::string(key.section) + "_" + std::string(key.name);
  for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

std::string Nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, word.size() / 2) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace patina::agent

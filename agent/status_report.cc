#include "agent/status_report.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <string>

#include "patina/v1/admin.pb.h"
#include "proto/convert.h"
#include "storage/wal_holders.h"

namespace patina::agent {
namespace {

constexpr size_t kActorsMax = 10'000;
constexpr size_t kParkedMax = 100;
#ifndef PATINA_VERSION
#define PATINA_VERSION "0.1.0"
#endif

void Count(v1::StatusResponse* status, const char* name, uint64_t value, uint64_t limit = 0) {
  v1::Counter* counter = status->add_counters();
  counter->set_name(name);
  counter->set_value(value);
  counter->set_limit(limit);
}

void FillActors(const storage::Store& store, v1::StatusResponse* status) {
  std::map<ActorId, std::string> names;
  for (const auto& [actor, name] : store.Actors()) names[actor] = name;
  const crdt::VersionSet& received = store.received();
  for (const ActorId& actor : received.Actors()) {
    if (static_cast<size_t>(status->actors_size()) >= kActorsMax) break;
    v1::ActorHead* head = status->add_actors();
    head->set_actor(std::string(actor.AsBytes()));
    head->set_node(names[actor]);
    head->set_head(received.Head(actor));
    head->set_gaps(received.GapCount(actor));
  }
}

void FillParked(const storage::Store& store, v1::StatusResponse* status) {
  for (const storage::ParkedChange& parked : store.Parked()) {
    if (static_cast<size_t>(status->parked_size()) >= kParkedMax) return;
    v1::ParkedChange* out = status->add_parked();
    proto::ToProto(parked.id, out->mutable_id());
    out->set_time_ns(proto::ToNs(parked.time));
    out->set_bytes(parked.bytes);
    out->set_reason(parked.reason);
  }
}

void CountStore(const storage::StoreStats& stats, const Config& config,
                v1::StatusResponse* status) {
  Count(status, "store.commits", stats.commits);
  Count(status, "store.local_transactions", stats.local_transactions);
  Count(status, "store.transactions_failed", stats.transactions_failed);
  Count(status, "store.groups_run_again", stats.groups_run_again);
  Count(status, "store.merges_run_again", stats.merges_run_again);
  Count(status, "store.changesets_applied", stats.changesets_applied);
  Count(status, "store.duplicates", stats.duplicates);
  Count(status, "store.rejected", stats.rejected);
  Count(status, "store.rows_written", stats.rows_written);
  Count(status, "store.rows_merged", stats.rows_merged);
  Count(status, "store.cells_lost", stats.cells_lost);
  Count(status, "store.checkpoints", stats.checkpoints);
  Count(status, "store.dirty_rows", stats.dirty_rows);
  Count(status, "store.cached_rows", stats.cached_rows);
  Count(status, "store.cache_bytes", stats.cache_bytes);
  Count(status, "store.cache_hits", stats.cache_hits);
  Count(status, "store.cache_misses", stats.cache_misses);
  Count(status, "store.log_entries", stats.log_entries);
  Count(status, "store.log_first", stats.log_first_seq);
  Count(status, "store.parked", stats.parked, config.store.parked_changesets_max);
  Count(status, "store.parked_bytes", stats.parked_bytes, config.store.parked_bytes_max);
  Count(status, "store.parked_refused", stats.parked_refused);
  Count(status, "store.cells_discarded", stats.cells_discarded);
  Count(status, "store.rows_discarded", stats.rows_discarded);
  Count(status, "store.schema_changes", stats.schema_changes);
  Count(status, "store.last_schema_change_ms", static_cast<uint64_t>(stats.last_schema_change_ms));
  Count(status, "store.large_local", stats.large_local);
  Count(status, "store.large_merged", stats.large_merged);
  Count(status, "store.large_staged_bytes", stats.large_staged_bytes,
        config.store.large_staged_bytes_max);
  Count(status, "store.large_refused", stats.large_refused);
  Count(status, "store.replayed", stats.replayed);
  Count(status, "store.scrub_passes", stats.scrub_passes);
  Count(status, "store.scrub_rows", stats.scrub_rows);
  Count(status, "store.last_scrub_ms", static_cast<uint64_t>(stats.last_scrub_ms));
  Count(status, "store.foreign_commits", stats.foreign_commits);
  Count(status, "store.foreign_rows", stats.foreign_rows, config.store.foreign_rows_max);
  Count(status, "store.foreign_rows_found", stats.foreign_rows_found);
  Count(status, "store.foreign_rows_unlisted", stats.foreign_rows_unlisted);
  Count(status, "store.tombstones", stats.tombstones);
  Count(status, "store.wal_bytes", stats.wal_bytes, config.store.wal_bytes_max);
  Count(status, "store.wal_used_bytes", stats.wal.used_bytes);
  Count(status, "store.wal_beginnings", stats.wal.beginnings);
  Count(status, "store.wal_checkpoints", stats.wal.checkpoints);
  Count(status, "store.wal_checkpoints_held", stats.wal.held);
  Count(status, "store.wal_checkpoints_failed", stats.wal.failed);
  Count(status, "store.wal_writer_waits", stats.wal.writer_waits);
  Count(status, "store.wal_writes", stats.wal_writes);
  Count(status, "store.wal_writes_asked", stats.wal_writes_asked);
  Count(status, "snapshots.open", stats.snapshots.open);
  Count(status, "snapshots.oldest_ms", static_cast<uint64_t>(stats.snapshots.oldest_ms));
  Count(status, "snapshots.ended", stats.snapshots.ended);
  Count(status, "snapshots.waited", stats.snapshots.waited);
  Count(status, "store.disk_failures", stats.disk_failures);
  Count(status, "store.checkpoints_failed", stats.checkpoints_failed);
  Count(status, "store.tombstones_collected", stats.tombstones_collected);
  Count(status, "store.too_old", stats.too_old);
  Count(status, "store.set_aside", stats.set_aside, config.store.set_aside_changes_max);
  Count(status, "store.set_aside_bytes", stats.set_aside_bytes, config.store.set_aside_bytes_max);
  Count(status, "store.set_aside_dropped", stats.set_aside_dropped);
  Count(status, "store.last_checkpoint_ms", static_cast<uint64_t>(stats.last_checkpoint_ms));
}

void FillWal(const storage::WalStats& wal, const Config& config, v1::StatusResponse* status) {
  status->set_wal_bytes_max(config.store.wal_bytes_max);
  status->set_wal_age_ms(wal.age_ms);
  status->set_wal_held_by_others_ms(wal.held_by_others_ms);
  if (wal.held_by_others_ms == 0) return;
  for (const storage::WalHolder& holder : storage::FindWalHolders(DatabasePath(config))) {
    v1::WalHolder* out = status->add_wal_holders();
    out->set_pid(holder.pid);
    out->set_command(holder.command);
  }
}

void CountQueues(const ApiContext& context, const ApiStreams& streams, v1::StatusResponse* status) {
  const Config& config = *context.config;
  const Writer::Stats writer = context.writer->stats();
  Count(status, "writer.queued_transactions", writer.queued_transactions,
        config.writer_queue_transactions_max);
  Count(status, "writer.queued_bytes", writer.queued_bytes, config.writer_queue_bytes_max);
  Count(status, "writer.refused", writer.refused);
  Count(status, "writer.merged", writer.merged);
  Count(status, "writer.merge_rejected", writer.merge_rejected);
  Count(status, "writer.merges_refused", writer.merges_refused);
  Count(status, "writer.groups", writer.groups);
  Count(status, "writer.merge_batches", writer.merge_batches);
  Count(status, "writer.longest_commit_us", writer.longest_commit_us);
  Count(status, "writer.longest_silence_ms", writer.longest_silence_ms);
  Count(status, "writer.large_running_ms", writer.large_running_ms);
  Count(status, "readers.queued", context.readers->queued(), config.reader_queue_max);
  Count(status, "net_readers.queued", context.net_readers->queued(), config.reader_queue_max);
  Count(status, "api.streams", streams.open(), streams.streams_max());
  const subscribe::EngineStats engine = context.subscriptions->stats();
  Count(status, "subscribe.queries", engine.queries, config.subscribe.subscriptions_max);
  Count(status, "subscribe.subscribers", engine.subscribers, config.subscribe.subscribers_max);
  Count(status, "subscribe.events", engine.events);
  Count(status, "subscribe.queue_commits", engine.queue_commits,
        config.subscribe_queue_commits_max);
  Count(status, "subscribe.resets", engine.resets);
  Count(status, "subscribe.overflows", context.subscriptions->overflows());
  Count(status, "subscribe.reruns", engine.reruns);
  Count(status, "subscribe.incremental_matches", engine.incremental_matches);
}

void CountBackups(const Backups::Stats& stats, v1::StatusResponse* status) {
  Count(status, "backup.running", stats.running ? 1 : 0, 1);
  Count(status, "backup.done", stats.done);
  Count(status, "backup.failed", stats.failed);
  Count(status, "backup.bytes", stats.bytes);
}

void CountNet(const Net::Stats& net, const Config& config, v1::StatusResponse* status) {
  Count(status, "net.connections", net.connections, config.peer_connections_max);
  Count(status, "net.bytes_in", net.bytes_in);
  Count(status, "net.bytes_out", net.bytes_out);
  Count(status, "net.garbage", net.garbage);
  Count(status, "net.peer_queue_drops", net.peer_queue_drops);
  Count(status, "net.inquiries_refused", net.inquiries_refused);
  Count(status, "net.in_flight_bytes", net.in_flight_bytes, config.gossip_core.in_flight_bytes_max);
}

void CountMembership(const gossip::Counters& gossip, v1::StatusResponse* status) {
  Count(status, "gossip.datagrams_in", gossip.datagrams_in);
  Count(status, "gossip.datagrams_out", gossip.datagrams_out);
  Count(status, "gossip.frames_in", gossip.frames_in);
  Count(status, "gossip.frames_out", gossip.frames_out);
  Count(status, "gossip.foreign_cluster", gossip.foreign_cluster);
  Count(status, "gossip.not_for_us", gossip.not_for_us);
  Count(status, "gossip.from_unknown", gossip.from_unknown);
  Count(status, "gossip.probes", gossip.probes);
  Count(status, "gossip.probe_failures", gossip.probe_failures);
  Count(status, "gossip.indirect_probes", gossip.indirect_probes);
  Count(status, "gossip.stream_probes", gossip.stream_probes);
  Count(status, "gossip.suspicions", gossip.suspicions);
  Count(status, "gossip.refutations", gossip.refutations);
  Count(status, "gossip.deaths", gossip.deaths);
  Count(status, "gossip.name_conflicts", gossip.name_conflicts);
}

void CountLarge(const gossip::Counters& gossip, const Config& config, v1::StatusResponse* status) {
  Count(status, "gossip.large_asked", gossip.large_asked);
  Count(status, "gossip.large_merged", gossip.large_merged);
  Count(status, "gossip.large_waiting", gossip.large_waiting, config.gossip_core.large_waiting_max);
  Count(status, "gossip.large_chunks_here", gossip.large_chunks_here);
  Count(status, "gossip.large_chunks_of", gossip.large_chunks_of);
}

void CountSpreading(const gossip::Counters& gossip, v1::StatusResponse* status) {
  Count(status, "gossip.changes_fresh", gossip.changes_fresh);
  Count(status, "gossip.changes_duplicate", gossip.changes_duplicate);
  Count(status, "gossip.changes_forwarded", gossip.changes_forwarded);
  Count(status, "gossip.changes_left_to_repair", gossip.changes_left_to_repair);
  Count(status, "gossip.changes_dropped_in_flight_full", gossip.changes_dropped_in_flight_full);
  Count(status, "gossip.pulls", gossip.pulls);
  Count(status, "gossip.pulled_changes", gossip.pulled_changes);
  Count(status, "gossip.syncs", gossip.syncs);
  Count(status, "gossip.sync_changes", gossip.sync_changes);
  Count(status, "gossip.sync_timeouts", gossip.sync_timeouts);
  Count(status, "gossip.sync_states_full", gossip.sync_states_full);
  Count(status, "gossip.sync_states_refused", gossip.sync_states_refused);
  Count(status, "gossip.sync_peers_forgotten", gossip.sync_peers_forgotten);
  Count(status, "gossip.publications", gossip.publications);
  Count(status, "gossip.publications_heard", gossip.publications_heard);
  Count(status, "gossip.publications_refused", gossip.publications_refused);
  Count(status, "gossip.members_forgotten", gossip.members_forgotten);
  Count(status, "gossip.settlements", gossip.settlements);
  Count(status, "gossip.snapshots_asked", gossip.snapshots_asked);
  Count(status, "gossip.snapshots_served", gossip.snapshots_served);
  Count(status, "gossip.snapshots_failed", gossip.snapshots_failed);
  Count(status, "gossip.snapshots_refused", gossip.snapshots_refused);
  Count(status, "gossip.snapshots_impossible", gossip.snapshots_impossible);
  Count(status, "gossip.transfers_asked", gossip.transfers_asked);
  Count(status, "gossip.transfers_merged", gossip.transfers_merged);
  Count(status, "gossip.transfers_served", gossip.transfers_served);
  Count(status, "gossip.transfers_failed", gossip.transfers_failed);
}

uint64_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  uint64_t size = 0, resident = 0;
  statm >> size >> resident;
  return resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

void FillTable(const storage::TableDigest& table, v1::TableStatus* out) {
  out->set_name(table.table);
  out->set_rows(table.rows);
  out->set_digest(table.digest.ToString());
}

void FillForeignRow(const storage::ForeignRow& row, v1::ForeignRow* out) {
  out->set_table(row.table);
  const bool known = !row.key.empty() && proto::UnpackToProto(row.key, out->mutable_key()).ok();
  if (!known) out->clear_key();
  out->set_kind(std::string(NameOf(row.kind)));
  out->set_found_ns(row.found_ms * 1'000'000);
}

void FillFromStore(storage::Store& store, const Config& config, v1::StatusResponse* status) {
  if (store.actor() != ActorId()) status->set_actor(std::string(store.actor().AsBytes()));
  status->set_change_number(store.last_seq());
  status->set_schema_hash(store.schema().Hash());
  status->set_received_digest(store.received().digest().ToString());
  for (const storage::TableDigest& table : store.Digests()) FillTable(table, status->add_tables());
  FillActors(store, status);
  FillParked(store, status);
  for (const std::string& trouble : store.Troubles()) status->add_troubles(trouble);
  for (const storage::ForeignRow& row : store.ForeignRows(kForeignRowsShown)) {
    FillForeignRow(row, status->add_foreign_rows());
  }
  const storage::StoreStats stats = store.Stats();
  status->set_file_bytes(stats.file_bytes);
  status->set_wal_bytes(stats.wal_bytes);
  FillWal(stats.wal, config, status);
  status->set_log_bytes(stats.log_bytes);
  CountStore(stats, config, status);
}

void FillCollection(const storage::Store& store, const Collection& collection,
                    v1::StatusResponse* status) {
  const Collection::Report report = collection.Describe(store);
  const storage::StoreStats stats = store.Stats();
  v1::Collection* out = status->mutable_collection();
  out->set_horizon_ns(proto::ToNs(report.horizon));
  out->set_frontier_ns(proto::ToNs(report.frontier));
  out->set_complete_ns(proto::ToNs(report.complete));
  out->set_held_back_by(report.held_back_by.node);
  out->set_held_back_reason(report.held_back_by.reason);
  out->set_members(report.members);
  out->set_members_forgotten(report.forgotten);
  out->set_tombstones(stats.tombstones);
  out->set_tombstones_collected(stats.tombstones_collected);
  out->set_set_aside(stats.set_aside);
  out->set_set_aside_bytes(stats.set_aside_bytes);
  Count(status, "collection.refused", report.refused);
}

void FillFromThreads(const ApiContext& context, const ApiStreams& streams,
                     v1::StatusResponse* status) {
  const Config& config = *context.config;
  status->set_name(config.node.name);
  status->set_region(config.node.region);
  status->set_cluster(config.gossip.cluster);
  status->set_version(PATINA_VERSION);
  status->set_fault_injection(config.fault_injection);
  status->set_memory_bytes(ResidentBytes());
  CountQueues(context, streams, status);
  CountBackups(context.backups->stats(), status);
  if (context.page_checker != nullptr) {
    Count(status, "pages.rounds", context.page_checker->rounds());
  }
  const Net::Stats net = context.net->stats();
  status->set_versions_lacking(net.versions_lacking);
  status->set_clock_correction_ms(net.clock_correction_ms);
  CountNet(net, config, status);
  CountMembership(net.gossip, status);
  CountSpreading(net.gossip, status);
  CountLarge(net.gossip, config, status);
}

}  // namespace patina::agent

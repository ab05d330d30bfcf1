#pragma once

#include "agent/api_server.h"
#include "agent/api_streams.h"
#include "agent/collection.h"

namespace patina::v1 {
class ForeignRow;
class StatusResponse;
class TableStatus;
}  // namespace patina::v1

// What Admin.Status says. Two parts, by who may be asked on which thread.

namespace patina::agent {

/// On the writer thread: tables, actors, log, disk, parked changes, the store's counters.
void FillFromStore(storage::Store& store, const Config& config, v1::StatusResponse* status);
/// Any thread: identity, queues, gossip, subscriptions, memory.
/// What was forgotten and who holds it back. On the writer thread.
void FillCollection(const storage::Store& store, const Collection& collection,
                    v1::StatusResponse* status);
void FillFromThreads(const ApiContext& context, const ApiStreams& streams,
                     v1::StatusResponse* status);

inline constexpr size_t kForeignRowsShown = 100;
void FillForeignRow(const storage::ForeignRow& row, v1::ForeignRow* out);
void FillTable(const storage::TableDigest& table, v1::TableStatus* out);

}  // namespace patina::agent

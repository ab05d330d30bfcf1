#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/status.h"
#include "crdt/value.h"
#include "crdt/version_set.h"
#include "storage/schema.h"
#include "storage/snapshots.h"
#include "storage/store.h"

// Read-only connections beside the store's: queries, the log, transfers to others.

namespace patina::storage {

/// Gets a query's answer. Return false to stop (the query then ends without an error).
class RowSink {
 public:
  virtual ~RowSink() = default;
  virtual bool OnColumns(const std::vector<std::string>& names) = 0;
  /// Values live until the call returns.
  virtual bool OnRow(const std::vector<crdt::ValueView>& values) = 0;
};

struct ReaderOptions {
  int64_t page_cache_kib = 2048;
  /// The store's, unless the reader shares the store's thread: so that its reads do not let the
  /// write-ahead log grow without end.
  std::shared_ptr<Snapshots> snapshots;
  /// Its reads are ended (RESOURCE_EXHAUSTED) when they keep the log too large. False: they are
  /// waited for, so they are to be short.
  bool may_be_ended = true;
};

struct QueryLimits {
  Duration deadline = std::chrono::seconds(60);  // of the whole query, rows handed over included
  Duration spent{};                              // of it, before: in a queue
  uint64_t rows_max = UINT64_MAX;
  const std::atomic<bool>* cancelled = nullptr;  // polled while SQLite works
};

/// Which tables and columns a query reads, as SQLite's authorizer says.
struct QueryReads {
  struct Read {
    std::string table;
    std::string column;  // "" when only the table's rows are counted
    bool operator<(const Read& other) const {
      return std::tie(table, column) < std::tie(other.table, other.column);
    }
    bool operator==(const Read&) const = default;
  };
  std::vector<Read> reads;             // sorted
  std::vector<std::string> functions;  // lower case, sorted
  std::vector<std::string> columns;    // of the answer
  size_t parameters = 0;               // highest parameter number
};

struct LogEntry {
  uint64_t seq = 0;
  ChangeId id;
  crdt::HlcTime time;
  bool rows_unknown = false;  // a marker: a whole-difference transfer or a large transaction
  SharedBytes bytes;          // the changeset
  /// Which of its rows' words took effect, see storage/log.h; empty: all.
  std::string effect;
};

/// One read-only connection. One thread at a time (a pool hands them out).
class Reader {
 public:
  static Result<std::unique_ptr<Reader>> Open(const std::string& path, ReaderOptions options = {});
  ~Reader();
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  /// One statement that only reads. Errors: INVALID_ARGUMENT with SQLite's message (syntax, unknown
  /// table, wrong number of parameters, several statements, not read-only), DEADLINE_EXCEEDED,
  /// CANCELLED, RESOURCE_EXHAUSTED (rows_max; wal_bytes_max).
  Status Query(const Statement& statement, const QueryLimits& limits, RowSink& sink);
  /// The same inside a read transaction that BeginSnapshot opened; *seq is the last log entry it
  /// sees.
  Result<uint64_t> BeginSnapshot();
  void EndSnapshot();
  /// The open snapshot or transfer has to be given up, see Snapshots. Any thread.
  bool MustEnd() const;

  /// Prepares without running.
  Result<QueryReads> Analyze(const Statement& statement);

  struct LogRange {
    std::vector<std::pair<ChangeId, SharedBytes>> changes;
    std::vector<crdt::ActorRanges> not_at_hand;  // asked, and not in the log
    bool complete = true;                        // false: the rest did not fit in bytes_max
  };
  Result<LogRange> ReadLog(const std::vector<crdt::ActorRanges>& wanted, uint64_t bytes_max);

  /// Entries with seq > after, in order, about bytes_max of them. OUT_OF_RANGE when some of them
  /// were trimmed away already.
  Result<std::vector<LogEntry>> ReadLogAfter(uint64_t after, uint64_t bytes_max);
  Result<uint64_t> LastSeq();

  // A transfer, sender's side: right after a checkpoint, on the store's thread; holds one read
  // snapshot until EndTransfer.
  Status BeginTransfer(const Schema& schema, const crdt::VersionSet& receiver_applied);
  struct TransferChunk {
    std::string bytes;
    bool last = false;
  };
  Result<TransferChunk> NextTransferChunk(size_t bytes_max = 1u << 20);
  void EndTransfer();

  /// One chunk of a large transaction, each call for itself: no snapshot is held. last: there is
  /// none after it. NOT_FOUND when the log no longer holds the transaction.
  Result<TransferChunk> ReadLargeChunk(const ChangeId& id, uint64_t number);

 private:
  class Impl;
  explicit Reader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace patina::storage

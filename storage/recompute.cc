#include <algorithm>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#include "base/log.h"
#include "storage/store_impl.h"

// Digests of whole tables, made from the rows and clocks in the file: after a crash, and of a file
// that came from a peer. A node does not answer before, so large tables are read by several
// threads.

namespace patina::storage {
namespace {

constexpr uint64_t kRowsPerThread = 100'000;  // some 0.1 s
constexpr uint64_t kThreadsMax = 4;

struct Range {
  int64_t first = 0, last = 0;  // both in it
};

/// As many of about the same width as there should be threads; none: not worth it.
Result<std::vector<Range>> RangesOf(Db& db, const TableIo& table) {
  std::vector<Range> ranges;
  if (table.table().without_rowid) return ranges;
  const auto end = [&](const char* which) {
    return db.QueryInt(StrCat("SELECT ", which, "(", table.rowid_name(), ") FROM ",
                              QuoteName(table.table().name)));
  };
  ASSIGN_OR_RETURN(const int64_t first, end("min"));
  ASSIGN_OR_RETURN(const int64_t last, end("max"));
  const uint64_t width = static_cast<uint64_t>(last) - static_cast<uint64_t>(first);
  const uint64_t threads = std::min({width / kRowsPerThread, kThreadsMax,
                                     static_cast<uint64_t>(std::thread::hardware_concurrency())});
  if (threads < 2) return ranges;
  const auto part = static_cast<int64_t>(width / threads);
  ranges.push_back({first, first + part});
  while (ranges.size() < threads) {
    const int64_t from = ranges.back().last + 1;
    ranges.push_back({from, ranges.size() + 1 == threads ? last : from + part});
  }
  return ranges;
}

/// By one thread for each range, with a connection of its own: what is to be read is committed.
Result<TableDigestState> DigestInParts(const std::string& path, const TableIo& table,
                                       const std::vector<Range>& ranges, const RowHasher& hasher_of,
                                       const crdt::ActorTable& actors) {
  std::vector<std::optional<Result<TableDigestState>>> sums(ranges.size());
  const auto read = [&](size_t i) -> Result<TableDigestState> {
    ASSIGN_OR_RETURN(Db own, Db::Open(path, Db::Mode::kReadOnly));
    TableIo part(&own, &table.table(), table.number());
    RowHasher hasher = hasher_of;
    RETURN_IF_ERROR(part.DigestOfRange(ranges[i].first, ranges[i].last, &hasher, actors));
    return std::move(part.digest);
  };
  {
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < ranges.size(); ++i) {
      try {
        threads.emplace_back([&, i] { sums[i] = read(i); });
      } catch (const std::system_error&) {
        sums[i] = read(i);  // no more threads for this process
      }
    }
  }
  TableDigestState digest;
  digest.Reset();
  for (const auto& sum : sums) {
    if (!sum->ok()) return sum->error();
    digest.Add(**sum);
  }
  return digest;
}

}  // namespace

Status Store::Impl::RecomputeDigests() {
  for (const auto& table : tables) {
    if (!table->digest_dirty) continue;
    ASSIGN_OR_RETURN(const std::vector<Range> ranges, RangesOf(*db, *table));
    RowHasher& hasher = hashers[table->number()];
    ASSIGN_OR_RETURN(const int64_t before, db->QueryInt("PRAGMA data_version"));
    if (!ranges.empty()) {
      ASSIGN_OR_RETURN(table->digest, DigestInParts(sqlite3_db_filename(db->get(), "main"), *table,
                                                    ranges, hasher, actors));
    }
    ASSIGN_OR_RETURN(const int64_t after, db->QueryInt("PRAGMA data_version"));
    // Another client's commit between two threads' snapshots: one scan sees all or nothing of it.
    if (ranges.empty() || before != after)
      RETURN_IF_ERROR(table->RecomputeDigest(&hasher, actors, {}));
  }
  RETURN_IF_ERROR(db->Exec("BEGIN IMMEDIATE"));
  RETURN_IF_ERROR(SaveDigests());
  RETURN_IF_ERROR(SaveState("digests_valid", crdt::ValueView::Integer(1)));
  return Commit("saving digests");
}

}  // namespace patina::storage

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "crdt/hlc.h"
#include "crdt/value.h"
#include "crdt/version_set.h"
#include "storage/digest.h"
#include "storage/foreign_rows.h"
#include "storage/row_cache.h"

// What the parts of a store (store_impl.h) hand each other. Values, the writer's thread.

namespace patina::storage {

class TableIo;

/// A clock row or tombstone on its way to losing a column's cell.
struct ErasedRow {
  crdt::Value key;
  std::string clock;  // empty: it says nothing any more
  std::string cells;  // of a tombstone, packed
};

/// A row that another client wrote: as it is in the file, and as Patina wrote it.
struct TrueRow {
  ForeignRow found;
  TableIo* table = nullptr;
  CachedRow row;                                  // the file's values; Patina's clock
  std::vector<std::optional<crdt::Value>> truth;  // per column; nothing: not in the log any more
  crdt::ColumnMask differs;                       // or may
  bool proven = false;                            // the truth is whole: by the log or by the seal
};

/// How a merge finds the rows that it changes.
enum class Loading {
  kFromFile,
  kWithDead,      // a tombstone is joined, although there is a row
  kAssumeAbsent,  // as kFromFile, but who is inserted is not looked for: see WriteMerged
};

/// A peer's change that waits.
struct WaitingChange {
  crdt::HlcTime time;
  std::string reason;
  uint64_t bytes = 0;
  bool future = false;  // waits for its time only
};

/// One that a client's transaction has open.
struct Savepoint {
  std::string name;
  uint64_t mark;
};

/// What is known of a transfer while its chunks are read in order.
struct TransferDecode {
  bool header = false, end = false;
  bool own_rows = false;  // of this node's own file: nothing to distrust
  crdt::VersionSet claimed;
  std::vector<crdt::ActorIndex> dictionary;  // of the sender's numbers, in order of appearance
  TableIo* table = nullptr;
  std::vector<crdt::ColumnIndex> columns;  // of the table's section
  crdt::HlcTime newest;
};

/// What this node had received and the sender of a snapshot had not applied.
struct SnapshotShare {
  crdt::VersionSet kept;       // merged onto the copy
  crdt::VersionSet set_aside;  // dropped, and listed
};

/// What a commit that goes past the cache may have changed in memory, to be put back when it fails.
struct DigestsBefore {
  std::vector<TableDigestState> digests;
  std::vector<uint64_t> tombstones;
};

inline constexpr const char* kReplayedKeys = "replayed_keys";  // in __patina_state

/// A clock row without its row.
struct Orphan {
  int64_t id = 0;
  std::string key;  // packed; empty: not known
  std::string clock;
  uint32_t short_hash = 0;
};

}  // namespace patina::storage

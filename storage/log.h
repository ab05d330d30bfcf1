#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "crdt/row_clock.h"
#include "storage/db.h"

// The log's notes on which words of a changeset took effect on this node.
//
// An effect is a string of bits, low bit first in each byte, in the changeset's own order: for
// every row first its word on existence (if it says alive or deleted), then its cells. 1: it counts
// on this node since that commit; 0: something later was here already. The empty string stands for
// all ones.

namespace patina::storage {

/// kLarge: the bytes are a manifest (crdt/manifest.h), the chunks stand in __patina_chunk as long
/// as the entry is there. Its effect is not kept: rows_unknown, as after a transfer.
enum class LogKind : int { kChangeset = 0, kTransfer = 1, kLarge = 2 };

/// SQL: does the log hold the large transaction of chunk c? It is in the index from its commit on.
inline constexpr const char* kChunkIsLogged =
    "EXISTS (SELECT 1 FROM __patina_log_index i JOIN __patina_actor a ON a.id = i.actor WHERE "
    "a.actor = c.actor AND i.version = c.version)";

/// One chunk of a large transaction; nothing if the file does not hold it.
Result<std::optional<std::string>> ReadChunk(Db& db, const ChangeId& id, uint64_t number);

class EffectWriter {
 public:
  void Add(bool took_effect);
  /// Empty when everything took effect.
  std::string Finish() &&;

 private:
  std::string bits_;
  size_t count_ = 0;
  bool all_ = true;
};

class EffectReader {
 public:
  explicit EffectReader(std::string_view effect) : effect_(effect) {}
  /// Of the next word; past the end: false (unless all took effect).
  bool Next();

 private:
  std::string_view effect_;
  size_t position_ = 0;
};

}  // namespace patina::storage

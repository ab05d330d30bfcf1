#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "crdt/hlc.h"

namespace patina::storage {

struct Schema;

/// What one commit did to one row of a table, for live queries. Rows are packed (crdt::PackValues)
/// with all columns in declaration order, keys included.
struct RowEffect {
  uint32_t table = 0;                 // position in Schema::tables
  uint64_t seq = 0;                   // of the last log entry of the commit that touched it
  std::string key;                    // packed, in PRIMARY KEY order
  std::optional<std::string> before;  // nothing: there was no such row
  std::optional<std::string> after;   // nothing: it is gone
};

/// One SQLite commit. Log entries (one per changeset) are numbered by seq, contiguous: a commit
/// covers first_seq..last_seq (none, and first_seq = last_seq + 1, when nothing was logged).
struct CommitEffects {
  uint64_t first_seq = 1;
  uint64_t last_seq = 0;
  std::vector<RowEffect> rows;       // of tables asked for (Store::SetEffectTables), one per row
  std::vector<bool> tables_changed;  // by position in Schema::tables, all tables
  /// Too much changed to list rows (a transfer): whoever looks at these tables must look anew.
  bool rows_unknown = false;
  /// From here on the tables are these, and positions are theirs; null: as before.
  std::shared_ptr<const Schema> schema;
};

}  // namespace patina::storage

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/random.h"
#include "crdt/value.h"

// The work that both sides of the storage benchmark do: SQL on the sample fleet's machines, and
// rows for it.

namespace patina::bench {

/// Parameters of one statement.
using Row = std::vector<crdt::Value>;
/// Rows of one transaction, all for one statement.
using Batch = std::vector<Row>;

extern const char* const kInsert;     // all columns of a machine
extern const char* const kUpsert;     // the same, whether it is there or not
extern const char* const kUpdate;     // 3 columns
extern const char* const kHeartbeat;  // 1 column

/// The first `rows` machines, in order.
std::vector<Batch> MachineBatches(size_t rows, size_t per_batch);

/// New values for random machines among `machines`: 3 columns for kUpdate, 1 for kHeartbeat.
std::vector<Batch> UpdateBatches(Rng& random, size_t machines, size_t rows, size_t per_batch,
                                 size_t columns);

}  // namespace patina::bench

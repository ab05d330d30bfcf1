#pragma once

#include <string_view>

#include "base/random.h"
#include "storage/schema.h"
#include "storage/store.h"

namespace patina::sim {

/// Tables like the sample fleet's, small: two kinds of keys, a REAL column, row-wise merge in one
/// table.
storage::Schema SimSchema();

/// A transaction of one to three statements on a few hundred rows that all hosts fight over. It may
/// fail (an INSERT of a key that is there) or change nothing.
storage::Transaction RandomTransaction(Rng& rng, int64_t wall_ms);
/// A large one, of most of the machines.
storage::Transaction LargeTransaction(Rng& rng, int64_t wall_ms);

}  // namespace patina::sim

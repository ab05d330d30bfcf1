#pragma once

#include <vector>

#include "base/status.h"
#include "storage/reader.h"
#include "storage/store.h"
#include "subscribe/sql_tokens.h"

namespace patina::subscribe {

/// INVALID_ARGUMENT, with what to do, when the answer may change without a change of a table
/// (clocks, randomness, the connection's state), or when parameters are missing. Any thread.
///
/// Not found: the text 'now' that a date function gets from a column or puts together.
Status RefuseUnsteady(const storage::Statement& statement, const storage::QueryReads& reads,
                      const std::vector<Token>& tokens);

}  // namespace patina::subscribe

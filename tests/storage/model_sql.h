#pragma once

#include <string>
#include <vector>

#include "base/random.h"
#include "storage/store.h"
#include "tests/storage/test_util.h"

// What the nodes of the cluster model have for tables, and what is written to them.

namespace patina::storage::model {

enum class Sql {
  kPlain,  // two tables of integers, two keys each: histories meet in the same cells all the time
  kAny,    // all kinds of tables, statements and values
};

/// Deployed in this order, at another time on each node, some skipped.
const std::vector<Schema>& Schemas(Sql sql);

/// Transactions for one call of Store::Execute. Of any SQL some fail.
std::vector<Transaction> RandomGroup(Sql sql, const Schema& schema, bool some_large, Rng& rng);

/// The rows that differ, for people.
std::string DescribeDifference(const Rows& have, const Rows& want);

}  // namespace patina::storage::model

#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "storage/effects.h"
#include "storage/schema.h"
#include "subscribe/plan.h"
#include "subscribe/predicate_index.h"
#include "subscribe/probe.h"

namespace patina::subscribe {

/// One table's side of the engine: which queries look at it, and what a commit means to each of
/// them. Not thread-safe.
class TableFeed {
 public:
  using QueryId = PredicateIndex::QueryId;

  explicit TableFeed(const storage::Table& table) : table_(table) {}

  void Add(QueryId query, const Plan& plan, ColumnMask columns);
  void Remove(QueryId query, const Plan& plan);
  bool empty() const { return index_.empty() && reruns_.empty(); }

  /// Queries to be run anew for any change: those that are not incremental, with the columns they
  /// read.
  struct Rerun {
    QueryId query = 0;
    ColumnMask columns = 0;
    bool operator<(const Rerun& other) const { return query < other.query; }
  };
  const std::set<Rerun>& reruns() const { return reruns_; }
  /// The incremental ones, sorted.
  std::vector<QueryId> Incremental() const;

  /// The columns in which these rows changed; all when a row came or went.
  ColumnMask ChangedColumns(const std::vector<const storage::RowEffect*>& rows) const;

  /// Incremental queries and the positions of the rows that concern them, ordered so that equal
  /// sets of rows follow each other. False when the rows cannot be read.
  struct Concern {
    QueryId query = 0;
    std::vector<uint32_t> rows;
  };
  bool FindConcerns(const std::vector<const storage::RowEffect*>& rows,
                    std::vector<Concern>* concerns) const;

  /// The probe holds the rows' after images. Null when it does not take them.
  Probe* Fill(const std::vector<const storage::RowEffect*>& rows);

 private:
  const storage::Table& table_;
  PredicateIndex index_;
  std::set<QueryId> incremental_;
  std::set<Rerun> reruns_;
  std::unique_ptr<Probe> probe_;
};

}  // namespace patina::subscribe

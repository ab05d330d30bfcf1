#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/verify.h"
#include "agent/verify_codec.h"

// The comparing in `patina verify`, without asking anybody: tests reach it directly. Values, one
// thread.

namespace patina::agent {

inline constexpr size_t kDifferencesMax = 100;

/// By node. The node `self` is the reference: all others are compared with it (if all equal it, all
/// are equal).
using Answers = std::map<std::string, VerifyAnswer>;

/// Tables whose digests or row counts differ from self's on some node, or that some node does not
/// have.
std::vector<std::string> DifferingTables(const std::string& self, const Answers& answers);

/// Buckets that have not once matched. A node's bucket matches when self has had the same sum in
/// any round: then the node was only ahead or behind.
class BucketSuspects {
 public:
  explicit BucketSuspects(std::string self) : self_(std::move(self)) {}
  void AddRound(const Answers& answers);
  /// Of all nodes, ascending.
  std::vector<TableBucket> Suspects() const;
  bool Empty() const { return Suspects().empty(); }

 private:
  using Place = std::pair<std::string, std::string>;  // node, table
  const std::string self_;
  std::map<std::string, std::vector<std::set<uint64_t>>> self_sums_;  // table -> per bucket
  std::map<Place, std::vector<std::set<uint64_t>>> sums_;             // of buckets not yet matched
  std::map<Place, std::vector<bool>> matched_;
};

struct RowComparison {
  std::vector<VerifyReport::Difference> differences;  // at most kDifferencesMax
  bool undecided = false;  // some rows differ because a node has not yet applied what the other has
};

/// Two readings of the same buckets, the first earlier. A cell counts as different when both nodes
/// have applied both stamps; one that is missing (of a deleted row nothing is told) when it was so
/// in both readings and each node has by the second applied what the other had by the first.
RowComparison CompareRows(const std::string& self, const Answers& first, const Answers& second);

}  // namespace patina::agent

#include "agent/verify_compare.h"

#include <algorithm>
#include <tuple>

namespace patina::agent {

std::vector<std::string> DifferingTables(const std::string& self, const Answers& answers) {
  std::set<std::string> differing;
  const auto tables_of = [](const VerifyAnswer& answer) {
    std::map<std::string, storage::TableDigest> tables;
    for (const auto& table : answer.tables) tables[table.table] = table;
    return tables;
  };
  const auto own = tables_of(answers.at(self));
  for (const auto& [node, answer] : answers) {
    const auto theirs = tables_of(answer);
    for (const auto& [name, table] : own) {
      const auto it = theirs.find(name);
      if (it == theirs.end() || !(it->second == table)) differing.insert(name);
    }
    for (const auto& [name, table] : theirs) {
      if (!own.contains(name)) differing.insert(name);
    }
  }
  return {differing.begin(), differing.end()};
}

void BucketSuspects::AddRound(const Answers& answers) {
  const auto own = answers.find(self_);
  if (own == answers.end()) return;
  for (const auto& [table, sums] : own->second.buckets) {
    auto& known = self_sums_[table];
    known.resize(storage::kDigestBuckets);
    for (size_t i = 0; i < sums.size(); ++i) known[i].insert(sums[i]);
  }
  for (const auto& [node, answer] : answers) {
    if (node == self_) continue;
    for (const auto& [table, sums] : answer.buckets) {
      auto& known = sums_[{node, table}];
      auto& matched = matched_[{node, table}];
      known.resize(storage::kDigestBuckets);
      matched.resize(storage::kDigestBuckets);
      for (size_t i = 0; i < sums.size(); ++i) {
        if (!matched[i]) known[i].insert(sums[i]);
      }
    }
  }
  for (auto& [place, sums] : sums_) {
    const auto reference = self_sums_.find(place.second);
    if (reference == self_sums_.end()) continue;
    std::vector<bool>& matched = matched_[place];
    for (size_t i = 0; i < sums.size(); ++i) {
      if (matched[i]) continue;
      const auto same = [&](uint64_t sum) { return reference->second[i].contains(sum); };
      if (std::any_of(sums[i].begin(), sums[i].end(), same)) {
        matched[i] = true;
        sums[i].clear();
      }
    }
  }
}

std::vector<TableBucket> BucketSuspects::Suspects() const {
  std::set<TableBucket> suspects;
  for (const auto& [place, matched] : matched_) {
    if (!self_sums_.contains(place.second)) continue;
    for (size_t i = 0; i < matched.size(); ++i) {
      if (!matched[i]) suspects.emplace(place.second, static_cast<uint32_t>(i));
    }
  }
  return {suspects.begin(), suspects.end()};
}

namespace {

using Cell = storage::RowDigest::Cell;
using Place = std::tuple<std::string, std::string, std::string>;  // table, key, column
using Cells = std::map<Place, Cell>;

Cells CellsOf(const VerifyAnswer& answer) {
  Cells cells;
  for (const auto& [bucket, rows] : answer.rows) {
    for (const storage::RowDigest& row : rows) {
      for (const Cell& cell : row.cells) cells[{bucket.first, row.key, cell.column}] = cell;
    }
  }
  return cells;
}

ChangeId IdOf(const Cell& cell) { return {cell.actor, cell.version}; }

bool Same(const Cell& a, const Cell& b) {
  return a.value == b.value && a.time == b.time && a.actor == b.actor && a.version == b.version;
}

const Cell* Find(const Cells& cells, const Place& place) {
  const auto it = cells.find(place);
  return it == cells.end() ? nullptr : &it->second;
}

/// One node's two readings.
struct Reading {
  const VerifyAnswer* first_answer;
  const VerifyAnswer* answer;
  Cells first, cells;
};

enum class Verdict { kSame, kUndecided, kDifferent };

Verdict CompareMissing(const Reading& has, const Reading& lacks, const Place& place) {
  const Cell* now = Find(has.cells, place);
  const Cell* before = Find(has.first, place);
  if (before == nullptr || !Same(*before, *now) || Find(lacks.first, place) != nullptr) {
    return Verdict::kUndecided;
  }
  const bool nobody_wrote_it = now->version == 0;  // but another SQLite client
  const bool both_applied = (nobody_wrote_it || lacks.answer->applied.Contains(IdOf(*now))) &&
                            lacks.first_answer->applied.IsSubsetOf(has.answer->applied);
  return both_applied ? Verdict::kDifferent : Verdict::kUndecided;
}

Verdict Compare(const Reading& a, const Reading& b, const Place& place) {
  const Cell *of_a = Find(a.cells, place), *of_b = Find(b.cells, place);
  if (of_a == nullptr && of_b == nullptr) return Verdict::kSame;
  if (of_b == nullptr) return CompareMissing(a, b, place);
  if (of_a == nullptr) return CompareMissing(b, a, place);
  if (Same(*of_a, *of_b)) return Verdict::kSame;
  const bool both_applied =
      a.answer->applied.Contains(IdOf(*of_b)) && b.answer->applied.Contains(IdOf(*of_a));
  return both_applied ? Verdict::kDifferent : Verdict::kUndecided;
}

}  // namespace

RowComparison CompareRows(const std::string& self, const Answers& first, const Answers& second) {
  RowComparison comparison;
  std::map<std::string, Reading> nodes;
  std::set<Place> places;
  for (const auto& [node, answer] : second) {
    const auto before = first.find(node);
    if (before == first.end()) continue;
    Reading reading{&before->second, &answer, CellsOf(before->second), CellsOf(answer)};
    for (const auto& [place, cell] : reading.cells) places.insert(place);
    nodes.emplace(node, std::move(reading));
  }
  const auto own = nodes.find(self);
  if (own == nodes.end()) {
    comparison.undecided = true;
    return comparison;
  }
  for (const Place& place : places) {
    bool different = false;
    for (const auto& [node, reading] : nodes) {
      if (node == self) continue;
      const Verdict verdict = Compare(own->second, reading, place);
      different = different || verdict == Verdict::kDifferent;
      comparison.undecided = comparison.undecided || verdict == Verdict::kUndecided;
    }
    if (!different) continue;
    if (comparison.differences.size() >= kDifferencesMax) break;
    VerifyReport::Difference difference;
    std::tie(difference.table, difference.key, difference.column) = place;
    for (const auto& [node, reading] : nodes) {
      const Cell* cell = Find(reading.cells, place);
      if (cell != nullptr) {
        difference.cells.push_back({node, cell->value, cell->time, IdOf(*cell)});
      } else {
        difference.cells.push_back({node, "(none)", {}, {}});
      }
    }
    comparison.differences.push_back(std::move(difference));
  }
  return comparison;
}

}  // namespace patina::agent

#pragma once

#include <set>
#include <string>

#include "tests/storage/test_util.h"

// What the tests of large transactions share: a schema, two nodes, what a change says as a set.

namespace patina::storage {

inline constexpr const char* kOld = R"sql(
CREATE TABLE words (id TEXT NOT NULL PRIMARY KEY, a, b TEXT DEFAULT 'd');
CREATE TABLE numbers (id INTEGER PRIMARY KEY, a, r REAL);
CREATE TABLE pairs (v, x TEXT NOT NULL, y INTEGER NOT NULL, PRIMARY KEY (y, x)) WITHOUT ROWID;
CREATE TABLE whole (id TEXT NOT NULL PRIMARY KEY, a, b);
CREATE TABLE keys_only (id TEXT NOT NULL PRIMARY KEY);
)sql";
inline constexpr const char* kNew = R"sql(
CREATE TABLE words (id TEXT NOT NULL PRIMARY KEY, a, b TEXT DEFAULT 'd', late TEXT DEFAULT 'late');
CREATE TABLE numbers (id INTEGER PRIMARY KEY, a, r REAL, firm INTEGER NOT NULL DEFAULT 3);
CREATE TABLE pairs (v, x TEXT NOT NULL, y INTEGER NOT NULL, late DEFAULT 7, PRIMARY KEY (y, x))
                    WITHOUT ROWID;
CREATE TABLE whole (id TEXT NOT NULL PRIMARY KEY, a, b, c DEFAULT 1.5);
CREATE TABLE keys_only (id TEXT NOT NULL PRIMARY KEY);
)sql";
inline constexpr const char* kToml = "[whole]\nmerge = \"row\"\n";

/// Everything spills, and each row or two is a chunk.
inline void MakeTiny(StoreLimits* limits) {
  limits->large_memory_bytes = 1;
  limits->large_chunk_bytes = 1;
}

class LargeTest : public ::testing::Test {
 protected:
  LargeTest() {
    for (TestNode* node : {&node_, &peer_}) {
      MakeTiny(&node->options.limits);
      node->CloseAndOpen();
    }
  }
  LargeChange Change(const Committed& committed) {
    return ReadLarge(node_, {committed.actor, committed.version});
  }
  static void ExpectEqual(TestNode& one, TestNode& other) {
    EXPECT_EQ(one.Dump(), other.Dump());
    EXPECT_EQ(one.Digests(), other.Digests());
    EXPECT_EQ(one.store->applied(), other.store->applied());
  }

  Schema schema_ = MustParse(kOld, kToml);
  TestNode node_{schema_}, peer_{schema_};
};

inline std::set<std::string> Words(const std::string& described) {
  std::set<std::string> words;
  for (size_t at = 0; at < described.size();) {
    const size_t end = std::min(described.find("; ", at), described.size());
    words.insert(described.substr(at, end - at));
    at = end + 2;
  }
  return words;
}

inline std::set<std::string> Words(const LargeChange& change) {
  std::set<std::string> words;
  for (const SharedBytes& chunk : change.chunks) words.merge(Words(Describe(chunk)));
  return words;
}

}  // namespace patina::storage

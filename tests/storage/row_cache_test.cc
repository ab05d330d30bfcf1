#include "storage/row_cache.h"

#include <gtest/gtest.h>

#include <map>

#include "base/random.h"

namespace patina::storage {
namespace {

CachedRow Row(uint32_t table, const std::string& key) {
  CachedRow row;
  row.table = table;
  row.key = key;
  row.key_hash = RowCache::KeyHash(key);
  row.values = "values of " + key + std::string(50, '.');
  return row;
}

CachedRow* Find(RowCache& cache, uint32_t table, const std::string& key) {
  return cache.Find(table, key, RowCache::KeyHash(key));
}

TEST(RowCacheTest, RowsOfTwoTablesWithOneKeyAreTwoRows) {
  RowCache cache(1 << 20);
  cache.Insert(Row(0, "k"));
  EXPECT_EQ(Find(cache, 1, "k"), nullptr);
  cache.Insert(Row(1, "k"));
  EXPECT_NE(Find(cache, 0, "k"), Find(cache, 1, "k"));
  EXPECT_EQ(cache.size(), 2u);
}

TEST(RowCacheTest, KeysOfOneHashAreToldApart) {
  RowCache cache(1 << 20);
  CachedRow a = Row(0, "a"), b = Row(0, "b");
  a.key_hash = b.key_hash = 7;
  cache.Insert(a);
  cache.Insert(b);
  EXPECT_EQ(cache.Find(0, "a", 7)->key, "a");
  EXPECT_EQ(cache.Find(0, "b", 7)->key, "b");
  EXPECT_EQ(cache.Find(0, "c", 7), nullptr);
}

TEST(RowCacheTest, DirtyRowsAreNeverGivenUp) {
  RowCache cache(1000);
  for (int i = 0; i < 100; ++i) {
    CachedRow* row = cache.Insert(Row(0, std::to_string(i)));
    if (i % 2 == 0) cache.MarkDirty(row);
  }
  cache.EvictIfNeeded();
  EXPECT_EQ(cache.size(), 50u);
  EXPECT_EQ(cache.dirty(), 50u);
  for (int i = 0; i < 100; i += 2) EXPECT_NE(Find(cache, 0, std::to_string(i)), nullptr);
  cache.MarkAllClean();
  cache.EvictIfNeeded();
  EXPECT_LE(cache.bytes(), 1000u);
  EXPECT_EQ(cache.dirty(), 0u);
}

TEST(RowCacheTest, ARowUsedLatelyOutlivesOthers) {
  RowCache cache(RowCache::BytesOf(Row(0, "10")) * 5);
  for (int i = 10; i < 15; ++i) cache.Insert(Row(0, std::to_string(i)));
  cache.Insert(Row(0, "15"));
  cache.EvictIfNeeded();  // all looked at once, the first goes
  EXPECT_EQ(Find(cache, 0, "10"), nullptr);
  EXPECT_NE(Find(cache, 0, "11"), nullptr);
  cache.Insert(Row(0, "16"));
  cache.EvictIfNeeded();
  EXPECT_NE(Find(cache, 0, "11"), nullptr);
  EXPECT_EQ(Find(cache, 0, "12"), nullptr);
}

TEST(RowCacheTest, AnyHistoryAgreesWithAMap) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Rng rng(seed);
    RowCache cache(20'000);
    std::map<std::string, std::string> dirty;  // what must be there
    for (int i = 0; i < 20'000; ++i) {
      const std::string key = std::to_string(rng.Below(3000));
      CachedRow* row = Find(cache, 0, key);
      ASSERT_TRUE(row != nullptr || !dirty.contains(key));
      if (row == nullptr) row = cache.Insert(Row(0, key));
      ASSERT_EQ(row->key, key);
      if (rng.Chance(0.3)) {
        const size_t before = RowCache::BytesOf(*row);
        row->values = std::string(static_cast<size_t>(rng.Below(100)), 'v');
        cache.Resized(before, *row);
        cache.MarkDirty(row);
        dirty[key] = row->values;
      }
      if (auto known = dirty.find(key); known != dirty.end()) {
        ASSERT_EQ(row->values, known->second);
      }
      ASSERT_EQ(cache.dirty(), dirty.size());
      if (rng.Chance(0.01)) {
        cache.MarkAllClean();
        dirty.clear();
      }
      if (rng.Chance(0.1)) cache.EvictIfNeeded();
    }
    size_t visited = 0;
    cache.ForEachDirty([&](CachedRow& row) { visited += dirty.contains(row.key) ? 1 : 0; });
    EXPECT_EQ(visited, dirty.size());
    cache.Clear();
    EXPECT_EQ(cache.size() + cache.dirty() + cache.bytes(), 0u);
    EXPECT_EQ(Find(cache, 0, "1"), nullptr);
  }
}

}  // namespace
}  // namespace patina::storage

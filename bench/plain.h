#pragma once

#include <memory>
#include <string>
#include <vector>

#include "crdt/value.h"

namespace patina::bench {

/// SQLite as a careful application uses it: WAL, synchronous NORMAL, prepared statements kept. What
/// Patina's storage is compared with. One thread; errors end the program.
class PlainDatabase {
 public:
  /// Creates the file and its tables. page_cache_kib: as the store's.
  PlainDatabase(const std::string& path, const std::string& schema_sql, int64_t page_cache_kib);
  ~PlainDatabase();
  PlainDatabase(const PlainDatabase&) = delete;
  PlainDatabase& operator=(const PlainDatabase&) = delete;

  void Begin();
  void Run(const std::string& sql, const std::vector<crdt::Value>& parameters);
  void Commit();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace patina::bench

#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "bench/fleet_rows.h"
#include "bench/plain.h"
#include "storage/store.h"

// The two that are compared: Patina's storage and plain SQLite, each in a folder of its own that
// goes with it. Errors end the program.

namespace patina::bench {

struct Settings {
  std::string schema_sql;
  storage::Schema schema;
  std::filesystem::path folder;
  size_t rows = 100'000, many_rows = 1'000'000, pairs = 5;
};

class PatinaSide {
 public:
  PatinaSide(const Settings& settings, const std::string& name);
  ~PatinaSide();
  PatinaSide(const PatinaSide&) = delete;
  PatinaSide& operator=(const PatinaSide&) = delete;

  /// Runs each batch as one transaction, `per_commit` of them in one commit; returns the
  /// changesets.
  std::vector<storage::SharedBytes> Execute(const char* sql, const std::vector<Batch>& batches,
                                            size_t per_commit = 1);
  /// per_commit changesets at a time, all in the state that is expected.
  void Merge(std::span<const storage::SharedBytes> changesets, size_t per_commit,
             storage::MergeState expected = storage::MergeState::kApplied);

  storage::Store& store() { return *store_; }
  const std::filesystem::path& path() const { return path_; }
  void Close();
  /// As a SIGKILL leaves it: nothing is written behind any more.
  void Crash() { store_.reset(); }
  void Open();
  /// The file, and what stands beside it.
  uint64_t Bytes() const;
  /// Of the log's tables within the file.
  uint64_t LogBytes() const;

 private:
  /// What an agent's writer does between two commits.
  void Behind();

  const Settings& settings_;
  const SystemClock clock_;
  const std::string name_;
  const std::filesystem::path folder_, path_;
  std::unique_ptr<storage::Store> store_;
};

class PlainSide {
 public:
  PlainSide(const Settings& settings, const std::string& name);
  ~PlainSide();
  PlainSide(const PlainSide&) = delete;
  PlainSide& operator=(const PlainSide&) = delete;

  /// Each batch is a transaction and a commit.
  void Execute(const char* sql, const std::vector<Batch>& batches);
  void Close() { db_.reset(); }
  uint64_t Bytes() const;

 private:
  const std::filesystem::path folder_;
  std::unique_ptr<PlainDatabase> db_;
};

double SecondsOf(const std::function<void()>& work);
double RowsPerSecond(size_t rows, const std::function<void()>& work);

}  // namespace patina::bench

#include "bench/sides.h"

#include <algorithm>

#include "base/check.h"
#include "storage/db.h"

namespace patina::bench {

namespace fs = std::filesystem;

namespace {

fs::path EmptyFolder(const fs::path& folder) {
  fs::remove_all(folder);
  fs::create_directories(folder);
  return folder;
}

uint64_t BytesIn(const fs::path& folder) {
  uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(folder)) bytes += entry.file_size();
  return bytes;
}

}  // namespace

PatinaSide::PatinaSide(const Settings& settings, const std::string& name)
    : settings_(settings),
      name_(name),
      folder_(EmptyFolder(settings.folder / ("patina-" + name))),
      path_(folder_ / "patina.db") {
  Open();
}

PatinaSide::~PatinaSide() {
  store_.reset();
  fs::remove_all(folder_);
}

std::vector<storage::SharedBytes> PatinaSide::Execute(const char* sql,
                                                      const std::vector<Batch>& batches,
                                                      size_t per_commit) {
  std::vector<storage::SharedBytes> changesets;
  for (size_t first = 0; first < batches.size(); first += per_commit) {
    std::vector<storage::Transaction> group(std::min(per_commit, batches.size() - first));
    for (size_t i = 0; i < group.size(); ++i) {
      for (const Row& row : batches[first + i]) group[i].statements.push_back({sql, row, {}});
    }
    storage::CommitEffects effects;
    const auto results = store_->Execute(group, &effects);
    CHECK(results.size() == group.size());
    for (const auto& result : results) {
      CHECK_MSG(result.ok(), result.ok() ? "" : result.error().message);
      changesets.push_back(result->changeset);
    }
    Behind();
  }
  return changesets;
}

void PatinaSide::Merge(std::span<const storage::SharedBytes> changesets, size_t per_commit,
                       storage::MergeState expected) {
  while (!changesets.empty()) {
    const size_t count = std::min(per_commit, changesets.size());
    storage::CommitEffects effects;
    const auto outcomes = store_->Merge(changesets.first(count), &effects);
    CHECK_MSG(outcomes.ok(), outcomes.ok() ? "" : outcomes.error().message);
    for (const storage::MergeOutcome& outcome : *outcomes) {
      CHECK_MSG(outcome.state == expected, outcome.reason);
    }
    changesets = changesets.subspan(count);
    Behind();
  }
}

void PatinaSide::Close() {
  CHECK(store_->Close().ok());
  store_.reset();
}

void PatinaSide::Open() {
  storage::StoreOptions options;
  options.path = path_;
  options.schema = settings_.schema;
  options.node_name = name_;
  options.clock = &clock_;
  auto store = storage::Store::Open(std::move(options));
  CHECK_MSG(store.ok(), store.ok() ? "" : store.error().message);
  store_ = *std::move(store);
}

uint64_t PatinaSide::Bytes() const { return BytesIn(folder_); }

uint64_t PatinaSide::LogBytes() const {
  auto db = storage::Db::Open(path_, storage::Db::Mode::kReadOnly);
  CHECK(db.ok());
  const auto bytes = db->QueryInt(
      "SELECT sum(pgsize) FROM dbstat WHERE name LIKE '\\_\\_patina\\_log%' "
      "ESCAPE '\\'");
  CHECK_MSG(bytes.ok(), bytes.ok() ? "" : bytes.error().message);
  return static_cast<uint64_t>(*bytes);
}

void PatinaSide::Behind() { CHECK(store_->CheckpointIfDue().ok()); }

PlainSide::PlainSide(const Settings& settings, const std::string& name)
    : folder_(EmptyFolder(settings.folder / ("plain-" + name))) {
  db_ = std::make_unique<PlainDatabase>(folder_ / "plain.db", settings.schema_sql,
                                        storage::StoreLimits().page_cache_kib);
}

PlainSide::~PlainSide() {
  Close();
  fs::remove_all(folder_);
}

void PlainSide::Execute(const char* sql, const std::vector<Batch>& batches) {
  const std::string text = sql;
  for (const Batch& batch : batches) {
    db_->Begin();
    for (const Row& row : batch) db_->Run(text, row);
    db_->Commit();
  }
}

uint64_t PlainSide::Bytes() const { return BytesIn(folder_); }

double SecondsOf(const std::function<void()>& work) {
  const SystemClock clock;
  const Instant start = clock.Now();
  work();
  return std::chrono::duration<double>(clock.Now() - start).count();
}

double RowsPerSecond(size_t rows, const std::function<void()>& work) {
  return static_cast<double>(rows) / SecondsOf(work);
}

}  // namespace patina::bench

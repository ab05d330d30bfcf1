#include "agent/snapshot_server.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "storage/backup.h"

namespace patina::agent {
namespace {

constexpr const char* kTooFewRows = "it holds too few rows for a snapshot";
constexpr Duration kShared = std::chrono::seconds(30);

Instant Now() { return SystemClock().Now(); }

}  // namespace

SnapshotServer::SnapshotServer(const Config& config, Writer* writer, ReaderPool* readers,
                               TransferServer::Post post, TransferServer::Answers answers)
    : config_(config),
      path_(storage::ServedCopyPath(DatabasePath(config))),
      writer_(writer),
      readers_(readers),
      post_(std::move(post)),
      answers_(std::move(answers)) {}

SnapshotServer::~SnapshotServer() = default;

void SnapshotServer::Open(const gossip::Outputs::OpenTransfer& open) {
  asked_[open.serving] = {open.schema, open.rows_min, nullptr};
  Sweep();
  if (made_.copy != nullptr) return Begin(open.serving);
  if (!making_) Make();
}

void SnapshotServer::Make() {
  making_ = true;
  uint64_t rows_min = UINT64_MAX;
  for (const auto& [serving, asked] : asked_) rows_min = std::min(rows_min, asked.rows_min);
  const auto answer = [this](Result<Made> made) {
    post_([this, made = std::make_shared<Result<Made>>(std::move(made))] { OnMade(*made); });
  };
  // The snapshot begins on the writer thread, right after the checkpoint: nothing comes between.
  writer_->Run([this, answer, rows_min, path = path_](storage::Store& store) {
    Made made;
    made.schema = store.schema().Hash();
    for (const storage::TableDigest& table : store.Digests()) made.rows += table.rows;
    if (made.rows < rows_min) return answer(FailedPrecondition(kTooFewRows));
    auto backup = [&]() -> Result<std::unique_ptr<storage::Backup>> {
      RETURN_IF_ERROR(store.Checkpoint());
      return storage::Backup::Begin(DatabasePath(config_), store.snapshots());
    }();
    if (!backup.ok()) return answer(backup.error());
    const std::shared_ptr<storage::Backup> begun = *std::move(backup);
    const Status submitted =
        readers_->Submit([answer, path, begun, made](storage::Reader&) mutable {
          const Instant before = Now();
          auto copy = storage::SnapshotCopy::Make(*begun, path);
          if (!copy.ok()) return answer(copy.error());
          made.copy = *std::move(copy);
          LogInfo("net", "a copy of the file was made for peers: ", made.rows, " rows, ",
                  made.copy->bytes() >> 20, " MiB in ", ToMs(Now() - before), " ms");
          answer(std::move(made));
        });
    if (!submitted.ok()) answer(submitted.error());
  });
}

void SnapshotServer::OnMade(const Result<Made>& made) {
  making_ = false;
  if (made.ok()) {
    made_ = *made;
    made_at_ = Now();
  }
  std::vector<uint64_t> waiting;
  for (const auto& [serving, asked] : asked_) {
    if (asked.copy == nullptr) waiting.push_back(serving);
  }
  for (const uint64_t serving : waiting) {
    if (made.ok()) {
      Begin(serving);
    } else {
      asked_.erase(serving);
      answers_.failed(serving, made.error().ToString());
    }
  }
}

void SnapshotServer::Begin(uint64_t serving) {
  Asked& asked = asked_.at(serving);
  const bool other_schema = asked.schema != made_.schema;
  if (other_schema || made_.rows < asked.rows_min) {
    asked_.erase(serving);
    answers_.failed(serving, other_schema ? "the schemas differ" : kTooFewRows);
    return;
  }
  asked.copy = made_.copy;
  Read(serving, 0);
}

void SnapshotServer::Read(uint64_t serving, uint64_t number) {
  const auto found = asked_.find(serving);
  if (found == asked_.end() || found->second.copy == nullptr) return;
  const Status submitted =
      readers_->Submit([this, serving, number, copy = found->second.copy](storage::Reader&) {
        auto chunk = std::make_shared<Result<storage::SnapshotCopy::Chunk>>(copy->Read(number));
        post_([this, serving, number, chunk] {
          if (!asked_.contains(serving)) return;  // closed meanwhile
          if (chunk->ok()) {
            answers_.chunk(serving, number,
                           std::make_shared<const std::string>(std::move((*chunk)->bytes)),
                           (*chunk)->last);
          } else {
            answers_.failed(serving, chunk->error().ToString());
          }
        });
      });
  if (!submitted.ok()) answers_.failed(serving, submitted.error().ToString());
}

void SnapshotServer::Close(uint64_t serving) { asked_.erase(serving); }

/// For whoever still reads it, the file stays until then.
void SnapshotServer::Sweep() {
  if (made_.copy != nullptr && Now() - made_at_ > kShared) made_ = {};
}

}  // namespace patina::agent

#include "storage/wal_limit.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "storage/db.h"

namespace patina::storage {
namespace {

constexpr uint64_t kStepFrames = 2'000;
constexpr Duration kDrain = std::chrono::milliseconds(20);
/// A read that is told to end does so at the next of its looks, milliseconds later; a transfer when
/// the thread that serves it comes round.
constexpr Duration kEnd = std::chrono::seconds(2);
constexpr uint64_t kWalHeaderBytes = 32, kFrameHeaderBytes = 24;

}  // namespace

WalLimit::WalLimit(Db* db, uint64_t bytes_max, const Clock* clock,
                   std::shared_ptr<Snapshots> snapshots)
    : db_(db), clock_(clock), snapshots_(std::move(snapshots)), began_at_(clock->Now()) {
  const Result<int64_t> page_bytes = db->QueryInt("PRAGMA page_size");
  frame_bytes_ = kFrameHeaderBytes + static_cast<uint64_t>(page_bytes.value_or(4096));
  const uint64_t frames_max = bytes_max / frame_bytes_;
  step_ = std::clamp<uint64_t>(frames_max / 16, 1, kStepFrames);
  shut_from_ = frames_max / 4;
  end_from_ = frames_max / 4 * 3;
  wait_from_ = frames_max / 8 * 7;
  next_look_ = step_;
  const auto on_commit = [](void* self, sqlite3*, const char*, int frames) {
    static_cast<WalLimit*>(self)->OnCommit(static_cast<uint64_t>(frames));
    return SQLITE_OK;  // the commit has happened, whatever comes of the checkpoint
  };
  sqlite3_wal_hook(db_->get(), on_commit, this);
}

WalLimit::~WalLimit() { sqlite3_wal_hook(db_->get(), nullptr, nullptr); }

void WalLimit::OnCommit(uint64_t frames) {
  if (frames < frames_) OnBeginning();
  frames_ = frames;
  if (frames < next_look_) return;
  const Instant now = clock_->Now();
  if (draining_) return Drain(now);
  const bool none_of_ours = snapshots_->open() == 0;
  const Copied copied = Checkpoint();
  // Held back, it is tried again sooner; at each commit it would cost two syncs each.
  next_look_ = frames + (copied == Copied::kPart ? std::max<uint64_t>(1, step_ / 4) : step_);
  if (copied == Copied::kFailed || others_hold_) return;
  if (none_of_ours) {
    if (copied == Copied::kPart) NoteOthers(now);
  } else if (frames >= end_from_) {
    Drain(now);
  } else if (frames >= std::max(shut_from_, next_drain_)) {
    Shut(now, kDrain);
  }
}

void WalLimit::OnBeginning() {
  ++stats_.beginnings;
  began_at_ = clock_->Now();
  others_hold_.reset();
  copied_ = 0;
  next_drain_ = 0;
  EndDrain();
  next_look_ = step_;
}

/// From now on each commit looks.
void WalLimit::Shut(Instant now, Duration at_most) {
  snapshots_->ShutDoor(at_most);
  draining_ = true;
  drain_until_ = now + at_most;
  next_look_ = 0;
}

void WalLimit::EndDrain() {
  ending_ = false;
  if (std::exchange(draining_, false)) snapshots_->OpenDoor();
  next_look_ = frames_ + step_;
}

void WalLimit::Drain(Instant now) {
  if (frames_ >= end_from_) {
    if (!std::exchange(ending_, true)) Shut(now, kEnd);
    snapshots_->EndAll();
  }
  bool none_of_ours = snapshots_->open() == 0;
  if (!none_of_ours && frames_ >= wait_from_) {
    ++stats_.writer_waits;
    none_of_ours = snapshots_->WaitUntilNone(kEnd);
  }
  if (none_of_ours) {
    if (Checkpoint() == Copied::kPart) NoteOthers(now);
  } else if (frames_ < wait_from_ && now < drain_until_) {
    return;
  }
  next_drain_ = frames_ + shut_from_ / 4;
  EndDrain();  // whoever comes now reads the database's file alone, if all of the log is in it
}

/// None of ours was open before the checkpoint, and yet it did not get through.
void WalLimit::NoteOthers(Instant now) {
  others_hold_ = copied_;
  others_since_ = now;
}

WalLimit::Copied WalLimit::Checkpoint() {
  ++stats_.checkpoints;
  int frames = 0, copied = 0;
  const int code =
      sqlite3_wal_checkpoint_v2(db_->get(), "main", SQLITE_CHECKPOINT_PASSIVE, &frames, &copied);
  if (code != SQLITE_OK && (code & 0xff) != SQLITE_BUSY) {
    ++stats_.failed;
    LogWarning("storage", "copying the write-ahead log to the database: ", db_->LastError().message,
               " (tried again as it grows)");
    return Copied::kFailed;
  }
  copied_ = static_cast<uint64_t>(std::max(copied, 0));
  if (others_hold_ && copied_ > *others_hold_) others_hold_.reset();
  if (code == SQLITE_OK && copied == frames) return Copied::kAll;
  ++stats_.held;
  return Copied::kPart;
}

WalStats WalLimit::stats() const {
  WalStats stats = stats_;
  const Instant now = clock_->Now();
  stats.used_bytes = frames_ == 0 ? 0 : kWalHeaderBytes + frames_ * frame_bytes_;
  stats.age_ms = ToMs(now - began_at_);
  if (others_hold_) stats.held_by_others_ms = std::max<int64_t>(1, ToMs(now - others_since_));
  return stats;
}

}  // namespace patina::storage

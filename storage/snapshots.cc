#include "storage/snapshots.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace patina::storage {
namespace {

Instant Now() { return SystemClock().Now(); }

}  // namespace

void Snapshots::Place::EnterWhenOpen() {
  if (all_ != nullptr) all_->Enter(this, true);
}
void Snapshots::Place::EnterNow() {
  if (all_ != nullptr) all_->Enter(this, false);
}
void Snapshots::Place::Leave() {
  if (all_ != nullptr) all_->Leave(this);
}

Error Snapshots::Place::WhyEnded() const {
  return ResourceExhausted(StrCat(
      "the read was ended after ", ToMs(Now() - since_),
      " ms: its snapshot kept the write-ahead log from beginning anew, and the log comes near its "
      "limit (limits.wal_bytes_max = ",
      all_ == nullptr ? 0 : all_->wal_bytes_max_, "): ask for less at a time, or raise the limit"));
}

void Snapshots::Enter(Place* place, bool wait) {
  std::unique_lock lock(mutex_);
  if (place->entered_) return;
  if (wait && Now() < shut_until_) {
    ++waited_;
    while (Now() < shut_until_) door_.wait_until(lock, shut_until_);
  }
  place->must_end_.store(false, std::memory_order_relaxed);
  place->entered_ = true;
  place->since_ = Now();
  places_.insert(place);
}

void Snapshots::Leave(Place* place) {
  const std::lock_guard lock(mutex_);
  if (!std::exchange(place->entered_, false)) return;
  places_.erase(place);
  if (places_.empty()) none_.notify_all();
}

void Snapshots::ShutDoor(Duration at_most) {
  const std::lock_guard lock(mutex_);
  shut_until_ = Now() + at_most;
}

void Snapshots::OpenDoor() {
  {
    const std::lock_guard lock(mutex_);
    shut_until_ = {};
  }
  door_.notify_all();
}

void Snapshots::EndAll() {
  const std::lock_guard lock(mutex_);
  for (Place* place : places_) {
    if (!place->may_be_ended_) continue;
    if (!place->must_end_.exchange(true, std::memory_order_relaxed)) ++ended_;
  }
}

bool Snapshots::WaitUntilNone(Duration at_most) {
  std::unique_lock lock(mutex_);
  return none_.wait_for(lock, at_most, [this] { return places_.empty(); });
}

Snapshots::Stats Snapshots::stats() const {
  const std::lock_guard lock(mutex_);
  Stats stats{places_.size(), 0, ended_, waited_};
  const Instant now = Now();
  for (const Place* place : places_) {
    stats.oldest_ms = std::max(stats.oldest_ms, ToMs(now - place->since_));
  }
  return stats;
}

size_t Snapshots::open() const {
  const std::lock_guard lock(mutex_);
  return places_.size();
}

}  // namespace patina::storage

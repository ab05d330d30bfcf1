#pragma once

#include <functional>
#include <memory>

#include "agent/config.h"
#include "agent/writer.h"
#include "subscribe/engine.h"

namespace patina::agent {

/// The subscribe thread: owns the subscribe::Engine and its reader; hears of commits from the
/// writer by a bounded queue (when it is full the commits are folded into one that says
/// rows_unknown). Any thread calls.
class Subscriptions {
 public:
  static Result<std::unique_ptr<Subscriptions>> Start(const Config& config,
                                                      const storage::Schema& schema,
                                                      const std::string& path, Writer* writer);
  ~Subscriptions();
  /// The query that runs and all later ones end with UNAVAILABLE: before whoever waits for this
  /// thread is stopped.
  void CancelQueries();
  void Stop();  // cancels, too

  /// From the writer thread.
  void OnCommit(std::shared_ptr<const storage::CommitEffects> effects);

  /// done is called on the subscribe thread. The subscriber must live until Unsubscribe's done.
  void Subscribe(subscribe::SubscribeRequest request, subscribe::Subscriber* subscriber,
                 std::function<void(Result<subscribe::SubscriberId>)> done);
  void Unsubscribe(subscribe::SubscriberId id, std::function<void()> done);
  /// A subscriber's queue was full: it subscribes anew.
  void CountOverflow();

  subscribe::EngineStats stats() const;
  uint64_t overflows() const;

 private:
  class Impl;
  explicit Subscriptions(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace patina::agent

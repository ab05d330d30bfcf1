#include "agent/subscriptions.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/thread_checker.h"

namespace patina::agent {
namespace {

using Effects = std::shared_ptr<const storage::CommitEffects>;

constexpr Duration kWaitMax = std::chrono::milliseconds(500);
constexpr Duration kStatsInterval = std::chrono::milliseconds(50);

size_t BytesOf(const storage::CommitEffects& effects) {
  size_t bytes = sizeof effects;
  for (const storage::RowEffect& row : effects.rows) {
    bytes += sizeof row + row.key.size() + (row.before ? row.before->size() : 0) +
             (row.after ? row.after->size() : 0);
  }
  return bytes;
}

/// All of them as one commit whose rows are unknown.
Effects Fold(const std::deque<Effects>& commits) {
  auto folded = std::make_shared<storage::CommitEffects>();
  folded->rows_unknown = true;
  folded->first_seq = commits.front()->first_seq;
  for (const Effects& commit : commits) {
    folded->last_seq = std::max(folded->last_seq, commit->last_seq);
    if (folded->tables_changed.size() < commit->tables_changed.size()) {
      folded->tables_changed.resize(commit->tables_changed.size());
    }
    if (commit->schema) folded->schema = commit->schema;
    for (size_t i = 0; i < commit->tables_changed.size(); ++i) {
      if (commit->tables_changed[i]) folded->tables_changed[i] = true;
    }
  }
  return folded;
}

}  // namespace

class Subscriptions::Impl {
 public:
  Impl(const Config& config, const storage::Schema& schema, Writer* writer)
      : limits_(config.subscribe),
        schema_(schema),
        commits_max_(config.subscribe_queue_commits_max),
        bytes_max_(config.subscribe_queue_bytes_max),
        writer_(writer) {}

  Status Start(const std::string& path) {
    // Its queries are short (subscription_query_deadline_ms), and one that is ended in the middle
    // would take its subscribers with it.
    ASSIGN_OR_RETURN(reader_, storage::Reader::Open(path, {.snapshots = writer_->snapshots(),
                                                           .may_be_ended = false}));
    engine_ = std::make_unique<subscribe::Engine>(
        limits_, schema_, *reader_, clock_,
        [this](std::vector<bool> wanted) {
          writer_->RunAndWait(
              [&](storage::Store& store) { store.SetEffectTables(std::move(wanted)); });
        },
        &cancelled_);
    thread_ = std::thread([this] {
      NameThread("subscribe");
      Loop();
    });
    return OkStatus();
  }

  void CancelQueries() { cancelled_.store(true, std::memory_order_relaxed); }

  void Stop() {
    CancelQueries();
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
    // The store's connection is to be the last one: only that one removes the write-ahead log.
    engine_.reset();
    reader_.reset();
  }

  void OnCommit(Effects effects) {
    bool wake = false;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_ || (idle_ && !effects->schema)) return;
      commit_bytes_ += BytesOf(*effects);
      commits_.push_back(std::move(effects));
      if (commits_.size() > commits_max_ || commit_bytes_ > bytes_max_) {
        Effects folded = Fold(commits_);
        commits_.clear();
        commit_bytes_ = BytesOf(*folded);
        commits_.push_back(std::move(folded));
      }
      wake = std::exchange(sleeping_, false);
    }
    if (wake) wake_.notify_one();
  }

  /// False when stopping: the task will not run.
  bool Post(std::function<void(subscribe::Engine&)> task) {
    bool wake = false;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return false;
      idle_ = false;
      tasks_.push_back(std::move(task));
      wake = std::exchange(sleeping_, false);
    }
    if (wake) wake_.notify_one();
    return true;
  }

  subscribe::EngineStats stats() const {
    const std::lock_guard lock(mutex_);
    subscribe::EngineStats stats = stats_;
    stats.queue_commits = commits_.size();
    return stats;
  }

  void CountOverflow() { overflows_.fetch_add(1, std::memory_order_relaxed); }
  uint64_t overflows() const { return overflows_.load(std::memory_order_relaxed); }

 private:
  using Tasks = std::deque<std::function<void(subscribe::Engine&)>>;

  void Loop() {
    Tasks tasks;
    std::deque<Effects> commits;
    while (Take(&tasks, &commits)) {
      // Commits first: a subscription made after a commit must not see its event before its
      // snapshot.
      for (const Effects& commit : commits) engine_->OnCommit(*commit);
      for (auto& task : tasks) task(*engine_);
      tasks.clear();
      commits.clear();
      const Instant now = clock_.Now();
      if (now >= engine_->NextDeadline()) engine_->Tick(now);
      KeepStats(now);
      NoteIdle();
    }
    // Whoever still waits for an answer gets one, so that nobody waits for ever.
    {
      const std::lock_guard lock(mutex_);
      tasks.swap(tasks_);
    }
    for (auto& task : tasks) task(*engine_);
  }

  /// Waits for work or the engine's deadline. False: stop.
  bool Take(Tasks* tasks, std::deque<Effects>* commits) {
    const Instant now = clock_.Now();
    const Instant until = std::min(engine_->NextDeadline(), now + kWaitMax);
    std::unique_lock lock(mutex_);
    if (until > now && !stopping_ && tasks_.empty() && commits_.empty()) {
      sleeping_ = true;
      wake_.wait_until(lock, until,
                       [this] { return stopping_ || !tasks_.empty() || !commits_.empty(); });
      sleeping_ = false;
    }
    tasks->swap(tasks_);
    commits->swap(commits_);
    commit_bytes_ = 0;
    if (!stopping_) return true;
    tasks_.swap(*tasks);
    return false;
  }

  /// Nobody subscribes: commits need not wake this thread. A subscription begins with a task, and
  /// takes its snapshot after commits count again.
  void NoteIdle() {
    if (engine_->Stats().queries > 0) return;
    const std::lock_guard lock(mutex_);
    idle_ = tasks_.empty();
  }

  void KeepStats(Instant now) {
    if (now < stats_at_) return;
    stats_at_ = now + kStatsInterval;
    subscribe::EngineStats stats = engine_->Stats();
    const std::lock_guard lock(mutex_);
    stats_ = stats;
  }

  std::atomic<bool> cancelled_{false};  // polled while a query runs
  const subscribe::EngineLimits limits_;
  const storage::Schema schema_;
  const size_t commits_max_, bytes_max_;
  bool idle_ = true;  // guarded
  Writer* const writer_;
  SystemClock clock_;
  std::unique_ptr<storage::Reader> reader_;
  std::unique_ptr<subscribe::Engine> engine_;
  std::thread thread_;
  Instant stats_at_{};

  mutable std::mutex mutex_;  // guards what follows
  Tasks tasks_;
  std::deque<Effects> commits_;
  size_t commit_bytes_ = 0;
  bool stopping_ = false;
  bool sleeping_ = false;
  subscribe::EngineStats stats_;
  std::atomic<uint64_t> overflows_{0};
  std::condition_variable wake_;
};

Subscriptions::Subscriptions(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Subscriptions::~Subscriptions() { Stop(); }

Result<std::unique_ptr<Subscriptions>> Subscriptions::Start(const Config& config,
                                                            const storage::Schema& schema,
                                                            const std::string& path,
                                                            Writer* writer) {
  auto impl = std::make_unique<Impl>(config, schema, writer);
  RETURN_IF_ERROR(impl->Start(path));
  return std::unique_ptr<Subscriptions>(new Subscriptions(std::move(impl)));
}

void Subscriptions::CancelQueries() { impl_->CancelQueries(); }
void Subscriptions::Stop() { impl_->Stop(); }

void Subscriptions::OnCommit(Effects effects) { impl_->OnCommit(std::move(effects)); }

void Subscriptions::Subscribe(subscribe::SubscribeRequest request,
                              subscribe::Subscriber* subscriber,
                              std::function<void(Result<subscribe::SubscriberId>)> done) {
  auto shared = std::make_shared<decltype(done)>(std::move(done));
  const bool posted =
      impl_->Post([request = std::move(request), subscriber, shared](subscribe::Engine& engine) {
        (*shared)(engine.Subscribe(request, subscriber));
      });
  if (!posted) (*shared)(Unavailable("the agent is stopping"));
}

void Subscriptions::Unsubscribe(subscribe::SubscriberId id, std::function<void()> done) {
  auto shared = std::make_shared<std::function<void()>>(std::move(done));
  const bool posted = impl_->Post([id, shared](subscribe::Engine& engine) {
    engine.Unsubscribe(id);
    (*shared)();
  });
  if (!posted) (*shared)();
}

void Subscriptions::CountOverflow() { impl_->CountOverflow(); }

subscribe::EngineStats Subscriptions::stats() const { return impl_->stats(); }

uint64_t Subscriptions::overflows() const { return impl_->overflows(); }

}  // namespace patina::agent

#include "agent/verify.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "agent/verify_codec.h"
#include "agent/verify_compare.h"
#include "base/log.h"

namespace patina::agent {
namespace {

constexpr size_t kJobsMax = 16;
constexpr int kRounds = 10;
constexpr Duration kRoundPause = std::chrono::milliseconds(200);
constexpr Duration kAskDeadlineMax = std::chrono::seconds(5);

Instant Now() { return SystemClock().Now(); }

/// Answers that come in on other threads.
struct Collector {
  std::mutex mutex;
  std::condition_variable changed;
  Answers answers;
  size_t waiting = 0;

  void Add(const std::string& node, Result<VerifyAnswer> answer) {
    const std::lock_guard lock(mutex);
    if (answer.ok() && answer->error.empty()) answers[node] = *std::move(answer);
    --waiting;
    changed.notify_all();
  }
};

/// Reads one bucket per turn of the writer, so that commits go on between them.
struct RowsReading : std::enable_shared_from_this<RowsReading> {
  Writer* writer = nullptr;
  std::vector<TableBucket> buckets;
  size_t next = 0;
  VerifyAnswer answer;
  std::function<void(std::string)> reply;

  void Step(storage::Store& store) {
    if (next == 0) answer.applied = store.applied();
    if (next < buckets.size()) {
      const TableBucket& place = buckets[next++];
      auto rows = store.RowsInBucket(place.first, place.second);
      if (rows.ok()) {
        answer.rows[place] = *std::move(rows);
        writer->Run([self = shared_from_this()](storage::Store& later) { self->Step(later); });
        return;
      }
      answer.error = rows.error().ToString();
    }
    reply(EncodeVerifyAnswer(answer));
  }
};

}  // namespace

class Verifier::Impl {
 public:
  Impl(const Config& config, Writer* writer, Net* net)
      : self_(config.node.name), writer_(writer), net_(net), thread_([this] { Loop(); }) {}
  ~Impl() { Stop(); }

  void Verify(Duration deadline, std::function<void(VerifyReport)> done) {
    {
      const std::lock_guard lock(mutex_);
      if (!stopping_ && jobs_.size() < kJobsMax) {
        jobs_.push_back({Now() + deadline, std::move(done)});
        wake_.notify_all();
        return;
      }
    }
    VerifyReport report;
    report.not_reached = {self_};
    done(std::move(report));
  }

  void Answer(const std::string& payload, std::function<void(std::string)> reply) {
    auto question = DecodeVerifyQuestion(payload);
    if (!question.ok()) {
      VerifyAnswer answer;
      answer.error = question.error().ToString();
      reply(EncodeVerifyAnswer(answer));
      return;
    }
    if (question->kind == VerifyQuestion::Kind::kRows) {
      auto reading = std::make_shared<RowsReading>();
      reading->writer = writer_;
      reading->buckets = std::move(question->buckets);
      reading->reply = std::move(reply);
      writer_->Run([reading](storage::Store& store) { reading->Step(store); });
      return;
    }
    writer_->Run(
        [question = *std::move(question), reply = std::move(reply)](storage::Store& store) {
          VerifyAnswer answer;
          answer.received_digest = store.received().digest().ToString();
          answer.received = store.received().Size();
          if (question.kind == VerifyQuestion::Kind::kTables) answer.tables = store.Digests();
          for (const std::string& table : question.tables) {
            auto buckets = store.Buckets(table);
            if (!buckets.empty()) answer.buckets[table] = std::move(buckets);
          }
          reply(EncodeVerifyAnswer(answer));
        });
  }

  void Stop() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
  }

 private:
  struct Job {
    Instant deadline;
    std::function<void(VerifyReport)> done;
  };

  void Loop() {
    while (true) {
      Job job;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
        if (jobs_.empty()) return;  // stopping, and everybody has been answered
        job = std::move(jobs_.front());
        jobs_.pop_front();
      }
      job.done(RunJob(job.deadline));
    }
  }

  bool Stopping() {
    const std::lock_guard lock(mutex_);
    return stopping_;
  }

  void Pause(Duration duration) {
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, duration, [this] { return stopping_; });
  }

  /// Asks all of them at once; whoever answers in time is in the result.
  Answers AskAll(const std::vector<std::string>& nodes, const VerifyQuestion& question,
                 Instant deadline) {
    const std::string payload = EncodeVerifyQuestion(question);
    const Duration patience =
        std::clamp(deadline - Now(), Duration(std::chrono::milliseconds(1)), kAskDeadlineMax);
    auto collector = std::make_shared<Collector>();
    collector->waiting = nodes.size();
    for (const std::string& node : nodes) {
      if (node == self_) {
        Answer(payload, [collector, node](const std::string& bytes) {
          collector->Add(node, DecodeVerifyAnswer(bytes));
        });
        continue;
      }
      net_->Ask(node, payload, patience, [collector, node](Result<InquiryReply> reply) {
        collector->Add(node, reply.ok() ? DecodeVerifyAnswer(reply->payload)
                                        : Result<VerifyAnswer>(Error(reply.error())));
      });
    }
    const Instant until = Now() + patience + std::chrono::milliseconds(100);
    std::unique_lock lock(collector->mutex);
    while (collector->waiting != 0 && Now() < until && !Stopping()) {
      collector->changed.wait_for(lock, std::chrono::milliseconds(50));
    }
    return std::move(collector->answers);
  }

  VerifyReport RunJob(Instant deadline) {
    VerifyReport report;
    std::vector<std::string> nodes = {self_};
    for (const gossip::MemberView& member : net_->Members()) {
      if (member.self || member.state == gossip::MemberState::kDead ||
          member.state == gossip::MemberState::kLeft) {
        continue;
      }
      nodes.push_back(member.info.name);
    }
    const Answers tables = AskAll(nodes, VerifyQuestion(), deadline);
    for (const std::string& node : nodes) {
      const auto it = tables.find(node);
      if (it == tables.end()) {
        report.not_reached.push_back(node);
        continue;
      }
      report.nodes.push_back(
          {node, it->second.tables, it->second.received_digest, it->second.received});
    }
    if (!tables.contains(self_)) return report;  // stopping
    std::erase_if(nodes, [&](const std::string& node) { return !tables.contains(node); });
    bool decided = true;
    const std::vector<std::string> differing = DifferingTables(self_, tables);
    if (!differing.empty()) decided = LookCloser(nodes, tables, differing, deadline, &report);
    report.equal = decided && report.differences.empty() && report.not_reached.empty();
    return report;
  }

  /// Buckets, then rows. False: some differences could not be decided in time.
  bool LookCloser(const std::vector<std::string>& nodes, const Answers& tables,
                  const std::vector<std::string>& differing, Instant deadline,
                  VerifyReport* report) {
    NoteMissingTables(tables, differing, report);
    BucketSuspects suspects(self_);
    VerifyQuestion question;
    question.kind = VerifyQuestion::Kind::kBuckets;
    question.tables = differing;
    std::vector<TableBucket> places;
    for (int round = 0; round < kRounds; ++round) {
      if (round > 0) Pause(kRoundPause);
      suspects.AddRound(AskAll(nodes, question, deadline));
      places = suspects.Suspects();
      const bool enough = round > 0 && deadline - Now() < 4 * kRoundPause;
      if (places.empty() || enough || Stopping()) break;
    }
    if (places.empty()) return true;
    const bool all = places.size() <= kVerifyBucketsMax;
    if (!all) places.resize(kVerifyBucketsMax);
    question = VerifyQuestion();
    question.kind = VerifyQuestion::Kind::kRows;
    question.buckets = std::move(places);
    Answers first = AskAll(nodes, question, deadline);
    while (true) {
      Pause(kRoundPause);
      Answers second = AskAll(nodes, question, deadline);
      RowComparison comparison = CompareRows(self_, first, second);
      const bool done = !comparison.undecided || Stopping() || deadline - Now() < 2 * kRoundPause;
      if (done) {
        auto& found = comparison.differences;
        report->differences.insert(report->differences.end(),
                                   std::make_move_iterator(found.begin()),
                                   std::make_move_iterator(found.end()));
        if (report->differences.size() > kDifferencesMax)
          report->differences.resize(kDifferencesMax);
        return all && !comparison.undecided;
      }
      first = std::move(second);
    }
  }

  void NoteMissingTables(const Answers& tables, const std::vector<std::string>& differing,
                         VerifyReport* report) const {
    for (const std::string& name : differing) {
      VerifyReport::Difference difference;
      difference.table = name;
      for (const auto& [node, answer] : tables) {
        const bool has = std::any_of(answer.tables.begin(), answer.tables.end(),
                                     [&](const auto& table) { return table.table == name; });
        if (!has) difference.cells.push_back({node, "(no such table)", {}, {}});
      }
      if (!difference.cells.empty()) report->differences.push_back(std::move(difference));
    }
  }

  const std::string self_;
  Writer* const writer_;
  Net* const net_;
  std::mutex mutex_;  // guards the two below
  std::deque<Job> jobs_;
  bool stopping_ = false;
  std::condition_variable wake_;
  std::thread thread_;  // last: it uses all of the above
};

Verifier::Verifier(const Config& config, Writer* writer, Net* net)
    : impl_(std::make_unique<Impl>(config, writer, net)) {}
Verifier::~Verifier() = default;

void Verifier::Verify(Duration deadline, std::function<void(VerifyReport)> done) {
  impl_->Verify(deadline, std::move(done));
}
void Verifier::Answer(std::string payload, std::function<void(std::string)> reply) {
  impl_->Answer(payload, std::move(reply));
}
void Verifier::Stop() { impl_->Stop(); }

}  // namespace patina::agent

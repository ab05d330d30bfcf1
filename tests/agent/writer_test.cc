#include "agent/writer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>

#include "agent/writer_queue.h"
#include "storage/db.h"
#include "tests/agent/agent_test_util.h"

namespace patina::agent {
namespace {

TEST(WriterQueueTest, ItIsBoundedAndCountsWhatTheWriterHasTaken) {
  WriterQueue queue(2, 1 << 20);
  const auto add = [&queue] {
    WriterQueue::Local local{OneStatement("x"), [](const Result<storage::Committed>&) {}};
    return queue.AddLocal(&local);
  };
  EXPECT_FALSE(add());
  EXPECT_FALSE(add());
  EXPECT_EQ(add()->code, Errc::kResourceExhausted);
  WriterQueue::Batch batch;
  queue.Take(Duration::zero(), &batch);
  EXPECT_EQ(batch.locals.size(), 2u);
  EXPECT_EQ(add()->code, Errc::kResourceExhausted);
  queue.DoneLocal(2, 2 * WriterQueue::BytesOf(OneStatement("x")));
  EXPECT_FALSE(add());
  EXPECT_EQ(queue.refused(), 2u);
}

TEST(WriterQueueTest, ALargeMergeIsTakenWhenNothingWaits) {
  WriterQueue queue(10, 100);
  const auto large = std::make_shared<const std::string>(1000, 'x');
  EXPECT_TRUE(queue.AddMerges({{ChangeId{}, large}}));
  EXPECT_FALSE(queue.AddMerges({{ChangeId{}, large}}));
}

TEST(WriterQueueTest, AfterCloseNothingIsAddedAndTheRestIsHandedOut) {
  WriterQueue queue(10, 1 << 20);
  EXPECT_TRUE(queue.AddTask([](storage::Store&) {}));
  queue.Close();
  EXPECT_FALSE(queue.AddTask([](storage::Store&) {}));
  WriterQueue::Batch batch;
  EXPECT_TRUE(queue.Take(std::chrono::seconds(10), &batch));
  EXPECT_EQ(batch.tasks.size(), 1u);
}

class WriterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    config_ = TestConfig("a", folder_.path());
    config_.store.group_deadline = std::chrono::minutes(1);  // a slow machine groups the same
    writer_ = std::make_unique<Writer>(config_, OpenStore(config_, &clock_));
  }
  void Start() {
    Writer::Listeners listeners;
    listeners.on_local_commit = [this](std::vector<gossip::Change> changes) {
      const std::lock_guard lock(mutex_);
      for (auto& change : changes) committed_.push_back(std::move(change));
    };
    listeners.on_persisted = [this](const std::vector<ChangeId>& ids) { persisted_ += ids.size(); };
    listeners.on_persist_failed = [this](const std::vector<ChangeId>& ids) {
      failed_ += ids.size();
    };
    listeners.on_commit = [this](auto) { ++commits_; };
    writer_->Start(std::move(listeners));
  }
  /// One transaction for each row; done counts those that succeeded.
  void QueueInserts(int rows, std::atomic<int>& done) {
    for (int i = 0; i < rows; ++i) {
      writer_->Execute(
          OneStatement(StrCat("INSERT INTO machines(id) VALUES('m", i, "')")),
          [&done](const Result<storage::Committed>& result) { done += result.ok() ? 1 : 0; });
    }
  }

  TemporaryFolder folder_;
  SystemClock clock_;
  Config config_;
  std::mutex mutex_;
  std::vector<gossip::Change> committed_;  // guarded
  std::atomic<size_t> persisted_{0}, failed_{0}, commits_{0};
  std::unique_ptr<Writer> writer_;
};

TEST_F(WriterTest, WhatIsQueuedTogetherIsCommittedTogether) {
  std::atomic<int> done{0};
  QueueInserts(100, done);
  Start();
  EXPECT_TRUE(Eventually([&] { return done == 100; }));
  EXPECT_EQ(writer_->stats().groups, 1u);
  EXPECT_TRUE(Eventually([&] { return commits_ == 1; }));
  const std::lock_guard lock(mutex_);
  ASSERT_EQ(committed_.size(), 100u);
  for (size_t i = 0; i < committed_.size(); ++i) EXPECT_EQ(committed_[i].id.version, i + 1);
}

TEST_F(WriterTest, WhatDoesNotFitTheGroupsTimeIsRunInTheNextInOrder) {
  writer_.reset();
  config_.store.group_deadline = -std::chrono::seconds(1);  // over as soon as one has run
  writer_ = std::make_unique<Writer>(config_, OpenStore(config_, &clock_));
  std::atomic<int> done{0};
  QueueInserts(10, done);
  Start();
  EXPECT_TRUE(Eventually([&] { return done == 10; }));
  EXPECT_EQ(writer_->stats().groups, 10u);
  EXPECT_EQ(writer_->stats().queued_transactions, 0u);
  EXPECT_EQ(writer_->stats().queued_bytes, 0u);
  const std::lock_guard lock(mutex_);
  ASSERT_EQ(committed_.size(), 10u);
  for (size_t i = 0; i < committed_.size(); ++i) EXPECT_EQ(committed_[i].id.version, i + 1);
}

TEST_F(WriterTest, ATransactionThatFailsDoesNotDisturbItsGroup) {
  std::atomic<int> good{0}, bad{0};
  const auto count = [&](const Result<storage::Committed>& result) {
    ++(result.ok() ? good : bad);
  };
  writer_->Execute(OneStatement("INSERT INTO machines(id) VALUES('m1')"), count);
  writer_->Execute(OneStatement("INSERT INTO machinez(id) VALUES('m2')"), count);
  writer_->Execute(OneStatement("INSERT OR ROLLBACK INTO machines(id) VALUES('m1')"), count);
  writer_->Execute(OneStatement("INSERT INTO machines(id) VALUES('m3')"), count);
  Start();
  EXPECT_TRUE(Eventually([&] { return good + bad == 4; }));
  EXPECT_EQ(good, 2);
  uint64_t rows = 0;
  writer_->RunAndWait([&](storage::Store& store) { rows = store.Digests().at(0).rows; });
  EXPECT_EQ(rows, 2u);
}

TEST_F(WriterTest, ChangesetsOfPeersAreMergedAndGarbageAmongThemIsNot) {
  Start();
  TemporaryFolder other_folder;
  const Config other = TestConfig("b", other_folder.path());
  auto store = OpenStore(other, &clock_);
  const storage::Transaction transaction = OneStatement("INSERT INTO machines(id) VALUES('m1')");
  storage::CommitEffects effects;
  const auto results = store->Execute(std::span(&transaction, 1), &effects);
  ASSERT_TRUE(results.at(0).ok());
  const ChangeId id{results[0]->actor, results[0]->version};
  EXPECT_TRUE(writer_->Merge(
      {{id, results[0]->changeset}, {ChangeId{}, std::make_shared<const std::string>("garbage")}}));
  EXPECT_TRUE(Eventually([&] { return persisted_ == 1 && failed_ == 1; }));
  bool received = false;
  writer_->RunAndWait([&](storage::Store& own) { received = own.received().Contains(id); });
  EXPECT_TRUE(received);
  EXPECT_EQ(writer_->stats().merge_rejected, 1u);
}

TEST_F(WriterTest, ALongTurnThatGetsOnIsNotTakenForStuck) {
  Start();
  ASSERT_TRUE(ExecuteAndWait(*writer_,
                             "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
                             "WHERE i < 2000) INSERT INTO machines(id) SELECT 'm' || i FROM n")
                  .ok());
  writer_->RunAndWait([this](storage::Store& store) {
    const int64_t before = writer_->LastTurnMs();
    EXPECT_TRUE(Eventually([&] { return ToMs(clock_.Now().time_since_epoch()) > before; }));
    EXPECT_EQ(writer_->LastTurnMs(), before);
    EXPECT_TRUE(store.Checkpoint().ok());
    EXPECT_GT(writer_->LastTurnMs(), before);
  });
}

TEST_F(WriterTest, WhatAnotherClientWritesIsFoundWithoutBeingAskedForAndAdoptedAsALocalWrite) {
  Start();
  ASSERT_TRUE(ExecuteAndWait(*writer_, "INSERT INTO machines(id) VALUES('m1'), ('m2')").ok());
  const auto foreign_rows = [this] {
    std::vector<storage::ForeignRow> rows;
    writer_->RunAndWait([&](storage::Store& store) { rows = store.ForeignRows(); });
    return rows;
  };
  EXPECT_TRUE(foreign_rows().empty());
  {
    auto db = storage::Db::Open(DatabasePath(config_), storage::Db::Mode::kReadWriteCreate);
    ASSERT_TRUE(db.ok());
    ASSERT_TRUE(db->Exec("UPDATE machines SET cpu = 9 WHERE id = 'm2'").ok());
  }
  EXPECT_TRUE(Eventually([&] { return foreign_rows().size() == 1; }));
  std::atomic<uint64_t> settled{0};
  writer_->SettleForeignRows(storage::ForeignAction::kAdopt,
                             [&](const Result<storage::ForeignOutcome>& outcome) {
                               if (outcome.ok()) settled = outcome->settled;
                             });
  EXPECT_TRUE(Eventually([&] { return settled == 1; }));
  EXPECT_TRUE(foreign_rows().empty());
  writer_->RunAndWait([&](storage::Store& store) {
    EXPECT_TRUE(store.applied().Contains({store.actor(), 2}));
    EXPECT_FALSE(store.applied().Contains({store.actor(), 3}));
  });
}

TEST_F(WriterTest, StopFinishesWhatIsQueuedAndRefusesTheRest) {
  std::atomic<int> done{0};
  QueueInserts(1'000, done);
  Start();
  writer_->Stop();
  EXPECT_EQ(done, 1'000);
  EXPECT_EQ(ExecuteAndWait(*writer_, "SELECT 1").error().code, Errc::kUnavailable);
  EXPECT_FALSE(writer_->RunAndWait([](storage::Store&) {}));
}

TEST_F(WriterTest, AFullQueueRefusesAtOnce) {
  config_.writer_queue_transactions_max = 3;
  writer_ = nullptr;
  writer_ = std::make_unique<Writer>(config_, OpenStore(config_, &clock_));
  int refused = 0;
  for (int i = 0; i < 5; ++i) {
    writer_->Execute(OneStatement("SELECT 1"),
                     [&refused](const Result<storage::Committed>& result) {
                       refused += !result.ok() && result.error().code == Errc::kResourceExhausted;
                     });
  }
  EXPECT_EQ(refused, 2);
  Start();
  writer_->Stop();
}

}  // namespace
}  // namespace patina::agent

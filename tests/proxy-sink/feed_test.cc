#include "proxy-sink/feed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <set>

#include "proxy-sink/feed_streams.h"
#include "tests/proxy-sink/fleet_builder.h"

namespace patina::proxy_sink {
namespace {

using Kind = FeedItem::Kind;

/// An agent without gRPC: the test says what each stream sends. Any thread.
class FakeAgent {
 public:
  /// Waits for the stream of this name ("machines", "members") to be opened for the nth time, from
  /// 1.
  std::optional<uint64_t> AwaitOpen(const std::string& name, int nth) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return opened_[name] >= nth && calls_[name] != nullptr; });
    return from_[name];
  }
  void Send(const std::string& name, std::vector<FeedItem> items) {
    std::unique_lock<std::mutex> lock(mutex_);
    // One message at a time, as with gRPC: the next when the last was taken.
    changed_.wait(lock, [&] { return calls_[name] != nullptr && reading_.contains(name); });
    items_[name] = std::move(items);
    reading_.erase(name);
    queue_->Push({calls_[name], FeedEvent::Kind::kRead, true});
  }
  void Break(const std::string& name, Error error) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return calls_[name] != nullptr && reading_.contains(name); });
    ends_[name] = std::move(error);
    Finish(name);
  }

 private:
  friend class FakeCall;
  friend class FakeLink;
  void Finish(const std::string& name) {
    reading_.erase(name);
    AgentCall* call = std::exchange(calls_[name], nullptr);
    if (call != nullptr) queue_->Push({call, FeedEvent::Kind::kDone, true});
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  FeedQueue* queue_ = nullptr;
  std::map<std::string, AgentCall*> calls_;
  std::map<std::string, int> opened_;
  std::map<std::string, std::optional<uint64_t>> from_;
  std::map<std::string, std::vector<FeedItem>> items_;
  std::map<std::string, Error> ends_;
  std::set<std::string> reading_;
};

class FakeCall final : public AgentCall {
 public:
  FakeCall(FakeAgent* agent, std::string name, std::optional<uint64_t> from, FeedQueue* queue)
      : agent_(*agent), name_(std::move(name)) {
    std::lock_guard<std::mutex> lock(agent_.mutex_);
    agent_.queue_ = queue;
    agent_.calls_[name_] = this;
    agent_.from_[name_] = from;
    agent_.reading_.insert(name_);
    ++agent_.opened_[name_];
    agent_.changed_.notify_all();
  }
  std::vector<FeedItem> TakeItems() override {
    std::lock_guard<std::mutex> lock(agent_.mutex_);
    return agent_.items_[name_];
  }
  void Next() override {
    std::lock_guard<std::mutex> lock(agent_.mutex_);
    agent_.reading_.insert(name_);
    agent_.changed_.notify_all();
  }
  void OnWritten() override {}
  void Release() override {}
  void Cancel() override {
    std::lock_guard<std::mutex> lock(agent_.mutex_);
    agent_.ends_[name_] = {Errc::kCancelled, "cancelled"};
    agent_.Finish(name_);
  }
  Error End() const override {
    std::lock_guard<std::mutex> lock(agent_.mutex_);
    return agent_.ends_[name_];
  }

 private:
  FakeAgent& agent_;
  const std::string name_;
};

class FakeLink final : public AgentLink {
 public:
  explicit FakeLink(FakeAgent* agent) : agent_(agent) {}
  std::unique_ptr<AgentCall> OpenTable(const TableSpec& table, std::optional<uint64_t> from,
                                       FeedQueue* queue) override {
    return std::make_unique<FakeCall>(agent_, std::string(table.name), from, queue);
  }
  std::unique_ptr<AgentCall> OpenMembers(FeedQueue* queue) override {
    return std::make_unique<FakeCall>(agent_, "members", std::nullopt, queue);
  }

 private:
  FakeAgent* const agent_;
};

FeedItem Numbered(Kind kind, uint64_t number) {
  return {.kind = kind, .number = number, .cells = {}, .text = {}};
}
FeedItem MachineItem(Kind kind, const std::string& id, uint64_t number = 0) {
  return {.kind = kind,
          .number = number,
          .cells = {id, std::string("web"), std::string("h"), std::string("ams"),
                    std::string("started"), std::string("started")},
          .text = {}};
}

/// One machine, and the end.
std::vector<FeedItem> Snapshot(const std::string& id, uint64_t number) {
  return {MachineItem(Kind::kSnapshotRow, id), Numbered(Kind::kEndOfSnapshot, number)};
}

class FeedTest : public testing::Test {
 protected:
  FeedTest()
      : feed_({.agent = "fake",
               .token = {},
               .silence_max = std::chrono::hours(1),
               .first_message_max = std::chrono::hours(1),
               .backoff_min = std::chrono::milliseconds(1),
               .backoff_max = std::chrono::milliseconds(1)},
              &table_, &clock_, std::make_unique<FakeLink>(&agent_)) {
    feed_.Start([this](const PublishedChanges&) {
      std::lock_guard<std::mutex> lock(mutex_);
      changed_.notify_all();
    });
  }
  ~FeedTest() override { feed_.Stop(); }

  void AwaitMachines(const std::vector<std::string>& wanted) {
    const auto machines = [&] {
      std::vector<std::string> ids;
      const auto app = table_.Find("web");
      if (app != nullptr) {
        for (const Machine& machine : app->machines) ids.push_back(machine.id);
      }
      return ids;
    };
    Await([&] { return machines() == wanted; });
    EXPECT_EQ(machines(), wanted);
  }
  template <class Condition>
  void Await(Condition condition) {
    std::unique_lock<std::mutex> lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(20), condition));
  }
  void SnapshotEverything() {
    for (const TableSpec& spec : AllTables()) {
      agent_.Send(std::string(spec.name), {Numbered(Kind::kEndOfSnapshot, 10)});
    }
    agent_.Send("members", {Numbered(Kind::kEndOfMembers, 0)});
  }

  SystemClock clock_;
  Table table_;
  FakeAgent agent_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Feed feed_;
};

TEST_F(FeedTest, SnapshotThenChanges) {
  EXPECT_EQ(agent_.AwaitOpen("machines", 1), std::nullopt);
  agent_.Send("machines", Snapshot("m1", 7));
  AwaitMachines({"m1"});
  agent_.Send("machines", {MachineItem(Kind::kUpsert, "m2", 8)});
  AwaitMachines({"m1", "m2"});
  agent_.Send("machines", {MachineItem(Kind::kErase, "m1", 9)});
  AwaitMachines({"m2"});
}

TEST_F(FeedTest, GoesOnBeforeTheLastCommitThatMayBeIncomplete) {
  agent_.Send("machines", Snapshot("m1", 7));
  agent_.Send("machines", {MachineItem(Kind::kUpsert, "m2", 12)});
  agent_.Break("machines", Unavailable("agent gone"));
  EXPECT_EQ(agent_.AwaitOpen("machines", 2), 11u);
  AwaitMachines({"m1", "m2"});
  agent_.Send("machines", {MachineItem(Kind::kUpsert, "m2", 12), Numbered(Kind::kHeartbeat, 15)});
  agent_.Break("machines", Unavailable("agent gone"));
  EXPECT_EQ(agent_.AwaitOpen("machines", 3), 15u);
}

TEST_F(FeedTest, AResetIsSwappedInAtTheEndOfItsSnapshot) {
  agent_.Send("machines", Snapshot("m1", 7));
  AwaitMachines({"m1"});
  agent_.Send("machines", {Numbered(Kind::kReset, 0), MachineItem(Kind::kSnapshotRow, "m2")});
  agent_.Send("machines", {});  // is taken after the message before it
  AwaitMachines({"m1"});
  agent_.Send("machines", {Numbered(Kind::kEndOfSnapshot, 30)});
  AwaitMachines({"m2"});
}

TEST_F(FeedTest, ABrokenSnapshotIsForgotten) {
  agent_.Send("machines", Snapshot("m1", 7));
  agent_.Send("machines", {Numbered(Kind::kReset, 0), MachineItem(Kind::kSnapshotRow, "m2")});
  agent_.Break("machines", Unavailable("agent gone"));
  EXPECT_EQ(agent_.AwaitOpen("machines", 2), std::nullopt) << "a whole snapshot is asked for";
  agent_.Send("machines", Snapshot("m3", 9));
  AwaitMachines({"m3"});
}

TEST_F(FeedTest, ALogThatBeginsAnewMeansASnapshot) {
  agent_.Send("machines", {Numbered(Kind::kEndOfSnapshot, 500)});
  agent_.Break("machines", Unavailable("agent gone"));
  EXPECT_EQ(agent_.AwaitOpen("machines", 2), 500u);
  agent_.Send("machines", {Numbered(Kind::kHeartbeat, 3)});
  EXPECT_EQ(agent_.AwaitOpen("machines", 3), std::nullopt);
}

TEST_F(FeedTest, TheTableStaysWhenTheAgentIsGone) {
  EXPECT_FALSE(feed_.status().agent_connected);
  EXPECT_EQ(feed_.status().age_ms, -1);
  agent_.Send("machines", {MachineItem(Kind::kSnapshotRow, "m1")});
  SnapshotEverything();
  Await([&] { return feed_.status().agent_connected; });
  EXPECT_EQ(feed_.status().change_number, 10u);
  agent_.Break("machines", Unavailable("agent gone"));
  Await([&] { return !feed_.status().agent_connected; });
  AwaitMachines({"m1"});
  EXPECT_GE(feed_.status().age_ms, 0);
}

TEST_F(FeedTest, ATableThatTheAgentDoesNotHaveKeepsNobodyFromWorking) {
  agent_.AwaitOpen("region_rtt", 1);
  agent_.Break("region_rtt", InvalidArgument("no such table: region_rtt"));
  for (const TableSpec& spec : AllTables()) {
    if (spec.name == "region_rtt") continue;
    agent_.Send(std::string(spec.name), {Numbered(Kind::kEndOfSnapshot, 4)});
  }
  agent_.Send("members", {Numbered(Kind::kEndOfMembers, 0)});
  Await([&] { return feed_.status().agent_connected; });
}

}  // namespace
}  // namespace patina::proxy_sink

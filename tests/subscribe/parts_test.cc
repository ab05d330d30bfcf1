#include <gtest/gtest.h>

#include <thread>

#include "subscribe/history.h"
#include "subscribe/predicate_index.h"
#include "subscribe/result_set.h"
#include "subscribe/subscriber_queue.h"

namespace patina::subscribe {
namespace {

EventBatch Change(uint64_t number, size_t bytes = 10) {
  return std::make_shared<const std::vector<Event>>(
      1, RowEvent(EventKind::kInsert, number, std::string(bytes, 'x'), number));
}

TEST(HistoryTest, HoldsEverythingAboveItsFloor) {
  const size_t each = BytesOf(*Change(1));
  History history(3 * each);
  history.StartAt(10);
  for (uint64_t number : {11u, 13u, 13u}) history.Add(number, Change(number));
  EXPECT_TRUE(history.ReachesBackTo(10));
  EXPECT_FALSE(history.ReachesBackTo(9));
  EXPECT_EQ(history.Since(10).size(), 3u);
  EXPECT_EQ(history.Since(12).size(), 2u);
  EXPECT_EQ(history.Since(13).size(), 0u);
  history.Add(15, Change(15));
  EXPECT_EQ(history.floor(), 11u);
  history.Add(16, Change(16));  // half of 13 goes: nobody at 11 or 12 is served any more
  EXPECT_EQ(history.floor(), 13u);
  EXPECT_EQ(history.Since(13).size(), 2u);
  history.Add(17, Change(17, 100'000));
  EXPECT_EQ(history.floor(), 17u);
  EXPECT_EQ(history.bytes(), 0u);
}

TEST(HistoryTest, BatchesAreBounded) {
  std::vector<Event> events(1'201);
  for (size_t i = 0; i < events.size(); ++i) events[i].row_id = i;
  const auto batches = IntoBatches(events);
  ASSERT_EQ(batches.size(), 3u);
  EXPECT_EQ(batches[2]->size(), 201u);
  EXPECT_EQ(batches[2]->front().row_id, 1'000u);
  EXPECT_TRUE(IntoBatches({}).empty());
}

TEST(ResultSetTest, EqualRowsAreCounted) {
  ResultSet set(false);
  std::vector<Event> events;
  const auto rebuild = [&](std::vector<std::string> rows) {
    events.clear();
    set.BeginRebuild();
    for (const auto& row : rows) set.Add({}, row);
    set.FinishRebuild(1, &events);
    return events.size();
  };
  EXPECT_EQ(rebuild({"a", "a", "b", "a"}), 4u);
  EXPECT_EQ(set.size(), 4u);
  EXPECT_EQ(rebuild({"b", "a", "a", "a"}), 0u);
  EXPECT_EQ(rebuild({"a", "c"}), 4u);  // two a and b go, c comes
  EXPECT_EQ(events.back().kind, EventKind::kInsert);
  EXPECT_EQ(events.front().kind, EventKind::kDelete);
  EXPECT_EQ(rebuild({}), 2u);
  EXPECT_EQ(set.size(), 0u);
}

TEST(ResultSetTest, IdsFollowFromKeysAlone) {
  ResultSet one(true), two(true);
  std::vector<Event> events, again;
  one.Apply("k1", "v", 1, &events);
  one.Apply("k2", "v", 1, &events);
  one.Apply("k1", std::nullopt, 2, &events);
  two.Apply("k2", "w", 1, &again);
  EXPECT_EQ(events[1].row_id, again[0].row_id);
  EXPECT_NE(events[0].row_id, events[1].row_id);
  EXPECT_EQ(events[2].kind, EventKind::kDelete);
  EXPECT_EQ(events[2].values, "v");
}

TEST(PredicateIndexTest, FindsByOldAndNewValue) {
  PredicateIndex index;
  const auto is = [](const char* text) { return Plan::Equality{1, crdt::Value::Text(text)}; };
  index.Add(1, is("a"));
  index.Add(2, is("b"));
  index.Add(3, is("b"));
  index.Add(4, std::nullopt);
  const auto row = [](const char* text) {
    return crdt::PackValues(std::vector{crdt::Value::Text("k"), crdt::Value::Text(text)});
  };
  const storage::RowEffect moved{0, 1, "k", row("a"), row("b")};
  const storage::RowEffect other{0, 1, "k", std::nullopt, row("c")};
  std::vector<std::pair<uint64_t, uint32_t>> matches;
  ASSERT_TRUE(index.Match({&other, &moved}, 2, &matches));
  EXPECT_EQ(matches, (std::vector<std::pair<uint64_t, uint32_t>>{{1, 1}, {2, 1}, {3, 1}}));
  EXPECT_EQ(index.unconditional(), std::vector<uint64_t>{4});
  EXPECT_FALSE(index.Match({&moved}, 3, &matches)) << "rows of another schema";
  index.Remove(2, is("b"));
  index.Remove(1, is("a"));
  index.Remove(3, is("b"));
  index.Remove(4, std::nullopt);
  EXPECT_TRUE(index.empty());
}

TEST(SubscriberQueueTest, OverflowDropsAllAndSaysSo) {
  int ready = 0;
  SubscriberQueue queue(3 * BytesOf(*Change(1)), [&] { ++ready; });
  for (uint64_t i = 1; i <= 3; ++i) queue.OnEvents(Change(i));
  EXPECT_EQ(ready, 1);
  EXPECT_EQ(queue.Take()->front().change_number, 1u);
  queue.OnEvents(Change(4));
  EXPECT_FALSE(queue.MustResubscribe());
  queue.OnEvents(Change(5));
  EXPECT_TRUE(queue.MustResubscribe());
  const EventBatch reset = queue.Take();
  ASSERT_TRUE(reset);
  EXPECT_EQ(reset->front().kind, EventKind::kReset);
  EXPECT_NE(reset->front().reason.find("too slow"), std::string::npos);
  queue.OnEvents(Change(6));
  EXPECT_FALSE(queue.Take());
  queue.Restart();
  queue.OnEvents(Change(7));
  EXPECT_EQ(queue.Take()->front().change_number, 7u);
  EXPECT_FALSE(queue.MustResubscribe());
  EXPECT_EQ(queue.bytes(), 0u);
}

TEST(SubscriberQueueTest, SnapshotsDoNotOverflow) {
  SubscriberQueue queue(100, nullptr);
  for (int i = 0; i < 50; ++i) {
    queue.OnEvents(std::make_shared<const std::vector<Event>>(
        1, RowEvent(EventKind::kRow, 1, std::string(1'000, 'x'), 0)));
  }
  EXPECT_FALSE(queue.MustResubscribe());
  queue.Close();
  EXPECT_FALSE(queue.Take());
}

TEST(SubscriberQueueTest, OneThreadPutsAnotherTakes) {
  SubscriberQueue queue(1u << 30, nullptr);
  constexpr uint64_t kCount = 20'000;
  std::thread writer([&] {
    for (uint64_t i = 1; i <= kCount; ++i) queue.OnEvents(Change(i));
  });
  uint64_t next = 1;
  while (next <= kCount) {
    const EventBatch batch = queue.Take();
    if (!batch) continue;
    ASSERT_EQ(batch->front().change_number, next);
    ++next;
  }
  writer.join();
}

}  // namespace
}  // namespace patina::subscribe

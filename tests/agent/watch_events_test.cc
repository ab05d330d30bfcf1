#include "agent/watch_events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "crdt/changeset.h"
#include "patina/v1/state.pb.h"
#include "storage/log.h"

namespace patina::agent {
namespace {

using crdt::Says;
using crdt::Value;
using crdt::ValueView;

const ChangeId kId = {ActorId{{1}}, 7};

/// Two tables: other (one row, inserted), t (inserted k1, updated k2, deleted k3).
storage::LogEntry Entry(std::string effect = {}) {
  crdt::ChangesetBuilder builder({kId, crdt::HlcTime::FromMs(1'000), 0});
  auto key = [](const char* text) {
    return crdt::PackValues(std::vector<Value>{Value::Text(text)});
  };
  builder.BeginTable("other", 1, {{"x", 0}});
  builder.AddRow(Says::kAlive, key("o"), {0}, {ValueView::Integer(1)});
  builder.BeginTable("t", 1, {{"a", 0}, {"b", 0}});
  builder.AddRow(Says::kAlive, key("k1"), {0, 1}, {ValueView::Integer(1), ValueView::Text("b1")});
  builder.AddRow(Says::kNothing, key("k2"), {1}, {ValueView::Text("b2")});
  builder.AddRow(Says::kDeleted, key("k3"), {}, {});
  storage::LogEntry entry;
  entry.seq = 42;
  entry.id = kId;
  entry.time = crdt::HlcTime::FromMs(1'000);
  entry.bytes = std::make_shared<const std::string>(std::move(builder).Finish());
  entry.effect = std::move(effect);
  return entry;
}

std::string Effect(const std::vector<bool>& bits) {
  storage::EffectWriter writer;
  for (const bool bit : bits) writer.Add(bit);
  return std::move(writer).Finish();
}

TEST(WatchEventsTest, ARowOfTheTableIsAnEventWithItsKindKeyAndColumns) {
  v1::WatchResponse response;
  ASSERT_TRUE(AppendWatchEvents(Entry(), "t", &response).ok());
  ASSERT_EQ(response.events_size(), 3);
  const v1::WatchEvent& insert = response.events(0);
  EXPECT_EQ(insert.kind(), v1::WatchEvent::KIND_INSERT);
  EXPECT_EQ(insert.key(0).text(), "k1");
  EXPECT_THAT(insert.columns(), testing::ElementsAre("a", "b"));
  EXPECT_EQ(insert.values(0).integer(), 1);
  EXPECT_EQ(insert.values(1).text(), "b1");
  EXPECT_EQ(insert.change_number(), 42U);
  EXPECT_EQ(insert.id().version(), 7U);
  EXPECT_EQ(insert.time_ns(), 1'000'000'000);
  EXPECT_EQ(response.events(1).kind(), v1::WatchEvent::KIND_UPDATE);
  EXPECT_THAT(response.events(1).columns(), testing::ElementsAre("b"));
  EXPECT_EQ(response.events(2).kind(), v1::WatchEvent::KIND_DELETE);
  EXPECT_EQ(response.events(2).key(0).text(), "k3");
}

TEST(WatchEventsTest, OnlyWordsThatTookEffectAreTold) {
  v1::WatchResponse response;
  // other: row, x | k1: row lost, a lost, b won | k2: b lost | k3: deleted
  const std::string effect = Effect({true, true, false, false, true, false, true});
  ASSERT_TRUE(AppendWatchEvents(Entry(effect), "t", &response).ok());
  ASSERT_EQ(response.events_size(), 2);
  EXPECT_EQ(response.events(0).kind(), v1::WatchEvent::KIND_UPDATE);
  EXPECT_THAT(response.events(0).columns(), testing::ElementsAre("b"));
  EXPECT_EQ(response.events(1).kind(), v1::WatchEvent::KIND_DELETE);
}

TEST(WatchEventsTest, OtherTablesSayNothing) {
  v1::WatchResponse response;
  ASSERT_TRUE(AppendWatchEvents(Entry(), "absent", &response).ok());
  EXPECT_EQ(response.events_size(), 0);
}

TEST(WatchEventsTest, ATransferAsksToReadTheTableAnew) {
  storage::LogEntry entry;
  entry.seq = 9;
  entry.rows_unknown = true;
  v1::WatchResponse response;
  ASSERT_TRUE(AppendWatchEvents(entry, "t", &response).ok());
  ASSERT_EQ(response.events_size(), 1);
  EXPECT_EQ(response.events(0).kind(), v1::WatchEvent::KIND_RESET);
  EXPECT_EQ(response.events(0).change_number(), 9U);
}

TEST(WatchEventsTest, AnUnreadableEntryIsAnErrorThatNamesIt) {
  storage::LogEntry entry = Entry();
  entry.bytes = std::make_shared<const std::string>("\x01garbage");
  v1::WatchResponse response;
  const Status status = AppendWatchEvents(entry, "t", &response);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Errc::kDataLoss);
  EXPECT_THAT(status.error().message, testing::HasSubstr("log entry 42"));
}

}  // namespace
}  // namespace patina::agent

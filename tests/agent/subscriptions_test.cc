#include "agent/subscriptions.h"

#include <gtest/gtest.h>

#include <future>

#include "tests/agent/agent_test_util.h"

namespace patina::agent {
namespace {

class Deaf final : public subscribe::Subscriber {
 public:
  void OnEvents(subscribe::EventBatch) override {}
};

TEST(SubscriptionsTest, StopDoesNotWaitForAQueryThatHasNoEnd) {
  TemporaryFolder folder;
  SystemClock clock;
  Config config = TestConfig("a", folder.path());
  config.subscribe.query_deadline = std::chrono::hours(1);
  auto store = OpenStore(config, &clock);
  const storage::Schema schema = store->schema();
  Writer writer(config, std::move(store));
  writer.Start({});
  auto subscriptions = Subscriptions::Start(config, schema, DatabasePath(config), &writer);
  ASSERT_TRUE(subscriptions.ok());
  Deaf deaf;
  subscribe::SubscribeRequest request;
  request.statement.sql =
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000000 + "
      "(SELECT count(*) FROM machines)) SELECT count(*) FROM n";
  std::promise<Errc> ended;
  (*subscriptions)->Subscribe(request, &deaf, [&ended](Result<subscribe::SubscriberId> id) {
    ended.set_value(id.ok() ? Errc::kInternal : id.error().code);
  });
  (*subscriptions)->Stop();  // whether it runs already or still waits
  EXPECT_EQ(ended.get_future().get(), Errc::kUnavailable);
  writer.Stop();
}

}  // namespace
}  // namespace patina::agent

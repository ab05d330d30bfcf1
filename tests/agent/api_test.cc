#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <optional>

#include "agent/agent.h"
#include "patina/v1/admin.grpc.pb.h"
#include "patina/v1/cluster.grpc.pb.h"
#include "patina/v1/state.grpc.pb.h"
#include "tests/agent/agent_test_util.h"
#include "tests/agent/client_util.h"

// One agent and its clients over real sockets: what the calls promise that last or that go wrong.

namespace patina::agent {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ApiTest : public ::testing::Test {
 protected:
  /// At its TCP port, or at its Unix socket; its limits are smaller than usual.
  void StartAgent(bool unix_socket = false) {
    Config config = TestConfig("a", folder_.path());
    config.schema.paths = {folder_.Write("schema.sql", kTestSchema)};
    config.store.statement_bytes_max = 1'000;
    config.api_message_bytes_max = 256u << 10;
    config.subscribe.subscriber_queue_bytes_max = 30'000;
    if (unix_socket) config.api.listen = {"unix:" + folder_.File("api.sock")};
    auto agent = Agent::Start(config);
    ASSERT_TRUE(agent.ok()) << agent.error().message;
    agent_ = *std::move(agent);
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    channel_ = grpc::CreateCustomChannel(agent_->api_addresses().at(0),
                                         grpc::InsecureChannelCredentials(), arguments);
    state_ = v1::State::NewStub(channel_);
  }

  static v1::ExecuteRequest RequestOf(const std::vector<std::string>& statements) {
    v1::ExecuteRequest request;
    for (const std::string& sql : statements) request.add_statements()->set_sql(sql);
    return request;
  }
  static std::string Insert(const std::string& id) {
    return "INSERT INTO machines(id, region) VALUES('" + id + "', 'ams')";
  }
  grpc::Status Execute(const v1::ExecuteRequest& request, v1::ExecuteResponse* response = nullptr) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::ExecuteResponse ignored;
    return state_->Execute(&context, request, response == nullptr ? &ignored : response);
  }
  /// Its change number.
  uint64_t MustExecute(const std::string& sql) {
    v1::ExecuteResponse response;
    const grpc::Status status = Execute(RequestOf({sql}), &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.change_number();
  }

  /// A call of a service whose generated code is not at hand: bytes there and back.
  std::string CallWithBytes(const std::string& method, const std::string& request) {
    grpc::GenericStub stub(channel_);
    grpc::ClientContext context;
    SetDeadline(context);
    const grpc::Slice slice(request);
    const grpc::ByteBuffer sent(&slice, 1);
    grpc::ByteBuffer received;
    std::promise<grpc::Status> ended;
    stub.UnaryCall(&context, method, grpc::StubOptions(), &sent, &received,
                   [&ended](grpc::Status status) { ended.set_value(std::move(status)); });
    const grpc::Status status = ended.get_future().get();
    EXPECT_TRUE(status.ok()) << status.error_message();
    grpc::Slice answer;
    return status.ok() && received.DumpToSingleSlice(&answer).ok()
               ? std::string(reinterpret_cast<const char*>(answer.begin()), answer.size())
               : std::string();
  }

  TemporaryFolder folder_;
  std::unique_ptr<Agent> agent_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::State::Stub> state_;
};

/// One State.Watch of `machines`. It is cancelled with the object.
class MachinesWatch {
 public:
  MachinesWatch(v1::State::Stub& state, std::optional<uint64_t> from) {
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    v1::WatchRequest request;
    request.set_table("machines");
    if (from) request.set_from(*from);
    reader_ = state.Watch(&context_, request);
  }
  ~MachinesWatch() {
    context_.TryCancel();
    reader_->Finish();
  }
  /// The next message's token, its events in *events; 0 when the stream has ended.
  uint64_t Next(std::vector<v1::WatchEvent>* events) {
    v1::WatchResponse response;
    if (!reader_->Read(&response)) return 0;
    events->insert(events->end(), response.events().begin(), response.events().end());
    return response.change_number();
  }
  /// Reads until there are as many; fewer when the stream ends.
  std::vector<v1::WatchEvent> Take(size_t count) {
    std::vector<v1::WatchEvent> events;
    while (events.size() < count && reader_->Read(&response_)) {
      events.insert(events.end(), response_.events().begin(), response_.events().end());
    }
    return events;
  }
  uint64_t token() const { return response_.change_number(); }

 private:
  grpc::ClientContext context_;
  v1::WatchResponse response_;
  std::unique_ptr<grpc::ClientReader<v1::WatchResponse>> reader_;
};

std::vector<std::string> KeysOf(const std::vector<v1::WatchEvent>& events) {
  std::vector<std::string> keys;
  keys.reserve(events.size());
  for (const v1::WatchEvent& event : events) keys.push_back(event.key(0).text());
  return keys;
}

std::vector<std::string> NamesFromTo(int from, int to) {
  std::vector<std::string> names;
  for (int i = from; i < to; ++i) names.push_back(StrCat("m", i));
  return names;
}

TEST_F(ApiTest, WatchTellsKeyKindAndColumnsOfEachWrite) {
  StartAgent();
  MachinesWatch watch(*state_, 0);
  const uint64_t inserted = MustExecute(Insert("m1"));
  const uint64_t updated = MustExecute("UPDATE machines SET cpu = 0.5 WHERE id = 'm1'");
  MustExecute("DELETE FROM machines WHERE id = 'm1'");
  const std::vector<v1::WatchEvent> events = watch.Take(3);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_THAT(KeysOf(events), ElementsAre("m1", "m1", "m1"));
  EXPECT_EQ(events[0].kind(), v1::WatchEvent::KIND_INSERT);
  EXPECT_THAT(events[0].columns(), Contains("region"));
  EXPECT_EQ(events[0].change_number(), inserted);
  EXPECT_EQ(events[1].kind(), v1::WatchEvent::KIND_UPDATE);
  EXPECT_THAT(events[1].columns(), ElementsAre("cpu"));
  EXPECT_EQ(events[1].values(0).real(), 0.5);
  EXPECT_EQ(events[1].change_number(), updated);
  EXPECT_EQ(events[2].kind(), v1::WatchEvent::KIND_DELETE);
}

TEST_F(ApiTest, AWatchFromNowOnTellsNothingOld) {
  StartAgent();
  MustExecute(Insert("before"));
  MachinesWatch watch(*state_, std::nullopt);
  std::vector<v1::WatchEvent> events;
  ASSERT_GT(watch.Next(&events), 0u);  // says where it begins
  EXPECT_THAT(events, IsEmpty());
  MustExecute(Insert("after"));
  EXPECT_THAT(KeysOf(watch.Take(1)), ElementsAre("after"));
}

TEST_F(ApiTest, AWatchResumedByItsTokenHasNoHolesAndNothingTwice) {
  StartAgent();
  for (const std::string& name : NamesFromTo(0, 20)) MustExecute(Insert(name));
  std::vector<v1::WatchEvent> events;
  uint64_t token = 0;
  {
    MachinesWatch first(*state_, 0);
    events = first.Take(20);
    token = first.token();
  }
  for (const std::string& name : NamesFromTo(20, 60)) MustExecute(Insert(name));
  MachinesWatch second(*state_, token);
  const std::vector<v1::WatchEvent> more = second.Take(40);
  events.insert(events.end(), more.begin(), more.end());
  EXPECT_EQ(KeysOf(events), NamesFromTo(0, 60));
}

TEST_F(ApiTest, WatchMembersBeginsWithTheMembersThatThereAre) {
  StartAgent();
  const auto cluster = v1::Cluster::NewStub(channel_);
  grpc::ClientContext context;
  SetDeadline(context);
  const auto reader = cluster->WatchMembers(&context, v1::WatchMembersRequest());
  v1::WatchMembersResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_TRUE(response.end_of_snapshot());
  ASSERT_EQ(response.members_size(), 1);
  EXPECT_EQ(response.members(0).name(), "a");
  EXPECT_TRUE(response.members(0).self());
  EXPECT_EQ(response.members(0).state(), v1::Member::STATE_ALIVE);
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(ApiTest, HealthSaysServingAtTheUnixSocket) {
  StartAgent(true);
  EXPECT_EQ(CallWithBytes("/grpc.health.v1.Health/Check", ""), "\x08\x01");  // status: SERVING
}

TEST_F(ApiTest, ReflectionListsTheServices) {
  StartAgent(true);
  // A stream of one message: list_services (field 7).
  const std::string services =
      CallWithBytes("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "\x3a\x01*");
  EXPECT_THAT(services, HasSubstr("patina.v1.State"));
  EXPECT_THAT(services, HasSubstr("patina.v1.Cluster"));
  EXPECT_THAT(services, HasSubstr("patina.v1.Admin"));
}

TEST_F(ApiTest, AnExecuteStreamAnswersInOrderAndOneFailureLeavesTheOthersFine) {
  StartAgent();
  constexpr int kRequests = 600;  // more than a stream may have under way
  constexpr int kWrong = 300;
  grpc::ClientContext context;
  SetDeadline(context);
  const auto stream = state_->ExecuteStream(&context);
  auto writing = std::async(std::launch::async, [&] {
    for (int i = 0; i < kRequests; ++i) {
      std::vector<std::string> statements;  // as many as tell the answers apart
      for (int j = 0; j <= i % 3; ++j) statements.push_back(Insert(StrCat("m", i, "-", j)));
      if (i == kWrong) statements.push_back("INSERT INTO nothing VALUES(1)");
      if (!stream->Write(RequestOf(statements))) return false;
    }
    return stream->WritesDone();
  });
  v1::ExecuteStreamResponse response;
  uint64_t newest = 0;
  int answers = 0;
  for (; stream->Read(&response); ++answers) {
    EXPECT_EQ(response.has_failed(), answers == kWrong) << answers;
    if (response.has_failed()) {
      EXPECT_THAT(response.failed().message(), HasSubstr("nothing"));
      continue;
    }
    EXPECT_EQ(response.done().rows_changed_size(), answers % 3 + 1) << answers;
    EXPECT_GT(response.done().change_number(), newest);
    newest = response.done().change_number();
  }
  EXPECT_TRUE(writing.get());
  EXPECT_EQ(answers, kRequests);
  EXPECT_TRUE(stream->Finish().ok());
  // Nothing of the one that failed is there.
  MustExecute(Insert(StrCat("m", kWrong, "-0")));
}

TEST_F(ApiTest, AClientThatGoesAwayMidwayLeavesTheAgentServing) {
  StartAgent();
  for (int round = 0; round < 10; ++round) {
    grpc::ClientContext context;
    SetDeadline(context);
    const auto stream = state_->ExecuteStream(&context);
    for (int i = 0; i < 50; ++i) {
      if (!stream->Write(RequestOf({Insert(StrCat("m", round, "-", i))}))) break;
    }
    v1::ExecuteStreamResponse response;  // the first goes without having read one
    for (int i = 0; i < round; ++i) EXPECT_TRUE(stream->Read(&response));
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_GT(MustExecute(Insert("still here")), 0u);
  EXPECT_TRUE(Eventually([&] { return CounterOf(*agent_, "api.streams") == 0; }));
}

TEST_F(ApiTest, AStopOfTheAgentEndsAnExecuteStream) {
  StartAgent();
  grpc::ClientContext context;
  SetDeadline(context);
  const auto stream = state_->ExecuteStream(&context);
  ASSERT_TRUE(stream->Write(RequestOf({Insert("m1")})));
  v1::ExecuteStreamResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_TRUE(response.has_done());
  auto stopping = std::async(std::launch::async, [&] { agent_->Stop(); });
  EXPECT_FALSE(stream->Read(&response));
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("the agent is stopping"));
  stopping.get();
}

/// One Subscribe stream over the machines' ids; acknowledges what it reads.
class IdsSubscription {
 public:
  IdsSubscription(v1::State::Stub& state, std::optional<uint64_t> from) {
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    stream_ = state.Subscribe(&context_);
    v1::SubscribeRequest request;
    request.mutable_open()->mutable_statement()->set_sql("SELECT id FROM machines");
    if (from) request.mutable_open()->set_from(*from);
    EXPECT_TRUE(stream_->Write(request));
  }
  ~IdsSubscription() {
    context_.TryCancel();
    stream_->Finish();
  }
  /// Reads until the snapshot has ended; its change number, 0 when the stream ended first.
  uint64_t TakeSnapshot() {
    while (Read()) {
      for (const v1::SubscribeEvent& event : response_.events()) {
        if (event.has_end_of_snapshot()) return event.end_of_snapshot().change_number();
      }
    }
    return 0;
  }
  /// Ids of the inserts up to the one of this change number. A row of a snapshot, a reset or the
  /// stream's end is in the list, too, and so never expected.
  std::vector<std::string> TakeInsertsUpTo(uint64_t change_number) {
    std::vector<std::string> ids;
    uint64_t reached = 0;
    while (reached < change_number) {
      if (!Read()) {
        ids.push_back("(the end)");
        break;
      }
      for (const v1::SubscribeEvent& event : response_.events()) {
        if (event.has_row()) ids.push_back("(snapshot) " + event.row().values(0).text());
        if (event.has_reset()) ids.push_back("(reset) " + event.reset().reason());
        if (!event.has_insert()) continue;
        ids.push_back(event.insert().values(0).text());
        reached = event.insert().change_number();
      }
    }
    return ids;
  }
  /// Reads until a reset has come; its reason, empty when the stream ended first.
  std::string TakeReset() {
    while (Read()) {
      for (const v1::SubscribeEvent& event : response_.events()) {
        if (event.has_reset()) return event.reset().reason();
      }
    }
    return {};
  }

 private:
  bool Read() {
    if (!stream_->Read(&response_)) return false;
    v1::SubscribeRequest request;
    request.set_acknowledged(response_.number());
    stream_->Write(request);
    return true;
  }

  grpc::ClientContext context_;
  v1::SubscribeResponse response_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::SubscribeRequest, v1::SubscribeResponse>> stream_;
};

TEST_F(ApiTest, ASubscriptionResumedFromAChangeNumberGetsOnlyWhatCameAfterWithoutHoles) {
  StartAgent();
  for (const std::string& name : NamesFromTo(0, 10)) MustExecute(Insert(name));
  IdsSubscription always(*state_, std::nullopt);
  ASSERT_GT(always.TakeSnapshot(), 0u);
  uint64_t middle = 0, last = 0;
  for (const std::string& name : NamesFromTo(10, 40)) middle = MustExecute(Insert(name));
  EXPECT_EQ(always.TakeInsertsUpTo(middle), NamesFromTo(10, 40));
  for (const std::string& name : NamesFromTo(40, 60)) last = MustExecute(Insert(name));
  IdsSubscription resumed(*state_, middle);
  EXPECT_EQ(resumed.TakeInsertsUpTo(last), NamesFromTo(40, 60));
  for (const std::string& name : NamesFromTo(60, 80)) last = MustExecute(Insert(name));
  EXPECT_EQ(resumed.TakeInsertsUpTo(last), NamesFromTo(60, 80));
}

TEST_F(ApiTest, ASubscriberThatReadsTooSlowlyIsResetCountedAndGetsAnotherSnapshot) {
  StartAgent();
  IdsSubscription slow(*state_, std::nullopt);
  MustExecute(Insert("first"));
  slow.TakeSnapshot();
  uint64_t last = 0;
  for (const std::string& name : NamesFromTo(0, 600)) last = MustExecute(Insert(name));
  EXPECT_THAT(slow.TakeReset(), HasSubstr("too slow"));
  EXPECT_GE(slow.TakeSnapshot(), last);
  EXPECT_EQ(CounterOf(*agent_, "subscribe.overflows"), 1u);
}

TEST_F(ApiTest, AStatementAboveTheLimitIsRefusedByNameAndTheNextWriteWorks) {
  StartAgent();
  const grpc::Status status = Execute(RequestOf({Insert("m1") + std::string(1'000, ' ')}));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("statement_bytes_max"));
  EXPECT_GT(MustExecute(Insert("m1")), 0u);
}

TEST_F(ApiTest, AMessageAboveTheLimitIsRefusedAndTheNextWriteWorks) {
  StartAgent();
  v1::ExecuteRequest request = RequestOf({"INSERT INTO machines(id, region) VALUES('m1', ?1)"});
  request.mutable_statements(0)->add_parameters()->set_text(std::string(400u << 10, 'x'));
  const grpc::Status unary = Execute(request);
  EXPECT_EQ(unary.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << unary.error_message();

  grpc::ClientContext context;
  SetDeadline(context);
  const auto stream = state_->ExecuteStream(&context);
  stream->Write(request);
  v1::ExecuteStreamResponse response;
  EXPECT_FALSE(stream->Read(&response));
  const grpc::Status streamed = stream->Finish();
  EXPECT_EQ(streamed.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED)
      << streamed.error_message();
  EXPECT_GT(MustExecute(Insert("m1")), 0u);
}

}  // namespace
}  // namespace patina::agent

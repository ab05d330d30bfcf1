#include "proxy-sink/sink_server.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "patina/v1/route.grpc.pb.h"
#include "tests/proxy-sink/fleet_builder.h"

namespace patina::proxy_sink {
namespace {

using testing::HasSubstr;

/// A sink without an agent: the table is filled by the test, which is the feed's thread here.
class SinkServerTest : public testing::Test {
 protected:
  SinkServerTest()
      : feed_({.agent = "nobody", .token = {}}, &table_, &clock_),
        server_({.listen = {"127.0.0.1:0"}, .region = "ams", .pick = {}}, &table_, &feed_,
                &clock_) {
    AddUsualRegions(table_);
    const auto ports = server_.Start();
    EXPECT_TRUE(ports.ok());
    stub_ = v1::Route::NewStub(grpc::CreateChannel("127.0.0.1:" + std::to_string(ports->at(0)),
                                                   grpc::InsecureChannelCredentials()));
  }
  void Publish() { server_.OnPublished(table_.Publish()); }
  grpc::Status Pick(const v1::PickRequest& request, v1::PickResponse* response) {
    grpc::ClientContext call;
    const grpc::Status status = stub_->Pick(&call, request, response);
    no_machine_ = call.GetServerTrailingMetadata().contains(kNoMachineKey);
    return status;
  }
  static v1::PickRequest Request(const std::string& app) {
    v1::PickRequest request;
    request.set_app(app);
    return request;
  }

  SystemClock clock_;
  Table table_;
  Feed feed_;
  SinkServer server_;
  std::unique_ptr<v1::Route::Stub> stub_;
  bool no_machine_ = false;
};

TEST_F(SinkServerTest, PickAnswersWithReasons) {
  AddMachine(table_, {.id = "a", .inflight = 3});
  AddMachine(table_, {.id = "b", .check = "critical"});
  Publish();
  v1::PickResponse response;
  ASSERT_TRUE(Pick(Request("web"), &response).ok());
  ASSERT_EQ(response.candidates_size(), 1);
  EXPECT_EQ(response.candidates(0).address(), "a:80");
  EXPECT_EQ(response.from_region(), "ams");
  ASSERT_EQ(response.rejected_size(), 1);
  EXPECT_EQ(response.rejected(0).reason(), "check critical");
  EXPECT_FALSE(response.agent_connected());
}

TEST_F(SinkServerTest, UnavailableSaysWhyAndThatTheSinkIsThere) {
  AddMachine(table_, {.id = "b", .check = "critical"});
  Publish();
  v1::PickResponse response;
  const grpc::Status status = Pick(Request("web"), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("b (ams): check critical"));
  EXPECT_TRUE(no_machine_);
}

TEST_F(SinkServerTest, WithoutATableNothingIsSaidToBeMissing) {
  v1::PickResponse response;
  EXPECT_EQ(Pick(Request("web"), &response).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Pick(Request(""), &response).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(SinkServerTest, WatchSendsTheNewAnswerWhenTheCandidatesChange) {
  AddMachine(table_, {.id = "a"});
  AddMachine(table_, {.id = "f", .region = "fra"});
  Publish();
  grpc::ClientContext call;
  const auto reader = stub_->Watch(&call, Request("web"));
  v1::PickResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.candidates(0).machine(), "a");
  AddMachine(table_, {.id = "a", .inflight = 1});  // no other order: not sent
  Publish();
  AddMachine(table_, {.id = "a", .check = "critical"});
  Publish();
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.candidates(0).machine(), "f");
  AddMachine(table_, {.id = "f", .region = "fra", .state = "stopped"});
  Publish();
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.candidates_size(), 0);
  EXPECT_EQ(response.rejected_size(), 2);
  call.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(SinkServerTest, WatchedAppsMayComeLater) {
  grpc::ClientContext call;
  const auto reader = stub_->Watch(&call, Request("web"));
  v1::PickResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.candidates_size(), 0);
  AddMachine(table_, {.id = "a"});
  Publish();
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.candidates(0).machine(), "a");
  server_.Stop();  // ends the stream
  EXPECT_FALSE(reader->Read(&response));
}

TEST_F(SinkServerTest, StatusCounts) {
  AddMachine(table_, {.id = "a"});
  table_.Upsert(TableId::kRegions, {std::string("x"), 1000.0, 0.0});
  Publish();
  grpc::ClientContext call;
  v1::SinkStatusResponse response;
  ASSERT_TRUE(stub_->SinkStatus(&call, {}, &response).ok());
  EXPECT_EQ(response.region(), "ams");
  EXPECT_EQ(response.agent(), "nobody");
  EXPECT_EQ(response.apps(), 1u);
  EXPECT_EQ(response.endpoints(), 1u);
  EXPECT_EQ(response.rows_ignored(), 1u);
  EXPECT_EQ(response.table_age_ms(), -1);
}

TEST_F(SinkServerTest, AnAddressInUseIsAnError) {
  SinkServer first({.listen = {"127.0.0.1:0"}, .region = {}, .pick = {}}, &table_, &feed_, &clock_);
  const auto ports = first.Start();
  ASSERT_TRUE(ports.ok());
  const std::string address = "127.0.0.1:" + std::to_string(ports->at(0));
  SinkServer second({.listen = {address}, .region = {}, .pick = {}}, &table_, &feed_, &clock_);
  const auto again = second.Start();
  ASSERT_FALSE(again.ok());
  EXPECT_THAT(again.error().message, HasSubstr(address));
}

}  // namespace
}  // namespace patina::proxy_sink

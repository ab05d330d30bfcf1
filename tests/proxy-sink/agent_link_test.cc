#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <vector>

#include "patina/v1/cluster.grpc.pb.h"
#include "patina/v1/state.grpc.pb.h"
#include "proxy-sink/feed.h"

namespace patina::proxy_sink {
namespace {

/// The two services of an agent that the feed uses, over real gRPC: every table is empty but
/// machines.
class FakeServices {
 public:
  FakeServices() : state_(this), cluster_(this) { Start("127.0.0.1:0"); }
  ~FakeServices() { Stop(); }

  void Start(const std::string& address) {
    stopping_ = false;
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&state_);
    builder.RegisterService(&cluster_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    address_ = "127.0.0.1:" + std::to_string(port);
  }
  void Stop() {
    Note([this] { stopping_ = true; });
    if (server_) server_->Shutdown(std::chrono::system_clock::now());
    if (server_) server_->Wait();
    server_.reset();
  }
  const std::string& address() const { return address_; }

  template <class Condition>
  void Await(Condition condition) {
    std::unique_lock<std::mutex> lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(20), condition));
  }

  // Under the lock; of the stream of machines.
  std::vector<std::optional<uint64_t>> opened_from_;
  uint64_t acknowledged_ = 0, outstanding_max_ = 0;

 private:
  void Note(const std::function<void()>& change) {
    std::lock_guard<std::mutex> lock(mutex_);
    change();
    changed_.notify_all();
  }

  class State final : public v1::State::Service {
   public:
    explicit State(FakeServices* fake) : fake_(*fake) {}
    grpc::Status Subscribe(
        grpc::ServerContext*,
        grpc::ServerReaderWriter<v1::SubscribeResponse, v1::SubscribeRequest>* stream) override {
      v1::SubscribeRequest request;
      if (!stream->Read(&request)) return grpc::Status::CANCELLED;
      const v1::SubscribeRequest::Open open = request.open();
      const bool machines = open.statement().sql().ends_with("FROM machines");
      EXPECT_EQ(open.window(), 2u);
      if (machines) {
        fake_.Note([&] {
          fake_.opened_from_.push_back(open.has_from() ? std::optional(open.from()) : std::nullopt);
        });
      }
      uint64_t sent = 0, acknowledged = 0;
      const auto send = [&](v1::SubscribeResponse response) {
        while (sent - acknowledged >= open.window() && stream->Read(&request)) {
          acknowledged = request.acknowledged();
        }
        response.set_number(++sent);
        stream->Write(response);
        if (machines) {
          fake_.Note([&] {
            fake_.outstanding_max_ = std::max(fake_.outstanding_max_, sent - acknowledged);
            fake_.acknowledged_ = acknowledged;
          });
        }
      };
      for (int i = 0; machines && !open.has_from() && i < 50; ++i) send(Machine(i));
      v1::SubscribeResponse end;
      if (open.has_from()) {
        end.add_events()->mutable_heartbeat()->set_change_number(open.from());
      } else {
        end.add_events()->mutable_end_of_snapshot()->set_change_number(100);
      }
      send(end);
      while (stream->Read(&request)) {
      }
      return grpc::Status::OK;
    }

   private:
    static v1::SubscribeResponse Machine(int number) {
      v1::SubscribeResponse response;
      auto* row = response.add_events()->mutable_row();
      row->add_values()->set_text("m" + std::to_string(number));
      for (const char* text : {"web", "host-1", "ams", "started", "started"}) {
        row->add_values()->set_text(text);
      }
      return response;
    }
    FakeServices& fake_;
  };

  class Cluster final : public v1::Cluster::Service {
   public:
    explicit Cluster(FakeServices* fake) : fake_(*fake) {}
    grpc::Status WatchMembers(grpc::ServerContext*, const v1::WatchMembersRequest*,
                              grpc::ServerWriter<v1::WatchMembersResponse>* writer) override {
      v1::WatchMembersResponse response;
      v1::Member* member = response.add_members();
      member->set_name("host-1");
      member->set_state(v1::Member::STATE_SUSPECT);
      response.set_end_of_snapshot(true);
      writer->Write(response);
      // Nothing more happens; the stream stays open until Stop().
      std::unique_lock<std::mutex> lock(fake_.mutex_);
      fake_.changed_.wait(lock, [this] { return fake_.stopping_; });
      return grpc::Status::OK;
    }

   private:
    FakeServices& fake_;
  };

  State state_;
  Cluster cluster_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;  // under the lock while the server runs
};

TEST(AgentLinkTest, AcknowledgesGoesOnAndKeepsTheTableOverARestart) {
  FakeServices services;
  const SystemClock clock;
  Table table;
  Feed feed({.agent = services.address(),
             .token = {},
             .silence_max = std::chrono::hours(1),
             .first_message_max = std::chrono::hours(1),
             .backoff_min = std::chrono::milliseconds(10),
             .backoff_max = std::chrono::milliseconds(20)},
            &table, &clock);
  std::mutex mutex;
  std::condition_variable changed;
  feed.Start([&](const PublishedChanges&) {
    std::lock_guard<std::mutex> lock(mutex);
    changed.notify_all();
  });
  const auto await = [&](bool connected) {
    std::unique_lock<std::mutex> lock(mutex);
    EXPECT_TRUE(changed.wait_for(lock, std::chrono::seconds(20), [&] {
      const auto web = table.Find("web");
      return feed.status().agent_connected == connected && web != nullptr &&
             web->machines.size() == 50 && web->machines[0].member == MemberState::kSuspect;
    })) << connected;
  };
  await(true);
  EXPECT_EQ(feed.status().change_number, 100u);
  services.Await([&] { return services.acknowledged_ >= 49; });
  EXPECT_LE(services.outstanding_max_, 2u);

  const std::string address = services.address();
  services.Stop();
  await(false);
  services.Start(address);
  await(true);
  services.Await([&] { return services.opened_from_.size() >= 2; });
  EXPECT_EQ(services.opened_from_.front(), std::nullopt);
  EXPECT_EQ(services.opened_from_.back(), 100u);
  feed.Stop();
}

}  // namespace
}  // namespace patina::proxy_sink

#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "agent/config.h"
#include "agent/net.h"
#include "agent/reader_pool.h"
#include "agent/writer.h"
#include "base/log.h"
#include "storage/schema.h"
#include "storage/store.h"
#include "tests/support/eventually.h"
#include "tests/support/temporary_folder.h"

// A node without its API, for tests with real sockets on 127.0.0.1.

namespace patina::agent {

inline constexpr std::string_view kTestSchema =
    "CREATE TABLE machines (id TEXT NOT NULL PRIMARY KEY, region TEXT NOT NULL DEFAULT '', "
    "cpu REAL NOT NULL DEFAULT 0);";

using test::Eventually;
using test::TemporaryFolder;

inline Config TestConfig(const std::string& name, const std::string& folder) {
  Config config;
  config.node.name = name;
  config.node.data_dir = folder;
  config.gossip.listen = "127.0.0.1:0";
  config.gossip.advertise = "127.0.0.1:0";
  config.gossip.cluster = config.gossip_core.cluster = "test";
  config.api.listen = {"127.0.0.1:0"};
  config.readers = 1;
  config.fault_injection = true;
  gossip::Config& core = config.gossip_core;
  core.probe_interval = std::chrono::milliseconds(100);
  core.probe_timeout_min = std::chrono::milliseconds(20);
  core.probe_timeout_default = std::chrono::milliseconds(50);
  core.suspicion_min = std::chrono::milliseconds(300);
  core.suspicion_max = std::chrono::milliseconds(600);
  core.dead_probe_interval = std::chrono::milliseconds(200);
  core.leave_deadline = std::chrono::milliseconds(300);
  config.seed_resolve_interval = std::chrono::seconds(1);
  return config;
}

inline storage::Transaction OneStatement(std::string sql) {
  storage::Transaction transaction;
  transaction.statements.push_back({std::move(sql), {}, {}});
  return transaction;
}

inline Result<storage::Committed> ExecuteAndWait(Writer& writer, std::string sql) {
  auto answer = std::make_shared<std::promise<Result<storage::Committed>>>();
  auto future = answer->get_future();
  writer.Execute(OneStatement(std::move(sql)), [answer](Result<storage::Committed> result) {
    answer->set_value(std::move(result));
  });
  return future.get();
}

inline std::unique_ptr<storage::Store> OpenStore(const Config& config, const Clock* clock) {
  storage::StoreOptions options;
  options.path = DatabasePath(config);
  options.schema = storage::ParseSchema(kTestSchema).value();
  options.node_name = config.node.name;
  options.limits = config.store;
  options.clock = clock;
  auto store = storage::Store::Open(std::move(options));
  EXPECT_TRUE(store.ok()) << (store.ok() ? "" : store.error().message);
  return store.ok() ? *std::move(store) : nullptr;
}

/// Storage, writer, readers and net, wired as agent.cc does.
class TestNode {
 public:
  explicit TestNode(Config config) : config_(std::move(config)) {
    auto store = OpenStore(config_, &clock_);
    const uint64_t schema = store->schema().Hash();
    auto net = Net::Open(config_, schema, store->received());
    EXPECT_TRUE(net.ok()) << (net.ok() ? "" : net.error().message);
    net_ = *std::move(net);
    readers_ = ReaderPool::Start(DatabasePath(config_), 1, 100, store->snapshots()).value();
    writer_ = std::make_unique<Writer>(config_, std::move(store));
    collection_ = std::make_unique<Collection>(config_, writer_.get());
    Writer::Listeners listeners;
    Net* const net_of = net_.get();
    listeners.on_local_commit = [net_of](auto changes) {
      net_of->OnLocalCommit(std::move(changes));
    };
    listeners.on_persisted = [net_of](auto ids) { net_of->OnPersisted(std::move(ids)); };
    listeners.on_persist_failed = [net_of](auto ids) { net_of->OnPersistFailed(std::move(ids)); };
    listeners.on_staged = [net_of](uint64_t transfer, uint64_t number, Status status) {
      net_of->OnStaged(transfer, number, std::move(status));
    };
    listeners.on_transfer_merged = [net_of](uint64_t transfer, auto received) {
      net_of->OnTransferMerged(transfer, std::move(received));
    };
    listeners.on_actor = [net_of](ActorId actor) { net_of->OnActor(actor); };
    writer_->Start(std::move(listeners));
    net_->SetInquiryHandler(
        [this](const std::string& payload, const std::function<void(std::string)>& reply) {
          reply(config_.node.name + " heard " + payload);
        });
    net_->Start(writer_.get(), readers_.get(), collection_.get());
  }
  ~TestNode() { Stop(); }

  void Stop() {
    net_->Stop();
    readers_->Stop();
    writer_->Stop();
  }

  Net& net() { return *net_; }
  Writer& writer() { return *writer_; }
  std::string address() const { return net_->advertised().ToString(); }
  const std::string& name() const { return config_.node.name; }

  size_t Alive() const {
    size_t alive = 0;
    for (const auto& member : net_->Members()) {
      if (member.state == gossip::MemberState::kAlive) ++alive;
    }
    return alive;
  }
  uint64_t Received() {
    uint64_t received = 0;
    writer_->RunAndWait([&](storage::Store& store) { received = store.received().Size(); });
    return received;
  }
  std::vector<storage::TableDigest> Digests() {
    std::vector<storage::TableDigest> digests;
    writer_->RunAndWait([&](storage::Store& store) { digests = store.Digests(); });
    return digests;
  }

 private:
  const Config config_;
  SystemClock clock_;
  std::unique_ptr<Net> net_;
  std::unique_ptr<ReaderPool> readers_;
  std::unique_ptr<Collection> collection_;
  std::unique_ptr<Writer> writer_;
};

}  // namespace patina::agent

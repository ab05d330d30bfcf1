#include <gtest/gtest.h>

#include "tests/gossip/cluster.h"

namespace patina::gossip {
namespace {

const Endpoint kStranger = Endpoint::V4(10, 9, 9, 9, 7400);

Datagram From(const std::string& name, DatagramBody body) {
  Datagram datagram;
  datagram.cluster = "patina";
  datagram.from = name;
  datagram.body = std::move(body);
  return datagram;
}

MemberUpdate Made(const std::string& name, uint64_t incarnation, MemberState state) {
  MemberUpdate update;
  update.info.name = name;
  update.info.incarnation = incarnation;
  update.info.address = kStranger;
  update.state = state;
  return update;
}

TEST(HostileTest, TheMemberListStopsGrowingAtItsLimit) {
  Cluster cluster;
  cluster.config.members_max = 50;
  cluster.Add("a");
  Outputs out;
  for (int i = 0; i < 500; ++i) {
    Datagram datagram = From("x", Rumor{});
    datagram.updates = {Made("m" + std::to_string(i), 1, MemberState::kAlive)};
    cluster.node("a").OnDatagram(kStranger, datagram, cluster.now(), out);
  }
  EXPECT_EQ(cluster.node("a").Members().size(), 50u);
}

TEST(HostileTest, AnIncarnationThatCouldNotBeOverruledIsIgnored) {
  Cluster cluster;
  cluster.AddMany(3);
  const uint64_t before = cluster.node("n00").self().incarnation;
  Outputs out;
  Datagram datagram = From("n01", Rumor{});
  MemberUpdate update{cluster.node("n00").self(), MemberState::kDead, "n01"};
  update.info.incarnation = UINT64_MAX;
  datagram.updates = {update};
  cluster.node("n00").OnDatagram(cluster.host("n01").address, datagram, cluster.now(), out);
  EXPECT_EQ(cluster.node("n00").self().incarnation, before);
}

TEST(HostileTest, UnknownSequencesRequestsAndTransfersDoNothing) {
  Cluster cluster;
  cluster.AddMany(2);
  Node& node = cluster.node("n00");
  Outputs out;
  const Endpoint from = cluster.host("n01").address;
  node.OnDatagram(from, From("n01", Ack{999}), cluster.now(), out);
  node.OnDatagram(from, From("n01", Nack{999}), cluster.now(), out);
  out.Clear();
  const auto bytes = std::make_shared<const std::string>("x");
  node.OnFrame("n01", SyncChanges{5, {{{{}, 1}, bytes}}, {{{}, {{1, 1}}}}, true}, cluster.now(),
               out);
  node.OnFrame("n01", TransferChunk{1, 0, bytes, true}, cluster.now(), out);
  node.OnFrame("n01", TransferNext{1, 1}, cluster.now(), out);
  node.OnFrame("n01", TransferRefused{1, ""}, cluster.now(), out);
  node.OnFrame("n01", StreamAck{1}, cluster.now(), out);
  node.OnLogRead(7, {}, {}, true, cluster.now(), out);
  node.OnTransferChunkRead(7, 0, bytes, true, cluster.now(), out);
  node.OnTransferReadFailed(7, "", cluster.now(), out);
  node.OnTransferStaged(7, 0, cluster.now(), out);
  node.OnTransferFailed(7, "", cluster.now(), out);
  EXPECT_TRUE(out.Empty());
}

TEST(HostileTest, ChangesWithoutBytesOrWithImpossibleVersionsAreNotTakenIn) {
  Cluster cluster;
  cluster.AddMany(2);
  const auto bytes = std::make_shared<const std::string>("x");
  Outputs out;
  cluster.node("n00").OnFrame(
      "n01",
      FreshChanges{
          "n01", 4'000'000'000, {{{{}, 0}, bytes}, {{{}, UINT64_MAX}, bytes}, {{{}, 5}, nullptr}}},
      cluster.now(), out);
  EXPECT_TRUE(out.Empty());
}

TEST(HostileTest, HugeRangesCostNothing) {
  Cluster cluster;
  cluster.AddMany(2);
  Node& node = cluster.node("n00");
  Outputs out;
  const std::vector<crdt::ActorRanges> huge = {{{}, {{1, UINT64_MAX}}}, {{}, {{1, 1ull << 47}}}};
  node.OnFrame("n01", IHave{huge}, cluster.now(), out);
  node.OnFrame("n01", Pull{huge}, cluster.now(), out);
  node.OnFrame("n01", SyncRequest{1, huge, UINT64_MAX}, cluster.now(), out);
  EXPECT_TRUE(out.log_reads.empty());
  SyncState state;
  state.received.AddRange({}, {1, 1ull << 47});
  node.OnFrame("n01", state, cluster.now(), out);
  out.Clear();
  node.Tick(cluster.now() + seconds(1), out);
  for (const auto& frame : out.frames) {
    if (const auto* request = std::get_if<SyncRequest>(frame.frame.get())) {
      uint64_t count = 0;
      for (const auto& range : request->wanted.at(0).ranges) count += range.last - range.first + 1;
      EXPECT_LE(count, cluster.config.sync_versions_max);
    }
    if (const auto* pull = std::get_if<Pull>(frame.frame.get())) {
      EXPECT_LE(pull->ranges.at(0).ranges.at(0).last, 10'000u);
    }
  }
}

TEST(HostileTest, AStrangerIsNotPingedByHearsay) {
  Cluster cluster;
  cluster.Add("a");
  Outputs out;
  cluster.node("a").OnDatagram(kStranger, From("x", PingRequest{1, "nobody", kStranger}),
                               cluster.now(), out);
  EXPECT_TRUE(out.datagrams.empty());
}

TEST(HostileTest, FramesOfStrangersAreCountedAndDropped) {
  Cluster cluster;
  cluster.Add("a");
  Outputs out;
  cluster.node("a").OnFrame("x", SyncState{}, cluster.now(), out);
  EXPECT_TRUE(out.Empty());
  EXPECT_EQ(cluster.node("a").counters().from_unknown, 1u);
}

/// Random messages with random, small ids.
class Mischief {
 public:
  void Say(Node& node, Instant now, Outputs& out) {
    const uint64_t small = rng_.Below(20);
    const std::vector<MemberUpdate> updates = {
        Made(Name(), rng_.Below(2'000'000'000'000), static_cast<MemberState>(rng_.Below(4)))};
    if (rng_.Below(16) < 6) return SayDatagram(node, small, updates, now, out);
    if (rng_.Below(10) == 0) return node.OnStreamLost(Name(), now, out);
    node.OnFrame(Name(), MakeFrame(small, updates), now, out);
  }

 private:
  std::string Name() { return "n0" + std::to_string(rng_.Below(6)); }

  ActorId Actor() {
    ActorId actor;
    actor.bytes[0] = static_cast<uint8_t>(rng_.Below(3));
    return actor;
  }

  std::vector<crdt::ActorRanges> Ranges() {
    std::vector<crdt::ActorRanges> made;
    for (uint64_t i = rng_.Below(3); i > 0; --i) {
      made.push_back({Actor(), {{rng_.Below(9), rng_.Below(12)}, {rng_.Below(30), rng_.Next()}}});
    }
    return made;
  }

  std::vector<Change> Changes() {
    std::vector<Change> made;
    for (uint64_t i = rng_.Below(4); i > 0; --i) {
      made.push_back({{Actor(), rng_.Below(30)}, std::make_shared<const std::string>("x")});
    }
    return made;
  }

  void SayDatagram(Node& node, uint64_t small, const std::vector<MemberUpdate>& updates,
                   Instant now, Outputs& out) {
    Datagram datagram = From(Name(), Rumor{});
    datagram.updates = updates;
    datagram.from_incarnation = rng_.Next();
    datagram.wall_ms = static_cast<int64_t>(rng_.Next());
    switch (rng_.Below(5)) {
      case 0:
        datagram.body = Ping{small, Name()};
        break;
      case 1:
        datagram.body = Ack{small};
        break;
      case 2:
        datagram.body = Nack{small};
        break;
      case 3:
        datagram.body = PingRequest{small, Name(), kStranger};
        break;
      default:
        break;
    }
    node.OnDatagram(kStranger, datagram, now, out);
  }

  Frame MakeFrame(uint64_t small, const std::vector<MemberUpdate>& updates) {
    switch (rng_.Below(14)) {
      case 0:
        return FreshChanges{Name(), 1, Changes()};
      case 1:
        return IHave{Ranges()};
      case 2:
        return Pull{Ranges()};
      case 3:
        return SyncRequest{small, Ranges(), rng_.Next()};
      case 4:
        return SyncChanges{small, Changes(), Ranges(), rng_.Chance(0.5)};
      case 5:
        return TransferRequest{small, 1, {}};
      case 6:
        return TransferChunk{small, rng_.Below(3), nullptr, false};
      case 7:
        return TransferNext{small, rng_.Below(3)};
      case 8:
        return MemberList{rng_.Chance(0.5), updates};
      case 9:
        return PublicationsPull{{{Name(), rng_.Next()}, {Name(), 0}}};
      case 11:
        return Settle{{rng_.Next()}, 1, rng_.Chance(0.5)};
      case 12:
        return SnapshotRequest{small, 1, {rng_.Next()}, 0};
      case 10:
        return Publications{{{Name(), rng_.Next(), {rng_.Next()}, {rng_.Next()}, nullptr},
                             {Name(),
                              rng_.Below(9),
                              {rng_.Next()},
                              {rng_.Next()},
                              std::make_shared<const crdt::VersionSet>()}}};
      default:
        return StreamAck{small};
    }
  }

  Rng rng_{5};
};

/// Nothing may crash (run with sanitizers) or grow without end.
TEST(HostileTest, RandomMessagesDoNoHarm) {
  Cluster cluster(11);
  cluster.AddMany(4);
  Mischief mischief;
  for (int i = 0; i < 20'000; ++i) {
    cluster.Do("n00", [&](Node& node, Instant now, Outputs& out) { mischief.Say(node, now, out); });
    cluster.Run(milliseconds(2));
  }
  EXPECT_LE(cluster.node("n00").Members().size(), 8u);
}

}  // namespace
}  // namespace patina::gossip

#include "proto/peer_codec.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/random.h"
#include "crdt/changeset.h"

namespace patina::proto {
namespace {

using crdt::ActorRanges;

gossip::Change MakeChange(Rng& rng, uint64_t version) {
  const ChangeId id{rng.NextActorId(), version};
  crdt::ChangesetBuilder builder({id, crdt::HlcTime::FromMs(1'000'000), 0});
  builder.BeginTable("machines", 1, {{"cpu", 0}});
  builder.AddRow(crdt::Says::kAlive,
                 crdt::PackValues(std::vector<crdt::Value>{crdt::Value::Text("m1")}), {0},
                 {crdt::ValueView::Real(0.5)});
  return {id, std::make_shared<const std::string>(std::move(builder).Finish())};
}

gossip::MemberUpdate MakeUpdate(Rng& rng) {
  gossip::MemberUpdate update;
  update.info.name = "fra-" + std::to_string(rng.Below(100));
  update.info.incarnation = 1'700'000'000'000 + rng.Below(1000);
  update.info.boot = rng.Next();
  update.info.address = *Endpoint::Parse(rng.Chance(0.5) ? "10.0.0.7:7400" : "[fdaa::1]:7400");
  update.info.region = "fra";
  update.info.api_address = "10.0.0.7:7401";
  update.info.schema = rng.Next();
  if (rng.Chance(0.5)) update.info.actor = rng.NextActorId();
  update.state = static_cast<gossip::MemberState>(rng.Below(4));
  update.accuser = "ams-1";
  return update;
}

std::vector<ActorRanges> MakeRanges(Rng& rng) {
  return {{rng.NextActorId(), {{1, 1}, {3, 900}, {1000, crdt::kMaxVersion}}},
          {rng.NextActorId(), {{5, 5}}}};
}

crdt::VersionSet MakeSet(Rng& rng) {
  crdt::VersionSet set;
  const ActorId actor = rng.NextActorId();
  set.AddRange(actor, {1, 1000});
  set.AddRange(actor, {1003, 1009});
  set.Add({rng.NextActorId(), 7});
  return set;
}

gossip::Publication MakePublication(const std::string& node, const crdt::VersionSet& own) {
  return {node, 1'700'000'000'123, crdt::HlcTime::FromMs(1'700'000'000'123, 4),
          crdt::HlcTime::FromMs(1'700'000'000'001), std::make_shared<const crdt::VersionSet>(own)};
}

std::vector<gossip::Datagram> Datagrams(Rng& rng) {
  std::vector<gossip::Datagram> datagrams;
  const gossip::DatagramBody bodies[] = {
      gossip::Ping{7, "ams-1"}, gossip::Ack{8},
      gossip::PingRequest{9, "ams-2", *Endpoint::Parse("10.1.1.1:7400")}, gossip::Nack{10},
      gossip::Rumor{}};
  for (const auto& body : bodies) {
    gossip::Datagram datagram{"prod", "fra-1", 1'700'000'000'123, {rng.Next(), rng.Next()}, -5,
                              body,   {}};
    for (int i = 0; i < 3; ++i) datagram.updates.push_back(MakeUpdate(rng));
    datagrams.push_back(std::move(datagram));
  }
  return datagrams;
}

std::vector<gossip::Frame> Frames(Rng& rng) {
  return {
      gossip::FreshChanges{"fra-1", 2, {MakeChange(rng, 1), MakeChange(rng, 2)}},
      gossip::IHave{MakeRanges(rng)},
      gossip::Pull{MakeRanges(rng)},
      gossip::SyncState{true, MakeSet(rng), {rng.Next(), 2}, {3, rng.Next()}, true},
      gossip::SyncRequest{5, MakeRanges(rng), 1 << 20},
      gossip::SyncChanges{5, {MakeChange(rng, 9)}, MakeRanges(rng), true},
      gossip::TransferRequest{6, rng.Next(), MakeSet(rng)},
      gossip::TransferRequest{6, rng.Next(), {}, ChangeId{rng.NextActorId(), 9}, 17},
      gossip::TransferChunk{6, 3, std::make_shared<const std::string>(1000, 'x'), true},
      gossip::TransferNext{6, 4},
      gossip::TransferRefused{6, "busy"},
      gossip::MemberList{true, {MakeUpdate(rng), MakeUpdate(rng)}},
      gossip::StreamPing{11},
      gossip::StreamAck{12},
      gossip::Settle{crdt::HlcTime::FromMs(1'700'000'000'000, 3), rng.Next(), true},
      gossip::SnapshotRequest{7, rng.Next(), crdt::HlcTime::FromMs(5), 50'000},
      gossip::PublicationsPull{{{"fra-1", 1'700'000'000'000}, {"ams-2", 7}}},
      gossip::Publications{{MakePublication("fra-1", MakeSet(rng)), MakePublication("ams-2", {})}},
  };
}

Result<PeerMessage> DecodeWhole(const std::string& frame, const PeerLimits& limits = {}) {
  uint32_t length = 0;
  std::memcpy(&length, frame.data(), sizeof length);
  EXPECT_EQ(length + 4, frame.size());
  return DecodeFrame(static_cast<uint8_t>(frame[4]), std::string_view(frame).substr(5), limits);
}

TEST(DatagramTest, ComesBackEqual) {
  Rng rng(1);
  for (const gossip::Datagram& datagram : Datagrams(rng)) {
    const auto back = DecodeDatagram(EncodeDatagram(datagram));
    ASSERT_TRUE(back.ok()) << back.error().message;
    EXPECT_EQ(back->cluster, datagram.cluster);
    EXPECT_EQ(back->from, datagram.from);
    EXPECT_EQ(back->from_incarnation, datagram.from_incarnation);
    EXPECT_EQ(back->received, datagram.received);
    EXPECT_EQ(back->wall_ms, datagram.wall_ms);
    EXPECT_EQ(back->updates, datagram.updates);
    EXPECT_EQ(back->body.index(), datagram.body.index());
    if (const auto* request = std::get_if<gossip::PingRequest>(&datagram.body)) {
      EXPECT_EQ(std::get<gossip::PingRequest>(back->body).target_address, request->target_address);
    }
  }
}

TEST(DatagramTest, AnotherProtocolVersionIsToldApartFromGarbage) {
  Rng rng(2);
  std::string bytes = EncodeDatagram(Datagrams(rng)[0]);
  bytes[1] = 99;
  EXPECT_EQ(DecodeDatagram(bytes).error().code, Errc::kUnimplemented);
  bytes[0] = 'X';
  EXPECT_EQ(DecodeDatagram(bytes).error().code, Errc::kInvalidArgument);
}

TEST(DatagramTest, LongAndEmptyNamesAreRefused) {
  Rng rng(3);
  gossip::Datagram datagram = Datagrams(rng)[0];
  datagram.from = "";
  EXPECT_FALSE(DecodeDatagram(EncodeDatagram(datagram)).ok());
  datagram.from = std::string(256, 'n');
  EXPECT_FALSE(DecodeDatagram(EncodeDatagram(datagram)).ok());
  datagram.from = "fra-1";
  datagram.updates[0].info.name = "";
  EXPECT_FALSE(DecodeDatagram(EncodeDatagram(datagram)).ok());
}

TEST(FrameTest, EveryKindComesBackAndEncodesTheSame) {
  Rng rng(4);
  for (const gossip::Frame& frame : Frames(rng)) {
    const std::string bytes = EncodeFrame(frame);
    const auto back = DecodeWhole(bytes);
    ASSERT_TRUE(back.ok()) << frame.index() << ": " << back.error().message;
    const auto& decoded = std::get<gossip::Frame>(*back);
    EXPECT_EQ(decoded.index(), frame.index());
    EXPECT_EQ(EncodeFrame(decoded), bytes) << frame.index();
  }
}

TEST(FrameTest, AChangesIdIsThatOfItsBytes) {
  Rng rng(5);
  const gossip::Change change = MakeChange(rng, 42);
  const auto back = DecodeWhole(EncodeFrame(gossip::Frame(gossip::FreshChanges{"a", 0, {change}})));
  const auto& fresh = std::get<gossip::FreshChanges>(std::get<gossip::Frame>(*back));
  ASSERT_EQ(fresh.changes.size(), 1u);
  EXPECT_EQ(fresh.changes[0].id, change.id);
  EXPECT_EQ(*fresh.changes[0].bytes, *change.bytes);
}

TEST(FrameTest, AnUnreadableChangesetIsLeftOutAndTheOthersAreNot) {
  Rng rng(6);
  const gossip::Change bad{ChangeId{}, std::make_shared<const std::string>("\x63garbage")};
  const std::string bytes = EncodeFrame(
      gossip::Frame(gossip::FreshChanges{"a", 0, {MakeChange(rng, 1), bad, MakeChange(rng, 2)}}));
  uint64_t dropped = 0;
  const auto back =
      DecodeFrame(static_cast<uint8_t>(bytes[4]), std::string_view(bytes).substr(5), {}, &dropped);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(std::get<gossip::FreshChanges>(std::get<gossip::Frame>(*back)).changes.size(), 2u);
  EXPECT_EQ(dropped, 1u);
}

TEST(FrameTest, HandshakeAndInquiriesComeBack) {
  Hello hello{
      1, 1, "prod", "fra-1", 5, 77, *Endpoint::Parse("[fdaa::1]:7400"), {"zstd"}, Purpose::kRepair};
  const auto back = DecodeWhole(EncodeFrame(hello));
  ASSERT_TRUE(back.ok());
  const Hello& decoded = std::get<Hello>(*back);
  EXPECT_EQ(decoded.name, "fra-1");
  EXPECT_EQ(decoded.boot, 77u);
  EXPECT_EQ(decoded.address, hello.address);
  EXPECT_EQ(decoded.features, hello.features);
  EXPECT_EQ(decoded.purpose, Purpose::kRepair);
  const auto inquiry = DecodeWhole(EncodeFrame(Inquiry{9, "why"}));
  EXPECT_EQ(std::get<Inquiry>(*inquiry).payload, "why");
  const auto answer = DecodeWhole(EncodeFrame(InquiryAnswer{9, "fra-2", "because"}));
  EXPECT_EQ(std::get<InquiryAnswer>(*answer).payload, "because");
}

TEST(FrameTest, NeighbouringProtocolsTalkAndOthersDoNot) {
  Hello ours, theirs;
  ours.protocol = 3, ours.protocol_min = 2;
  theirs.protocol = 2, theirs.protocol_min = 1;
  EXPECT_TRUE(CheckProtocol(ours, theirs).ok());
  theirs.protocol = 1;
  EXPECT_EQ(CheckProtocol(ours, theirs).error().code, Errc::kFailedPrecondition);
}

TEST(FrameTest, RangesThatTouchOrDescendAreRefused) {
  Rng rng(7);
  for (const auto& ranges : std::vector<std::vector<crdt::VersionRange>>{
           {{0, 3}}, {{1, 3}, {4, 5}}, {{5, 6}, {1, 2}}, {{3, 2}}, {{1, crdt::kMaxVersion + 1}}}) {
    const std::string bytes =
        EncodeFrame(gossip::Frame(gossip::Pull{{{rng.NextActorId(), ranges}}}));
    EXPECT_FALSE(DecodeWhole(bytes).ok());
  }
}

TEST(FrameTest, ACountThatTheBytesCannotHoldIsRefused) {
  std::string body;
  ByteWriter out(&body);
  out.Varint(0);
  out.String("fra-1");
  out.Varint(150'000);
  EXPECT_FALSE(DecodeFrame(static_cast<uint8_t>(FrameType::kFreshChanges), body).ok());
}

TEST(FrameTest, APublicationWhoseTIsAboveItsWIsRefused) {
  gossip::Publication publication = MakePublication("fra-1", {});
  std::swap(publication.clock, publication.complete);
  EXPECT_FALSE(DecodeWhole(EncodeFrame(gossip::Frame(gossip::Publications{{publication}}))).ok());
}

TEST(FrameTest, APublicationThatClaimsHugeRangesIsRefused) {
  crdt::VersionSet set;
  set.AddRange(Rng(1).NextActorId(), {2, 1'000 << 16});
  const std::string bytes =
      EncodeFrame(gossip::Frame(gossip::Publications{{MakePublication("fra-1", set)}}));
  EXPECT_FALSE(DecodeWhole(bytes).ok());
}

/// A node of 1,000 pulls every 150 s and is pulled from as often: 80 kB are some 4 kbit/s.
TEST(FrameTest, PublicationsOfAThousandMembersAreSmall) {
  Rng rng(8);
  gossip::PublicationsPull pull;
  gossip::Publications all;
  for (int i = 0; i < 1'000; ++i) {
    const std::string name = "fra-rack07-" + std::to_string(1'000 + i);
    crdt::VersionSet own;
    own.AddRange(rng.NextActorId(), {1, 100'000 + rng.Below(100'000)});
    pull.known.emplace_back(name, 1'700'000'000'000 + rng.Below(100'000));
    all.publications.push_back(MakePublication(name, own));
  }
  EXPECT_LT(EncodeFrame(gossip::Frame(pull)).size() + EncodeFrame(gossip::Frame(all)).size(),
            81'000u);
}

TEST(FrameTest, AnUnknownTypeIsToldApart) {
  EXPECT_EQ(DecodeFrame(200, "x").error().code, Errc::kUnimplemented);
}

/// Decodes and, if it decodes, encodes again: neither may crash (asan tells more).
void Chew(uint8_t type, std::string_view body) {
  const auto message = DecodeFrame(type, body);
  if (message.ok()) {
    if (const auto* frame = std::get_if<gossip::Frame>(&*message)) EncodeFrame(*frame);
  }
}

TEST(SmokeTest, EveryTruncationOfEveryMessageIsSurvived) {
  Rng rng(8);
  for (const gossip::Datagram& datagram : Datagrams(rng)) {
    const std::string bytes = EncodeDatagram(datagram);
    for (size_t size = 0; size < bytes.size(); ++size) {
      (void)DecodeDatagram(std::string_view(bytes).substr(0, size)).ok();
    }
  }
  for (const gossip::Frame& frame : Frames(rng)) {
    const std::string bytes = EncodeFrame(frame);
    for (size_t size = 5; size < bytes.size(); ++size) {
      Chew(static_cast<uint8_t>(bytes[4]), std::string_view(bytes).substr(5, size - 5));
    }
  }
}

TEST(SmokeTest, FlippedAndRandomBytesAreSurvived) {
  Rng rng(9);
  std::vector<std::string> seeds;
  for (const gossip::Frame& frame : Frames(rng)) seeds.push_back(EncodeFrame(frame));
  for (int i = 0; i < 50'000; ++i) {
    std::string bytes = seeds[rng.Below(seeds.size())];
    for (uint64_t flips = 1 + rng.Below(4); flips > 0; --flips) {
      bytes[4 + rng.Below(bytes.size() - 4)] = static_cast<char>(rng.Next());
    }
    Chew(static_cast<uint8_t>(bytes[4]), std::string_view(bytes).substr(5));
  }
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes(rng.Below(200), '\0');
    for (char& c : bytes) c = static_cast<char>(rng.Next());
    Chew(static_cast<uint8_t>(1 + rng.Below(17)), bytes);
    if (bytes.size() > 2) bytes[0] = 'P', bytes[1] = 1;
    (void)DecodeDatagram(bytes).ok();
  }
}

}  // namespace
}  // namespace patina::proto

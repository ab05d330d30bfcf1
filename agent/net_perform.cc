#include <algorithm>

#include "agent/net_core.h"
#include "base/log.h"
#include "proto/peer_codec.h"

// The performer of the node's outputs: the half of NetCore that acts.

namespace patina::agent {
namespace {

constexpr Duration kPublishSoon = std::chrono::milliseconds(5);  // after a member event
constexpr size_t kDelayedMax = 100'000;

proto::Purpose PurposeOf(gossip::Lane lane) {
  return lane == gossip::Lane::kMembership || lane == gossip::Lane::kFresh
             ? proto::Purpose::kFresh
             : proto::Purpose::kRepair;
}

bool IsFirstLane(gossip::Lane lane) {
  return lane == gossip::Lane::kMembership || lane == gossip::Lane::kRepair;
}

}  // namespace

/// Persist, then send, then notify.
void NetCore::Perform(gossip::Outputs& outputs) {
  PerformPersist(outputs);
  PerformSends(outputs);
  PerformReads(outputs);
  PerformEvents(outputs);
}

void NetCore::PerformPersist(gossip::Outputs& outputs) {
  if (!outputs.persist.empty()) {
    std::vector<ChangeId> ids;
    ids.reserve(outputs.persist.size());
    for (const gossip::Change& change : outputs.persist) ids.push_back(change.id);
    if (!writer_->Merge(std::move(outputs.persist))) Node().OnPersistFailed(ids, now_, out_);
  }
  if (!outputs.abandon_staged.empty()) writer_->AbandonTransfers();
  for (auto& large : outputs.stage_large) {
    writer_->StageLarge(large.transfer, std::move(large.manifest));
  }
  for (auto& chunk : outputs.stage) {
    const uint64_t transfer = chunk.transfer;
    if (!writer_->StageChunk(std::move(chunk))) {
      Node().OnTransferFailed(transfer, "the writer's queue is full", now_, out_);
    }
  }
}

void NetCore::PerformSends(gossip::Outputs& outputs) {
  for (const auto& datagram : outputs.datagrams) SendDatagram(datagram);
  // Several members often get the same frame: it is encoded once.
  std::unordered_map<const gossip::Frame*, FrameBytes> encoded;
  for (const auto& frame : outputs.frames) {
    FrameBytes& bytes = encoded[frame.frame.get()];
    if (!bytes) bytes = std::make_shared<const std::string>(proto::EncodeFrame(*frame.frame));
    SendFrame(frame, bytes);
  }
}

void NetCore::PerformReads(gossip::Outputs& outputs) {
  for (auto& read : outputs.log_reads) LogRead(std::move(read));
  for (auto& open : outputs.open_transfers) {
    if (open.snapshot) {
      snapshots_->Open(open);
    } else {
      transfers_->Open(std::move(open));
    }
  }
  for (const auto& chunk : outputs.read_chunks) {
    if (snapshots_->Serves(chunk.serving)) {
      snapshots_->Read(chunk.serving, chunk.number);
    } else {
      transfers_->Read(chunk.serving, chunk.number);
    }
  }
  for (const uint64_t serving : outputs.close_transfers) {
    snapshots_->Close(serving);
    transfers_->Close(serving);
  }
  if (outputs.publish != nullptr) PerformPublish(std::move(outputs.publish));
}

void NetCore::PerformPublish(std::shared_ptr<const gossip::Frontier> frontier) {
  const auto published = [this, post = post_](gossip::Publication publication,
                                              crdt::HlcTime horizon) {
    post([this, publication = std::move(publication), horizon]() mutable {
      Node().SetHorizon(horizon);
      Node().OnPublished(std::move(publication), now_);
    });
  };
  writer_->Run([collection = collection_, frontier = std::move(frontier), published](
                   storage::Store& store) { collection->Publish(store, frontier, published); });
}

void NetCore::PerformEvents(gossip::Outputs& outputs) {
  if (outputs.events.empty()) return;
  members_changed_ = true;
  publish_at_ = std::min(publish_at_, clock_->Now() + kPublishSoon);
  std::vector<std::shared_ptr<Watcher>> watchers;
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(watchers_, [](const auto& weak) { return weak.expired(); });
    for (const auto& weak : watchers_) {
      if (auto watcher = weak.lock()) watchers.push_back(std::move(watcher));
    }
  }
  for (const auto& event : outputs.events) {
    const gossip::MemberView& member = event.member;
    if (config_.fault_injection) names_[member.info.address] = member.info.name;
    if (!event.before || *event.before != member.state) {
      LogInfo("net", "member ", member.info.name, " (", member.info.region, ", ",
              member.info.address.ToString(), ") is ", gossip::MemberStateName(member.state));
    }
    for (const auto& watcher : watchers) (*watcher)(member);
    if (member.state == gossip::MemberState::kDead || member.state == gossip::MemberState::kLeft) {
      transport_->CloseIf([&](const std::string& name) { return name == member.info.name; });
    }
  }
}

std::string NetCore::NameAt(const Endpoint& address, const gossip::Datagram& datagram) const {
  const auto it = names_.find(address);
  if (it != names_.end()) return it->second;
  const auto* ping = std::get_if<gossip::Ping>(&datagram.body);
  return ping != nullptr ? ping->target : std::string();
}

void NetCore::SendDatagram(const gossip::Outputs::DatagramOut& datagram) {
  std::string bytes = proto::EncodeDatagram(datagram.datagram);
  if (bytes.size() > proto::kDatagramBytesMax) return;
  if (!faults_.Any()) {
    transport_->SendDatagram(datagram.to, bytes);
    return;
  }
  const std::string peer = NameAt(datagram.to, datagram.datagram);
  if (faults_.IsCut(peer) || faults_.Drops(peer)) return;
  SendDelayed(peer, faults_.Delay(peer), [this, to = datagram.to, bytes = std::move(bytes)] {
    transport_->SendDatagram(to, bytes);
  });
}

void NetCore::SendFrame(const gossip::Outputs::FrameOut& frame, FrameBytes bytes) {
  const auto send = [this, to = frame.to, address = frame.address, lane = frame.lane, bytes] {
    transport_->SendFrame(to, address, PurposeOf(lane), IsFirstLane(lane), bytes);
  };
  if (!faults_.Any()) {
    send();
  } else if (faults_.IsCut(frame.to)) {
    lost_.emplace(frame.to, PurposeOf(frame.lane));
  } else {
    SendDelayed(frame.to, faults_.Delay(frame.to), send);
  }
}

void NetCore::SendDelayed(const std::string& peer, Duration delay, std::function<void()> send) {
  const Instant now = clock_->Now();
  Instant& until = delayed_until_[peer];
  if ((delay == Duration::zero() && until <= now) || delayed_.size() >= kDelayedMax) {
    send();
    return;
  }
  until = std::max(until, now + delay);
  delayed_.emplace(std::pair(until, delayed_count_++), Delayed{std::move(send)});
}

void NetCore::LogRead(gossip::Outputs::LogRead read) {
  const uint64_t id = read.read;
  const auto answer = [this, id](storage::Reader::LogRange range) {
    std::vector<gossip::Change> changes;
    changes.reserve(range.changes.size());
    for (auto& [change, bytes] : range.changes) changes.push_back({change, std::move(bytes)});
    Node().OnLogRead(id, std::move(changes), std::move(range.not_at_hand), range.complete, now_,
                     out_);
  };
  const Status submitted =
      readers_->Submit([post = post_, answer, read = std::move(read)](storage::Reader& reader) {
        auto range = reader.ReadLog(read.wanted, read.bytes_max);
        if (!range.ok()) {
          LogWarning("net", "reading the log for a peer: ", range.error().ToString());
          range = storage::Reader::LogRange{{}, {}, false};
        }
        post([answer, found = std::make_shared<storage::Reader::LogRange>(*std::move(range))] {
          answer(std::move(*found));
        });
      });
  if (!submitted.ok()) answer(storage::Reader::LogRange{{}, {}, false});
}

}  // namespace patina::agent

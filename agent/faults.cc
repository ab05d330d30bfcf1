#include "agent/faults.h"

#include "base/log.h"

namespace patina::agent {

const Faults::Peer& Faults::Find(const std::string& peer) const {
  const auto it = peers_.find(peer);
  return it == peers_.end() ? all_ : it->second;
}

void Faults::Set(const FaultCommand& command, Peer* peer) {
  switch (command.kind) {
    case FaultCommand::Kind::kCut:
      peer->cut = true;
      break;
    case FaultCommand::Kind::kHeal:
      *peer = Peer();
      break;
    case FaultCommand::Kind::kDelay:
      peer->delay_ms = command.delay_ms;
      break;
    case FaultCommand::Kind::kDrop:
      peer->drop_fraction = command.drop_fraction;
      break;
    case FaultCommand::Kind::kClock:
    case FaultCommand::Kind::kShow:
      break;
  }
}

Status Faults::Apply(const FaultCommand& command) {
  if (!(command.drop_fraction >= 0 && command.drop_fraction <= 1)) {
    return InvalidArgument("the fraction to drop must be within 0..1");
  }
  if (command.peers.empty()) {
    Set(command, &all_);
    for (auto& [name, peer] : peers_) Set(command, &peer);
  }
  for (const std::string& name : command.peers) {
    Set(command, &peers_.try_emplace(name, all_).first->second);
  }
  std::erase_if(peers_, [this](const auto& entry) { return entry.second == all_; });
  return OkStatus();
}

bool Faults::Drops(const std::string& peer) {
  const double fraction = Find(peer).drop_fraction;
  return fraction > 0 && rng_.Chance(fraction);
}

std::vector<std::string> Faults::Active() const {
  std::vector<std::string> lines;
  const auto describe = [&lines](const std::string& name, const Peer& peer) {
    if (peer.cut) lines.push_back("cut " + name);
    if (peer.delay_ms != 0) lines.push_back(StrCat("delay ", name, " ", peer.delay_ms, " ms"));
    if (peer.drop_fraction > 0) lines.push_back(StrCat("drop ", name, " ", peer.drop_fraction));
    if (peer == Peer() && name != "*") lines.push_back("none " + name);
  };
  describe("*", all_);
  for (const auto& [name, peer] : peers_) describe(name, peer);
  return lines;
}

}  // namespace patina::agent

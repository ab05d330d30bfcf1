#include "gossip/publishing.h"

#include <algorithm>
#include <set>
#include <utility>

namespace patina::gossip {
namespace {

constexpr Duration kFirstPublication =
    std::chrono::seconds(10);  // pings have set the clock by then
constexpr Duration kFirstPull = std::chrono::seconds(1);
constexpr Duration kPullPerMember = std::chrono::milliseconds(150);
constexpr int kPullsPerPublication = 3;
constexpr size_t kFrameBytes = 256u << 10;
constexpr size_t kFramePublications = 1'000;
constexpr uint64_t kSerialMax = uint64_t{1} << 62;  // leaves room to be overruled

/// So that those who started together do not publish and pull together for ever.
Duration Jittered(Rng& rng, Duration interval) {
  const auto half = static_cast<uint64_t>(std::max<int64_t>(1, interval.count() / 2));
  return interval / 2 + Duration(static_cast<int64_t>(rng.Below(half))) + interval / 4;
}

}  // namespace

Publishing::Publishing(Shared& shared)
    : shared_(shared), frontier_(shared.self.name, shared.config.frontier) {}

void Publishing::Start(Instant now) {
  const Duration interval = shared_.config.publish_interval;
  next_publish_ = now + Jittered(shared_.rng, std::min(interval, kFirstPublication));
  next_pull_ = now + Jittered(shared_.rng, std::min(PullInterval(), kFirstPull));
}

void Publishing::SetKnownMembers(const std::vector<std::pair<std::string, int64_t>>& members) {
  for (const auto& [name, heard_ms] : members) frontier_.Heard(name, heard_ms);
}

Duration Publishing::PullInterval() const {
  return std::max(shared_.config.publish_interval / kPullsPerPublication,
                  kPullPerMember * static_cast<int64_t>(shared_.members.size()));
}

void Publishing::CountMembers(Instant now) {
  const int64_t now_ms = shared_.clock.ClusterTimeMs(now);
  for (const auto& [name, member] : shared_.members.all()) {
    if (member.Reachable()) {
      frontier_.Heard(name, now_ms);
    } else {
      frontier_.Named(name, now_ms);
    }
  }
  const auto reachable = [this](const std::string& name) {
    const Member* member = shared_.members.Find(name);
    return member != nullptr && member->Reachable();
  };
  shared_.counters.members_forgotten += frontier_.ForgetDead(reachable, now_ms).size();
  const auto& members = shared_.members.all();
  const auto others = std::count_if(members.begin(), members.end(),
                                    [](const auto& entry) { return entry.second.Reachable(); });
  frontier_.SetCaughtUp(
      shared_.catch_up.Done(shared_.received, static_cast<size_t>(others), reachable));
}

void Publishing::OnPublished(Publication publication, Instant now) {
  publication.node = shared_.self.name;
  const auto ms = static_cast<uint64_t>(std::max<int64_t>(0, publication.clock.ms()));
  publication.serial = std::max(last_serial_ + 1, ms);
  last_serial_ = publication.serial;
  ++shared_.counters.publications;
  frontier_.Hear(publication, shared_.clock.ClusterTimeMs(now));
}

void Publishing::Pull(Instant now, Outputs& out) {
  next_pull_ = now + Jittered(shared_.rng, PullInterval());
  const std::vector<Member*> picked = shared_.members.PickReachable(shared_.rng, 1);
  if (picked.empty()) return;
  PublicationsPull pull;
  pull.known.reserve(frontier_.members().size() + 1);
  pull.known.emplace_back(shared_.self.name, last_serial_);
  for (const auto& [name, member] : frontier_.members()) {
    if (!member.publications.empty()) {
      pull.known.emplace_back(name, member.publications.back().serial);
    }
  }
  shared_.SendFrame(*picked[0], Lane::kRepair, Frame(std::move(pull)), out);
}

void Publishing::OnPull(const Member& from, const PublicationsPull& pull, Instant now,
                        Outputs& out) {
  const auto [answered, first] = answered_.try_emplace(from.info.name, now);
  if (!first && now - answered->second < PullInterval() / 8) {
    ++shared_.counters.publications_refused;  // it asks too often
    return;
  }
  answered->second = now;
  if (answered_.size() > shared_.members.size() + 1) {
    std::erase_if(answered_,
                  [&](const auto& entry) { return shared_.members.Find(entry.first) == nullptr; });
  }
  std::map<std::string_view, uint64_t> known;
  for (const auto& [name, serial] : pull.known) known[name] = serial;
  Publications answer;
  size_t bytes = 0;
  const auto send = [&](const Publication* publication) {
    if (publication == nullptr) return;
    const auto theirs = known.find(publication->node);
    if (theirs != known.end() && theirs->second >= publication->serial) return;
    if (bytes > kFrameBytes || answer.publications.size() >= kFramePublications) {
      shared_.SendFrame(from, Lane::kRepair, Frame(std::exchange(answer, {})), out);
      bytes = 0;
    }
    bytes += publication->Bytes();
    answer.publications.push_back(*publication);
  };
  send(frontier_.Newest(shared_.self.name));
  for (const auto& [name, member] : frontier_.members()) send(frontier_.Newest(name));
  if (answer.publications.empty()) return;
  shared_.SendFrame(from, Lane::kRepair, Frame(std::move(answer)), out);
}

void Publishing::OnPublications(const Publications& publications, Instant now) {
  const int64_t now_ms = shared_.clock.ClusterTimeMs(now);
  for (const Publication& publication : publications.publications) {
    if (publication.own == nullptr || publication.serial > kSerialMax ||
        publication.complete > publication.clock) {
      ++shared_.counters.publications_refused;
    } else if (publication.node == shared_.self.name) {
      // By an earlier process of ours, whose clock may have been ahead: the next one is newer.
      last_serial_ = std::max(last_serial_, publication.serial);
    } else if (frontier_.Hear(publication, now_ms)) {
      ++shared_.counters.publications_heard;
    }
  }
}

void Publishing::Tick(Instant now, Outputs& out) {
  if (now >= next_publish_) {
    next_publish_ = now + Jittered(shared_.rng, shared_.config.publish_interval);
    CountMembers(now);
    out.publish = std::make_shared<const Frontier>(frontier_);
  }
  if (now >= next_pull_) Pull(now, out);
}

Instant Publishing::NextDeadline() const { return std::min(next_publish_, next_pull_); }

}  // namespace patina::gossip

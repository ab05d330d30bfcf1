#include "gossip/sync_server.h"

#include <algorithm>
#include <utility>

#include "gossip/ranges.h"

namespace patina::gossip {
namespace {

constexpr size_t kReadsMax = 16;
constexpr size_t kReadsPerPeerMax = 2;
constexpr Duration kReadLife = std::chrono::seconds(30);  // a reader that never answers

}  // namespace

void SyncServer::OnRequest(const Member& from, const SyncRequest& request, Instant now,
                           Outputs& out) {
  std::erase_if(reads_, [&](const auto& read) { return now - read.second.since > kReadLife; });
  const auto of_peer = std::count_if(reads_.begin(), reads_.end(), [&](const auto& read) {
    return read.second.peer == from.info.name;
  });
  std::vector<crdt::ActorRanges> wanted =
      IntersectWith(shared_.received, request.wanted, shared_.config.sync_versions_max);
  if (wanted.empty() || reads_.size() >= kReadsMax ||
      of_peer >= static_cast<std::ptrdiff_t>(kReadsPerPeerMax)) {
    SyncChanges nothing;  // "not now": it will ask again, later
    nothing.request = request.request;
    nothing.done = true;
    shared_.SendFrame(from, Lane::kRepair, Frame(std::move(nothing)), out);
    return;
  }
  const uint64_t read = next_read_++;
  reads_.emplace(read, Read{from.info.name, request.request, now});
  out.log_reads.push_back(
      {read, std::move(wanted), std::min(request.bytes_max, shared_.config.sync_bytes_max)});
}

void SyncServer::OnLogRead(uint64_t read, std::vector<Change> changes,
                           std::vector<crdt::ActorRanges> not_at_hand, Outputs& out) {
  const auto found = reads_.find(read);
  if (found == reads_.end()) return;
  const Read done = std::move(found->second);
  reads_.erase(found);
  const Member* peer = shared_.members.Find(done.peer);
  if (peer == nullptr) return;
  SyncChanges answer;
  answer.request = done.request;
  answer.not_at_hand = std::move(not_at_hand);
  size_t bytes = 0;
  for (Change& change : changes) {
    if (change.bytes == nullptr) continue;
    if (!answer.changes.empty() && bytes + change.bytes->size() > shared_.config.batch_bytes_max) {
      SyncChanges next;
      next.request = done.request;
      shared_.SendFrame(*peer, Lane::kRepair, Frame(std::exchange(answer, std::move(next))), out);
      bytes = 0;
    }
    bytes += change.bytes->size();
    answer.changes.push_back(std::move(change));
  }
  answer.done = true;
  shared_.SendFrame(*peer, Lane::kRepair, Frame(std::move(answer)), out);
}

}  // namespace patina::gossip

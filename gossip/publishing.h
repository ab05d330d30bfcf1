#pragma once

#include <map>
#include <string>
#include <vector>

#include "gossip/frontier.h"
#include "gossip/shared.h"

namespace patina::gossip {

/// Publishes now and then what this node has applied, and learns what others published: every node
/// pulls from a random one what is newer than what it knows, so that publications reach also those
/// who never speak to each other. The pulls get rarer as the cluster grows (each brings a line per
/// member): about 4 kbit/s of an idle node at any size. One thread.
class Publishing {
 public:
  explicit Publishing(Shared& shared);

  void Start(Instant now);
  /// Members from before a restart, and when they were heard last: they count until forgotten.
  void SetKnownMembers(const std::vector<std::pair<std::string, int64_t>>& members);
  /// What Outputs::publish asked for. Its node and serial are filled in here.
  void OnPublished(Publication publication, Instant now);
  void OnPull(const Member& from, const PublicationsPull& pull, Instant now, Outputs& out);
  void OnPublications(const Publications& publications, Instant now);

  void Tick(Instant now, Outputs& out);
  Instant NextDeadline() const;
  const Frontier& frontier() const { return frontier_; }

 private:
  Duration PullInterval() const;
  void CountMembers(Instant now);
  void Pull(Instant now, Outputs& out);

  Shared& shared_;
  Frontier frontier_;
  uint64_t last_serial_ = 0;
  Instant next_publish_ = Instant::max(), next_pull_ = Instant::max();
  std::map<std::string, Instant> answered_;
};

}  // namespace patina::gossip

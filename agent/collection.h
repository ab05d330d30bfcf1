#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/config.h"
#include "agent/writer.h"
#include "gossip/frontier.h"
#include "storage/store.h"

namespace patina::agent {

/// Members and when they were heard last, as they are kept in the file. Malformed: nothing.
std::string EncodeMembers(const gossip::Frontier& frontier);
std::vector<std::pair<std::string, int64_t>> DecodeMembers(std::string_view bytes);

/// Publishes what this node has applied, and forgets what lies behind the frontier, in steps
/// between which the writer does its other work. The writer thread's; lives until that has stopped.
class Collection {
 public:
  struct Report {
    crdt::HlcTime horizon, frontier, complete;  // 0 until something was published
    gossip::Frontier::Holder held_back_by;
    size_t members = 0, forgotten = 0;
    uint64_t refused = 0;  // members and publications that found no room
  };

  Collection(const Config& config, Writer* writer) : config_(config), writer_(writer) {}

  /// The publication is ready, on the writer thread. horizon: after the last collection.
  using Published = std::function<void(gossip::Publication, crdt::HlcTime horizon)>;
  void Publish(storage::Store& store, const std::shared_ptr<const gossip::Frontier>& frontier,
               const Published& published);
  /// Who holds the frontier back is looked for now.
  Report Describe(const storage::Store& store) const;

 private:
  void SaveMembers(storage::Store& store, const gossip::Frontier& frontier, int64_t now_ms);
  void Collect(storage::Store& store);

  const Config& config_;
  Writer* const writer_;
  std::shared_ptr<const gossip::Frontier> frontier_;  // as last given
  crdt::HlcTime complete_, reached_, line_;
  bool collecting_ = false;
  uint64_t saved_epoch_ = 0;
  int64_t save_again_ms_ = 0;
};

}  // namespace patina::agent

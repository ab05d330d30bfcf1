#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gossip/frontier.h"
#include "storage/store.h"
#include "tests/storage/model_sql.h"
#include "tests/storage/test_util.h"

// One agent of the cluster model: a real store and a real frontier, pulled, gossiped with, crashed
// and restored by the world (model_world.h). model.py's Node.

namespace patina::storage::model {

// The hour of collection and the 48 hours of a dead member are scaled down. A message is delivered
// or lost within kMessageLifeMs, well under the hour.
inline constexpr int64_t kMaxClockSkewMs = 500, kToleratedOffsetMs = 100, kHourMs = 1'000,
                         kForgetAfterMs = 2'000, kMessageLifeMs = 500;

/// Rules that are broken in the node, not in the store; see storage/mutants.h for those.
enum class NodeMutant {
  kNone,
  kCollectWhenAllHaveDelete,  // tombstones go when every member has applied the DELETE
  kRefuseOnly,                // what is too old is not merged, and that is all
  kTransferToWhoIsNotBehind,  // who is not behind a horizon by its T may take a transfer
  kHeadsOnly,                 // an actor's head counts for all that is below it
  kLaggardsLeftOut,           // a member whose versions are lacking does not count
  kParkedDoesNotHoldT,        // T does not look at parked changes
  kMinorityForgets,           // each node forgets on its own
};

struct Broken {
  Mutant store = Mutant::kNone;
  NodeMutant node = NodeMutant::kNone;
};

/// A node's file as bytes: the database and its write-ahead log.
struct FileImage {
  std::string database, log;
};

/// What the receiver lacked when it asked.
struct Transfer {
  uint64_t process = 0;  // the receiving process that asked
  size_t sender = 0;
  std::vector<std::string> chunks;
};

class World;

class Node {
 public:
  Node(World* world, size_t name);
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  // Processes and files.
  void Start();
  void Stop();  // a crash
  void UseSchema(int level);
  FileImage Image() const;
  /// The file is another; the node is down.
  void PutImage(const FileImage& image);
  /// As after a power cut that took the newest commits.
  FileImage ImageBeforeCommits(size_t commits) const;

  // Time.
  int64_t ClusterMs() const;
  void SetClocks();
  void MeasureOffsets(const std::vector<Node*>& peers);

  // Writing and receiving.
  void Write(const std::vector<Transaction>& group);
  /// In one commit, but for large ones. False if one is too old to be taken.
  bool Receive(const std::vector<SharedBytes>& changes);
  LargeChange ReadLarge(const ChangeId& id) { return storage::ReadLarge(reader(), id); }
  void SettleParked();
  void Checkpoint();
  void Pull(Node& peer, size_t limit);
  void Resolve(Node& peer);
  void SendTransfer(Node& receiver);
  void TakeTransfer(const Transfer& transfer);
  void TakeSnapshot(Node& peer);

  // Frontier.
  void Publish();
  void Gossip(const Node& peer);
  void Collect(bool checkpoint_first);
  void ForgetDead();
  crdt::HlcTime Complete() const;

  /// All rows of all tables.
  Rows Visible();
  /// The same, followed from what the store said of each commit.
  const Rows& followed() const { return followed_; }
  /// Rows with tombstones and stamps, from the file after a checkpoint.
  OracleState State();

  const size_t name;
  int level = 0;
  bool up = false;
  uint64_t process = 0;
  int64_t wall_error_ms = 0, clock_error_ms = 0;
  std::map<size_t, int64_t> last_heard_ms;
  FileImage backup;
  std::unique_ptr<Store> store;  // null while the node is down
  bool touched = false;

  crdt::VersionSet received_when_down;  // received, as of the last commit

  // The oracle's. What it applied when that was no longer from the future.
  crdt::VersionSet admitted;
  // The join of what the node had applied when it was last looked at.
  OracleState expected;
  crdt::VersionSet expected_of;
  int expected_level = -1;

 private:
  bool Receive(const MergeOutcome& outcome);
  Result<MergeOutcome> ReceiveLarge(const SharedBytes& manifest);
  crdt::VersionSet OwnVersions() const;
  bool Satisfies(const gossip::Publication& publication) const;
  crdt::HlcTime Line() const;
  /// After each call that may have committed, with those that tell effects: after FollowEffects.
  void NoteCommit();
  void FollowEffects();
  void FollowAnew();
  Reader& reader();

  World* world_;
  FakeClock clock_;
  int64_t true_ms_;  // when the clock was last set
  StoreOptions options_;
  std::unique_ptr<Reader> reader_;
  std::unique_ptr<gossip::Frontier> frontier_;
  std::vector<gossip::Publication> own_publications_;
  std::vector<uint64_t> log_sizes_;  // of the write-ahead log after each commit of this process
  uint64_t transfers_ = 0;
  CommitEffects effects_;
  Rows followed_;
};

}  // namespace patina::storage::model

#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "crdt/hlc.h"
#include "crdt/version_set.h"

namespace patina::gossip {

/// What a node says about its history, now and then, so that all learn what everybody has applied.
struct Publication {
  std::string node;
  uint64_t serial = 0;     // of this node's publications: the larger one is the newer
  crdt::HlcTime clock;     // W: every later write of this node is later than this
  crdt::HlcTime complete;  // T: all that is older it has applied
  /// What it has applied of all actors it has ever written under: all versions, so gaps show. Never
  /// null.
  std::shared_ptr<const crdt::VersionSet> own;

  bool operator==(const Publication& other) const;
  /// About what it takes in memory and on the wire.
  size_t Bytes() const;
};

struct FrontierConfig {
  /// A member silent for so long is forgotten.
  int64_t forget_after_ms = int64_t{48} * 3600 * 1000;
  /// Forgetting takes that at most this part of the members, this node included, is unreachable
  /// (less than half: only one side of a split can forget the other).
  double forget_unreachable_max = 0.5;
  size_t members_max = 20'000;
  size_t forgotten_max = 20'000;
  /// Of all publications kept; further ones are refused (and the frontier stays where it is).
  size_t bytes_max = 64u << 20;
};

/// How far all members' histories are complete, as far as they have told: up to where tombstones
/// can be forgotten. Pure: time is passed in, as cluster time in milliseconds. One thread; copies
/// are cheap (publications are shared), so that another thread may evaluate one.
///
/// Invariants: a member counts from when it is first heard of until it is forgotten, whether it has
/// published or not. Of each the last kKept publications are kept. What has to be counted and finds
/// no room makes the frontier 0 until there is room.
class Frontier {
 public:
  static constexpr size_t kKept = 3;

  explicit Frontier(std::string self, FrontierConfig config = {});

  // Who counts.
  /// The member was heard directly, or is remembered from before a restart (then at that time): it
  /// counts, again if it was forgotten. Itself is ignored.
  void Heard(const std::string& node, int64_t now_ms);
  /// The member was heard of, but not from it: it counts from now on unless it was forgotten.
  void Named(const std::string& node, int64_t now_ms);
  /// Forgets members that are not reachable and silent for forget_after, if this node reaches most
  /// of its members. Returns whom.
  std::vector<std::string> ForgetDead(const std::function<bool(const std::string&)>& reachable,
                                      int64_t now_ms);
  /// Takes a publication, own or another's. False if it is not newer than what is known. A member
  /// that nobody named before counts from now on; one that was forgotten counts again if it
  /// published since. Requires own.
  bool Hear(const Publication& publication, int64_t now_ms);

  /// Whether this node has caught up with its peers since it began (CatchUp); until then it is
  /// complete up to nothing. True unless said otherwise.
  void SetCaughtUp(bool caught_up) { caught_up_ = caught_up; }

  // What follows.
  /// T of this node, given what it has applied, its newest W (in its file) and the stamp of the
  /// oldest change that it has parked.
  crdt::HlcTime Complete(const crdt::VersionSet& applied, crdt::HlcTime published,
                         std::optional<crdt::HlcTime> oldest_parked) const;
  /// Up to here every member has applied everything, given this node's own T.
  crdt::HlcTime Get(crdt::HlcTime complete) const;

  /// Who holds the frontier back, for people.
  struct Holder {
    std::string node;  // empty: nobody is known
    crdt::HlcTime complete;
    std::string reason;
  };
  Holder HeldBackBy(const crdt::VersionSet& applied, crdt::HlcTime complete) const;

  // Looking.
  struct MemberState {
    std::vector<Publication> publications;  // ascending by serial
    int64_t last_heard_ms = 0;
  };
  /// The others that count.
  const std::map<std::string, MemberState>& members() const { return members_; }
  /// The newest publication of a member that counts, or of this node; null if there is none.
  const Publication* Newest(const std::string& node) const;
  size_t forgotten() const { return forgotten_.size(); }
  /// Members and publications that found no room.
  uint64_t refused() const { return refused_ + publications_refused_; }
  size_t bytes() const { return bytes_; }
  /// Raised when who counts has changed.
  uint64_t epoch() const { return epoch_; }
  const std::string& self() const { return self_; }

 private:
  MemberState* Count(const std::string& node, int64_t now_ms);
  bool Keep(std::vector<Publication>& kept, const Publication& publication);
  /// W of the newest publication whose versions are all in the set; 0 if there is none.
  static crdt::HlcTime SatisfiedClock(const MemberState& member, const crdt::VersionSet& applied);

  std::string self_;
  FrontierConfig config_;
  std::map<std::string, MemberState> members_;
  std::vector<Publication> own_;
  std::map<std::string, uint64_t> forgotten_;  // -> newest serial known then
  std::deque<std::string> forgotten_order_;
  size_t bytes_ = 0;
  uint64_t refused_ = 0, publications_refused_ = 0;
  uint64_t epoch_ = 0;
  bool caught_up_ = true;
};

}  // namespace patina::gossip

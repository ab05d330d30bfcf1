#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/hash.h"
#include "base/ids.h"

// Sets of (actor, version): what a node has received, or applied. Versions of an actor usually are
// all of 1..head; what lies above the first gap is kept in Roaring bitmaps, made when there is a
// gap.

namespace patina::crdt {

/// Above this no version is believed: at a million commits a second it lasts nine years.
inline constexpr uint64_t kMaxVersion = uint64_t{1} << 48;

/// First to last, both included, first >= 1.
struct VersionRange {
  uint64_t first = 0;
  uint64_t last = 0;
  bool operator==(const VersionRange&) const = default;
};

struct ActorRanges {
  ActorId actor;
  std::vector<VersionRange> ranges;  // ascending, disjoint, not adjacent
  bool operator==(const ActorRanges&) const = default;
};

struct VersionSetLimits {
  size_t actors_max = 100'000;
  size_t ranges_max = 1'000'000;  // over all actors
  /// Blocks of 65,536 versions touched above gaps, over all actors. Each costs memory however few
  /// bytes announced it: without this, one range of 2^48 versions would take all memory there is.
  size_t blocks_max = 262'144;
};

/// A value (copies are deep). One thread at a time, except that const calls may run together once
/// digest() has been called after the last change.
class VersionSet {
 public:
  VersionSet();
  ~VersionSet();
  VersionSet(const VersionSet& other);
  VersionSet& operator=(const VersionSet& other);
  VersionSet(VersionSet&&) noexcept;
  VersionSet& operator=(VersionSet&&) noexcept;

  bool Contains(const ChangeId& id) const;
  /// False if it was there already. Version 0 and versions above 2^48 are not added.
  bool Add(const ChangeId& id);
  void AddRange(const ActorId& actor, VersionRange range);
  void Union(const VersionSet& other);
  /// What this set has and the other has not.
  VersionSet Without(const VersionSet& other) const;

  /// The highest version; 0 if none.
  uint64_t Head(const ActorId& actor) const;
  /// All of 1..this are there.
  uint64_t Contiguous(const ActorId& actor) const;
  /// Versions missing below the head.
  uint64_t GapCount(const ActorId& actor) const;
  /// All versions of all actors.
  uint64_t Size() const;
  bool Empty() const { return actors_.empty(); }

  /// Ascending by actor.
  std::vector<ActorId> Actors() const;
  std::vector<VersionRange> Ranges(const ActorId& actor) const;
  /// Versions of the actor missing below its head, as ranges.
  std::vector<VersionRange> Gaps(const ActorId& actor) const;
  std::vector<ActorRanges> AllRanges() const;
  /// What other has and this set lacks, at most max_versions of them; ascending by actor and
  /// version.
  std::vector<ActorRanges> Lacking(const VersionSet& other,
                                   uint64_t max_versions = UINT64_MAX) const;
  bool IsSubsetOf(const VersionSet& other) const;
  bool operator==(const VersionSet& other) const;

  /// Equal sets have equal digests, on every host and release; a change costs the actor concerned
  /// only.
  Digest128 digest() const;

  /// Compact: per actor, runs. Reads back equal.
  void Encode(ByteWriter& out) const;
  /// False when malformed or over the limits; counts are checked before memory is taken.
  static bool Decode(ByteReader& in, const VersionSetLimits& limits, VersionSet* set);

  /// "3 actors, 1234 versions, 2 gaps", for people.
  std::string ToString() const;

 private:
  struct PerActor;
  PerActor& Obtain(const ActorId& actor);
  const PerActor* Find(const ActorId& actor) const;
  void Touch(PerActor& entry);

  std::map<ActorId, std::unique_ptr<PerActor>> actors_;
  // The sum of the digests of the actors that are not in stale_.
  mutable Digest128 total_;
  mutable std::vector<PerActor*> stale_;
};

}  // namespace patina::crdt

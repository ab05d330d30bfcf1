#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/ids.h"

namespace patina::crdt {

/// A small number for an actor, meaningful on this node only. 0 is no actor.
using ActorIndex = uint32_t;

/// Numbers the actors, so that stamps in memory and in the file are small. Never forgets.
/// One thread at a time.
class ActorTable {
 public:
  ActorTable();

  /// The actor's number; a new one (the next) if it was not known.
  ActorIndex Intern(const ActorId& actor);
  std::optional<ActorIndex> Find(const ActorId& actor) const;
  /// Requires an index that Intern has returned.
  const ActorId& Get(ActorIndex index) const;
  /// Fills numbers as they are in the file: must be called in the order 1, 2, 3 …
  void Restore(ActorIndex index, const ActorId& actor);
  /// Forgets indexes from size on: for a commit that failed.
  void Truncate(ActorIndex size);
  /// One more than the highest index.
  ActorIndex size() const { return static_cast<ActorIndex>(actors_.size()); }

 private:
  std::vector<ActorId> actors_;  // [0] is the zero actor
  std::unordered_map<ActorId, ActorIndex> indexes_;
};

}  // namespace patina::crdt

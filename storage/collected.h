#pragma once

#include <cstdint>
#include <map>

#include "base/bytes.h"
#include "base/ids.h"
#include "crdt/version_set.h"

namespace patina::storage {

/// Per actor the newest version of which something was collected: older ones, of those applied, may
/// have been collected too, because an actor's versions are in time order. As bytes: how many |
/// each: 16 bytes actor, version (varints).
using Collected = std::map<ActorId, uint64_t>;

/// False when malformed.
bool DecodeCollected(ByteReader& in, Collected* collected);

/// Has the receiver applied all that the sender had applied of these?
bool HasAllCollected(const Collected& collected, const crdt::VersionSet& sender_applied,
                     const crdt::VersionSet& receiver_applied);

}  // namespace patina::storage

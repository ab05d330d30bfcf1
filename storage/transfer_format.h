#pragma once

#include <cstdint>

// A whole-difference transfer's chunks, in order, as one stream of records cut at record
// boundaries. Integers are varints, strings length-prefixed, values as in crdt/value.h.
//
//   kHeader   u8 format = 1 or 2 | u64 schema hash | the sender's applied set (crdt::VersionSet)
//             format 2, when the sender has collected something: | horizon | what was collected of
//             the sender's applied set (storage/collected.h); a receiver that does not know it must
//             not take the transfer, so it is a format of its own
//   kTable    name | number of columns | their names            (the section's rows follow)
//   kRow      packed key | number of groups | groups
//     group:  actor | time | version | u8 Says | number of cells | (position in the section's
//     columns, value)… actor:  number in the order of first appearance; a new number is followed by
//     its 16 bytes
//   kEnd      the last record
//
// A group is what one transaction still says of the row: its existence, its cells, or both. Only
// groups whose (actor, version) the receiver had not applied when it asked are sent.

namespace patina::storage {

inline constexpr uint8_t kTransferFormat = 1;
inline constexpr uint8_t kTransferFormatCollected = 2;
enum class TransferRecord : uint8_t { kEnd = 0, kHeader = 1, kTable = 2, kRow = 3 };

}  // namespace patina::storage

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "crdt/changeset.h"

// A large transaction travels in chunks: each is a changeset (crdt/changeset.h) of some of its rows
// under the one header. Its manifest stands for it where other versions have their changeset: in
// the log, in answers to ranges, among what is parked. Any thread.
//
// Format (integers are varints unless said):
//   u8 format = 2 | actor: 16 bytes | version | time: 8 bytes | scope | rows | chunks | bytes
//   | hash: 8 bytes
// The first five are a changeset's header, so that whoever only needs the id reads both alike.

namespace patina::crdt {

struct Manifest {
  ChangesetHeader header;
  uint64_t rows = 0;    // of all chunks
  uint64_t chunks = 0;  // at least 1, numbered from 0
  uint64_t bytes = 0;   // of all chunks
  uint64_t hash = 0;    // of all chunks in order, see AddToManifest
};

/// Is this a manifest and not a changeset? Looks at the first byte.
bool IsManifest(std::string_view bytes);

std::string EncodeManifest(const Manifest& manifest);
/// INVALID_ARGUMENT when malformed; UNIMPLEMENTED when it is of another format.
Result<Manifest> DecodeManifest(std::string_view bytes);

/// Counts the next chunk in: chunks, bytes and hash. Rows are the caller's.
void AddToManifest(std::string_view chunk, Manifest* manifest);

}  // namespace patina::crdt

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "crdt/version_set.h"

namespace patina::storage {

/// How far a node's own commits were acknowledged, in a small file beside the database, so that the
/// next process sees when some are gone: a write-ahead log that lost its end (SQLite takes what it
/// finds valid and says nothing), or an older file put in its place.
///
/// One page, mapped and shared: noting a commit is two stores, without a system call, and survives
/// the process. The kernel writes it to the disk by itself, so after a power cut it may be older
/// than the database: then nothing is said that is not so.
/// docs/decisions/0009-commits-that-are-gone.md.
///
/// The format, in this machine's byte order: "PATACK01", the log's last entry (8 bytes), the number
/// of actors ever noted (8), and kActors times: actor (16), its last version (8), when it was taken
/// (8).
///
/// The store's thread.
class AckedFile {
 public:
  static constexpr size_t kActors = 64;  // of the last processes; then the oldest gives way

  /// Opens or makes the file. Errors: it cannot be made or mapped. What is no such file is
  /// replaced.
  static Result<std::unique_ptr<AckedFile>> Open(const std::string& path);
  ~AckedFile();
  AckedFile(const AckedFile&) = delete;
  AckedFile& operator=(const AckedFile&) = delete;

  /// The log's last entry, as the last process acknowledged it; 0: nothing was noted yet.
  uint64_t last_seq() const;
  /// What processes on this file acknowledged of their own and the set does not have.
  std::vector<crdt::ActorRanges> Missing(const crdt::VersionSet& received) const;

  /// This process's actor: at its first commit. One that lacks nothing gives way first.
  void SetActor(const ActorId& actor, const crdt::VersionSet& received);
  bool has_actor() const { return own_ < kActors; }
  /// After a commit, before it is acknowledged. version: of SetActor's actor, 0 before that.
  void Note(uint64_t last_seq, uint64_t version);

 private:
  struct Page;
  explicit AckedFile(Page* page) : page_(page) {}

  Page* const page_;
  size_t own_ = kActors;  // the slot of this process's actor; kActors: none yet
};

}  // namespace patina::storage

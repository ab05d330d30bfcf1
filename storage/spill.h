#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "storage/db.h"

namespace patina::storage {

/// A row that the running transaction touched, and its image from before.
struct Touched {
  bool had_row = false;
  uint64_t inserted = 0;  // Capture's epoch in which it was inserted (again); 0: it was not
  std::string old_key, old_values;
};

/// Which rows a large transaction touched, when they are too many for memory: an SQLite file of its
/// own beside the database, written by a connection of its own (the preupdate hook must not use the
/// one that called it), in one transaction that is never committed. It has no name once it is open,
/// so a crash leaves nothing behind. The writer's thread.
class Spill {
 public:
  /// path: of a file that is there for a moment only; an old one is removed.
  static Result<std::unique_ptr<Spill>> Open(const std::string& path);
  Spill(const Spill&) = delete;
  Spill& operator=(const Spill&) = delete;

  /// id: a rowid, or the packed key as a blob (WITHOUT ROWID). Of a row that is here already the
  /// first image stays; that it was inserted is added.
  Status Add(uint32_t table, const crdt::ValueView& id, const Touched& touched);
  /// Different rows added.
  uint64_t rows() const { return rows_; }

  /// In order of id. visit may call everything but Add.
  using Visit = std::function<Status(const crdt::ValueView& id, Touched touched)>;
  Status ForEach(uint32_t table, const Visit& visit);

  /// A row that has left its rowid: it is gone, or stands elsewhere. With its clock, encoded.
  struct Left {
    int64_t rowid = 0;
    std::string values, clock;
  };
  Status AddLeft(std::string_view key, const Left& left);
  /// False if no row of this key has left its place. What is taken is here no longer.
  Result<bool> TakeLeft(std::string_view key, Left* left);
  using VisitLeft = std::function<Status(const std::string& key, Left left)>;
  /// The ones that were not taken, by key; afterwards there are none.
  Status TakeAllLeft(const VisitLeft& visit);

 private:
  explicit Spill(Db db) : db_(std::move(db)) {}
  Status Prepare();

  Db db_;
  Stmt add_, set_inserted_, scan_, add_left_, find_left_, delete_left_;
  uint64_t rows_ = 0;
  bool any_left_ = false;
};

}  // namespace patina::storage

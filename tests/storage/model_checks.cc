#include <algorithm>

#include "storage/table_io.h"
#include "tests/storage/model_world.h"
#include "tests/storage/test_util.h"

// The oracle of the cluster model: what World remembers of each node, and what must hold.

namespace patina::storage::model {
namespace {

/// The part of what a changeset says that is for columns of the schema.
OracleState OnlyColumns(const OracleState& says, const Schema& schema) {
  OracleState known;
  for (const auto& [key, row] : says) {
    const Table* table = schema.Find(key.first);
    if (table == nullptr) continue;
    OracleRow kept = row;
    std::erase_if(kept.cells, [&](const auto& cell) {
      return std::none_of(table->columns.begin(), table->columns.end(), [&](const Column& column) {
        return cell.first == NameOfLife(column.name, column.life);
      });
    });
    if (kept.exists != OracleStamp() || !kept.cells.empty()) known[key] = std::move(kept);
  }
  return known;
}

/// Rows that are alive, and of the others what is not from before the line.
OracleState WithoutOlderDead(const OracleState& state, crdt::HlcTime line) {
  OracleState rest;
  for (const auto& [key, row] : state) {
    OracleRow kept = row;
    if (!row.alive) {
      if (kept.exists.time < line.bits) kept.exists = OracleStamp();
      std::erase_if(kept.cells,
                    [&](const auto& cell) { return cell.second.first.time < line.bits; });
      if (kept.exists == OracleStamp() && kept.cells.empty()) continue;
    }
    rest[key] = std::move(kept);
  }
  return rest;
}

std::string Describe(const OracleStamp& stamp) {
  return StrCat(stamp.time >> 16, "+", stamp.time & 0xffff, "/",
                stamp.actor.ToString().substr(0, 4), "/", stamp.version);
}

std::string Describe(const OracleState& state) {
  std::string text;
  for (const auto& [key, row] : state) {
    text += StrCat(text.empty() ? "" : "; ", key.first, DescribeKey(key.second),
                   row.alive ? " alive " : " not alive ", Describe(row.exists));
    for (const auto& [column, cell] : row.cells)
      text += StrCat(" ", column, "=", cell.second.ToString(), "@", Describe(cell.first));
  }
  return text;
}

std::string Joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += (text.empty() ? "" : "; ") + line;
  return text;
}

/// Does any stamp in it say that this change wrote something that counts?
bool Holds(const OracleState& state, const ChangeId& id) {
  const auto by_it = [&](const OracleStamp& stamp) {
    return stamp.actor == id.actor && stamp.version == id.version;
  };
  for (const auto& [key, row] : state) {
    if (by_it(row.exists)) return true;
    for (const auto& [column, cell] : row.cells) {
      if (by_it(cell.first)) return true;
    }
  }
  return false;
}

}  // namespace

void World::NoteWrite(Node& node, const Committed& committed) {
  const ChangeId id{committed.actor, committed.version};
  Require(!record_.contains(id), "a version is used twice");
  crdt::HlcTime seen = std::max(node.store->published(), node.store->horizon());
  for (const auto& [known, record] : record_) {
    if (node.store->applied().Contains(known)) seen = std::max(seen, record.time);
  }
  const crdt::HlcTime cluster = crdt::HlcTime::FromMs(node.ClusterMs());
  const uint64_t ticks = options.sql == Sql::kPlain ? 0 : 1'000;  // a failed transaction takes one
  Require(committed.time.bits <= std::max(seen.bits + 1, cluster.bits) + ticks,
          "the clock is ahead without a cause: node ", node.name, " wrote at ",
          committed.time.ToString(), ", it is ", cluster.ToString());
  Record& record = record_[id];
  record = {committed.changeset, {}, {}, committed.time, node.name};
  if (record.bytes == nullptr) {
    ++count["large"];
    record.large = node.ReadLarge(id);
    record.bytes = record.large.manifest;
    record.says = Says(record.large);
  } else {
    record.says = Says(record.bytes);
  }
  written_.push_back(record.bytes);
  node.admitted.Add(id);
  Say("    writes ", Describe({committed.time.bits, id.actor, id.version}), ": ",
      DescribeRecord(record));
}

void World::NoteFailed(const Transaction& transaction, const Error& error) {
  ++count["failed"];
  const bool may_fail =
      options.sql == Sql::kAny && (error.code == Errc::kFailedPrecondition ||
                                   error.message.find("no such savepoint") != std::string::npos);
  Require(may_fail, transaction.statements[0].sql, ": ", error.ToString());
}

/// A transaction that ran alone says what it changed, and nothing else: model.py's write().
void World::CheckCaptured(const Node& node, const Committed& committed, const Rows& before) {
  OracleState says;
  if (committed.version != 0) says = record_.at({committed.actor, committed.version}).says;
  const Rows& after = node.followed();
  for (const auto& [name, row] : says) {
    const Table& table = *node.store->schema().Find(name.first);
    const auto old = before.find(name), now = after.find(name);
    const bool had = old != before.end(), has = now != after.end(),
               exists = row.exists != OracleStamp();
    const auto what = [&, &row = row, &name = name] {
      return StrCat("node ", node.name, " captured ", Describe({{name, row}}), ": ");
    };
    Require((exists && !row.alive) == (had && !has), what, "deleted or not");
    if (!has) continue;
    Require(had || (exists && row.alive), what, "an insert is no insert");
    Require(!had || old->second != now->second, what, "the row did not change");
    if (exists || table.merge_row) {
      Require(row.cells.size() == table.columns.size(), what, "not all columns");
      continue;
    }
    std::vector<crdt::ValueView> was, is;
    crdt::UnpackValues(old->second, table.order.size(), &was);
    crdt::UnpackValues(now->second, table.order.size(), &is);
    for (size_t i = 0; i < table.order.size(); ++i) {
      if (table.order[i].in_key) continue;
      const Column& column = table.columns[table.order[i].index];
      Require(row.cells.contains(NameOfLife(column.name, column.life)) == !(was[i] == is[i]), what,
              column.name);
    }
  }
  Rows changed = before;
  for (const auto& [name, row] : after) {
    const auto [old, is_new] = changed.try_emplace(name);
    if (!is_new && old->second == row) changed.erase(old);
  }
  for (const auto& [name, row] : changed) {
    Require(says.contains(name), "node ", node.name, " did not capture a change of ", name.first,
            [&, &key = name.second] { return DescribeKey(key); });
  }
}

std::string World::DescribeRecord(const Record& record) {
  if (record.large.chunks.empty()) return storage::Describe(record.bytes);
  std::string text = "large";
  for (const SharedBytes& chunk : record.large.chunks) text += ": " + storage::Describe(chunk);
  return text;
}

void World::NoteApplied(Node& node) {
  if (node.store == nullptr || failed()) return;
  const crdt::VersionSet& applied = node.store->applied();
  node.received_when_down = node.store->received();
  const auto each = [&](const std::vector<crdt::ActorRanges>& lacking, const auto& visit) {
    for (const crdt::ActorRanges& actor : lacking) {
      for (const crdt::VersionRange& range : actor.ranges) {
        for (uint64_t version = range.first; version <= range.last; ++version) {
          const auto found = record_.find({actor.actor, version});
          if (found == record_.end()) return Require(false, "applied what nobody wrote");
          visit(found->first, found->second);
        }
      }
    }
  };
  const crdt::HlcTime due = crdt::HlcTime::FromMs(node.ClusterMs() + kMaxClockSkewMs + 1);
  each(node.admitted.Lacking(applied), [&](const ChangeId& id, const Record& record) {
    node.admitted.Add(id);
    // A transfer claims what was overwritten by what the node has already, and brings nothing of
    // it.
    Require(
        record.time < due || !Holds(node.State(), id), "merged early: node ", node.name, " has ",
        [&] { return DescribeRecord(record); }, " of ", record.time.bits);
  });
  const Schema& schema = SchemaOf(node);
  if (node.expected_level != node.level || !node.expected_of.IsSubsetOf(applied)) {
    node.expected.clear();
    node.expected_of = crdt::VersionSet();
    node.expected_level = node.level;
  }
  each(node.expected_of.Lacking(applied), [&](const ChangeId& id, const Record& record) {
    Say("    node ", node.name, " applies ", Describe({record.time.bits, id.actor, id.version}));
    JoinInto(node.expected, OnlyColumns(record.says, schema));
  });
  node.expected_of = applied;
}

void World::NoteRefused(const Node& node, const MergeOutcome& outcome) {
  ++count["refused"];
  Say("    node ", node.name, " refuses: ", outcome.reason);
  Require(excuse_, "refused, but nothing was lost or forgotten: node ", node.name, ", ",
          outcome.reason);
}

void World::NoteSnapshot(const Node& node, const Node& peer,
                         const std::vector<ChangeId>& set_aside) {
  ++count["snapshots"];
  count["set aside"] += set_aside.size();
  set_aside_.insert(set_aside.begin(), set_aside.end());
  Say("    node ", node.name, " becomes a copy of node ", peer.name, " and sets aside ",
      set_aside.size());
  Require(excuse_ || set_aside.empty(), "set aside, but nothing was lost or forgotten: node ",
          node.name, " by a snapshot of node ", peer.name);
}

void World::NoteForgotten(const Node& node, size_t forgotten) {
  excuse_ = true;
  forgotten_by_[forgotten].insert(node.name);
  ++count["members forgotten"];
  Say("    node ", node.name, " forgets node ", forgotten);
}

crdt::HlcTime World::AppliedEverywhere() const {
  crdt::HlcTime line{UINT64_MAX >> 1};
  for (const auto& [id, record] : record_) {
    const bool everywhere = std::all_of(nodes_.begin(), nodes_.end(), [&](const auto& node) {
      return node->expected_of.Contains(id);
    });
    const bool deletes = std::any_of(record.says.begin(), record.says.end(), [](const auto& said) {
      return said.second.exists != OracleStamp() && !said.second.alive;
    });
    if (deletes && !everywhere) line = std::min(line, record.time);
  }
  return line;
}

/// The tables are the join of what is applied.
void World::Check(Node& node) {
  if (!node.up || failed()) return;
  const Rows actual = node.Visible(), wanted = VisibleRows(node.expected, node.store->schema());
  Require(
      actual == wanted, "the tables of node ", node.name,
      " are not the join of what is applied: ", [&] { return DescribeDifference(actual, wanted); });
  Require(node.followed() == actual, "node ", node.name, " told of other changes than it made: ",
          [&] { return DescribeDifference(node.followed(), actual); });
  Require(
      node.store->received().Size() == node.store->applied().Size() + node.store->Parked().size(),
      "node ", node.name, " has received what it neither applied nor parked");
  const auto foreign = ForeignRowsOf(*node.store, 1);
  Require(foreign.empty(), "rows of node ", node.name,
          " are not as it wrote them: ", Joined(foreign));
  CheckRowsOfOneWriter(node);
}

/// The same with all stamps, but for what collection may drop.
void World::CheckStamps(Node& node) {
  const OracleState actual = WithoutOlderDead(node.State(), node.store->horizon());
  const OracleState wanted = WithoutOlderDead(node.expected, node.store->horizon());
  const std::string have = Describe(actual), want = Describe(wanted);
  Require(have == want, "the state of node ", node.name,
          " is not the join of what is applied: ", have, " instead of ", want);
}

void World::CheckRowsOfOneWriter(const Node& node) {
  for (const auto& [key, row] : node.expected) {
    if (!SchemaOf(node).Find(key.first)->merge_row || !row.alive || row.cells.empty()) continue;
    OracleStamp newest;
    for (const auto& [column, cell] : row.cells) newest = std::max(newest, cell.first);
    const auto& known = record_[{newest.actor, newest.version}].says[key].cells;
    for (const auto& [column, cell] : row.cells) {
      Require(!known.contains(column) || cell.first == newest,
              "a merge = \"row\" row mixes two writers: ", [&] { return Describe(node.expected); });
    }
  }
}

std::string World::Unhealed() {
  Node& first = *nodes_[0];
  for (const auto& node : nodes_) {
    if (node->Visible() != first.Visible()) return StrCat("node ", node->name, " has other rows");
    if (!(node->store->applied() == first.store->applied()))
      return StrCat("node ", node->name, " has applied ", node->store->applied().ToString(),
                    ", node 0 ", first.store->applied().ToString());
    if (!node->store->Parked().empty())
      return StrCat("node ", node->name, " has parked ", node->store->Parked()[0].reason);
    if (node->store->Stats().tombstones > 0)
      return StrCat("node ", node->name, " has ", node->store->Stats().tombstones, " tombstones");
    const auto digests = node->store->Digests(), first_digests = first.store->Digests();
    for (size_t i = 0; i < digests.size(); ++i) {
      if (digests[i] == first_digests[i]) continue;
      return StrCat("node ", node->name, " has another digest of ", digests[i].table, " with ",
                    digests[i].rows, " rows, node 0 with ", first_digests[i].rows);
    }
  }
  return {};
}

void World::Heal() {
  Say("all heals");
  group_.assign(nodes_.size(), 0);
  int level = 0;
  for (const auto& node : nodes_) {
    node->wall_error_ms = node->clock_error_ms = 0;
    level = std::max(level, node->level);
  }
  int64_t latest = now_ms;
  for (const auto& [id, record] : record_) latest = std::max(latest, record.time.ms());
  AdvanceMs(latest - now_ms);
  for (const auto& node : nodes_) {
    if (node->up && node->level != level) node->UseSchema(level);
    node->level = level;
    if (!node->up) node->Start();
  }
  std::string unhealed;
  for (int round = 0; round < 30 && !failed(); ++round) {
    AdvanceMs(kHourMs / 2);
    Round(1);
    for (const auto& node : nodes_) Check(*node);
    if (failed() || round < 3) continue;
    unhealed = Unhealed();
    if (unhealed.empty()) break;
  }
  Require(unhealed.empty(), "not healed: ", unhealed);
  for (const auto& node : nodes_) {
    if (failed()) return;
    const auto digests = node->store->Digests();
    node->Stop();
    node->Start();
    if (failed()) return;
    Check(*node);
    CheckStamps(*node);
    Require(node->store->Digests() == digests, "the file of node ", node->name,
            " is not what it had in memory");
    // Two writers may break a CHECK together that neither broke alone.
    const std::string integrity =
        Ask(FileOf(node->name), "PRAGMA ignore_check_constraints = ON; PRAGMA integrity_check");
    Require(integrity == "ok", "the file of node ", node->name, ": ", integrity);
    CheckRecords(*node);
  }
}

void World::CheckRecords(Node& node) {
  for (const auto& [id, record] : record_) {
    const bool applied = node.store->applied().Contains(id);
    Require(applied || lost_commits_ || 2 * forgotten_by_[record.writer].size() >= nodes_.size(),
            "set aside, but its writer was not forgotten by half of the nodes");
    const bool gone = lost_.contains(id) || set_aside_.contains(id);
    Require(gone || applied, "an acknowledged write is gone from node ", node.name, ": ",
            [&, &record = record] { return DescribeRecord(record); });
    for (const auto& [key, row] : record.says) {
      const auto final_row = node.expected.find(key);
      const bool alive = final_row != node.expected.end() && final_row->second.alive;
      const bool says_deleted = row.exists != OracleStamp() && !row.alive;
      Require(gone || !says_deleted || !alive || row.exists <= final_row->second.exists,
              "a deleted row is back on node ", node.name);
    }
  }
}

}  // namespace patina::storage::model

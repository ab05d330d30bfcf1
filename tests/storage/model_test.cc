#include <algorithm>
#include <set>

#include "base/log.h"
#include "crdt/manifest.h"
#include "tests/storage/test_util.h"

// Three nodes, random SQL, random delivery, crashes, checkpoints, schema upgrades and transfers
// against the merge
// rules as a program. After each step a node's tables are the join of what it has applied; in the
// end all are equal.
//
//     PATINA_MODEL_SEEDS=5000 storage_tests --gtest_filter='ModelTest.*'     more seeds
//     PATINA_MODEL_FIRST=17 PATINA_MODEL_SEEDS=1 …                           one of them

namespace patina::storage {
namespace {

constexpr const char* kOld = R"sql(
CREATE TABLE words (id TEXT NOT NULL PRIMARY KEY, a, b TEXT DEFAULT 'd', n INTEGER NOT NULL DEFAULT
                    5);
CREATE TABLE numbers (id INTEGER PRIMARY KEY, a, r REAL);
CREATE TABLE pairs (v, x TEXT NOT NULL, y INTEGER NOT NULL, w BLOB, PRIMARY KEY (y, x)) WITHOUT
                    ROWID;
CREATE TABLE strict (id TEXT PRIMARY KEY, i INTEGER, t TEXT, o ANY) STRICT;
CREATE TABLE whole (id TEXT NOT NULL PRIMARY KEY, a, b);
CREATE TABLE checked (id TEXT NOT NULL PRIMARY KEY, lo INTEGER NOT NULL DEFAULT 0, hi INTEGER NOT
                    NULL DEFAULT 10,
                      CHECK (lo <= hi));
CREATE TABLE keys_only (id TEXT NOT NULL PRIMARY KEY);
CREATE TABLE places (v, x TEXT NOT NULL, y INTEGER NOT NULL, w BLOB, PRIMARY KEY (y, x));
CREATE TABLE blobs (id BLOB NOT NULL PRIMARY KEY, a);
)sql";

// Columns that an old file gets at its end, and a new one in the middle.
constexpr const char* kNew = R"sql(
CREATE TABLE words (id TEXT NOT NULL PRIMARY KEY, late TEXT DEFAULT 'late', a, b TEXT DEFAULT 'd',
                    n INTEGER NOT NULL DEFAULT 5);
CREATE TABLE numbers (id INTEGER PRIMARY KEY, a, firm INTEGER NOT NULL DEFAULT 3, r REAL);
CREATE TABLE pairs (v, x TEXT NOT NULL, late INTEGER DEFAULT 7, y INTEGER NOT NULL, w BLOB, PRIMARY
                    KEY (y, x))
                    WITHOUT ROWID;
CREATE TABLE strict (id TEXT PRIMARY KEY, i INTEGER, t TEXT, o ANY) STRICT;
CREATE TABLE whole (id TEXT NOT NULL PRIMARY KEY, a, b, c DEFAULT 1.5);
CREATE TABLE checked (id TEXT NOT NULL PRIMARY KEY, lo INTEGER NOT NULL DEFAULT 0, hi INTEGER NOT
                    NULL DEFAULT 10,
                      CHECK (lo <= hi));
CREATE TABLE keys_only (id TEXT NOT NULL PRIMARY KEY);
CREATE TABLE places (v, x TEXT NOT NULL, late INTEGER DEFAULT 7, y INTEGER NOT NULL, w BLOB, PRIMARY
                     KEY (y, x));
CREATE TABLE blobs (id BLOB NOT NULL PRIMARY KEY, a);
)sql";

constexpr const char* kToml = "[whole]\nmerge = \"row\"\n";

std::string Pick(Rng& rng, std::initializer_list<const char*> choices) {
  return *(choices.begin() + rng.Below(choices.size()));
}

class World {
 public:
  explicit World(uint64_t seed) : rng_(seed) {
    old_ = MustParse(kOld, kToml);
    new_ = MustParse(kNew, kToml);
    for (int i = 0; i < 3; ++i) {
      nodes_.push_back(std::make_unique<TestNode>(i == 2 && rng_.Chance(0.5) ? new_ : old_));
      TestNode& node = *nodes_.back();
      node.options.limits.log_bytes_max = rng_.Chance(0.3) ? 300 : 1u << 20;
      node.options.limits.large_memory_bytes = 1;
      node.options.limits.large_chunk_bytes = 1;
      node.options.limits.row_cache_bytes = rng_.Chance(0.5) ? 500 : 1u << 20;
      Reopen(node, false);
      shadow_.push_back(Image(node));
    }
  }

  void Run(int steps) {
    for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) Step();
    if (!::testing::Test::HasFailure()) Heal();
  }

 private:
  std::map<std::string, std::string> Image(TestNode& node) {
    std::map<std::string, std::string> image;
    for (const Table& table : node.store->schema().tables) {
      std::string list;
      for (const Column& column : table.key)
        list += (list.empty() ? "" : ", ") + QuoteName(column.name);
      std::string all;
      for (const std::string& name : table.AllColumnNames()) all += ", " + QuoteName(name);
      class Sink final : public RowSink {
       public:
        Sink(std::map<std::string, std::string>* image, const Table* table)
            : image_(image), table_(table) {}
        bool OnColumns(const std::vector<std::string>&) override { return true; }
        bool OnRow(const std::vector<crdt::ValueView>& values) override {
          const auto keys = static_cast<std::ptrdiff_t>(table_->key.size());
          (*image_)[table_->name +
                    crdt::PackValues(std::vector(values.begin(), values.begin() + keys))] =
              crdt::PackValues(std::vector(values.begin() + keys, values.end()));
          return true;
        }
        std::map<std::string, std::string>* image_;
        const Table* table_;
      } sink(&image, &table);
      EXPECT_TRUE(
          node.reader
              ->Query({"SELECT " + list + all + " FROM " + QuoteName(table.name), {}, {}}, {}, sink)
              .ok());
    }
    return image;
  }

  // The effects of the last commit take the image of before to the image of after.
  void FollowEffects(size_t index) {
    TestNode& node = *nodes_[index];
    if (node.effects.rows_unknown) {
      shadow_[index] = Image(node);
      return;
    }
    auto& shadow = shadow_[index];
    for (const RowEffect& effect : node.effects.rows) {
      const std::string name = node.store->schema().tables[effect.table].name + effect.key;
      const auto found = shadow.find(name);
      ASSERT_EQ(found != shadow.end(), effect.before.has_value())
          << DescribeEffects(node.effects, node.store->schema());
      if (effect.before) {
        ASSERT_EQ(DescribeKey(found->second), DescribeKey(*effect.before));
      }
      if (effect.after) {
        shadow[name] = *effect.after;
      } else {
        shadow.erase(name);
      }
    }
    ASSERT_EQ(shadow, Image(node)) << DescribeEffects(node.effects, node.store->schema());
  }

  void Check(size_t index) {
    TestNode& node = *nodes_[index];
    OracleState expected;
    for (const auto& [id, bytes] : record_) {
      if (node.store->applied().Contains(id)) JoinInto(expected, SaysOf(bytes));
    }
    ASSERT_EQ(node.Dump(), Visible(expected, node.options.schema)) << "node " << index;
    ASSERT_EQ(node.store->received().Size(),
              node.store->applied().Size() + node.store->Parked().size());
    ASSERT_THAT(ForeignRowsOf(*node.store, 1), ::testing::IsEmpty()) << "node " << index;
  }

  void Reopen(TestNode& node, bool crash) {
    crash ? node.Crash() : node.Close();
    node.options.seed = rng_.Next() | 1;
    node.Open();
  }

  std::string Value() {
    if (rng_.Chance(0.2)) return UnusualValue();
    return Pick(rng_, {"NULL", "1", "2", "1.0", "2.5", "'x'", "'12'", "x'00ff'", "'d'", "'late'",
                       "7", "3", "-9", "1.5"});
  }

  /// Text with a NUL and text that is no UTF-8, a blob over many pages, both zeros, NaN (a NULL to
  /// SQLite), infinity, an integer that no double holds, and what is empty.
  std::string UnusualValue() {
    return Pick(rng_, {"CAST(x'610062' AS TEXT)", "CAST(x'ff41' AS TEXT)", "zeroblob(20000)", "0.0",
                       "-0.0", "0", "9e999 - 9e999", "-9e999", "9007199254740993", "''", "x''"});
  }

  static bool HasPairKey(const std::string& table) { return table == "pairs" || table == "places"; }

  std::string Key(const std::string& table) {
    if (table == "numbers") return Pick(rng_, {"0", "1", "2", "7"});
    if (HasPairKey(table)) return Pick(rng_, {"'p', 1", "'p', 2", "'q', 1"});
    if (table == "blobs") return Pick(rng_, {"x''", "x'00ff'", "x'6b31'", "'k1'"});
    return Pick(rng_, {"'k1'", "'k2'", "'k3'"});
  }

  std::string Where(const std::string& table) {
    if (rng_.Chance(0.1)) return "";
    return HasPairKey(table) ? " WHERE (x, y) = (" + Key(table) + ")" : " WHERE id = " + Key(table);
  }

  std::string Statement(const TestNode& node) {
    const auto& tables = node.options.schema.tables;
    const Table& table = tables[rng_.Below(tables.size())];
    const std::string name = table.name, key_names = HasPairKey(name) ? "x, y" : "id";
    auto column = [&] { return table.columns[rng_.Below(table.columns.size())].name; };
    const std::string some = table.columns.empty() ? "" : column();
    const std::string insert = "INTO " + name + " (" + key_names +
                               (some.empty() ? "" : ", " + some) + ") VALUES (" + Key(name) +
                               (some.empty() ? "" : ", " + Value()) + ")";
    switch (rng_.Below(16)) {
      case 0:
      case 1:
        return "INSERT OR IGNORE " + insert;
      case 14:
        return "DELETE FROM " + name + Where(name) + " RETURNING *";
      case 15:
        if (some.empty()) return "INSERT OR IGNORE " + insert + " RETURNING *";
        return "UPDATE OR IGNORE " + name + " SET " + some + " = source.v FROM (SELECT " + Value() +
               " AS v) AS source" + Where(name);
      case 2:
        return "INSERT OR REPLACE " + insert;
      case 3:
        if (some.empty()) return "REPLACE " + insert;
        return "INSERT " + insert + " ON CONFLICT DO UPDATE SET " + some + " = excluded." + some;
      case 4:
        return "DELETE FROM " + name + Where(name);
      case 5:
        return "REPLACE INTO " + name + " SELECT * FROM " + name + Where(name);
      case 6:
        return table.without_rowid
                   ? "INSERT OR IGNORE " + insert
                   : "UPDATE OR REPLACE " + name +
                         " SET rowid = " + Pick(rng_, {"1", "2", "7", "50"}) + Where(name);
      case 7:
        if (HasPairKey(name)) return "UPDATE OR REPLACE " + name + " SET y = 3 - y WHERE x = 'p'";
        return "UPDATE OR REPLACE " + name + " SET id = " + Key(name) + " WHERE id = " + Key(name);
      case 8:
        return "INSERT " + insert;
      case 9:
        if (rng_.Chance(0.3)) return "INSERT OR ROLLBACK " + insert;
        return "INSERT OR FAIL " + insert;
      default:
        if (some.empty()) return "INSERT OR IGNORE " + insert;
        return "UPDATE OR IGNORE " + name + " SET " + some + " = " + Value() +
               (rng_.Chance(0.3) ? ", " + column() + " = " + Value() : "") + Where(name);
    }
  }

  Transaction RandomTransaction(const TestNode& node) {
    Transaction transaction;
    const uint64_t count = 1 + rng_.Below(4);
    bool open = false;
    for (uint64_t i = 0; i < count; ++i) {
      if (rng_.Chance(0.15)) {
        transaction.statements.push_back({open ? "ROLLBACK TO a" : "SAVEPOINT a", {}, {}});
        open = true;
      } else if (rng_.Chance(0.02)) {  // which may have none
        transaction.statements.push_back(
            {rng_.Chance(0.5) ? "RELEASE a" : "ROLLBACK TO a", {}, {}});
      }
      transaction.statements.push_back({Statement(node), {}, {}});
    }
    return transaction;
  }

  /// What one transaction alone says, from the rows before and after: model.py's write().
  void CheckWrite(const std::map<std::string, std::string>& before,
                  const std::map<std::string, std::string>& after, const Committed& committed,
                  const Schema& schema) {
    OracleState says;
    if (committed.version != 0) says = SaysOf(record_[{committed.actor, committed.version}]);
    std::set<std::string> named;
    for (const auto& [name, row] : says) {
      const std::string full = name.first + name.second;
      named.insert(full);
      const Table& table = *schema.Find(name.first);
      const auto old = before.find(full), now = after.find(full);
      const bool had = old != before.end(), has = now != after.end(),
                 exists = row.exists.version != 0;
      ASSERT_EQ(exists && !row.alive, had && !has);
      if (!has) continue;
      if (!had) {
        ASSERT_TRUE(exists && row.alive);
      }
      ASSERT_FALSE(had && old->second == now->second) << "a row that did not change is sent";
      if (exists || table.merge_row) {
        ASSERT_EQ(row.cells.size(), table.columns.size());
        continue;
      }
      std::vector<crdt::ValueView> o, n;
      ASSERT_TRUE(crdt::UnpackValues(old->second, 64, &o) &&
                  crdt::UnpackValues(now->second, 64, &n));
      const auto names = table.AllColumnNames();
      for (size_t i = 0; i < names.size(); ++i)
        ASSERT_EQ(row.cells.contains(names[i]), !(o[i] == n[i])) << names[i];
    }
    for (const auto& [name, values] : before) {
      const auto now = after.find(name);
      if (now == after.end() || now->second != values) {
        ASSERT_TRUE(named.contains(name)) << "a change was not captured";
      }
    }
    for (const auto& [name, values] : after) {
      if (!before.contains(name)) {
        ASSERT_TRUE(named.contains(name)) << "an insert was not captured";
      }
    }
  }

  void Write(size_t index) {
    TestNode& node = *nodes_[index];
    std::vector<Transaction> group;
    const uint64_t count = rng_.Chance(0.5) ? 1 : 1 + rng_.Below(3);
    for (uint64_t i = 0; i < count; ++i) group.push_back(RandomTransaction(node));
    if (count == 1 && rng_.Chance(0.3)) {
      group[0].large = true;
      std::erase_if(group[0].statements, [](const auto& statement) {
        return statement.sql.find("SAVEPOINT") == 0 || statement.sql.find("ROLLBACK") == 0 ||
               statement.sql.find("RELEASE") == 0;
      });
    }
    for (const Transaction& transaction : group) {
      for (const auto& statement : transaction.statements)
        trace_ += StrCat("\n  node ", index, ": ", statement.sql);
      trace_ += transaction.large ? "; (large)" : ";";
    }
    const auto before = Image(node);
    const uint64_t last_seq = node.store->last_seq();
    uint64_t version = node.store->applied().Head(node.store->actor()), logged = 0;
    std::vector<Result<Committed>> results = node.Run(group);
    for (const Result<Committed>& result : results) {
      if (!result.ok()) {
        if (result.error().message.find("no such savepoint") == std::string::npos) {
          ASSERT_EQ(result.error().code, Errc::kFailedPrecondition) << result.error().ToString();
        }
        trace_ += " failed";
        continue;
      }
      if (result->version == 0) continue;
      const ChangeId id{result->actor, result->version};
      SharedBytes bytes = result->changeset;
      if (group[0].large) {
        large_[id] = ReadLarge(node, id);
        bytes = large_[id].manifest;
      }
      trace_ += " -> " + DescribeAny(bytes);
      ++logged;
      ASSERT_EQ(result->version, ++version);
      ASSERT_EQ(result->seq, last_seq + logged);
      ASSERT_TRUE(record_.emplace(id, bytes).second) << "a version is used twice";
      for (size_t other = 0; other < nodes_.size(); ++other) {
        const uint64_t copies = other == index ? 0 : rng_.Below(3);
        for (uint64_t i = 0; i < copies; ++i) wires_[other].push_back(bytes);
      }
    }
    ASSERT_EQ(node.store->last_seq(), last_seq + logged);
    if (count == 1 && results[0].ok())
      CheckWrite(before, Image(node), *results[0], node.store->schema());
    FollowEffects(index);
  }

  /// What a changeset or a manifest says.
  OracleState SaysOf(const SharedBytes& bytes) {
    if (!crdt::IsManifest(*bytes)) return Says(bytes);
    return Says(large_.at(crdt::PeekChangesetHeader(*bytes)->id));
  }

  std::string DescribeAny(const SharedBytes& bytes) {
    if (!crdt::IsManifest(*bytes)) return Describe(bytes);
    std::string text = "large:";
    for (const SharedBytes& chunk : large_.at(crdt::PeekChangesetHeader(*bytes)->id).chunks)
      text += " " + Describe(chunk) + ";";
    return text;
  }

  /// Now and then only a part is fetched.
  void DeliverLarge(size_t index, const SharedBytes& manifest) {
    const ChangeId id = crdt::PeekChangesetHeader(*manifest)->id;
    const LargeChange& change = large_.at(id);
    TestNode& node = *nodes_[index];
    if (rng_.Chance(0.3)) {
      const auto first = node.store->StageLarge(*manifest);
      ASSERT_TRUE(first.ok()) << first.error().ToString();
      if (*first < change.chunks.size()) {
        ASSERT_TRUE(node.store->StageLargeChunk(id, *first, *change.chunks[*first]).ok());
      }
      return;
    }
    const auto outcome = TakeLarge(node, change);
    ASSERT_TRUE(outcome.ok()) << outcome.error().ToString();
    ASSERT_NE(outcome->state, MergeState::kRejected) << outcome->reason;
    FollowEffects(index);
  }

  void Deliver(size_t index) {
    auto& wires = wires_[index];
    std::vector<SharedBytes> batch;
    for (uint64_t i = 1 + rng_.Below(6); i > 0 && !wires.empty(); --i) {
      const auto at = static_cast<std::ptrdiff_t>(rng_.Below(wires.size()));
      batch.push_back(wires[static_cast<size_t>(at)]);
      if (rng_.Chance(0.8)) wires.erase(wires.begin() + at);
    }
    if (batch.empty()) return;
    trace_ += StrCat("\n  node ", index, " merges:");
    for (const auto& bytes : batch) trace_ += " [" + DescribeAny(bytes) + "]";
    const auto small = std::stable_partition(
        batch.begin(), batch.end(), [](const auto& bytes) { return crdt::IsManifest(*bytes); });
    for (auto bytes = batch.begin(); bytes != small; ++bytes) DeliverLarge(index, *bytes);
    batch.erase(batch.begin(), small);
    for (const MergeOutcome& outcome : nodes_[index]->Merge(batch)) {
      ASSERT_NE(outcome.state, MergeState::kRejected) << outcome.reason;
    }
    FollowEffects(index);
  }

  void Transfer(size_t from_index, size_t to_index) {
    TestNode &from = *nodes_[from_index], &to = *nodes_[to_index];
    if (from.store->schema().Hash() != to.store->schema().Hash()) return;
    trace_ += StrCat("\n  node ", from_index, " sends its difference to node ", to_index);
    const auto chunks = TransferChunks(from, to.store->applied(), 1 + rng_.Below(200));
    const crdt::VersionSet claimed = from.store->applied();
    if (rng_.Chance(0.5)) Deliver(to_index);  // meanwhile
    const Status status = TakeTransfer(to, chunks);
    ASSERT_TRUE(status.ok()) << status.error().ToString();
    ASSERT_TRUE(claimed.IsSubsetOf(to.store->applied()));
    FollowEffects(to_index);
  }

  void Step() {
    const size_t index = static_cast<size_t>(rng_.Below(nodes_.size()));
    TestNode& node = *nodes_[index];
    for (auto& each : nodes_) each->clock.AdvanceMs(rng_.Between(0, 3));
    const uint64_t lot = rng_.Below(100);
    if (lot < 50) {
      Write(index);
    } else if (lot < 80) {
      Deliver(index);
    } else if (lot < 85) {
      trace_ += StrCat("\n  node ", index, " checkpoints");
      ASSERT_TRUE(node.store->Checkpoint().ok());
    } else if (lot < 93) {
      const bool crash = rng_.Chance(0.7), upgrade = rng_.Chance(0.3);
      trace_ += StrCat("\n  node ", index, crash ? " crashes" : " restarts",
                       upgrade ? " and upgrades" : "");
      const auto digests = node.Digests();
      if (upgrade) node.options.schema = new_;
      Reopen(node, crash);
      shadow_[index] = Image(node);
      if (!upgrade) {
        ASSERT_EQ(node.Digests(), digests) << "node " << index;
      }
    } else {
      Transfer(index, (index + 1 + rng_.Below(2)) % nodes_.size());
    }
    if (!::testing::Test::HasFatalFailure()) Check(index);
    if (::testing::Test::HasFailure()) ADD_FAILURE() << "history:" << trace_;
  }

  void Heal() {
    OracleState all;
    for (const auto& [id, bytes] : record_) JoinInto(all, SaysOf(bytes));
    std::vector<SharedBytes> everything;
    for (const auto& [id, bytes] : record_) everything.push_back(bytes);
    for (size_t i = 0; i < nodes_.size(); ++i) {
      nodes_[i]->options.schema = new_;
      Reopen(*nodes_[i], rng_.Chance(0.5));
      rng_.Shuffle(everything);
      const auto small =
          std::stable_partition(everything.begin(), everything.end(),
                                [](const auto& bytes) { return crdt::IsManifest(*bytes); });
      for (auto bytes = everything.begin(); bytes != small; ++bytes) {
        ASSERT_TRUE(TakeLarge(*nodes_[i], large_.at(crdt::PeekChangesetHeader(**bytes)->id)).ok());
      }
      nodes_[i]->Merge({small, everything.end()});
      Check(i);
      EXPECT_EQ(nodes_[i]->store->Parked().size(), 0u);
      EXPECT_EQ(nodes_[i]->Digests(), nodes_[0]->Digests());
      EXPECT_EQ(nodes_[i]->store->applied().digest(), nodes_[0]->store->applied().digest());
      if (i == 0 || rng_.Chance(0.1)) {
        EXPECT_EQ(LiveCells(*nodes_[i], all), LiveCells(all, new_));
      }
      const auto digests = nodes_[i]->Digests();
      Reopen(*nodes_[i], true);
      EXPECT_EQ(nodes_[i]->Digests(), digests);
    }
    if (::testing::Test::HasFailure()) ADD_FAILURE() << "history:" << trace_;
  }

  Rng rng_;
  Schema old_, new_;
  std::vector<std::unique_ptr<TestNode>> nodes_;
  std::vector<std::map<std::string, std::string>> shadow_;
  std::map<ChangeId, SharedBytes> record_;  // changesets, manifests of large transactions
  std::map<ChangeId, LargeChange> large_;
  std::map<size_t, std::vector<SharedBytes>> wires_;
  std::string trace_;
};

TEST(ModelTest, AnyHistoryGivesTheJoinOfWhatIsAppliedOnEveryNode) {
  ForEachSeed("PATINA_MODEL", 120, [](uint64_t seed) { World(seed).Run(50); });
}

}  // namespace
}  // namespace patina::storage

#include "storage/db.h"
#include "tests/storage/test_util.h"

// What clients and peers send that is wrong: refused or parked with a reason, and nothing else
// happens.

namespace patina::storage {
namespace {

using crdt::Says;
using crdt::Value;

constexpr const char* kSchema = R"sql(
CREATE TABLE t (id TEXT NOT NULL PRIMARY KEY, a, b TEXT DEFAULT 'd', i INTEGER, r REAL, n INTEGER
                    NOT NULL DEFAULT 5);
CREATE TABLE s (id TEXT PRIMARY KEY, i INTEGER) STRICT;
CREATE TABLE k (id INTEGER PRIMARY KEY, a);
)sql";

class BadInputTest : public ::testing::Test {
 protected:
  Error Refused(const std::string& sql) {
    const auto result = node_.Try({sql});
    EXPECT_FALSE(result.ok()) << sql;
    return result.ok() ? Error() : result.error();
  }
  /// One row's word of a made-up writer.
  SharedBytes Make(std::string_view table, const std::vector<Value>& key, const std::string& column,
                   const Value& value) {
    return MakeRaw(table, key.size(), crdt::PackValues(key), {{column, 0}}, {value});
  }
  SharedBytes MakeRaw(std::string_view table, size_t keys, std::string_view key,
                      const std::vector<crdt::ColumnName>& columns,
                      const std::vector<Value>& values) {
    ActorId actor;
    actor.bytes[3] = 9;
    crdt::ChangesetBuilder builder(
        {{actor, ++version_}, crdt::HlcTime::FromMs(1'800'000'000'000), 0});
    builder.BeginTable(table, keys, columns);
    std::vector<crdt::ColumnIndex> positions;
    for (size_t i = 0; i < values.size(); ++i) {
      positions.push_back(static_cast<crdt::ColumnIndex>(i));
    }
    builder.AddRow(Says::kAlive, key, positions,
                   std::vector<crdt::ValueView>(values.begin(), values.end()));
    return Share(std::move(builder).Finish());
  }
  /// The same of another writer.
  static SharedBytes By(uint8_t writer, const SharedBytes& bytes) {
    std::string copy = *bytes;
    copy[1] = static_cast<char>(writer);  // the actor follows the format's byte
    return Share(copy);
  }
  std::vector<std::string> ActorsInFile() { return node_.Rows("SELECT actor FROM __patina_actor"); }
  MergeOutcome MergeOne(const SharedBytes& bytes) { return node_.Merge(std::vector{bytes})[0]; }

  TestNode node_{MustParse(kSchema)};
  uint64_t version_ = 0;
};

// ---- Clients ------------------------------------------------------------------------------------

TEST_F(BadInputTest, WrongSqlIsTheClientsFaultAndSaysWhere) {
  for (const auto& [sql, words] : std::vector<std::pair<std::string, std::string>>{
           {"SELEC 1", "near \"SELEC\": syntax error"},
           {"INSERT INTO none VALUES (1)", "no such table: none"},
           {"UPDATE t SET nope = 1", "no such column: nope"},
           {"", "empty"},
           {" -- nothing", "empty"},
           {"SELECT 1; SELECT 2", "several statements"},
           {"UPDATE t SET a = \"quoted\"", "no such column"},
           {std::string("SELECT 1\0", 9), "NUL"}}) {
    const Error error = Refused(sql);
    EXPECT_EQ(error.code, Errc::kInvalidArgument) << sql;
    EXPECT_THAT(error.message, ::testing::HasSubstr(words));
  }
  EXPECT_TRUE(node_.Try({"SELECT 1; -- and a comment"}).ok());
}

TEST_F(BadInputTest, WhatIsNotForClientsIsDenied) {
  for (const auto& [sql, words] : std::vector<std::pair<std::string, std::string>>{
           {"PRAGMA journal_mode = DELETE", "PRAGMA"},
           {"ATTACH ':memory:' AS x", "ATTACH"},
           {"DETACH main", "DETACH"},
           {"BEGIN", "BEGIN"},
           {"COMMIT", "transaction already"},
           {"ROLLBACK", "transaction already"},
           {"VACUUM", "VACUUM"},
           {"CREATE TABLE x (a)", "schema"},
           {"CREATE TEMP TABLE x (a)", "schema"},
           {"DROP TABLE t", ""},
           {"ALTER TABLE t ADD COLUMN x", ""},
           {"CREATE INDEX x ON t (a)", ""},
           {"REINDEX", ""},
           {"ANALYZE", ""},
           {"CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END", ""},
           {"CREATE VIEW v AS SELECT 1", ""},
           {"DELETE FROM __patina_log", "internal"},
           {"UPDATE __PATINA_state SET value = 1", "internal"},
           {"INSERT INTO __patina_clock_t VALUES (1, x'')", "internal"},
           {"DELETE FROM sqlite_schema", ""},
           {"SAVEPOINT __patina_tx", "reserved"},
           {"RELEASE __PATINA_TX", "reserved"},
           {"ROLLBACK TO __Patina_tx", "reserved"},
           {"SELECT load_extension('x')", ""}}) {
    const Error error = Refused(sql);
    EXPECT_THAT(error.code, ::testing::AnyOf(Errc::kPermissionDenied, Errc::kInvalidArgument))
        << sql << error.ToString();
    EXPECT_THAT(error.message, ::testing::HasSubstr(words)) << sql;
  }
  EXPECT_EQ(node_.Do("INSERT INTO t (id) VALUES ('still works')").version, 1u);
  EXPECT_TRUE(node_.Try({"SELECT * FROM __patina_log"}).ok()) << "reading is free";
}

TEST_F(BadInputTest, ParametersMustBeExactlyTheStatements) {
  EXPECT_THAT(
      node_.TryWith("INSERT INTO t (id, a) VALUES (?, ?)", {Value::Text("k")}).error().message,
      ::testing::HasSubstr("has 2 parameters, 1 given"));
  EXPECT_EQ(node_.TryWith("DELETE FROM t", {Value::Null()}).error().code, Errc::kInvalidArgument);
  Transaction named;
  named.statements.push_back(
      {"INSERT INTO t (id, a) VALUES (:id, @a)", {}, {{":id", Value::Text("k")}}});
  EXPECT_THAT(node_.Run({named})[0].error().message,
              ::testing::HasSubstr("no value for parameter @a"));
  named.statements[0].named.emplace_back("@a", Value::Integer(1));
  EXPECT_TRUE(node_.Run({named})[0].ok());
  named.statements[0].named.emplace_back(":other", Value::Integer(1));
  EXPECT_THAT(node_.Run({named})[0].error().message, ::testing::HasSubstr(":other"));
  named.statements[0].positional.push_back(Value::Null());
  EXPECT_THAT(node_.Run({named})[0].error().message, ::testing::HasSubstr("not both"));
}

TEST_F(BadInputTest, ParametersOfTheLastRunAreNotSeenByTheNext) {
  ASSERT_TRUE(
      node_
          .TryWith("INSERT INTO t (id, a) VALUES (?, ?)", {Value::Text("k"), Value::Text("secret")})
          .ok());
  EXPECT_FALSE(node_.TryWith("INSERT INTO t (id, a) VALUES (?, ?)", {Value::Text("l")}).ok());
}

TEST_F(BadInputTest, NullInAKeyOrANotNullColumnIsRefused) {
  EXPECT_EQ(Refused("INSERT INTO t (id) VALUES (NULL)").code, Errc::kFailedPrecondition);
  EXPECT_EQ(Refused("INSERT INTO t (id, n) VALUES ('k', NULL)").code, Errc::kFailedPrecondition);
}

// ---- Peers --------------------------------------------------------------------------------------

TEST_F(BadInputTest, GarbageAndFlippedBitsAreNeverClaimedUnlessTheyMakeSense) {
  TestNode sender(node_.options.schema);
  const SharedBytes good =
      sender
          .Do({"INSERT INTO t VALUES ('k', x'00', 'text', 1, 1.5, 2), ('l', NULL, NULL, NULL, "
               "NULL, 0)",
               "INSERT INTO k VALUES (7, 'x')"})
          .changeset;
  Rng rng(3);
  int applied = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string bad = *good;
    if (round % 3 == 0) {
      bad.resize(static_cast<size_t>(rng.Below(bad.size())));
    } else if (round % 3 == 1) {
      for (char& c : bad) c = rng.Chance(0.02) ? static_cast<char>(rng.Below(256)) : c;
    } else {
      bad = std::string(static_cast<size_t>(rng.Below(60)), '\0');
      for (char& c : bad) c = static_cast<char>(rng.Below(256));
      if (!bad.empty()) bad[0] = 1;
    }
    const uint64_t size = node_.store->received().Size();
    const MergeOutcome outcome = MergeOne(Share(bad));
    applied += outcome.state == MergeState::kApplied ? 1 : 0;
    const bool taken =
        outcome.state == MergeState::kApplied || outcome.state == MergeState::kParked;
    ASSERT_EQ(node_.store->received().Size(), size + (taken ? 1 : 0));
    ASSERT_TRUE(outcome.state != MergeState::kRejected || !outcome.reason.empty());
    ASSERT_FALSE(node_.store->broken());
  }
  EXPECT_GT(applied, 0) << "a letter of a value may be another letter";
  const auto rows = node_.Dump();
  const auto digests = node_.Digests();
  node_.CrashAndOpen();
  EXPECT_EQ(node_.Dump(), rows);
  EXPECT_EQ(node_.Digests(), digests);
}

TEST_F(BadInputTest, AGoodChangesetBesideBadOnesIsApplied) {
  const auto outcomes =
      node_.Merge({Share("rubbish"), Make("t", {Value::Text("k")}, "a", Value::Integer(1)),
                   Make("nope", {Value::Text("k")}, "a", Value::Integer(1)), Share("")});
  EXPECT_EQ(outcomes[0].state, MergeState::kRejected);
  EXPECT_EQ(outcomes[1].state, MergeState::kApplied);
  EXPECT_EQ(outcomes[2].state, MergeState::kParked);
  EXPECT_EQ(outcomes[2].reason, "unknown table nope");
  EXPECT_EQ(outcomes[3].state, MergeState::kRejected);
}

TEST_F(BadInputTest, MalformedKeysAreParkedWithAReason) {
  EXPECT_THAT(MergeOne(Make("t", {Value::Null()}, "a", Value::Null())).reason,
              ::testing::HasSubstr("is NULL"));
  EXPECT_THAT(MergeOne(Make("t", {Value::Integer(1)}, "a", Value::Null())).reason,
              ::testing::HasSubstr("would change"));
  EXPECT_THAT(MergeOne(Make("k", {Value::Text("x")}, "a", Value::Null())).reason,
              ::testing::HasSubstr("rowid"));
  EXPECT_THAT(MergeOne(Make("t", {Value::Text("a"), Value::Text("b")}, "a", Value::Null())).reason,
              ::testing::HasSubstr("another key"));
  EXPECT_EQ(MergeOne(MakeRaw("t", 1, "", {{"a", 0}}, {Value::Null()})).state,
            MergeState::kRejected);
  EXPECT_EQ(
      MergeOne(MakeRaw("t", 1, std::string("\x01\x03\x81\x00k", 5), {{"a", 0}}, {Value::Null()}))
          .state,
      MergeState::kRejected)
      << "a second spelling of a key";
  EXPECT_TRUE(node_.Dump().empty());
}

TEST_F(BadInputTest, ValuesThatTheColumnWouldChangeAreParked) {
  const std::vector<std::pair<std::string, Value>> changed = {
      {"b", Value::Integer(1)}, {"i", Value::Text("12")},    {"i", Value::Text(" 1e3 ")},
      {"i", Value::Real(2.0)},  {"i", Value::Real(9.22e18)}, {"r", Value::Integer(1)},
      {"r", Value::Text(".5")}, {"n", Value::Null()},        {"i", Value::Text("5.")}};
  for (const auto& [column, value] : changed) {
    EXPECT_EQ(MergeOne(Make("t", {Value::Text("k")}, column, value)).state, MergeState::kParked)
        << column << value.ToString();
  }
  EXPECT_EQ(MergeOne(Make("s", {Value::Text("k")}, "i", Value::Text("x"))).state,
            MergeState::kParked);
}

TEST_F(BadInputTest, ValuesThatTheColumnKeepsAreAppliedExactly) {
  const std::vector<std::pair<std::string, Value>> kept = {
      {"i", Value::Text("0x10")},
      {"i", Value::Text("inf")},
      {"i", Value::Text("nan")},
      {"i", Value::Text("1e")},
      {"i", Value::Text("")},
      {"i", Value::Real(1e19)},
      {"i", Value::Real(2.5)},
      {"i", Value::Blob("12")},
      {"b", Value::Blob("1")},
      {"r", Value::Text("x")},
      {"a", Value::Text("12")},
      {"a", Value::Real(3.0)},
      {"i", Value::Real(-9223372036854775808.0)},
      {"r", Value::Real(1e300)},
      {"i", Value::Text(std::string("1\0", 2))}};
  for (const auto& [column, value] : kept) {
    const std::string key = column + value.ToString();
    const MergeOutcome outcome = MergeOne(Make("t", {Value::Text(key)}, column, value));
    EXPECT_EQ(outcome.state, MergeState::kApplied) << outcome.reason;
  }
  const auto digests = node_.Digests();
  node_.CrashAndOpen();  // digests made anew from what SQLite stored
  EXPECT_EQ(node_.Digests(), digests);
}

TEST_F(BadInputTest, AColumnNamedTwiceIsRejected) {
  EXPECT_EQ(MergeOne(MakeRaw("t", 1, crdt::PackValues(std::vector{Value::Text("k")}),
                             {{"a", 0}, {"a", 0}}, {Value::Integer(1), Value::Integer(2)}))
                .state,
            MergeState::kRejected);
}

TEST_F(BadInputTest, ARejectedChangesetLeavesNoActorBehind) {
  node_.options.limits.parked_changesets_max = 1;
  node_.CloseAndOpen();
  const SharedBytes good = Make("t", {Value::Text("k")}, "a", Value::Integer(1));
  ASSERT_EQ(MergeOne(good).state, MergeState::kApplied);
  const SharedBytes unknown = Make("nope", {Value::Text("k")}, "a", Value::Null());
  ASSERT_EQ(MergeOne(unknown).state, MergeState::kParked);
  const auto actors = ActorsInFile();
  ASSERT_EQ(actors.size(), 1u);
  const SharedBytes cut = Share(good->substr(0, good->size() - 1)), more = Share(*good + "x"),
                    twice = MakeRaw("t", 1, crdt::PackValues(std::vector{Value::Text("k")}),
                                    {{"a", 0}, {"a", 0}}, {Value::Null(), Value::Null()});
  uint8_t writer = 1;
  for (const SharedBytes& bad : {cut, more, twice, unknown}) {
    EXPECT_EQ(MergeOne(By(writer++, bad)).state, MergeState::kRejected);
  }
  const auto outcomes =  // and beside a good one
      node_.Merge({By(writer++, cut), Make("t", {Value::Text("l")}, "a", Value::Integer(1)),
                   By(writer++, unknown), By(writer++, more)});
  EXPECT_EQ(outcomes[1].state, MergeState::kApplied);
  EXPECT_EQ(ActorsInFile(), actors);
  ASSERT_EQ(MergeOne(By(writer, good)).state, MergeState::kApplied);
  EXPECT_EQ(ActorsInFile().size(), 2u);
}

TEST_F(BadInputTest, AChangesetOfAnUnknownTableIsParkedOnlyIfItIsWellFormed) {
  const SharedBytes good = Make("nope", {Value::Text("k")}, "a", Value::Null());
  for (size_t size = 0; size < good->size(); ++size) {
    EXPECT_EQ(MergeOne(Share(good->substr(0, size))).state, MergeState::kRejected) << size;
  }
  EXPECT_EQ(MergeOne(Share(*good + "x")).state, MergeState::kRejected);
  EXPECT_EQ(MergeOne(good).state, MergeState::kParked);
}

TEST_F(BadInputTest, AnOversizeChangesetIsRejected) {
  node_.options.limits.changeset.bytes_max = 100;
  node_.CloseAndOpen();
  EXPECT_EQ(MergeOne(Make("t", {Value::Text("k")}, "a", Value::Text(std::string(200, 'x')))).state,
            MergeState::kRejected);
}

TEST_F(BadInputTest, AChangeFromTheFutureWaitsAndIsNeverLost) {
  TestNode ahead(node_.options.schema, 1'800'000'000'600);
  const SharedBytes bytes = ahead.Do("INSERT INTO t (id) VALUES ('k')").changeset;
  const MergeOutcome outcome = MergeOne(bytes);
  EXPECT_EQ(outcome.state, MergeState::kParked);
  EXPECT_THAT(outcome.reason, ::testing::HasSubstr("future"));
  EXPECT_EQ(MergeOne(bytes).state, MergeState::kDuplicate);
  EXPECT_TRUE(node_.store->received().Contains(outcome.id));
  const auto held = node_.reader->ReadLog({{outcome.id.actor, {{1, 1}}}}, 1 << 20);
  EXPECT_EQ(held->changes.size(), 1u) << "others may need it";
  EXPECT_TRUE(node_.Settle().empty());
  node_.clock.AdvanceMs(100);
  EXPECT_EQ(node_.Settle(), std::vector{outcome.id});
  EXPECT_EQ(DescribeEffects(node_.effects, node_.store->schema()),
            "t('k'): none -> ('k'|NULL|'d'|NULL|NULL|5)");
  EXPECT_TRUE(node_.store->Parked().empty());
  EXPECT_EQ(node_.Digests(), ahead.Digests());
  EXPECT_TRUE(node_.Settle().empty());
}

TEST_F(BadInputTest, ClusterTimeDecidesWhatTheFutureIs) {
  TestNode ahead(node_.options.schema, 1'800'000'005'000);
  const SharedBytes bytes = ahead.Do("INSERT INTO t (id) VALUES ('k')").changeset;
  node_.store->SetClusterMinusSteady(1'800'000'005'000);  // the steady clock is at 0
  EXPECT_EQ(MergeOne(bytes).state, MergeState::kApplied);
}

TEST_F(BadInputTest, AJumpOfTheWallClockDoesNotReachTheStampsOnceClusterTimeIsKnown) {
  node_.store->SetClusterMinusSteady(1'800'000'000'000);
  node_.clock.SetWallMs(1'800'000'030'000);
  node_.clock.AdvanceMs(7);
  EXPECT_EQ(node_.Do("INSERT INTO t (id) VALUES ('k')").time.ms(), 1'800'000'000'007);
}

TEST_F(BadInputTest, ParkingIsBoundedAndWhatDoesNotFitIsNotReceived) {
  node_.options.limits.parked_changesets_max = 2;
  node_.CloseAndOpen();
  std::vector<SharedBytes> batch;
  batch.reserve(3);
  for (int i = 0; i < 3; ++i) batch.push_back(Make("nope", {Value::Text("k")}, "a", Value::Null()));
  const auto outcomes = node_.Merge(batch);
  EXPECT_EQ(outcomes[1].state, MergeState::kParked);
  EXPECT_EQ(outcomes[2].state, MergeState::kRejected);
  EXPECT_FALSE(node_.store->received().Contains(outcomes[2].id));
  EXPECT_EQ(node_.store->Stats().parked_refused, 1u);
}

TEST_F(BadInputTest, ParkingIsBoundedInBytesToo) {
  const SharedBytes small = Make("nope", {Value::Text("k")}, "a", Value::Null());
  const SharedBytes large =
      Make("nope", {Value::Text("k")}, "a", Value::Text(std::string(5'000, 'x')));
  node_.options.limits.parked_bytes_max = small->size() + large->size() - 1;
  node_.CloseAndOpen();
  EXPECT_EQ(node_.Merge(small), MergeState::kParked);
  EXPECT_EQ(node_.Merge(large), MergeState::kRejected);
  EXPECT_EQ(node_.store->Stats().parked_refused, 1u);
  EXPECT_EQ(node_.store->Stats().parked_bytes, small->size());
  node_.options.limits.parked_bytes_max += 1;
  node_.CloseAndOpen();
  EXPECT_EQ(node_.Merge(large), MergeState::kParked);
}

// ---- Effects of a batch of which only a part is applied -----------------------------------------

class HalfBatchTest : public BadInputTest {
 protected:
  SharedBytes Row(const std::string& id, int64_t a) {
    return Make("t", {Value::Text(id)}, "a", Value::Integer(a));
  }
  std::string Effects() const { return DescribeEffects(node_.effects, node_.store->schema()); }
  std::vector<std::string> TablesChanged() const {
    std::vector<std::string> names;
    for (size_t i = 0; i < node_.effects.tables_changed.size(); ++i) {
      if (node_.effects.tables_changed[i]) names.push_back(node_.store->schema().tables[i].name);
    }
    return names;
  }
  std::vector<MergeState> States(const std::vector<SharedBytes>& batch) {
    std::vector<MergeState> states;
    for (const MergeOutcome& outcome : node_.Merge(batch)) states.push_back(outcome.state);
    return states;
  }
};

TEST_F(HalfBatchTest, WhatIsRejectedOrParkedBeforeTheCommitHasNoEffect) {
  node_.Do("INSERT INTO t (id, a) VALUES ('k', 0)");
  node_.clock.AdvanceMs(400);
  const SharedBytes whole = Row("r", 3);
  const SharedBytes cut = Share(whole->substr(0, whole->size() - 1));
  EXPECT_EQ(States({Row("m", 1), cut, Make("nope", {Value::Text("k")}, "a", Value::Null()),
                    Make("s", {Value::Text("k")}, "i", Value::Text("not a number")), Row("l", 2)}),
            (std::vector{MergeState::kApplied, MergeState::kRejected, MergeState::kParked,
                         MergeState::kParked, MergeState::kApplied}));
  EXPECT_EQ(Effects(),
            "t('l'): none -> ('l'|2|'d'|NULL|NULL|5); t('m'): none -> ('m'|1|'d'|NULL|NULL|5)");
  EXPECT_EQ(TablesChanged(), std::vector<std::string>{"t"});
  EXPECT_EQ(node_.effects.first_seq, 2u);
  EXPECT_EQ(node_.effects.last_seq, 3u);
  EXPECT_EQ(node_.Rows("SELECT id FROM t ORDER BY id"),
            (std::vector<std::string>{"'k'", "'l'", "'m'"}));
}

TEST_F(HalfBatchTest, WhatFailsInTheCommitHasNoEffectAndTheOthersHaveTheirs) {
  // Another program's index, which the schema would not have allowed.
  auto stranger = Db::Open(node_.options.path, Db::Mode::kReadWriteCreate);
  ASSERT_TRUE(stranger->Exec("CREATE UNIQUE INDEX strange ON t (a)").ok());
  ASSERT_EQ(MergeOne(Row("k", 1)).state, MergeState::kApplied);
  EXPECT_EQ(States({Row("l", 2), Row("m", 1), Row("n", 3),
                    Make("s", {Value::Text("k")}, "i", Value::Integer(4))}),
            (std::vector{MergeState::kApplied, MergeState::kParked, MergeState::kApplied,
                         MergeState::kApplied}));
  EXPECT_EQ(Effects(),
            "s('k'): none -> ('k'|4); t('l'): none -> ('l'|2|'d'|NULL|NULL|5); t('n'): none -> "
            "('n'|3|'d'|NULL|NULL|5)");
  EXPECT_EQ(TablesChanged(), (std::vector<std::string>{"s", "t"}));
  EXPECT_EQ(node_.effects.first_seq, 2u);
  EXPECT_EQ(node_.effects.last_seq, 4u);
  EXPECT_EQ(node_.Rows("SELECT id FROM t ORDER BY id"),
            (std::vector<std::string>{"'k'", "'l'", "'n'"}));
}

TEST_F(HalfBatchTest, ABatchOfWhichNothingIsAppliedHasNoEffects) {
  EXPECT_EQ(
      States({Make("nope", {Value::Text("k")}, "a", Value::Null()), Share("not a changeset")}),
      (std::vector{MergeState::kParked, MergeState::kRejected}));
  EXPECT_EQ(Effects(), "");
  EXPECT_EQ(TablesChanged(), std::vector<std::string>());
  EXPECT_LT(node_.effects.last_seq, node_.effects.first_seq);
}

}  // namespace
}  // namespace patina::storage

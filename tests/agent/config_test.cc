#include "agent/config.h"

#include <gtest/gtest.h>

#include <set>

#include "agent/config_keys.h"

namespace patina::agent {
namespace {

std::string ErrorOf(std::string_view toml, const std::vector<std::string>& environment = {}) {
  const auto config = ParseConfig(toml, "patina.toml", environment);
  return config.ok() ? "" : config.error().message;
}

TEST(ConfigTest, DefaultsNeedNoFile) {
  const auto config = ParseConfig("", "", {});
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_FALSE(config->node.name.empty());
  EXPECT_EQ(config->gossip.advertise, "127.0.0.1:7400");
  EXPECT_EQ(config->api.advertise, "127.0.0.1:7401");
  EXPECT_EQ(config->gossip_core.cluster, "patina");
  EXPECT_FALSE(config->fault_injection);
}

TEST(ConfigTest, EverySectionIsRead) {
  const auto config = ParseConfig(R"(
[node]
name = "fra-1"
region = "fra"
data_dir = "/tmp/x"
[schema]
paths = ["/etc/patina/schema", "b.sql"]
[gossip]
listen = "[fdaa::1]:7400"
advertise = "[fdaa::2]:7400"
seeds = ["fra-2.mesh:7400"]
cluster = "prod"
[api]
listen = ["127.0.0.1:0"]
[limits]
max_clock_skew_ms = 250
probe_interval_ms = 200
probe_timeout_ms_min = 20
readers = 2
[storage]
synchronous = "full"
[log]
level = "debug"
)",
                                  "patina.toml", {});
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_EQ(config->node.name, "fra-1");
  EXPECT_EQ(config->schema.paths.size(), 2u);
  EXPECT_EQ(config->gossip.advertise, "[fdaa::2]:7400");
  EXPECT_EQ(config->gossip_core.cluster, "prod");
  EXPECT_EQ(config->store.max_clock_skew_ms, 250);
  EXPECT_EQ(config->gossip_core.probe_interval, std::chrono::milliseconds(200));
  EXPECT_EQ(config->readers, 2u);
  EXPECT_TRUE(config->full_sync);
  EXPECT_EQ(config->log_level, "debug");
}

TEST(ConfigTest, AnUnknownKeyIsNamedWithItsPlaceAndTheNearestOne) {
  EXPECT_EQ(ErrorOf("[node]\nname = \"a\"\nregoin = \"fra\"\n"),
            "patina.toml:3:1: unknown key \"regoin\" in [node]; did you mean \"region\"?");
  EXPECT_EQ(ErrorOf("\n[limits]\n  raeders = 3\n"),
            "patina.toml:3:3: unknown key \"raeders\" in [limits]; did you mean \"readers\"?");
}

TEST(ConfigTest, AnUnknownSectionIsNamedWithItsPlace) {
  const std::string error = ErrorOf("[nodes]\nname = \"a\"\n");
  EXPECT_TRUE(error.starts_with("patina.toml:1:")) << error;
  EXPECT_NE(error.find("did you mean \"node\"?"), std::string::npos) << error;
}

TEST(ConfigTest, WrongTypesAndRangesAreNamedWithTheirPlace) {
  EXPECT_EQ(ErrorOf("[node]\nname = 7\n"), "patina.toml:2:8: node.name must be a string");
  EXPECT_EQ(ErrorOf("[limits]\nreaders = \"many\"\n"),
            "patina.toml:2:11: limits.readers must be a whole number");
  EXPECT_EQ(ErrorOf("[limits]\nreaders = 0\n"),
            "patina.toml:2:11: limits.readers must be within 1..256");
  EXPECT_EQ(ErrorOf("[schema]\npaths = [\"a\", 1]\n"),
            "patina.toml:2:15: schema.paths must be a list of strings");
  EXPECT_EQ(
      ErrorOf("[storage]\nsynchronous = \"off\"\n"),
      "patina.toml:2:15: storage.synchronous must be one of \"normal\", \"full\", not \"off\"");
}

TEST(ConfigTest, SyntaxErrorsHaveAPlace) {
  EXPECT_TRUE(ErrorOf("[node]\nname = \n").starts_with("patina.toml:2:"))
      << ErrorOf("[node]\nname = \n");
}

TEST(ConfigTest, WhatDoesNotFitTogetherIsRefusedWithItsPlace) {
  const auto at = [](std::string_view place, std::string_view toml) {
    const std::string error = ErrorOf(toml);
    EXPECT_TRUE(error.starts_with(place)) << error;
  };
  at("patina.toml:2:10: gossip.listen", "[gossip]\nlisten = \"host:7400\"\n");
  at("patina.toml:2:13: gossip.advertise", "[gossip]\nadvertise = \"host\"\n");
  at("patina.toml:2:9: gossip.seeds", "[gossip]\nseeds = [\"fra-2\"]\n");
  at("patina.toml:2:9: gossip.seeds", "[gossip]\nseeds = [\"wg:wg0\"]\n");
  at("patina.toml:2:11: gossip.cluster", "[gossip]\ncluster = \"\"\n");
  at("patina.toml:2:8: node.name", "[node]\nname = \"a b\"\n");
  at("patina.toml:3:10: node.region", "[node]\n\nregion = \"a,b\"\n");
  at("patina.toml:2:20: limits.suspicion_ms_min", "[limits]\nsuspicion_ms_min = 9000000\n");
  at("patina.toml:2:20: limits.suspicion_ms_min", "[limits]\nsuspicion_ms_max = 1\n");
  at("patina.toml:2:19: limits.frame_bytes_max", "[limits]\nframe_bytes_max = 100000\n");
  EXPECT_EQ(ErrorOf("[limits]\ntransaction_deadline_ms = 30000\n"),
            "patina.toml:2:27: limits.transaction_deadline_ms (30000) must be below "
            "limits.watchdog_timeout_ms (30000): lower the one or raise the other; 0 turns the "
            "watchdog off");
  at("patina.toml:2:23: limits.transaction_deadline_ms", "[limits]\nwatchdog_timeout_ms = 9999\n");
  EXPECT_EQ(ErrorOf("[limits]\ntransaction_deadline_ms = 99999\nwatchdog_timeout_ms = 0\n"), "");
  EXPECT_EQ(ErrorOf("[gossip]\nseeds = [\"a:1\"]\n", {"PATINA_GOSSIP_SEEDS=b"}),
            "PATINA_GOSSIP_SEEDS: gossip.seeds: \"b\" is not name:port");
}

TEST(ConfigTest, ListenersThatAreNotBuiltYetMayBeNamedIfEmpty) {
  EXPECT_EQ(ErrorOf("[api]\nhttp_listen = []\npostgres_listen = []\n"), "");
  EXPECT_EQ(ErrorOf("[api]\nhttp_listen = [\"127.0.0.1:80\"]\n"),
            "patina.toml:2:15: api.http_listen is not built yet: leave it empty");
  EXPECT_EQ(ErrorOf("[api]\npostgres_listen = [\"127.0.0.1:80\"]\n"),
            "patina.toml:2:19: api.postgres_listen is not built yet: leave it empty");
}

TEST(ConfigTest, TheEnvironmentOverridesTheFile) {
  const auto config = ParseConfig("[node]\nname = \"a\"\n", "patina.toml",
                                  {"PATINA_NODE_NAME=b", "PATINA_GOSSIP_SEEDS=x:1, y:2",
                                   "PATINA_LIMITS_READERS=7", "PATINA_API=unix:/x", "HOME=/root"});
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_EQ(config->node.name, "b");
  EXPECT_EQ(config->gossip.seeds, (std::vector<std::string>{"x:1", "y:2"}));
  EXPECT_EQ(config->readers, 7u);
  EXPECT_EQ(ErrorOf("", {"PATINA_LIMITS_READERS=x"}),
            "PATINA_LIMITS_READERS: limits.readers must be a whole number");
}

TEST(ConfigTest, KeysAreUniqueAndEachCanBeSet) {
  Config config;
  std::set<std::string> names;
  for (const ConfigKey& key : ConfigKeys(&config)) {
    EXPECT_TRUE(names.insert(EnvironmentName(key)).second) << key.name;
  }
  EXPECT_GT(names.size(), 60u);
}

}  // namespace
}  // namespace patina::agent

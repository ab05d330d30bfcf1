#include "proxy-sink/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace patina::proxy_sink {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Result<SinkConfig> Parse(std::string_view text, std::map<std::string, std::string> variables = {}) {
  return ParseConfig(text, "sink.toml", [=](const std::string& name) {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional<std::string>(found->second);
  });
}

TEST(SinkConfigTest, ReadsTheFileAndDefaults) {
  const auto config = Parse(
      "[sink]\nlisten = [\"127.0.0.1:1\", \"unix:/run/x\"]\nregion = \"ams\"\nagent = \"h:1\"\n");
  ASSERT_TRUE(config.ok());
  EXPECT_THAT(config->listen, ElementsAre("127.0.0.1:1", "unix:/run/x"));
  EXPECT_EQ(config->region, "ams");
  EXPECT_EQ(config->agent, "h:1");
  EXPECT_THAT(Parse("")->listen, ElementsAre("127.0.0.1:7410"));
}

TEST(SinkConfigTest, TheEnvironmentGoesOverTheFile) {
  const auto config =
      Parse("[sink]\nregion = \"ams\"\n", {{"PATINA_SINK_REGION", "fra"},
                                           {"PATINA_SINK_LISTEN", "a:1,b:2"},
                                           {"PATINA_SINK_AGENT_SILENCE_MS_MAX", "900"}});
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->region, "fra");
  EXPECT_THAT(config->listen, ElementsAre("a:1", "b:2"));
  EXPECT_EQ(config->agent_silence_ms_max, 900);
  EXPECT_FALSE(Parse("", {{"PATINA_SINK_AGENT_SILENCE_MS_MAX", "soon"}}).ok());
}

TEST(SinkConfigTest, ErrorsNameFileAndLine) {
  const std::pair<const char*, const char*> cases[] = {
      {"[sink]\nregion = \"a\"\nregoin = \"b\"\n", "sink.toml:3: unknown key regoin"},
      {"[node]\nname = \"x\"\n", "sink.toml:1: unknown key node"},
      {"[sink]\n\nlisten = \"a\"\n", "sink.toml:3: listen must be an array"},
      {"[sink]\nlisten = [1]\n", "sink.toml:2: listen must be an array"},
      {"[sink]\nlisten = []\n", "sink.toml:2: listen is empty"},
      {"[sink]\nregion = 7\n", "sink.toml:2: region must be a string"},
      {"[sink]\nagent_silence_ms_max = 5\n", "sink.toml:2: agent_silence_ms_max must be 100 to"},
      {"[sink\n", "sink.toml:1: "},
      {"sink = 1\n", "sink.toml:1: sink must be a section"},
  };
  for (const auto& [text, message] : cases) {
    const auto config = Parse(text);
    ASSERT_FALSE(config.ok()) << text;
    EXPECT_THAT(config.error().message, HasSubstr(message)) << text;
  }
}

}  // namespace
}  // namespace patina::proxy_sink

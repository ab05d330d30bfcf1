#include "base/endpoint.h"

#include <gtest/gtest.h>

namespace patina {
namespace {

TEST(EndpointTest, BothFamiliesComeBackFromTheirText) {
  for (const char* text : {"127.0.0.1:7400", "255.255.255.255:65535", "0.0.0.0:0", "[::1]:80",
                           "[fdaa::1]:7400", "[::]:0"}) {
    const auto endpoint = Endpoint::Parse(text);
    ASSERT_TRUE(endpoint) << text;
    EXPECT_EQ(endpoint->ToString(), text);
  }
}

TEST(EndpointTest, NamesAndHalfAddressesAreRefused) {
  for (const char* text : {"", ":", "localhost:80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536",
                           "127.0.0.1:-1", "127.0.0.1:80x", "127.0.0.1: 80", "1.2.3:80", "[::1]",
                           "::1:80x", "[::1:80", "[]:80", "[fdaa::g]:80"}) {
    EXPECT_FALSE(Endpoint::Parse(text)) << text;
  }
}

TEST(EndpointTest, Version4IsKeptMappedIntoVersion6) {
  const Endpoint endpoint = Endpoint::V4(10, 0, 0, 1, 7400);
  EXPECT_TRUE(endpoint.IsV4());
  EXPECT_EQ(Endpoint::Parse("[::ffff:10.0.0.1]:7400"), endpoint);
  EXPECT_EQ(Endpoint::Parse("10.0.0.1:7400"), endpoint);
  EXPECT_FALSE(Endpoint::Parse("[::1]:80")->IsV4());
}

TEST(EndpointTest, AnUnsetEndpointSaysSo) {
  EXPECT_TRUE(Endpoint().IsUnset());
  EXPECT_FALSE(Endpoint::V4(0, 0, 0, 0, 0).IsUnset());
  EXPECT_NE(std::hash<Endpoint>()(Endpoint::V4(1, 2, 3, 4, 5)),
            std::hash<Endpoint>()(Endpoint::V4(1, 2, 3, 4, 6)));
}

}  // namespace
}  // namespace patina

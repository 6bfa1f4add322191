#include "proto/cpp/base/loopback.h"

#include <gtest/gtest.h>

namespace mlops::base {
namespace {

TEST(IsLoopbackHost, KnowsTheNameAndTheAddresses) {
  for (const char* host :
       {"localhost", "LocalHost", "127.0.0.1", "127.255.0.9", "::1", "[::1]",
        "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "[::ffff:127.1.2.3]"}) {
    EXPECT_TRUE(IsLoopbackHost(host)) << host;
  }
}

TEST(IsLoopbackHost, TakesNothingElseForOne) {
  for (const char* host :
       {"", "[]", "127.example.org", "127.", "127.0.0.1.example.org",
        "127.0.0.256", "1270.0.0.1", "0.0.0.0", "10.0.0.1", "::", "[::]", "::2",
        "[::1", "::1]", "::ffff:10.0.0.1", "localhost.example.org",
        "localhosts", " 127.0.0.1", "[2001:db8::1]"}) {
    EXPECT_FALSE(IsLoopbackHost(host)) << host;
  }
  EXPECT_FALSE(
      IsLoopbackHost(absl::string_view("127.0.0.1\0.example.org", 22)));
}

}  // namespace
}  // namespace mlops::base

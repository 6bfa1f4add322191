#include "service/auth/caller.h"

#include <gtest/gtest.h>

namespace mlops::auth {
namespace {

TEST(NameProblem, GoodNamesHaveNone) {
  for (const char* name :
       {"robot", "alice@example.org", "system:serviceaccount:ns:name",
        "spiffe://example.org/ns/a/sa/b", "Alice Smith", "Zoë", "socket2"})
    EXPECT_EQ(NameProblem(name), "") << name;
  EXPECT_EQ(NameProblem(std::string(256, 'a')), "");
}

TEST(NameProblem, OthersAreRefused) {
  for (const char* name : {"", "a\tb", "a\n", "\x7f", "\xff", "anonymous",
                           "socket", "uid:0", "uid:"})
    EXPECT_NE(NameProblem(name), "") << name;
  EXPECT_NE(NameProblem(std::string(257, 'a')), "");
  EXPECT_NE(NameProblem(SocketUserName(1000)), "");
}

TEST(KindName, IsStable) {
  EXPECT_EQ(KindName(Kind::kAnonymous), "anonymous");
  EXPECT_EQ(KindName(Kind::kSocket), "socket");
  EXPECT_EQ(KindName(Kind::kToken), "token");
  EXPECT_EQ(KindName(Kind::kCertificate), "certificate");
  EXPECT_EQ(KindName(Kind::kJwt), "jwt");
  EXPECT_EQ(KindName(Kind::kProxy), "proxy");
}

}  // namespace
}  // namespace mlops::auth

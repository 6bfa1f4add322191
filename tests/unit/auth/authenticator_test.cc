#include "service/auth/authenticator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/support/fake_clock.h"
#include "tests/support/matchers.h"
#include "tests/unit/auth/signer.h"

namespace mlops::auth {
namespace {

using support::HasMessage;
using support::IsError;
using testing::HasSubstr;

class AuthenticatorTest : public testing::Test {
 protected:
  void SetTokens(Authenticator& authenticator) {
    authenticator.SetTokens(
        TokenTable::Parse(TokenLine("robot", "mlw_a", std::nullopt)).value());
  }
  void SetJwt(Authenticator& authenticator, const Signer& signer) {
    authenticator.SetJwtVerifier(
        JwtVerifier::Make(KeySet({signer.Jwk()}), "issuer", "audience")
            .value());
  }
  std::string Jwt(const Signer& signer) {
    return signer.Sign({{"iss", "issuer"},
                        {"aud", "audience"},
                        {"sub", "account"},
                        {"exp", absl::ToUnixSeconds(clock.Now()) + 600}});
  }
  Caller Call(const Authenticator& authenticator, const Presented& presented) {
    return authenticator.Authenticate(presented).value();
  }
  void ExpectRefused(const Authenticator& authenticator,
                     const Presented& presented, const std::string& problem) {
    const auto caller = authenticator.Authenticate(presented);
    EXPECT_THAT(caller, IsError(absl::StatusCode::kUnauthenticated,
                                "CREDENTIALS_INVALID"));
    EXPECT_THAT(caller.status(), HasMessage(HasSubstr(problem)));
  }

  support::FakeClock clock;
  const std::vector<std::string> certificate = {"spiffe://x/y", "dns.example"};
  const Caller robot = {.name = "robot", .kind = Kind::kToken};
};

TEST_F(AuthenticatorTest, WithoutConfigurationEverybodyIsAccepted) {
  const Authenticator open({.allow_anonymous = true, .clock = clock.clock()});
  EXPECT_EQ(Call(open, {}), (Caller{"anonymous", Kind::kAnonymous}));
  EXPECT_EQ(Call(open, {.socket = true}), (Caller{"socket", Kind::kSocket}));
  EXPECT_EQ(Call(open, {.socket = true, .socket_uid = 7}),
            (Caller{"uid:7", Kind::kSocket}));
  // Also clients that send a token meant for other servers.
  EXPECT_EQ(Call(open, {.authorization = "Bearer x"}).kind, Kind::kAnonymous);
}

TEST_F(AuthenticatorTest, CredentialsAreRequiredIfConfigured) {
  Authenticator authenticator({.clock = clock.clock()});
  SetTokens(authenticator);
  ExpectRefused(authenticator, {}, "requires credentials");
  EXPECT_EQ(Call(authenticator, {.authorization = "Bearer mlw_a"}), robot);
  EXPECT_EQ(Call(authenticator, {.socket = true}).kind, Kind::kSocket);
  EXPECT_EQ(Call(authenticator, {.certificate_names = certificate}),
            (Caller{"spiffe://x/y", Kind::kCertificate}));
}

TEST_F(AuthenticatorTest, TheProxyNamesItsCallers) {
  Authenticator authenticator({.clock = clock.clock()});
  SetTokens(authenticator);
  Presented presented = {.certificate_names = certificate,
                         .socket = true,
                         .socket_uid = 33,
                         .proxy = true,
                         .proxied_name = "alice"};
  EXPECT_EQ(Call(authenticator, presented), (Caller{"alice", Kind::kProxy}));
  presented.authorization = "Bearer mlw_a";
  EXPECT_EQ(Call(authenticator, presented), robot);
  presented.authorization = "Bearer mlw_wrong";
  ExpectRefused(authenticator, presented, "token");
}

TEST_F(AuthenticatorTest, TheProxyMustGiveAValidName) {
  // The user of the proxy's process is never the caller.
  const Authenticator authenticator(
      {.allow_anonymous = true, .clock = clock.clock()});
  Presented presented = {.socket = true, .socket_uid = 33, .proxy = true};
  ExpectRefused(authenticator, presented, "does not say who calls");
  const std::string long_name(257, 'x');
  for (const absl::string_view name :
       {absl::string_view(""), absl::string_view("uid:0"),
        absl::string_view("anonymous"), absl::string_view("a\tb"),
        absl::string_view("\xff"), absl::string_view(long_name)}) {
    presented.proxied_name = name;
    ExpectRefused(authenticator, presented, "from the proxy");
  }
}

TEST_F(AuthenticatorTest, OnlyTheProxyNamesCallers) {
  Authenticator authenticator({.clock = clock.clock()});
  ExpectRefused(authenticator, {.proxied_name = "alice"}, "credentials");
  EXPECT_EQ(Call(authenticator,
                 {.socket = true, .socket_uid = 7, .proxied_name = "alice"}),
            (Caller{"uid:7", Kind::kSocket}));
}

TEST_F(AuthenticatorTest, TheTokenComesFirst) {
  Authenticator authenticator({.clock = clock.clock()});
  SetTokens(authenticator);
  EXPECT_EQ(Call(authenticator, {.authorization = "Bearer mlw_a",
                                 .certificate_names = certificate,
                                 .socket = true,
                                 .socket_uid = 7}),
            robot);
}

TEST_F(AuthenticatorTest, AWrongTokenIsRefusedWhateverElseThereIs) {
  Authenticator authenticator(
      {.allow_anonymous = true, .clock = clock.clock()});
  SetTokens(authenticator);
  for (const char* header :
       {"Bearer wrong", "Bearer ", "Bearer", "", "mlw_a", "Basic mlw_a",
        "Bearermlw_a", "Bearer a.b.c", "Bearer mlw_a mlw_a"}) {
    ExpectRefused(authenticator,
                  {.authorization = header,
                   .certificate_names = certificate,
                   .socket = true,
                   .socket_uid = 7},
                  "");
  }
  ExpectRefused(authenticator,
                {.authorization = "Bearer " + std::string(9000, 'a')},
                "larger than 8 KiB");
}

TEST_F(AuthenticatorTest, TheSchemeMayHaveAnyCase) {
  Authenticator authenticator({.clock = clock.clock()});
  SetTokens(authenticator);
  for (const char* header : {"bearer mlw_a", "BEARER mlw_a", "Bearer  mlw_a "})
    EXPECT_EQ(Call(authenticator, {.authorization = header}), robot);
}

TEST_F(AuthenticatorTest, TokensAndJwtsWorkTogether) {
  Authenticator authenticator({.clock = clock.clock()});
  const Signer signer = Signer::P256("k");
  SetTokens(authenticator);
  SetJwt(authenticator, signer);
  EXPECT_EQ(Call(authenticator, {.authorization = "Bearer mlw_a"}), robot);
  const std::string header = "Bearer " + Jwt(signer);
  EXPECT_EQ(Call(authenticator, {.authorization = header}),
            (Caller{"account", Kind::kJwt}));
  clock.Advance(absl::Seconds(660));
  ExpectRefused(authenticator, {.authorization = header}, "expired");
}

TEST_F(AuthenticatorTest, OnlyJwts) {
  Authenticator authenticator({.clock = clock.clock()});
  const Signer signer = Signer::P256("k");
  SetJwt(authenticator, signer);
  ExpectRefused(authenticator, {.authorization = "Bearer mlw_a"}, "malformed");
  EXPECT_OK(
      authenticator.Authenticate({.authorization = "Bearer " + Jwt(signer)}));
}

TEST_F(AuthenticatorTest, ARemovedKeyEndsRememberedTokens) {
  Authenticator authenticator({.clock = clock.clock()});
  const Signer old = Signer::P256("old"), next = Signer::P256("new");
  SetJwt(authenticator, old);
  const std::string header = "Bearer " + Jwt(old);
  EXPECT_OK(authenticator.Authenticate({.authorization = header}));
  SetJwt(authenticator, next);
  ExpectRefused(authenticator, {.authorization = header}, "no ES256 key");
}

TEST_F(AuthenticatorTest, CertificatesMayNotPassForLocalUsers) {
  const Authenticator authenticator({.clock = clock.clock()});
  for (const char* name : {"uid:0", "anonymous", "", "a\nb"}) {
    const std::vector<std::string> names = {name, "good.example"};
    ExpectRefused(authenticator, {.certificate_names = names},
                  "the client certificate's name");
  }
}

TEST_F(AuthenticatorTest, ReloadingDisturbsNoCall) {
  Authenticator authenticator({.clock = clock.clock()});
  SetTokens(authenticator);
  std::atomic<bool> stop = false;
  std::atomic<int> refused = 0;
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      while (!stop) {
        if (!authenticator.Authenticate({.authorization = "Bearer mlw_a"}).ok())
          ++refused;
      }
    });
  }
  for (int i = 0; i < 1000; ++i) SetTokens(authenticator);
  stop = true;
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(refused, 0);
}

}  // namespace
}  // namespace mlops::auth

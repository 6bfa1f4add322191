#include "service/auth/jwt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/err.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "tests/support/matchers.h"
#include "tests/unit/auth/signer.h"

namespace mlops::auth {
namespace {

using nlohmann::json;
using support::HasMessage;
using support::IsError;
using testing::HasSubstr;
using testing::Not;

constexpr int64_t kNowSeconds = 1'700'000'000;
const absl::Time kNow = absl::FromUnixSeconds(kNowSeconds);

class JwtTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    rsa = new Signer(Signer::Rsa("r1"));
    ec = new Signer(Signer::P256("e1"));
  }
  static void TearDownTestSuite() {
    delete rsa;
    delete ec;
  }

  static json Claims() {
    return {{"iss", "https://issuer.example"},
            {"aud", "workspaces"},
            {"sub", "system:serviceaccount:team-a:trainer"},
            {"iat", kNowSeconds - 10},
            {"nbf", kNowSeconds - 10},
            {"exp", kNowSeconds + 600}};
  }
  static json Without(const char* name) {
    json claims = Claims();
    claims.erase(name);
    return claims;
  }
  static json With(const char* name, json value) {
    json claims = Claims();
    claims[name] = std::move(value);
    return claims;
  }

  static std::unique_ptr<JwtVerifier> Verifier(const std::string& jwks) {
    return JwtVerifier::Make(jwks, "https://issuer.example", "workspaces")
        .value();
  }

  absl::StatusOr<std::string> Verify(const std::string& token,
                                     absl::Time now = kNow) {
    return verifier->Verify(token, now);
  }
  absl::StatusOr<std::string> VerifyClaims(const json& claims) {
    return Verify(rsa->Sign(claims));
  }
  // Verifies a token with the header of `rsa` changed.
  absl::StatusOr<std::string> VerifyHeader(const char* name, json value) {
    json header = rsa->Header();
    header[name] = std::move(value);
    return Verify(rsa->SignText(header.dump(), Claims().dump()));
  }

  // Checks that `token` is refused with a text that has `problem` and no part
  // of the token.
  void ExpectRefused(const std::string& token, absl::string_view problem) {
    const auto result = Verify(token);
    EXPECT_THAT(result, IsError(absl::StatusCode::kUnauthenticated,
                                "CREDENTIALS_INVALID"));
    EXPECT_THAT(result, HasMessage(HasSubstr(std::string(problem))));
    for (absl::string_view part : absl::StrSplit(token, '.')) {
      if (part.size() < 8) continue;
      EXPECT_FALSE(
          absl::StrContains(result.status().message(), part.substr(0, 8)))
          << result.status();
    }
    EXPECT_EQ(ERR_peek_error(), 0u) << "gRPC's TLS would read this error";
  }
  void ExpectClaimsRefused(const json& claims, absl::string_view problem) {
    ExpectRefused(rsa->Sign(claims), problem);
    ExpectRefused(ec->Sign(claims), problem);
  }

  static Signer* rsa;
  static Signer* ec;
  const std::unique_ptr<JwtVerifier> verifier =
      Verifier(KeySet({rsa->Jwk(), ec->Jwk()}));
};

Signer* JwtTest::rsa = nullptr;
Signer* JwtTest::ec = nullptr;

TEST_F(JwtTest, BothAlgorithmsAreAccepted) {
  for (const Signer* signer : {rsa, ec}) {
    EXPECT_EQ(Verify(signer->Sign(Claims())).value(),
              "system:serviceaccount:team-a:trainer");
  }
}

TEST_F(JwtTest, EveryEs256SignatureIsConverted) {
  // Signatures whose numbers have leading zeros or a high bit have another
  // size in DER.
  for (int i = 0; i < 300; ++i)
    ASSERT_OK(Verify(ec->Sign(With("jti", i)))) << i;
}

TEST_F(JwtTest, NoneIsRefused) {
  for (const char* alg : {"none", "None", "NONE", ""}) {
    const std::string token =
        absl::StrCat(Base64Url(json{{"alg", alg}}.dump()), ".",
                     Base64Url(Claims().dump()), ".");
    ExpectRefused(token, "algorithm is");
  }
  // Even if signed.
  EXPECT_THAT(VerifyHeader("alg", "none"), HasMessage(HasSubstr("\"none\"")));
}

TEST_F(JwtTest, PublicKeysAreNoSharedSecrets) {
  const json header = {{"alg", "HS256"}, {"kid", "r1"}};
  for (const std::string& key :
       {rsa->Pem(), rsa->Jwk().dump(), rsa->Jwk()["n"].get<std::string>()}) {
    ExpectRefused(SignHs256(header.dump(), Claims().dump(), key),
                  "algorithm is \"HS256\"; the server accepts RS256 and ES256");
  }
  const json as_rs256 = {{"alg", "RS256"}, {"kid", "r1"}};
  ExpectRefused(SignHs256(as_rs256.dump(), Claims().dump(), rsa->Pem()),
                "signature is wrong");
}

TEST_F(JwtTest, OtherAlgorithmsOfTheSameKeyAreRefused) {
  for (const char* alg : {"RS384", "RS512", "PS256", "ES384", "EdDSA", "rs256"})
    EXPECT_THAT(VerifyHeader("alg", alg), HasMessage(HasSubstr(alg)));
  EXPECT_THAT(VerifyHeader("alg", 256), HasMessage(HasSubstr("algorithm")));
  EXPECT_THAT(VerifyHeader("alg", nullptr), HasMessage(HasSubstr("algorithm")));
}

TEST_F(JwtTest, AKeyIsUsedOnlyForItsAlgorithm) {
  json header = rsa->Header();
  header["kid"] = "e1";
  ExpectRefused(rsa->SignText(header.dump(), Claims().dump()),
                "no RS256 key \"e1\"");
  header = ec->Header();
  header["kid"] = "r1";
  ExpectRefused(ec->SignText(header.dump(), Claims().dump()),
                "no ES256 key \"r1\"");
}

TEST_F(JwtTest, KeysOfOthersAreRefused) {
  ExpectRefused(Signer::Rsa("r1").Sign(Claims()), "signature is wrong");
  ExpectRefused(Signer::P256("e1").Sign(Claims()), "signature is wrong");
  ExpectRefused(Signer::P256("e2").Sign(Claims()), "no ES256 key \"e2\"");
}

TEST_F(JwtTest, KeysInTheHeaderAreIgnored) {
  const Signer other = Signer::Rsa("r1");
  json header = other.Header();
  header["jwk"] = other.Jwk();
  header["jku"] = "https://attacker.example/jwks";
  ExpectRefused(other.SignText(header.dump(), Claims().dump()),
                "signature is wrong");
}

TEST_F(JwtTest, WithoutKidTheOnlyKeyIsUsed) {
  json header = rsa->Header();
  header.erase("kid");
  const std::string token = rsa->SignText(header.dump(), Claims().dump());
  EXPECT_OK(Verify(token));
  const auto two = Verifier(KeySet({rsa->Jwk(), Signer::Rsa("r2").Jwk()}));
  EXPECT_THAT(two->Verify(token, kNow),
              HasMessage(HasSubstr("names no key (kid)")));
}

TEST_F(JwtTest, OtherTypesAndExtensionsAreRefused) {
  EXPECT_OK(VerifyHeader("typ", "at+jwt"));
  EXPECT_OK(VerifyHeader("typ", "application/AT+JWT"));
  EXPECT_THAT(VerifyHeader("typ", "logout+jwt"), HasMessage(HasSubstr("type")));
  EXPECT_THAT(VerifyHeader("typ", 1), HasMessage(HasSubstr("type")));
  EXPECT_THAT(VerifyHeader("crit", {"b64"}), HasMessage(HasSubstr("crit")));
  json header = rsa->Header();
  header.erase("typ");
  EXPECT_OK(Verify(rsa->SignText(header.dump(), Claims().dump())));
}

TEST_F(JwtTest, TimesHaveAMinuteOfSkew) {
  const std::string token = rsa->Sign(Claims());
  const absl::Time end = kNow + absl::Seconds(600 + 60);
  // A new verifier each time, since a verified token is remembered.
  const auto verify = [&](const std::string& text, absl::Time now) {
    return Verifier(KeySet({rsa->Jwk()}))->Verify(text, now);
  };
  EXPECT_OK(verify(token, end - absl::Seconds(1)));
  EXPECT_THAT(verify(token, end),
              HasMessage(HasSubstr("expired at 2023-11-14T22:23:20Z")));
  for (const char* name : {"nbf", "iat"}) {
    const std::string later = rsa->Sign(With(name, kNowSeconds + 60));
    EXPECT_OK(verify(later, kNow));
    EXPECT_THAT(verify(later, kNow - absl::Seconds(1)),
                HasMessage(HasSubstr(name)));
  }
}

TEST_F(JwtTest, TimesMayHaveFractionsAndAnySize) {
  EXPECT_OK(VerifyClaims(With("exp", kNowSeconds + 0.5)));
  EXPECT_OK(VerifyClaims(With("exp", 1e300)));
  ExpectClaimsRefused(With("exp", -1e300), "expired");
  ExpectClaimsRefused(With("nbf", 1e300), "only from");
  // Not a JSON number that a double can hold.
  ExpectRefused(rsa->SignText(rsa->Header().dump(),
                              absl::StrReplaceAll(With("exp", "EXP").dump(),
                                                  {{"\"EXP\"", "1e999"}})),
                "not a JSON object");
}

TEST_F(JwtTest, TimesMustBeNumbers) {
  ExpectClaimsRefused(Without("exp"), "does not say when it expires");
  for (const json& value : {json("1800000000"), json(nullptr), json(true)}) {
    ExpectClaimsRefused(With("exp", value), "does not say when it expires");
    ExpectClaimsRefused(With("nbf", value), "nbf is not a time");
    ExpectClaimsRefused(With("iat", value), "iat is not a time");
  }
  EXPECT_OK(VerifyClaims(Without("nbf")));
  EXPECT_OK(VerifyClaims(Without("iat")));
}

TEST_F(JwtTest, TheIssuerMustBeTheSame) {
  ExpectClaimsRefused(Without("iss"), "issuer");
  ExpectClaimsRefused(With("iss", "https://issuer.example/"), "issuer");
  ExpectClaimsRefused(With("iss", json::array({"https://issuer.example"})),
                      "issuer");
}

TEST_F(JwtTest, TheAudienceMustBeIncluded) {
  EXPECT_OK(VerifyClaims(With("aud", {"other", "workspaces"})));
  ExpectClaimsRefused(Without("aud"), "audience");
  ExpectClaimsRefused(With("aud", "other"), "audience");
  ExpectClaimsRefused(With("aud", "workspaces2"), "audience");
  ExpectClaimsRefused(With("aud", {"other", "more"}), "audience");
  ExpectClaimsRefused(With("aud", json::array()), "audience");
  ExpectClaimsRefused(With("aud", {{"workspaces", true}}), "audience");
  ExpectClaimsRefused(With("aud", 7), "audience");
}

TEST_F(JwtTest, TheSubjectMustBeAName) {
  ExpectClaimsRefused(Without("sub"), "is empty");
  ExpectClaimsRefused(With("sub", ""), "is empty");
  ExpectClaimsRefused(With("sub", 7), "is empty");
  ExpectClaimsRefused(With("sub", "uid:0"), "is reserved");
  ExpectClaimsRefused(With("sub", "anonymous"), "is reserved");
  ExpectClaimsRefused(With("sub", "a\nb"), "control characters");
  ExpectClaimsRefused(With("sub", std::string(257, 'a')), "longer than 256");
}

TEST_F(JwtTest, MembersThatOccurTwiceAreRefused) {
  const std::string header = rsa->Header().dump();
  const std::string payload = Claims().dump();
  const std::string more =
      absl::StrCat("{\"sub\":\"root\",", payload.substr(1));
  ExpectRefused(rsa->SignText(header, more), "claims are not");
  // Escapes do not hide it.
  const std::string hidden =
      absl::StrCat("{\"s\\u0075b\":\"root\",", payload.substr(1));
  ExpectRefused(rsa->SignText(header, hidden), "claims are not");
  const std::string two_algs =
      absl::StrCat("{\"alg\":\"none\",", header.substr(1));
  ExpectRefused(rsa->SignText(two_algs, payload), "header is malformed");
  // Names may repeat in values.
  EXPECT_OK(VerifyClaims(With("x", {{"sub", 1}, {"y", {{"sub", 2}}}})));
}

TEST_F(JwtTest, MalformedTokensAreRefused) {
  const std::string token = rsa->Sign(Claims());
  const std::vector<std::string> parts = absl::StrSplit(token, '.');
  const auto join = [](const std::string& a, const std::string& b,
                       const std::string& c) {
    return absl::StrCat(a, ".", b, ".", c);
  };
  ExpectRefused("", "malformed");
  ExpectRefused(".", "malformed");
  ExpectRefused("..", "header is malformed");
  ExpectRefused("...", "malformed");
  ExpectRefused(token + ".", "malformed");
  ExpectRefused(join("%%%", parts[1], parts[2]), "header is malformed");
  ExpectRefused(join(parts[0] + "=", parts[1], parts[2]), "header");
  ExpectRefused(join(" " + parts[0], parts[1], parts[2]), "header");
  ExpectRefused(join(Base64Url("[]"), parts[1], parts[2]), "header");
  ExpectRefused(join(Base64Url("{"), parts[1], parts[2]), "header");
  ExpectRefused(join(Base64Url("{\"alg\":\"\xff\"}"), parts[1], parts[2]),
                "header");
  ExpectRefused(join(parts[0], parts[1], parts[2] + "+/"), "signature");
  ExpectRefused(join(parts[0], parts[1], ""), "signature is wrong");
  ExpectRefused(join(parts[0], "", parts[2]), "signature is wrong");
  ExpectRefused(rsa->SignText(rsa->Header().dump(), "[1]"),
                "not a JSON object");
  ExpectRefused(rsa->SignText(rsa->Header().dump(), ""), "not a JSON object");
  ExpectRefused(rsa->SignText(rsa->Header().dump(), std::string(4000, '[')),
                "not a JSON object");
}

TEST_F(JwtTest, EveryTruncationIsRefused) {
  for (const Signer* signer : {rsa, ec}) {
    const std::string token = signer->Sign(Claims());
    for (size_t size = 0; size < token.size(); size += 7)
      ExpectRefused(token.substr(0, size), "");
    ExpectRefused(token.substr(0, token.size() - 1), "");
  }
}

TEST_F(JwtTest, EveryChangedByteIsRefused) {
  for (const Signer* signer : {rsa, ec}) {
    const std::string token = signer->Sign(Claims());
    for (size_t i = 0; i < token.size(); i += 5) {
      std::string changed = token;
      changed[i] = changed[i] == 'A' ? 'B' : 'A';
      EXPECT_FALSE(Verify(changed).ok()) << i;
    }
  }
}

TEST_F(JwtTest, HugeTokensAreRefusedUnread) {
  EXPECT_OK(VerifyClaims(With("x", std::string(5000, 'x'))));
  ExpectClaimsRefused(With("x", std::string(8000, 'x')), "larger than 8 KiB");
  ExpectRefused(std::string(10'000'000, 'a'), "larger than 8 KiB");
}

TEST_F(JwtTest, ARememberedTokenStillExpires) {
  const std::string token = rsa->Sign(Claims());
  EXPECT_OK(Verify(token));
  EXPECT_OK(Verify(token, kNow + absl::Seconds(659)));
  EXPECT_THAT(Verify(token, kNow + absl::Seconds(660)),
              HasMessage(HasSubstr("expired")));
  // A wrong signature does not profit from the right one.
  const std::string forged =
      token.substr(0, token.rfind('.') + 1) + Base64Url(std::string(256, 'x'));
  ExpectRefused(forged, "signature is wrong");
  EXPECT_OK(Verify(token));
}

TEST_F(JwtTest, KeySetsAreChecked) {
  EXPECT_THAT(JwtVerifier::Make("{}", "i", "a").status(),
              HasMessage(HasSubstr("RFC 7517")));
}

}  // namespace
}  // namespace mlops::auth

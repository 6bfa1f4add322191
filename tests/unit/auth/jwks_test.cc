#include "service/auth/jwks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/err.h>

#include "tests/support/matchers.h"
#include "tests/unit/auth/signer.h"

namespace mlops::auth {
namespace {

using nlohmann::json;
using support::HasMessage;
using support::IsError;
using testing::HasSubstr;

json With(json key, const char* name, json value) {
  key[name] = std::move(value);
  return key;
}

void ExpectRefused(const std::string& text, absl::string_view problem) {
  const auto jwks = Jwks::Parse(text);
  EXPECT_THAT(jwks, IsError(absl::StatusCode::kInvalidArgument, "")) << text;
  EXPECT_THAT(jwks.status(), HasMessage(HasSubstr(std::string(problem))));
  EXPECT_EQ(ERR_peek_error(), 0u);
}

TEST(Jwks, KeysAreFoundByIdAndAlgorithm) {
  const json rsa = Signer::Rsa("same").Jwk(), ec = Signer::P256("same").Jwk(),
             other = Signer::P256("other").Jwk();
  const Jwks jwks = Jwks::Parse(KeySet({rsa, ec, other})).value();
  EXPECT_EQ(jwks.size(), 3u);
  EXPECT_NE(jwks.Find("same", JwtAlgorithm::kRs256), nullptr);
  EXPECT_NE(jwks.Find("same", JwtAlgorithm::kEs256),
            jwks.Find("other", JwtAlgorithm::kEs256));
  EXPECT_EQ(jwks.Find("other", JwtAlgorithm::kRs256), nullptr);
  EXPECT_EQ(jwks.Find("", JwtAlgorithm::kRs256),
            jwks.Find("same", JwtAlgorithm::kRs256));
  EXPECT_EQ(jwks.Find("", JwtAlgorithm::kEs256), nullptr);
}

TEST(Jwks, AKeyWithoutAnIdMayFollowOneWithAnId) {
  json unnamed = Signer::P256("any").Jwk();
  unnamed.erase("kid");
  const json named = Signer::P256("a").Jwk();
  EXPECT_EQ(Jwks::Parse(KeySet({named, unnamed})).value().size(), 2u);
  EXPECT_EQ(Jwks::Parse(KeySet({unnamed, named})).value().size(), 2u);
  ExpectRefused(KeySet({named, unnamed, unnamed}), "kid of an earlier key");
}

TEST(Jwks, OtherKeysAreSkipped) {
  const json ec = Signer::P256("e").Jwk(), rsa = Signer::Rsa("r").Jwk();
  const Jwks jwks =
      Jwks::Parse(KeySet({{{"kty", "oct"}, {"k", "c2VjcmV0"}},
                          {{"kty", "OKP"}, {"crv", "Ed25519"}, {"x", "AA"}},
                          {{"kty", "EC"}, {"crv", "P-384"}, {"x", "AA"}},
                          {{"kty", "future"}},
                          {{"kty", 1}},
                          json::object(),
                          json("text"),
                          With(ec, "use", "enc"),
                          With(ec, "alg", "ECDH-ES"),
                          With(rsa, "alg", "PS256"),
                          With(rsa, "use", 1),
                          With(With(ec, "alg", "ES256"), "use", "sig")}))
          .value();
  EXPECT_EQ(jwks.size(), 1u);
  EXPECT_NE(jwks.Find("e", JwtAlgorithm::kEs256), nullptr);
}

TEST(Jwks, GarbageIsRefused) {
  for (const char* text : {"", "garbage", "[]", "{}", "{\"keys\":{}}",
                           "{\"keys\":[", "\xff\xfe", "null"})
    ExpectRefused(text, "RFC 7517");
  ExpectRefused("{\"keys\":[]}", "no key for RS256 or ES256");
  ExpectRefused("{\"keys\":[{\"kty\":\"oct\"}]}", "no key for RS256 or ES256");
}

TEST(Jwks, MalformedKeysAreNamed) {
  const json ec = Signer::P256("e").Jwk(), rsa = Signer::Rsa("r").Jwk();
  for (const json& bad :
       {With(ec, "x", ec["y"]), With(ec, "x", "AAAA"), With(ec, "x", 1),
        With(ec, "y", "not base64!"), With(ec, "y", std::string(43, 'A'))})
    ExpectRefused(KeySet({rsa, bad}), "key 2 (kid e) is not a point on P-256");
  for (const json& bad :
       {With(rsa, "n", ""), With(rsa, "n", "AQAB"), With(rsa, "e", ""),
        With(rsa, "e", "AA"), With(rsa, "e", "AQ"), With(rsa, "e", nullptr),
        With(rsa, "n", std::string(20000, '_'))})
    ExpectRefused(KeySet({bad}), "key 1 (kid r) is not an RSA key");
}

TEST(Jwks, WeakPrivateAndRepeatedKeysAreRefused) {
  ExpectRefused(KeySet({Signer::Rsa("weak", 1024).Jwk()}), "2,048");
  const json ec = Signer::P256("e").Jwk();
  ExpectRefused(KeySet({With(ec, "d", "AAAA")}), "is a private key");
  ExpectRefused(KeySet({ec, ec}), "key 2 (kid e) has the kid of an earlier");
}

}  // namespace
}  // namespace mlops::auth

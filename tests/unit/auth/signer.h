#ifndef MLOPS_TESTS_UNIT_AUTH_SIGNER_H_
#define MLOPS_TESTS_UNIT_AUTH_SIGNER_H_

#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

struct evp_pkey_st;

namespace mlops::auth {

// A new private key, as an issuer of JWTs has it.
class Signer {
 public:
  static Signer Rsa(std::string kid, unsigned bits = 2048);
  static Signer P256(std::string kid);

  // The public key for a key set.
  nlohmann::json Jwk() const;
  // The public key in PEM.
  std::string Pem() const;

  // Returns a JWT with the usual header and these claims.
  std::string Sign(const nlohmann::json& claims) const;
  // Returns a JWT with a signature that is right for these two texts.
  std::string SignText(absl::string_view header,
                       absl::string_view payload) const;
  // The usual header.
  nlohmann::json Header() const;

 private:
  struct Free {
    void operator()(evp_pkey_st* key) const;
  };

  Signer(evp_pkey_st* key, std::string kid, bool rsa)
      : key_(key), kid_(std::move(kid)), rsa_(rsa) {}

  std::unique_ptr<evp_pkey_st, Free> key_;
  std::string kid_;
  bool rsa_;
};

// Returns a JWT with an HMAC by `key` (HS256).
std::string SignHs256(absl::string_view header, absl::string_view payload,
                      absl::string_view key);

// Returns the text of a key set.
std::string KeySet(std::initializer_list<nlohmann::json> keys);

std::string Base64Url(absl::string_view data);

}  // namespace mlops::auth

#endif  // MLOPS_TESTS_UNIT_AUTH_SIGNER_H_

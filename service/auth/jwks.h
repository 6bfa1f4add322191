#ifndef MLOPS_SERVICE_AUTH_JWKS_H_
#define MLOPS_SERVICE_AUTH_JWKS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

struct evp_pkey_st;

namespace mlops::auth {

// The signature algorithms that the server accepts (RFC 7518, section 3.1).
enum class JwtAlgorithm { kRs256, kEs256 };

// Returns "RS256" or "ES256".
absl::string_view AlgorithmName(JwtAlgorithm algorithm);

// A public key. Thread-safe.
class PublicKey {
 public:
  // Returns an RSA key for RS256 from the big-endian modulus and exponent, or
  // null if they do not form a key of 2,048 to 8,192 bits.
  static std::unique_ptr<PublicKey> Rsa(absl::string_view modulus,
                                        absl::string_view exponent);
  // Returns a P-256 key for ES256 from its coordinates of 32 bytes each, or
  // null if they are not a point on the curve.
  static std::unique_ptr<PublicKey> P256(absl::string_view x,
                                         absl::string_view y);

  JwtAlgorithm algorithm() const { return algorithm_; }

  // Returns whether `signature`, in the encoding of RFC 7518, is this key's
  // signature of `data`.
  bool Verify(absl::string_view data, absl::string_view signature) const;

 private:
  struct Free {
    void operator()(evp_pkey_st* key) const;
  };
  PublicKey(evp_pkey_st* key, JwtAlgorithm algorithm)
      : key_(key), algorithm_(algorithm) {}

  const std::unique_ptr<evp_pkey_st, Free> key_;
  const JwtAlgorithm algorithm_;
};

// The keys of a JSON Web Key Set (RFC 7517) that can verify RS256 or ES256.
// Immutable, and therefore thread-safe.
class Jwks {
 public:
  // Skips keys of other types, algorithms and uses, as the RFC requires.
  // Returns INVALID_ARGUMENT (no reason), with the key's number counted from 1,
  // if the text is not a key set; if a key is malformed, too weak or private;
  // if two keys have the same algorithm and id; or if no key is left.
  static absl::StatusOr<Jwks> Parse(absl::string_view text);

  // Returns the key with this id and algorithm. With an empty `id`, returns the
  // only key with that algorithm. Returns null if there is none or, with an
  // empty `id`, more than one.
  const PublicKey* Find(absl::string_view id, JwtAlgorithm algorithm) const;

  size_t size() const { return keys_.size(); }

 private:
  struct Entry {
    std::string id;
    std::unique_ptr<PublicKey> key;
  };

  std::vector<Entry> keys_;
};

}  // namespace mlops::auth

#endif  // MLOPS_SERVICE_AUTH_JWKS_H_

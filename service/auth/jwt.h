#ifndef MLOPS_SERVICE_AUTH_JWT_H_
#define MLOPS_SERVICE_AUTH_JWT_H_

// Implemented with OpenSSL: Debian's libjwt has neither a static library nor
// key sets, and cjose needs a second JSON library and leaves the claims to us.

#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "service/auth/jwks.h"
#include "service/base/lru_map.h"

namespace mlops::auth {

// Verifies the JSON Web Tokens (RFC 7519) of one issuer for one audience, as
// RFC 8725 recommends. Remembers up to 1 MiB of verified tokens, about 3,000,
// so that only the first call with a token pays for the signature. Thread-safe.
class JwtVerifier {
 public:
  // Maximum difference between the issuer's clock and ours.
  static constexpr absl::Duration kSkew = absl::Seconds(60);
  static constexpr size_t kMaxTokenBytes = 8 << 10;

  // Returns INVALID_ARGUMENT (no reason) if Jwks::Parse() refuses `jwks`.
  // `issuer` and `audience` must not be empty.
  static absl::StatusOr<std::unique_ptr<JwtVerifier>> Make(
      absl::string_view jwks, std::string issuer, std::string audience);

  // Returns the caller's name, the token's `sub`. Returns
  // UNAUTHENTICATED/CREDENTIALS_INVALID, without repeating the token, if:
  // - it is larger than kMaxTokenBytes, malformed, or has a member twice;
  // - its algorithm is not RS256 or ES256, or not that of its key;
  // - it is of another type than "JWT" or "at+jwt", or requires an extension;
  // - the key set lacks its key (`kid`), or the signature is wrong;
  // - `iss` is not the issuer, or `aud` does not include the audience;
  // - `exp` is missing or past, or `nbf` or `iat` lie in the future,
  //   beyond kSkew;
  // - `sub` is missing or NameProblem() refuses it.
  // Checks the claims only after the signature.
  absl::StatusOr<std::string> Verify(absl::string_view token,
                                     absl::Time now) const
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Verified {
    std::string name;
    absl::Time expires;
  };

  JwtVerifier(Jwks keys, std::string issuer, std::string audience)
      : keys_(std::move(keys)),
        issuer_(std::move(issuer)),
        audience_(std::move(audience)) {}

  absl::StatusOr<Verified> VerifyAnew(absl::string_view token,
                                      absl::Time now) const;
  absl::StatusOr<Verified> CheckClaims(absl::string_view payload,
                                       absl::Time now) const;

  const Jwks keys_;
  const std::string issuer_;
  const std::string audience_;

  mutable absl::Mutex mutex_;
  // Keyed by the digest of the token.
  mutable base::LruMap<Verified> verified_ ABSL_GUARDED_BY(mutex_){1 << 20};
};

}  // namespace mlops::auth

#endif  // MLOPS_SERVICE_AUTH_JWT_H_

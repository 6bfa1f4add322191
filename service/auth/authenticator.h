#ifndef MLOPS_SERVICE_AUTH_AUTHENTICATOR_H_
#define MLOPS_SERVICE_AUTH_AUTHENTICATOR_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "service/auth/caller.h"
#include "service/auth/jwt.h"
#include "service/auth/token_file.h"
#include "service/base/clock.h"
#include "service/base/published.h"

namespace mlops::auth {

// What a connection and a call reveal about the caller.
struct Presented {
  // The value of the `authorization` header, if the call has one.
  std::optional<absl::string_view> authorization;
  // The names in the client certificate that TLS has verified, in the order
  // SPIFFE URI, DNS names, common name. The first one counts.
  absl::Span<const std::string> certificate_names;
  // Whether the connection is to a Unix socket.
  bool socket = false;
  // The user at the other end of the Unix socket, if known.
  std::optional<uint32_t> socket_uid;
  // Whether the connection is to the socket that only the proxy may use.
  bool proxy = false;
  // The caller's name according to the proxy, if it gives one. Ignored on all
  // other connections, where any client could set it.
  std::optional<absl::string_view> proxied_name;
};

// Identifies the caller of a call. Thread-safe.
class Authenticator {
 public:
  struct Options {
    // Accept callers without credentials over TCP. Set it if neither tokens,
    // JWTs nor client certificates are configured.
    bool allow_anonymous = false;
    base::Clock clock = base::SystemClock();
  };

  explicit Authenticator(Options options) : options_(std::move(options)) {}

  // Replace the tokens, or the JWT verifier, for subsequent calls. Initially
  // there are none.
  void SetTokens(TokenTable tokens);
  void SetJwtVerifier(std::unique_ptr<JwtVerifier> verifier);

  // Identifies the caller by the token or JWT, otherwise by the proxy,
  // otherwise by the certificate, otherwise by the Unix socket. Without tokens
  // and a verifier, ignores the header, because clients may send the token of
  // another server. Returns UNAUTHENTICATED/CREDENTIALS_INVALID, never with the
  // token, if:
  // - the header is not "Bearer TOKEN", or TokenTable::Find() or
  //   JwtVerifier::Verify() refuses the token, even if the caller has a
  //   certificate or uses a socket;
  // - the proxy gives no name, or NameProblem() refuses it;
  // - NameProblem() refuses the certificate's name;
  // - there are no credentials, and anonymous callers are not allowed.
  absl::StatusOr<Caller> Authenticate(const Presented& presented) const;

 private:
  absl::StatusOr<Caller> ByToken(absl::string_view header,
                                 const TokenTable* tokens,
                                 const JwtVerifier* verifier) const;

  const Options options_;
  base::Published<TokenTable> tokens_;
  base::Published<JwtVerifier> verifier_;
};

}  // namespace mlops::auth

#endif  // MLOPS_SERVICE_AUTH_AUTHENTICATOR_H_

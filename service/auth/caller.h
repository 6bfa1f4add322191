#ifndef MLOPS_SERVICE_AUTH_CALLER_H_
#define MLOPS_SERVICE_AUTH_CALLER_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace mlops::auth {

// How a caller proved its identity.
enum class Kind {
  // Not at all, because the server accepts everybody.
  kAnonymous,
  // Through the permissions of a Unix socket.
  kSocket,
  kToken,
  kCertificate,
  kJwt,
  // Through a trusted proxy, which names the caller that it has authenticated.
  kProxy,
};

// Returns "anonymous", "socket", "token", "certificate", "jwt" or "proxy".
absl::string_view KindName(Kind kind);

// The caller of a call.
struct Caller {
  // The name that policies, limits and the audit log use. All kinds share one
  // namespace: a token and a certificate with the same name are the same
  // principal.
  std::string name;
  Kind kind = Kind::kAnonymous;

  bool operator==(const Caller&) const = default;
};

// The name of callers without credentials.
inline constexpr absl::string_view kAnonymousName = "anonymous";
// The name of callers on a Unix socket whose user is unknown.
inline constexpr absl::string_view kSocketName = "socket";

// Returns the name of a caller on a Unix socket: "uid:" followed by the user
// id.
std::string SocketUserName(uint32_t uid);

// Returns why a token, certificate, JWT or proxy may not use the name `name`,
// or "" if it may. Names have 1 to 256 bytes of UTF-8 without control
// characters. "anonymous", "socket" and names that begin with "uid:" are
// reserved, so that no issuer can grant the rights of a local user.
absl::string_view NameProblem(absl::string_view name);

}  // namespace mlops::auth

#endif  // MLOPS_SERVICE_AUTH_CALLER_H_

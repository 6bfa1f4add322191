#include "service/auth/errors.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "proto/cpp/base/error.h"

namespace mlops::auth {

using absl::StatusCode;
using base::Echo;
using base::MakeError;

absl::Status CredentialsInvalid(absl::string_view problem) {
  return MakeError(StatusCode::kUnauthenticated,
                   absl::StrCat("The credentials are not valid: ", problem),
                   {.reason = "CREDENTIALS_INVALID"});
}

absl::Status CredentialsMissing() {
  return MakeError(StatusCode::kUnauthenticated,
                   "This server requires credentials: send a token in the "
                   "header `authorization: Bearer TOKEN`, or use a client "
                   "certificate",
                   {.reason = "CREDENTIALS_INVALID"});
}

absl::Status PermissionMissing(absl::string_view name, absl::string_view rpc,
                               absl::string_view project,
                               absl::string_view roles) {
  const std::string where =
      project.empty() ? "" : absl::StrCat(" on the project ", Echo(project));
  return MakeError(
      StatusCode::kPermissionDenied,
      absl::StrCat(
          Echo(name), " may not call ", rpc, where,
          "; ask the server's operator for a role that includes it: ", roles),
      {.reason = "PERMISSION_MISSING",
       .metadata = {{"permission", std::string(rpc)}}});
}

}  // namespace mlops::auth

#ifndef MLOPS_SERVICE_AUTH_ERRORS_H_
#define MLOPS_SERVICE_AUTH_ERRORS_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace mlops::auth {

// Returns UNAUTHENTICATED/CREDENTIALS_INVALID. `problem` says what is wrong
// with the credentials, without repeating them.
absl::Status CredentialsInvalid(absl::string_view problem);

// Returns UNAUTHENTICATED/CREDENTIALS_INVALID for a call without credentials.
absl::Status CredentialsMissing();

// Returns PERMISSION_DENIED/PERMISSION_MISSING {permission}, where the
// permission is the RPC's name. `project` may be "". `roles` lists the roles
// that include the RPC.
absl::Status PermissionMissing(absl::string_view name, absl::string_view rpc,
                               absl::string_view project,
                               absl::string_view roles);

}  // namespace mlops::auth

#endif  // MLOPS_SERVICE_AUTH_ERRORS_H_
